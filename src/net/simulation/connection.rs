//! One simulated connection, as its kernel knows it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Instant;

use crate::net::Readiness;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) data: VecDeque<u8>,
    /// Lengths of the datagrams in `data`.
    pub(super) lengths: VecDeque<usize>,
    pub(super) capacity: usize,
    /// The writer has ended it.
    pub(super) ended: bool,
}

impl Pipe {
    pub(super) fn room(&self) -> usize {
        self.capacity - self.data.len()
    }

    /// Removes at most `most` bytes.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let n = most.min(self.data.len());
        self.data.drain(..n).collect()
    }

    /// Removes one datagram.
    pub(super) fn take_datagram(&mut self) -> Option<Vec<u8>> {
        let length = self.lengths.pop_front()?;
        Some(self.take(length))
    }

    /// Appends one datagram; false if there is no room for all of it.
    pub(super) fn put_datagram(&mut self, datagram: &[u8]) -> bool {
        let fits = datagram.len() <= self.room();
        if fits {
            self.data.extend(datagram);
            self.lengths.push_back(datagram.len());
        }
        fits
    }
}

/// Progress of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connecting {
    /// The outcome, and when it will be known; none: never.
    Pending(Option<(Instant, Result<(), ErrorKind>)>),
    Connected,
    Failed(ErrorKind),
}

/// A connection: both its directions, and its readiness at the end of the loop under test.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of a kernel, in any combination"
)]
pub(super) struct Connection {
    pub(super) connecting: Connecting,
    pub(super) to_remote: Pipe,
    pub(super) to_loop: Pipe,
    /// Reset by the remote end.
    pub(super) reset: bool,
    /// Closed by the remote end, which answers further bytes with a reset.
    pub(super) closed: bool,
    /// Dropped by the loop.
    pub(super) dropped: bool,
    /// Dropped by the loop with unread input or on purpose, which the remote end sees as a reset.
    pub(super) cut: bool,
    pub(super) key: Option<usize>,
    /// Readiness that was not told yet.
    pub(super) edge: Readiness,
    /// A write was short: the loop is told when there is room again.
    pub(super) starved: bool,
    /// True if no event ever tells of it, as for a regular file.
    pub(super) is_file: bool,
    /// The error of every write, if writing fails.
    pub(super) write_error: Option<ErrorKind>,
    pub(super) history: History,
}

/// Record of one connection, for the checks of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    /// Times at which the loop began to connect, and dropped the connection.
    pub(crate) begun: Instant,
    pub(crate) dropped: Option<Instant>,
    /// Time at which the loop last read or wrote bytes.
    pub(crate) moved: Option<Instant>,
    /// Time at which the loop read the end of input.
    pub(crate) end_read: Option<Instant>,
    /// Bytes that the loop has read.
    pub(crate) bytes_read: usize,
}

impl Connection {
    /// Readiness as a poller would see it now.
    pub(super) fn level(&self) -> Readiness {
        match self.connecting {
            Connecting::Pending(_) => Readiness::default(),
            Connecting::Failed(_) => ALL,
            Connecting::Connected => Readiness {
                readable: !self.to_loop.data.is_empty() || self.has_lengths() || self.is_ending(),
                writable: self.to_remote.room() > 0 || self.reset,
                ending: self.is_ending(),
                hung_up: false,
            },
        }
    }

    fn is_ending(&self) -> bool {
        self.to_loop.ended || self.reset
    }

    /// True if datagrams wait, of which one may be empty.
    fn has_lengths(&self) -> bool {
        !self.to_loop.lengths.is_empty()
    }
}

/// Ready for all that there is.
pub(super) const ALL: Readiness = Readiness {
    readable: true,
    writable: true,
    ending: true,
    hung_up: false,
};
