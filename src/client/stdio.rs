//! The standard streams of the client.

use std::io;

use rustix::stdio;
use rustix::termios::isatty;

use super::incoming::Incoming;
use super::talk::ENOUGH;
use super::{Connect, ConnectError};
use crate::close::CloseReason;
use crate::net::link::Link;
use crate::net::pipe::{Direction, Pipe};
use crate::net::{Net, Poller, Readiness, Socket};
use crate::text::escape::without_end;

/// Takes hold of one of the standard streams.
fn open(direction: Direction, net: &mut Poller, key: usize) -> io::Result<Link<Socket>> {
    let mut stream = Socket::Pipe(Pipe::open(direction)?);
    net.register(&mut stream, key)?;
    let mut link = Link::new(stream);
    // Of files the kernel doesn't tell that they can be read.
    link.ready.readable = true;
    Ok(link)
}

/// Standard input, unless there is something else to say.
pub(super) struct Input {
    /// Absent at its end, and where it isn't read.
    link: Option<Link<Socket>>,
    /// Lines are typed by a person, who leaves with a word.
    typing: bool,
    /// Somebody has typed that word.
    pub(super) leaving: bool,
}

impl Input {
    pub(super) fn open(net: &mut Poller, key: usize) -> io::Result<Self> {
        let typing = isatty(stdio::stdin());
        Ok(Self {
            link: Some(open(Direction::Input, net, key)?),
            typing,
            leaving: false,
        })
    }

    /// None at all.
    pub(super) fn closed() -> Self {
        Self {
            link: None,
            typing: false,
            leaving: false,
        }
    }

    pub(super) fn latch(&mut self, ready: Readiness) {
        if let Some(link) = &mut self.link {
            link.latch(ready);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.link.is_none()
    }

    pub(super) fn is_readable(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.ready.readable)
    }

    pub(super) fn is_typed(&self) -> bool {
        self.typing
    }

    /// What there is of it now, as far as it is for the server.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let Some(link) = &mut self.link else {
            return &[];
        };
        match link.read(buffer) {
            Ok(None) => &[],
            Ok(Some(n)) if n > 0 => {
                let typed = &buffer[..n];
                match farewell(typed).filter(|_| self.typing) {
                    Some(at) => {
                        self.leaving = true;
                        self.link = None;
                        &typed[..at]
                    }
                    None => typed,
                }
            }
            // Its end; a terminal that is gone is no different.
            Ok(_) | Err(_) => {
                self.link = None;
                &[]
            }
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

/// Standard output.
pub(super) struct Output {
    link: Link<Socket>,
    words: Incoming,
    /// A person sees it.
    shown: bool,
}

impl Output {
    pub(super) fn open(connect: &Connect, net: &mut Poller, key: usize) -> io::Result<Self> {
        let shown = isatty(stdio::stdout());
        Ok(Self {
            link: open(Direction::Output, net, key)?,
            words: Incoming::new(connect.encoding, shown && !connect.raw),
            shown,
        })
    }

    pub(super) fn latch(&mut self, ready: Readiness) {
        self.link.latch(ready);
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Nobody reads it any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.link.broken.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.link.outbox.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.link.outbox.len() <= ENOUGH
    }

    /// Takes what has come; with `last` nothing belongs to it that comes later.
    pub(super) fn take(&mut self, bytes: &[u8], last: bool) {
        let text = self.words.convert(bytes, last);
        self.link.outbox.extend(text.iter());
    }

    /// Writes what it can of it.
    ///
    /// # Errors
    /// When that fails; a reader that has had enough is no failure.
    pub(super) fn write(&mut self) -> Result<(), ConnectError> {
        if self.link.ready.readable && self.link.read(&mut [0; 1]).is_err() {
            self.link.broken = Some(CloseReason::Reset);
        }
        self.link.flush();
        match self.link.broken {
            Some(CloseReason::Error(kind)) => {
                Err(ConnectError::new("cannot write to standard output", kind))
            }
            _ => Ok(()),
        }
    }
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
}
