//! The load tester: clients of one thread, as many as are wanted, that ask much of a server and
//! look at what comes back.

mod churn;
mod datagrams;
mod dialer;
mod echo;
mod engine;
mod fanout;
mod faults;
mod line;
mod message;
mod one_way;
mod outcome;
mod player;
mod publisher;
mod sequence;
mod slow;
mod tally;
mod turns;
mod wire;

use std::fmt;
use std::time::Duration;

use crate::net::FOREVER;
use crate::net::address::ListenAddress;

use churn::Churn;
use datagrams::Datagrams;
use echo::Echo;
use engine::Engine;
use fanout::Fanout;
pub use faults::{Fault, Faults};
use message::MOST_SENDERS;
use one_way::OneWay;
pub use outcome::{Counts, Interval, Latencies, LoadEnd, LoadOutcome};
use player::Player;

/// The shortest message: 16 hexadecimal digits that number it, and a newline.
pub const SHORTEST_MESSAGE: usize = 17;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// Messages go out and come back.
    Echo,
    /// The same in bulk: what counts is bytes.
    Stream,
    /// Connections come, have a message echoed, and go.
    Churn,
    /// Publishers send, subscribers receive.
    Fanout,
    /// Clients send, and nothing comes back.
    Sink,
    /// Clients receive, and send nothing.
    Source,
}

impl LoadMode {
    /// Every mode, in the order of the help.
    pub const ALL: [Self; 6] = [
        Self::Echo,
        Self::Stream,
        Self::Churn,
        Self::Fanout,
        Self::Sink,
        Self::Source,
    ];

    /// The mode's name on the command line and in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Stream => "stream",
            Self::Churn => "churn",
            Self::Fanout => "fanout",
            Self::Sink => "sink",
            Self::Source => "source",
        }
    }
}

/// A load on a server.
///
/// Without a rate the loop is closed: a message goes out when another has come back. With one it is
/// open: messages go out at their times, whatever the server does, and their latency counts from
/// these times, so that a stall shows in all that had to wait for it.
///
/// [`Load::new`] gives the defaults of the command line; assign the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Where the server listens; of a name's addresses the first that answers.
    pub to: ListenAddress,
    /// What clients do.
    pub mode: LoadMode,
    /// How many there are; in fan-out the subscribers.
    pub clients: usize,
    /// In fan-out how many publish. They are sent what the others publish.
    pub publishers: usize,
    /// How many more there are that read nothing: in fan-out they only listen, else they send.
    pub slow: usize,
    /// Bytes in a message, its newline included; at least [`SHORTEST_MESSAGE`].
    pub size: usize,
    /// Messages of one client, or publisher, that may be under way at a time.
    pub depth: usize,
    /// Messages, or in [`LoadMode::Churn`] connections, a second in all.
    pub rate: Option<u64>,
    /// Connections opened a second.
    pub connect_rate: Option<u64>,
    /// How long is measured.
    pub duration: Duration,
    /// What goes before it.
    pub warmup: Duration,
    /// What takes longer never comes: connecting, the rest after the end, a datagram.
    pub timeout: Duration,
    /// How often to tell of it.
    pub interval: Duration,
    /// Never sleep while there is something under way.
    pub spin: bool,
    /// Check what comes: each message is there once, in its place, as it was sent. In fan-out their
    /// numbers are checked in any case.
    pub verify: bool,
    /// SIGINT and SIGTERM end it early, from now on for the whole process.
    pub catch_signals: bool,
}

/// Why there is no load: one line.
#[derive(Debug)]
pub struct LoadError(String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

impl Load {
    /// A load of ten seconds, after a warm-up of one, with the defaults of its mode: 50 clients with
    /// 64 bytes a message, and in bulk 4 clients with 64 KiB (with 64 bytes as datagrams); in
    /// fan-out one publisher and 100 subscribers.
    #[must_use]
    pub fn new(to: ListenAddress, mode: LoadMode) -> Self {
        let bulk = matches!(mode, LoadMode::Stream | LoadMode::Sink | LoadMode::Source);
        let fanout = mode == LoadMode::Fanout;
        Self {
            mode,
            clients: match mode {
                LoadMode::Fanout => 100,
                _ if bulk => 4,
                _ => 50,
            },
            publishers: usize::from(fanout),
            slow: 0,
            size: if bulk && !to.is_datagram() {
                64 << 10
            } else {
                64
            },
            depth: match mode {
                LoadMode::Stream => 16,
                LoadMode::Fanout => 1024,
                _ => 1,
            },
            rate: None,
            connect_rate: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            interval: Duration::from_secs(1),
            spin: false,
            verify: false,
            catch_signals: false,
            to,
        }
    }

    /// Connects, loads the server, and tells `watch` of each interval.
    ///
    /// # Errors
    /// When the settings make no sense together; when no client can connect, or the system has no
    /// means for that many; when in fan-out nothing reaches the others.
    pub fn run(&self, mut watch: impl FnMut(&Interval)) -> Result<LoadOutcome, LoadError> {
        self.check()?;
        let player: Box<dyn Player> = match self.mode {
            _ if self.to.is_datagram() => Box::new(Datagrams::new(self)),
            LoadMode::Echo | LoadMode::Stream => Box::new(Echo::new(self)),
            LoadMode::Churn => Box::new(Churn::new(self)),
            LoadMode::Fanout => Box::new(Fanout::new(self)),
            LoadMode::Sink | LoadMode::Source => Box::new(OneWay::new(self)),
        };
        Engine::new(self, player, &mut watch)?.run()
    }

    /// Whether there can be such a load.
    fn check(&self) -> Result<(), LoadError> {
        let datagrams = self.to.is_datagram();
        let streams = !matches!(self.mode, LoadMode::Echo | LoadMode::Sink);
        let no = |text: &str| Err(LoadError(text.to_owned()));
        match self {
            _ if self.size < SHORTEST_MESSAGE => no("a message is longer than that"),
            _ if self.clients == 0 || self.depth == 0 => no("there is nothing to do"),
            _ if self.players() > MOST_SENDERS => no("there are too many clients"),
            _ if self.mode == LoadMode::Fanout && self.publishers == 0 => no("nobody publishes"),
            _ if datagrams && streams => no("datagrams are for echo and sink"),
            _ if [self.duration, self.warmup, self.timeout]
                .iter()
                .any(|t| *t > FOREVER) =>
            {
                no("that is longer than a hundred years")
            }
            _ if self.rate == Some(0) || self.interval.is_zero() => no("never is no rate"),
            _ => Ok(()),
        }
    }

    /// Clients that aren't slow.
    fn players(&self) -> usize {
        match self.mode {
            LoadMode::Fanout => self.publishers + self.clients,
            _ => self.clients,
        }
    }
}
