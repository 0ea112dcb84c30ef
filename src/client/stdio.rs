//! The standard streams of the client.

use std::io;

use super::decode::OutputDecoder;
use super::kernel::Kernel;
use super::{Connect, ConnectError};
use crate::close::CloseReason;
use crate::net::link::Link;
use crate::net::pipe::Direction;
use crate::net::{Readiness, Stream};
use crate::text::escape::without_line_end;

/// The keys of the two in events.
pub(super) const INPUT: usize = 1;
pub(super) const OUTPUT: usize = 2;

/// Opens one of the standard streams.
fn open<N: Kernel>(direction: Direction, net: &mut N, key: usize) -> io::Result<Link<N::Stream>> {
    let mut stream = net.open_standard(direction)?;
    net.register(&mut stream, key)?;
    let mut link = Link::new(stream);
    // For regular files the kernel reports no readiness.
    link.ready.readable = true;
    Ok(link)
}

/// The standard streams, which outlive a connection.
pub(super) struct Standard<S> {
    pub(super) input: Input<S>,
    pub(super) output: Output<S>,
    /// Input that was read while there was no connection.
    pub(super) unsent: Vec<u8>,
    /// The first failure that concerns a part of the input only.
    pub(super) failure: Option<ConnectError>,
}

impl<S: Stream> Standard<S> {
    pub(super) fn open<N: Kernel<Stream = S>>(connect: &Connect, net: &mut N) -> io::Result<Self> {
        let input = if connect.send.is_empty() && !connect.recv_only {
            Input::open(net, INPUT)?
        } else {
            Input::closed()
        };
        Ok(Self {
            input,
            output: Output::open(connect, net, OUTPUT)?,
            unsent: Vec::new(),
            failure: None,
        })
    }

    /// True if a user types the input and sees the output.
    pub(super) fn are_a_terminal(&self) -> bool {
        self.input.terminal && self.output.terminal
    }

    /// Takes both for ready, after a time in which their events were not kept.
    pub(super) fn latch_all(&mut self) {
        let all = Readiness {
            readable: true,
            writable: true,
            ..Readiness::default()
        };
        self.input.latch(all);
        self.output.latch(all);
    }

    /// Reads input although there is no connection, so that its end is noticed.
    pub(super) fn read_ahead(&mut self, most: usize, buffer: &mut [u8]) {
        while self.input.is_readable() && self.unsent.len() < most {
            let input = self.input.read(buffer);
            self.unsent.extend_from_slice(input);
        }
        if let Some(error) = self.input.take_error() {
            self.failure.get_or_insert(error);
        }
    }
}

/// Standard input.
pub(super) struct Input<S> {
    /// Absent after the end of input, and if `--send` replaces it.
    link: Option<Link<S>>,
    /// True if the input is typed at a terminal: then the line `quit` or `exit` ends it.
    terminal: bool,
    /// True after such a line.
    pub(super) quit_requested: bool,
    /// The error that has ended the input.
    error: Option<io::ErrorKind>,
}

impl<S: Stream> Input<S> {
    pub(super) fn open<N: Kernel<Stream = S>>(net: &mut N, key: usize) -> io::Result<Self> {
        let terminal = net.is_terminal(Direction::Input);
        Ok(Self {
            link: Some(open(Direction::Input, net, key)?),
            terminal,
            ..Self::closed()
        })
    }

    /// An input that has ended already.
    pub(super) fn closed() -> Self {
        Self {
            link: None,
            terminal: false,
            quit_requested: false,
            error: None,
        }
    }

    pub(super) fn latch(&mut self, ready: Readiness) {
        if let Some(link) = &mut self.link {
            link.latch(ready);
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.link.is_none()
    }

    pub(super) fn is_readable(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.ready.readable)
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The error that has ended the input, unless it was taken before.
    pub(super) fn take_error(&mut self) -> Option<ConnectError> {
        let kind = self.error.take()?;
        Some(ConnectError::new("cannot read standard input", kind))
    }

    /// Reads once; returns what is meant for the server.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let Some(link) = &mut self.link else {
            return &[];
        };
        match link.read(buffer) {
            Ok(None) => &[],
            Ok(Some(n)) if n > 0 => {
                let typed = &buffer[..n];
                match find_quit(typed).filter(|_| self.terminal) {
                    Some(at) => {
                        self.quit_requested = true;
                        self.link = None;
                        &typed[..at]
                    }
                    None => typed,
                }
            }
            Ok(_) => {
                self.link = None;
                &[]
            }
            Err(e) => {
                // A terminal that was closed fails, which is an end like any other.
                self.error = Some(e.kind()).filter(|_| !self.terminal);
                self.link = None;
                &[]
            }
        }
    }
}

/// Offset of the first line that is `quit` or `exit`.
fn find_quit(typed: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in typed.split_inclusive(|&byte| byte == b'\n') {
        if line.ends_with(b"\n") && matches!(without_line_end(line), b"quit" | b"exit") {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Standard output.
pub(super) struct Output<S> {
    /// Absent after the end of output.
    link: Option<Link<S>>,
    /// True if the reader of the output has gone.
    pub(super) is_closed: bool,
    decoder: OutputDecoder,
    /// True if the output goes to a terminal.
    terminal: bool,
}

impl<S: Stream> Output<S> {
    pub(super) fn open<N: Kernel<Stream = S>>(
        connect: &Connect,
        net: &mut N,
        key: usize,
    ) -> io::Result<Self> {
        let terminal = net.is_terminal(Direction::Output);
        Ok(Self {
            link: Some(open(Direction::Output, net, key)?),
            is_closed: false,
            decoder: OutputDecoder::new(connect.encoding, terminal && !connect.raw),
            terminal,
        })
    }

    pub(super) fn latch(&mut self, ready: Readiness) {
        if let Some(link) = &mut self.link {
            link.latch(ready);
        }
    }

    /// Bytes that standard output has not taken yet.
    pub(super) fn unwritten(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.outbox.len())
    }

    /// Queues received bytes, converted; with `last` no later bytes belong to them.
    pub(super) fn queue(&mut self, bytes: &[u8], last: bool) {
        let text = self.decoder.convert(bytes, last);
        if let Some(link) = &mut self.link {
            link.outbox.extend(text.iter());
        }
    }

    /// Ends the output, of which all is written: its reader is told at once.
    pub(super) fn end(&mut self) {
        self.link = None;
    }

    /// Writes what standard output takes.
    ///
    /// # Errors
    /// If writing fails for another reason than that the reader has gone.
    pub(super) fn write(&mut self) -> Result<(), ConnectError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if link.ready.readable && link.read(&mut [0; 1]).is_err() {
            link.broken = Some(CloseReason::Reset);
        }
        link.flush();
        self.is_closed = link.broken.is_some();
        match link.broken {
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
    fn a_line_of_one_word_quits() {
        assert_eq!(find_quit(b"quit\n"), Some(0));
        assert_eq!(find_quit(b"hello\nexit\r\nmore\n"), Some(6));
        for text in ["quit", "quit it\n", " quit\n", "I quit\n", ""] {
            assert_eq!(find_quit(text.as_bytes()), None, "{text:?}");
        }
    }
}
