//! The kernel as the client sees it, and its production form.

use std::io;

use rustix::{stdio, termios};

use crate::net::address::{Address, ListenAddress};
use crate::net::pipe::{Direction, Pipe};
use crate::net::{Dial, Poller, Socket};

/// A kernel that resolves names, dials, and has standard streams.
pub(super) trait Kernel: Dial {
    /// The addresses of a name, in the order in which they are tried. A name server may make this
    /// call wait.
    fn resolve(&mut self, name: &ListenAddress) -> io::Result<Vec<Address>>;

    /// Opens standard input or output; it is closed for good when the stream is dropped.
    fn open_standard(&mut self, direction: Direction) -> io::Result<Self::Stream>;

    /// True if standard input or output is a terminal.
    fn is_terminal(&self, direction: Direction) -> bool;

    /// Makes signals that ask for a stop events: without this they end the process.
    fn catch_signals(&mut self) -> io::Result<()>;
}

impl Kernel for Poller {
    fn resolve(&mut self, name: &ListenAddress) -> io::Result<Vec<Address>> {
        self.while_blocking(|| name.resolve())
    }

    fn open_standard(&mut self, direction: Direction) -> io::Result<Socket> {
        Pipe::open(direction).map(Socket::Pipe)
    }

    fn is_terminal(&self, direction: Direction) -> bool {
        match direction {
            Direction::Input => termios::isatty(stdio::stdin()),
            Direction::Output => termios::isatty(stdio::stdout()),
        }
    }

    fn catch_signals(&mut self) -> io::Result<()> {
        Poller::catch_signals(self)
    }
}
