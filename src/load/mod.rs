//! The load tester: any number of clients on one thread, which load a server and count its answers.
//!
//! [`Load::run`] builds a workload for the mode and hands it to the engine, the loop. Calls go down
//! this table; results come back up as counts:
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`Load`], its modes and its checks |
//! | `engine.rs` | the loop: connect, prepare, measure, wait for the last answers |
//! | `dialer.rs` | connections that are being opened |
//! | `workload.rs` | the trait of a workload: what the loop calls, and when |
//! | `echo.rs`, `datagrams.rs`, `churn.rs`, `fanout.rs` with `publisher.rs`, `one_way.rs` | the workloads |
//! | `slow.rs` | clients beside the workload that read nothing |
//! | `clients.rs`, `ledger.rs` | the table of a workload's clients; the messages of one client: due, in flight, settled |
//! | `message.rs`, `sequence.rs` | numbered messages, and how they are found in a stream; missing and repeated numbers |
//! | `mismatch.rs` | a server of another kind than the load is for, recognised by its first bytes |
//! | `run.rs`, `schedule.rs` with `rate.rs`, `moment.rs` | the state that loop and workloads share; send times of an open loop; the clock's type |
//! | `tally.rs`, `faults.rs`, `outcome.rs` | counts while it runs; faults by kind; the result |
//! | `simulation/` | tests: the loop and every workload over a simulated kernel, from seeds |
//!
//! A message takes this way: it falls due in the `Schedule`, or without one as
//! soon as another is answered; the client's `Ledger` records its send time; its
//! answer is found by `Frames` and judged by the workload; the
//! `Tally` counts it by the time at which it was to be sent, so that a stall counts
//! for all messages that had to wait for it (no coordinated omission).

mod churn;
mod clients;
mod datagrams;
mod dialer;
mod echo;
mod engine;
mod fanout;
mod faults;
mod ledger;
mod message;
mod mismatch;
mod moment;
mod one_way;
mod outcome;
mod publisher;
mod rate;
mod run;
mod schedule;
mod sequence;
#[cfg(test)]
mod simulation;
mod slow;
mod tally;
mod workload;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::net::address::ListenAddress;
use crate::net::error::cause;
use crate::net::{Dial, FOREVER, Poller};

use churn::Churn;
use datagrams::Datagrams;
use echo::Echo;
use engine::Engine;
use fanout::Fanout;
pub use faults::{Fault, Faults};
use message::MOST_SENDERS;
pub use mismatch::{Mismatch, MismatchKind};
use one_way::OneWay;
pub use outcome::{Counts, Interval, Latencies, LoadEnd, LoadOutcome};
pub use rate::Rate;
use workload::Workload;

/// The shortest message: 16 hexadecimal digits that number it, and a newline.
pub const SHORTEST_MESSAGE: usize = 17;
/// Bytes in the longest message.
pub const LONGEST_MESSAGE: usize = 1 << 30;

/// The task of a load's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// Messages are echoed.
    Echo,
    /// Messages are echoed in bulk: bytes are what counts.
    Stream,
    /// Connections are opened, have one message echoed, and are closed.
    Churn,
    /// Publishers send, and all other clients receive.
    Fanout,
    /// Clients send; nothing is answered.
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
/// Without a rate the loop is closed: a message is sent when another is answered. With one it is
/// open: messages are sent at their times, whatever the server does, and their latency counts from
/// these times, so that a stall shows in all messages that had to wait for it.
///
/// [`Load::new`] gives the defaults of the command line; assign the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// The server's address; of a name's addresses the first that answers.
    pub to: ListenAddress,
    /// The clients' task.
    pub mode: LoadMode,
    /// Number of clients, in fan-out of subscribers; at least 1.
    pub clients: usize,
    /// In fan-out the number of clients that publish, at least 1. They receive what the others
    /// publish.
    pub publishers: usize,
    /// Number of further clients that read nothing. In echo and stream they send.
    pub slow: usize,
    /// Bytes in a message, its newline included; from [`SHORTEST_MESSAGE`] to [`LONGEST_MESSAGE`].
    pub size: usize,
    /// Messages of one client, in fan-out of one publisher, that may be in flight at a time; at
    /// least 1.
    pub depth: usize,
    /// Messages, or in [`LoadMode::Churn`] connections, in all; at most [`Rate::MOST`] a second.
    pub rate: Option<Rate>,
    /// Connections that are opened, at most.
    pub connect_rate: Option<Rate>,
    /// The measured time; at most a hundred years, as all times are.
    pub duration: Duration,
    /// The time before it, in which the load is the same and nothing is measured.
    pub warmup: Duration,
    /// The longest time for connecting, for the last answers after the end, and for the answer to a
    /// datagram.
    pub timeout: Duration,
    /// The time between two reports to the watcher; above 0.
    pub interval: Duration,
    /// True if the loop never sleeps: it polls all the time.
    pub spin: bool,
    /// True if answers are compared with what was sent: each message once, in order, unchanged. In
    /// fan-out numbers are checked in any case.
    pub verify: bool,
    /// True if SIGINT, SIGTERM and SIGHUP end the load early. From then on they are caught for the whole
    /// process.
    pub catch_signals: bool,
}

/// The reason why a load could not be run: one line.
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

    /// Connects, loads the server, and reports each interval to `watch`.
    ///
    /// # Errors
    /// When settings are out of bounds or contradict each other; when no client can connect, or the
    /// system has too few descriptors; when in fan-out the clients don't receive each other's
    /// messages.
    pub fn run(&self, mut watch: impl FnMut(&Interval)) -> Result<LoadOutcome, LoadError> {
        self.check()?;
        let net = self.open_poller();
        let net = net.map_err(|e| LoadError(format!("cannot start: {}", cause(&e))))?;
        Engine::new(self, net, &mut watch)?.run()
    }

    fn open_poller(&self) -> io::Result<Poller> {
        let mut net = Poller::new(Vec::new(), Vec::new())?;
        if self.catch_signals {
            net.catch_signals()?;
        }
        Ok(net)
    }

    /// The workload of the mode.
    fn workload<N: Dial + 'static>(&self) -> Box<dyn Workload<N>> {
        match self.mode {
            _ if self.to.is_datagram() => Box::new(Datagrams::new(self)),
            LoadMode::Echo | LoadMode::Stream => Box::new(Echo::new(self)),
            LoadMode::Churn => Box::new(Churn::new(self)),
            LoadMode::Fanout => Box::new(Fanout::new(self)),
            LoadMode::Sink | LoadMode::Source => Box::new(OneWay::new(self)),
        }
    }

    /// Checks the settings.
    fn check(&self) -> Result<(), LoadError> {
        let streams = !matches!(self.mode, LoadMode::Echo | LoadMode::Sink);
        let fanout = self.mode == LoadMode::Fanout;
        let rates = || [self.rate, self.connect_rate].into_iter().flatten();
        let mut times = [self.duration, self.warmup, self.timeout]
            .into_iter()
            .chain(rates().map(|rate| rate.per));
        let error = match self {
            _ if self.size < SHORTEST_MESSAGE => "a message has at least 17 bytes",
            _ if self.clients == 0 => "a load has at least one client",
            _ if self.size > LONGEST_MESSAGE => "a message is at most 1 GiB",
            _ if self.depth == 0 => "the depth is at least 1",
            _ if self.all_clients() > MOST_SENDERS => "there are too many clients",
            _ if fanout && self.publishers == 0 => "fan-out has at least one publisher",
            _ if self.to.is_datagram() && streams => "datagrams are for echo and sink",
            _ if times.any(|time| time > FOREVER) => "a time is longer than a hundred years",
            _ if rates().any(|rate| rate.count == 0 || rate.per.is_zero()) => {
                "a rate is above 0, in a time above 0"
            }
            _ if rates().any(|rate| !rate.is_possible()) => "a rate is at most 10,000,000 a second",
            _ if self.interval.is_zero() => "an interval is longer than 0",
            _ => return Ok(()),
        };
        Err(LoadError(error.to_owned()))
    }

    /// Number of clients of all kinds.
    fn all_clients(&self) -> usize {
        let clients = self.clients.saturating_add(self.publishers);
        clients.saturating_add(self.slow)
    }

    /// Number of clients that take part in the workload: all but the slow ones.
    fn active_clients(&self) -> usize {
        match self.mode {
            LoadMode::Fanout => self.publishers + self.clients,
            _ => self.clients,
        }
    }
}
