//! Why a client was closed: one reason, used in the log, the counters and the tests.

use std::fmt;
use std::io;

use crate::text::plural;

/// The reason of a close. Its `Display` form is the word used in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its input and was sent all it was owed.
    PeerClosed,
    /// The peer reset the connection or vanished while it was written to.
    Reset,
    /// It sent nothing and was sent nothing for longer than the idle timeout.
    Idle,
    /// It took nothing of what it was owed for longer than the write timeout.
    Stalled,
    /// It stayed too far behind the shared output for longer than the patience.
    SlowConsumer,
    /// It sent a message longer than the limit.
    MessageTooLong,
    /// The service had nothing more to say to it.
    Done,
    /// The operator wanted it to go.
    Kicked,
    /// The server is stopping.
    Shutdown,
    /// Any other error of the stream.
    Error(io::ErrorKind),
}

impl CloseReason {
    /// How many there are, whatever they carry.
    const COUNT: usize = 10;

    /// One of each, in the order of [`CloseReason::index`].
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

    /// A stream's error as a reason.
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

/// What a server did in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Clients accepted.
    pub clients: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Datagrams sent in answer.
    pub answers: u64,
    /// Datagrams that were not answered though there was an answer: to keep services from answering
    /// each other, because there were too many, or because the kernel refused.
    pub unanswered: u64,
    /// Bytes read from clients, discarded ones too.
    pub bytes_in: u64,
    /// Bytes the kernel took for clients.
    pub bytes_out: u64,
    /// Messages published, by services that have messages.
    pub messages: u64,
    /// Messages that clients were sent, or of which they were being sent the rest when they were
    /// closed: one that went to three counts three times.
    pub deliveries: u64,
    /// Messages that clients were made to skip.
    pub missed: u64,
    /// Why standard input could not be read to its end, if that is so.
    pub stdin_error: Option<io::ErrorKind>,
    /// Why standard output could not be written any more, if that is so.
    pub stdout_error: Option<io::ErrorKind>,
    closes: [u64; CloseReason::COUNT],
}

impl Stats {
    /// How many clients were closed for `reason` (whatever an error's kind was).
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
    /// How many clients were closed for which reasons, such as `2 peer-closed, 1 reset`.
    pub(crate) fn reasons(&self) -> String {
        let closes = |reason: CloseReason| (self.closes(reason), reason.name());
        let some = CloseReason::ALL.into_iter().map(closes);
        let some = some.filter(|(count, _)| *count > 0);
        let some: Vec<String> = some
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        if some.is_empty() {
            return "nobody".to_owned();
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
        if self.clients > 0 {
            write!(f, ", {}", self.reasons())?;
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
    fn stats_name_only_what_happened() {
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
