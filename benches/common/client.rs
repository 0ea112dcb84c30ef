//! A client that doesn't sleep while it has a core of its own: a sleeper has to be woken, and
//! that would cost the server more than what it sends.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cores::cores;

/// The time after which an answer is taken for lost.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes compared at the end of a long answer: comparing must not be what is measured.
const COMPARED: usize = 4096;

pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT)
            .unwrap_or_else(|e| give_up(format_args!("cannot connect to {server}: {e}")));
        stream.set_nodelay(true).expect("TCP has this option");
        stream.set_nonblocking(true).expect("a socket can do that");
        Self(stream)
    }

    pub(crate) fn many(server: SocketAddr, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::connect(server)).collect()
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = insist(&self.0, PollFlags::OUT, || (&self.0).write(bytes));
            bytes = &bytes[sent..];
        }
    }

    /// Receives the available bytes, or waits for some; 0 bytes at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        insist(&self.0, PollFlags::IN, || (&self.0).read(buffer))
    }

    /// Receives as much as fits into `buffer`.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                0 => give_up("the server has closed a connection"),
                n => filled += n,
            }
        }
    }

    /// Receives as many bytes as `expected` has, and checks that they are these. `buffer` is where
    /// they go, the same for all clients, so that they stay in the cache.
    pub(crate) fn receive(&mut self, expected: &[u8], buffer: &mut Vec<u8>) {
        buffer.resize(expected.len(), 0);
        self.fill(buffer);
        let from = expected.len().saturating_sub(COMPARED);
        if buffer[from..] != expected[from..] {
            give_up("the server has sent something else than expected");
        }
    }

    /// Sends or receives, or both, whichever is possible first; returns the byte counts of each.
    pub(crate) fn exchange(&mut self, output: &[u8], input: &mut [u8]) -> (usize, usize) {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !output.is_empty());
        insist(&self.0, interest, || {
            let sent = if output.is_empty() {
                0
            } else {
                none_yet((&self.0).write(output))?.unwrap_or(0)
            };
            match none_yet((&self.0).read(input))? {
                None if sent == 0 => Err(ErrorKind::WouldBlock.into()),
                Some(0) => give_up("the server has closed a connection"),
                received => Ok((sent, received.unwrap_or(0))),
            }
        })
    }

    /// True if there is something to read, or soon is.
    pub(crate) fn has_input(&self, soon: Duration) -> bool {
        ready(&self.0, PollFlags::IN, soon)
    }

    /// Ends the output (half-close), and waits until the server has ended its output too.
    pub(crate) fn finish(&mut self, buffer: &mut [u8]) {
        let ended = self.0.shutdown(Shutdown::Write);
        ended.unwrap_or_else(|e| give_up(format_args!("the connection is lost: {e}")));
        if self.read(buffer) > 0 {
            give_up("more was received than was sent");
        }
    }
}

/// None if it cannot be done now.
fn none_yet(tried: io::Result<usize>) -> io::Result<Option<usize>> {
    match tried {
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

/// Tries until it is done: at once again where the load has a core of its own, else once the
/// socket is ready.
pub(crate) fn insist<T>(
    socket: &impl AsFd,
    interest: PollFlags,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> T {
    let mut since = None;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() != ErrorKind::WouldBlock => {
                give_up(format_args!("the connection is lost: {e}"))
            }
            Err(_) if since.get_or_insert_with(Instant::now).elapsed() > TIMEOUT => {
                give_up(format_args!("the server did nothing for {TIMEOUT:?}"))
            }
            Err(_) if cores().is_some() => {}
            Err(_) => {
                ready(socket, interest, TIMEOUT);
            }
        }
    }
}

/// True if the socket is ready, or soon is.
pub(crate) fn ready(socket: &impl AsFd, interest: PollFlags, soon: Duration) -> bool {
    let mut sockets = [PollFd::new(socket, interest)];
    let soon = Timespec::try_from(soon).expect("it is a matter of seconds");
    // Interrupted or not: the next call finds out.
    poll(&mut sockets, Some(&soon)).is_ok_and(|ready| ready > 0)
}

/// Ends the benches with one line of explanation: nothing can be measured.
pub(crate) fn give_up(why: impl Display) -> ! {
    eprintln!("resound's benches: {why}");
    std::process::exit(1)
}
