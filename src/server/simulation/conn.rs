//! One simulated connection, as its kernel knows it.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::net::Readiness;

/// One connection: both its directions, and its readiness at the server's end.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of a kernel, in any combination"
)]
pub(super) struct Conn {
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    /// Index of the listener that it was made to.
    pub(super) listener: usize,
    /// True if it is standard input, for the server.
    pub(super) is_stdin: bool,
    pub(super) key: Option<usize>,
    /// Readiness that no event has reported yet.
    pub(super) edge: Readiness,
    /// True if a write was short: an event follows once there is room again.
    pub(super) write_blocked: bool,
    pub(super) reset_by_client: bool,
    /// True if the server closed it with input unread, or before further input was sent. Bytes in
    /// flight to the client are lost.
    pub(super) reset_by_server: bool,
    /// True if the server has asked for a reset at its close.
    pub(super) resets_on_close: bool,
    /// True if the server has closed it, or will never accept it.
    pub(super) dropped: bool,
    pub(super) history: History,
}

/// Record of one connection, for the checks.
#[derive(Debug, Default)]
pub(super) struct History {
    /// All bytes that the kernel has accepted from the server.
    pub(super) written: Vec<u8>,
    /// Time at which the kernel last accepted bytes from the server.
    pub(super) written_at: Option<Instant>,
    /// Time since which the kernel accepts no more bytes.
    pub(super) blocked_since: Option<Instant>,
    /// Time at which the server last read, wrote or ended something.
    pub(super) active_at: Option<Instant>,
    /// Longest time between two such calls.
    pub(super) longest_pause: Duration,
    /// Time at which the client last sent something.
    pub(super) sent_at: Option<Instant>,
    /// Time at which the server shut its output.
    pub(super) shut_at: Option<Instant>,
    /// Time at which the server closed an accepted connection.
    pub(super) dropped_at: Option<Instant>,
    /// True if the server has read the end or the error.
    pub(super) end_read: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) data: VecDeque<u8>,
    pub(super) capacity: usize,
    /// True if the writer has ended it.
    pub(super) ended: bool,
}

impl Pipe {
    pub(super) fn room(&self) -> usize {
        self.capacity - self.data.len()
    }
}

impl Conn {
    /// True if input has arrived that the server has not read.
    pub(super) fn has_unread(&self) -> bool {
        !self.to_server.data.is_empty()
    }

    /// Readiness as a poller would see it now.
    pub(super) fn level(&self) -> Readiness {
        Readiness {
            readable: self.has_unread() || self.to_server.ended || self.reset_by_client,
            writable: self.to_client.room() > 0 || self.reset_by_client,
            ending: self.to_server.ended || self.reset_by_client,
            hung_up: self.to_server.ended && self.to_client.ended && !self.reset_by_client,
        }
    }
}

impl History {
    /// Records that the server reads, writes or ends something.
    pub(super) fn record_activity(&mut self, now: Instant) {
        let pause = self.active_at.map_or(Duration::ZERO, |at| now - at);
        self.longest_pause = self.longest_pause.max(pause);
        self.active_at = Some(now);
    }
}

impl fmt::Display for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, pipe) in [
            ("to server", &self.to_server),
            ("to client", &self.to_client),
        ] {
            let (length, capacity) = (pipe.data.len(), pipe.capacity);
            write!(f, "{name} {length} of {capacity}, ended {}; ", pipe.ended)?;
        }
        let Self {
            reset_by_client,
            reset_by_server,
            dropped,
            write_blocked,
            ..
        } = self;
        write!(
            f,
            "reset by client {reset_by_client}, by server {reset_by_server}, "
        )?;
        write!(f, "dropped {dropped}, write blocked {write_blocked}")
    }
}
