//! The client: standard input goes to a server, what comes from there to standard output, both at
//! once in one loop. A line is sent as soon as it is typed, and shown as soon as it comes.

use std::fmt;
use std::io;
use std::time::Duration;

use log::{debug, info};
use rustix::stdio;
use rustix::termios::isatty;
use socket2::{Domain, SockRef, Type};

use crate::address::{Address, ListenAddress};
use crate::close::CloseReason;
use crate::link::Link;
use crate::listener::{cause, socket_name};
use crate::net::{Event, Net, Poller, Socket, Stream};
use crate::pipe::{Direction, Pipe};
use crate::text::{escape, whole_letters, without_end};

/// A connection of the standard streams to a server.
///
/// Over when the server has ended its output and all of it is written. After the end of input the
/// server is told so (half-close), and still heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Where the server listens; of a name's addresses the first that answers.
    pub to: ListenAddress,
    /// Control characters reach a terminal as they are.
    pub raw: bool,
}

/// Why a connection came to nothing, or to a bad end: one line.
#[derive(Debug)]
pub struct ConnectError {
    what: String,
    cause: String,
}

impl ConnectError {
    fn new(what: impl Into<String>, cause: impl fmt::Display) -> Self {
        let (what, cause) = (what.into(), cause.to_string());
        Self { what, cause }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)
    }
}

impl std::error::Error for ConnectError {}

impl Connect {
    /// Connects, and talks until one side has had enough.
    ///
    /// # Errors
    /// When there is no connection to be had; when it, or standard output, fails.
    pub fn run(&self) -> Result<(), ConnectError> {
        let to = &self.to;
        let failed = |e: io::Error| ConnectError::new(format!("cannot connect to {to}"), cause(&e));
        let (socket, address) = dial(to).map_err(failed)?;
        debug!("connected to {address}");
        let setup = |e: io::Error| ConnectError::new("cannot start", cause(&e));
        let mut talk = Talk::new(socket, address, self.raw).map_err(setup)?;
        while !talk.is_over() {
            talk.step()?;
        }
        Ok(())
    }
}

/// A connected socket, and to where.
fn dial(to: &ListenAddress) -> io::Result<(Socket, Address)> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for address in to.resolve()? {
        match dial_one(&address) {
            Ok(socket) => return Ok((socket, address)),
            Err(e) => error = e,
        }
    }
    Err(error)
}

fn dial_one(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(address) => {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_out_of_band_inline(true)?;
            Ok(Socket::Tcp(mio::net::TcpStream::from_std(stream)))
        }
        Address::Unix(path) => {
            let stream = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            stream.connect(&socket_name(path)?)?;
            stream.set_nonblocking(true)?;
            Ok(Socket::Unix(mio::net::UnixStream::from_std(stream.into())))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

const SERVER: usize = 0;
const INPUT: usize = 1;
const OUTPUT: usize = 2;

/// With more than this unsent in one direction no more is read for it.
const ENOUGH: usize = 256 * 1024;

/// How far what goes to the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// There may be more input.
    Some,
    /// There is none.
    All,
    /// And the server was told so.
    Over,
}

/// The two directions of a connection.
struct Talk {
    net: Poller,
    address: Address,
    server: Link<Socket>,
    input: Link<Socket>,
    output: Link<Socket>,
    /// Lines are typed by a person, who leaves with a word.
    typing: bool,
    /// What comes is shown to a person.
    escaping: bool,
    said: Said,
    /// Somebody has typed that word.
    leaving: bool,
    /// The server has ended its output, or the connection has failed, for this reason.
    ended: Option<Result<(), CloseReason>>,
    /// The beginning of a letter that isn't complete.
    letter: Vec<u8>,
    buffer: Vec<u8>,
}

impl Talk {
    fn new(socket: Socket, address: Address, raw: bool) -> io::Result<Self> {
        let (typing, shown) = (isatty(stdio::stdin()), isatty(stdio::stdout()));
        if typing && shown {
            info!("connected to {address}; quit or Ctrl-D leaves");
        }
        let mut net = Poller::new(Vec::new(), Vec::new())?;
        let mut link = |mut stream: Socket, key| {
            net.register(&mut stream, key)?;
            let mut link = Link::new(stream);
            // Of files the kernel doesn't tell that they can be read.
            link.ready.readable = true;
            Ok::<_, io::Error>(link)
        };
        Ok(Self {
            server: link(socket, SERVER)?,
            input: link(Socket::Pipe(Pipe::open(Direction::Input)?), INPUT)?,
            output: link(Socket::Pipe(Pipe::open(Direction::Output)?), OUTPUT)?,
            net,
            address,
            typing,
            escaping: shown && !raw,
            said: Said::Some,
            leaving: false,
            ended: None,
            letter: Vec::new(),
            buffer: vec![0; ENOUGH],
        })
    }

    fn is_over(&self) -> bool {
        let left = self.leaving && self.server.outbox.is_empty();
        let deaf = self.output.broken.is_some();
        deaf || (self.output.outbox.is_empty() && (left || self.ended.is_some()))
    }

    /// Waits, then moves what there is to move, in both directions.
    fn step(&mut self) -> Result<(), ConnectError> {
        let ready = self.can_send() || self.can_receive();
        let mut events = Vec::new();
        let timeout = ready.then_some(Duration::ZERO);
        let waited = self.net.wait(timeout, &mut events);
        waited.map_err(|e| ConnectError::new("cannot wait for events", cause(&e)))?;
        for event in events {
            match event {
                Event::Client(SERVER, ready) => self.server.latch(ready),
                Event::Client(INPUT, ready) => self.input.latch(ready),
                Event::Client(OUTPUT, ready) => self.output.latch(ready),
                _ => {}
            }
        }
        if self.can_send() {
            self.read_input();
        }
        self.send();
        if self.can_receive() {
            self.receive();
        }
        self.show()
    }

    fn can_send(&self) -> bool {
        self.input.ready.readable && self.said == Said::Some && self.server.outbox.len() <= ENOUGH
    }

    fn can_receive(&self) -> bool {
        self.server.ready.readable && self.ended.is_none() && self.output.outbox.len() <= ENOUGH
    }

    fn read_input(&mut self) {
        match self.input.read(&mut self.buffer) {
            Ok(None) => {}
            Ok(Some(n)) if n > 0 => {
                let mut typed = &self.buffer[..n];
                if self.typing
                    && let Some(at) = farewell(typed)
                {
                    self.leaving = true;
                    self.said = Said::All;
                    typed = &typed[..at];
                }
                self.server.outbox.extend(typed);
            }
            // Its end; a terminal that is gone is no different.
            Ok(_) | Err(_) => self.said = Said::All,
        }
    }

    /// Sends what was typed, and then that there is no more.
    fn send(&mut self) {
        self.server.flush();
        if self.said == Said::All && self.server.outbox.is_empty() {
            self.said = Said::Over;
            // If that fails, reading tells why.
            let _ = self.server.stream.shutdown_write();
        }
    }

    fn receive(&mut self) {
        match self.server.read(&mut self.buffer) {
            Ok(None) => self.ended = self.server.broken.map(Err),
            Ok(Some(0)) => self.ended = Some(self.server.broken.map_or(Ok(()), Err)),
            Ok(Some(n)) if self.escaping => {
                self.letter.extend(&self.buffer[..n]);
                let rest = self.letter.split_off(whole_letters(&self.letter));
                let text = std::mem::replace(&mut self.letter, rest);
                self.output.outbox.extend(printable(&text).as_bytes());
            }
            Ok(Some(n)) => self.output.outbox.extend(&self.buffer[..n]),
            Err(e) => self.ended = Some(Err(CloseReason::of(&e))),
        }
        if self.ended.is_some() {
            let rest = escape(&std::mem::take(&mut self.letter));
            self.output.outbox.extend(rest.as_bytes());
        }
    }

    /// Writes what has come; once all is written, a bad end is told.
    fn show(&mut self) -> Result<(), ConnectError> {
        if self.output.ready.readable && self.output.read(&mut [0; 1]).is_err() {
            self.output.broken = Some(CloseReason::Reset);
        }
        self.output.flush();
        if let Some(CloseReason::Error(kind)) = self.output.broken {
            return Err(ConnectError::new("cannot write to standard output", kind));
        }
        // Unless who read it has had enough.
        let heard = self.output.broken.is_none() && self.output.outbox.is_empty();
        match self.ended {
            Some(Err(reason)) if heard => {
                let what = format!("the connection to {} is lost", self.address);
                Err(ConnectError::new(what, reason))
            }
            _ => Ok(()),
        }
    }
}

/// Where in what was typed a line says goodbye.
fn farewell(typed: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in typed.split_inclusive(|&byte| byte == b'\n') {
        if line.ends_with(b"\n") && matches!(without_end(line), b"quit" | b"exit") {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Lines as a terminal may get them.
fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        shown += &escape(without_end(line));
        if line.ends_with(b"\n") {
            shown.push('\n');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_one_word_says_goodbye() {
        assert_eq!(farewell(b"quit\n"), Some(0));
        assert_eq!(farewell(b"hello\nexit\r\nmore\n"), Some(6));
        for text in ["quit", "quit it\n", " quit\n", "I quit\n", ""] {
            assert_eq!(farewell(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_drives_the_terminal() {
        assert_eq!(printable(b"a\r\n\x1b[2J\n\nb"), "a\n\\u{1b}[2J\n\nb");
    }
}
