//! Close reasons, and the counters of a server.

use std::fmt;
use std::io;

use crate::text::plural;

/// The reason of a client's close; each client has exactly one. Its `Display` form is used in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its side, and was sent all that it was owed.
    PeerClosed,
    /// The peer reset the connection, or closed it before it took its output.
    Reset,
    /// There was no input and no output for longer than the idle timeout.
    Idle,
    /// Pending output made no progress for longer than the write timeout.
    Stalled,
    /// The client held up the room for longer than the patience.
    SlowConsumer,
    /// The client sent a message longer than the limit.
    MessageTooLong,
    /// The service closed the connection.
    Done,
    /// The operator closed the connection.
    Kicked,
    /// The server is stopping.
    Shutdown,
    /// The stream had any other error.
    Error(io::ErrorKind),
}

impl CloseReason {
    /// True if the server chose to close a client that may have been owed something.
    pub(crate) fn cuts_off(self) -> bool {
        let late = matches!(self, Self::SlowConsumer | Self::Stalled | Self::Idle);
        late || self == Self::Shutdown
    }

    /// The number of reasons.
    const COUNT: usize = 10;

    /// All reasons, in the order of [`CloseReason::index`].
    const ALL: [Self; Self::COUNT] = [
        Self::PeerClosed,
        Self::Reset,
        Self::Idle,
        Self::Stalled,
        Self::SlowConsumer,
        Self::MessageTooLong,
        Self::Done,
        Self::Kicked,
        Self::Shutdown,
        Self::Error(io::ErrorKind::Other),
    ];

    /// The reason for the close of a stream with this error.
    pub(crate) fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected => Self::Reset,
            kind => Self::Error(kind),
        }
    }

    /// The word used in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer-closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::SlowConsumer => "slow-consumer",
            Self::MessageTooLong => "message-too-long",
            Self::Done => "done",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::Error(_) => "error",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::PeerClosed => 0,
            Self::Reset => 1,
            Self::Idle => 2,
            Self::Stalled => 3,
            Self::SlowConsumer => 4,
            Self::MessageTooLong => 5,
            Self::Done => 6,
            Self::Kicked => 7,
            Self::Shutdown => 8,
            Self::Error(_) => 9,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(kind) => write!(f, "error ({kind})"),
            other => f.write_str(other.name()),
        }
    }
}

/// The counters of a server since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Clients accepted.
    pub clients: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Datagrams sent as replies.
    pub answers: u64,
    /// Replies that were not sent: the datagram might have come from a service, its sender had used up
    /// its share, or the kernel refused the reply.
    pub unanswered: u64,
    /// Bytes read from clients, discarded bytes included.
    pub bytes_in: u64,
    /// Bytes to clients that the kernel took.
    pub bytes_out: u64,
    /// Messages published; 0 for services without messages.
    pub messages: u64,
    /// Messages sent to clients, each counted once for each client. A message that was sent in part when its
    /// client was closed counts too.
    pub deliveries: u64,
    /// Messages that slow consumers skipped, each counted once for each client.
    pub missed: u64,
    /// Messages that clients were still owed when the server closed them: as slow consumers, at a
    /// timeout, or at the end of the grace.
    pub undelivered: u64,
    /// Clients that skipped messages or were closed without some.
    pub incomplete: u64,
    /// Clients that came and went without a byte in either direction, as health probes do. In a room
    /// that announces its clients, what it has sent to one that was not announced yet does not count.
    pub probes: u64,
    /// The error at which reading standard input ended, if there was one.
    pub stdin_error: Option<io::ErrorKind>,
    /// The error at which writing standard output ended, if there was one.
    pub stdout_error: Option<io::ErrorKind>,
    closes: [u64; CloseReason::COUNT],
}

impl Stats {
    /// Clients closed for `reason`; all kinds of [`CloseReason::Error`] count as one.
    #[must_use]
    pub const fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason.index()]
    }

    pub(crate) fn count(&mut self, reason: CloseReason, bytes_in: u64, bytes_out: u64) {
        self.closes[reason.index()] += 1;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
    }
}

impl Stats {
    /// Counts of closed clients for each reason, such as `2 peer-closed, 1 reset`.
    pub(crate) fn reasons(&self) -> String {
        let closes = |reason: CloseReason| (self.closes(reason), reason.name());
        let some = CloseReason::ALL.into_iter().map(closes);
        let some = some.filter(|(count, _)| *count > 0);
        let some: Vec<String> = some
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        if some.is_empty() {
            return "none".to_owned();
        }
        some.join(", ")
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = plural(self.clients, "client");
        let bytes = |count| plural(count, "byte");
        let (input, output) = (bytes(self.bytes_in), bytes(self.bytes_out));
        write!(f, "{clients}, {input} in, {output} out")?;
        if self.datagrams > 0 {
            let datagrams = plural(self.datagrams, "datagram");
            write!(f, ", {datagrams}, {} answered", self.answers)?;
        }
        if self.unanswered > 0 {
            write!(f, ", {} refused", self.unanswered)?;
        }
        if self.messages > 0 {
            let messages = plural(self.messages, "message");
            write!(f, ", {messages} in, {} out", self.deliveries)?;
        }
        if self.missed > 0 {
            write!(f, ", {} missed", self.missed)?;
        }
        if self.undelivered > 0 {
            write!(f, ", {} undelivered", self.undelivered)?;
        }
        if self.clients > 0 {
            write!(f, ", {}", self.reasons())?;
        }
        if self.probes > 0 {
            write!(f, ", {} without a byte", self.probes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut stats = Stats::default();
        for (i, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), i);
            stats.count(reason, 1, 2);
            assert_eq!(stats.closes(reason), 1);
        }
        assert_eq!((stats.bytes_in, stats.bytes_out), (10, 20));
    }

    #[test]
    fn stats_leave_out_counters_that_are_zero() {
        let mut stats = Stats {
            clients: 1,
            ..Stats::default()
        };
        stats.count(CloseReason::Reset, 3, 4);
        assert_eq!(
            stats.to_string(),
            "1 client, 3 bytes in, 4 bytes out, 1 reset"
        );
    }
}
