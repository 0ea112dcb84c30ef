//! The result of a load.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::faults::Faults;
use super::mismatch::Mismatch;

/// Latencies in nanoseconds, with three significant digits, from 1 ns to an hour.
pub type Latencies = Histogram<u64>;

/// An hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Latencies without a value.
pub(super) fn no_latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order")
}

/// Counts over a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Messages that were answered; connections that were served ([`LoadMode::Churn`]); messages
    /// that have reached all receivers ([`LoadMode::Fanout`]); messages that were sent or received
    /// whole, where none is answered.
    ///
    /// [`LoadMode::Churn`]: super::LoadMode::Churn
    /// [`LoadMode::Fanout`]: super::LoadMode::Fanout
    pub messages: u64,
    /// Messages, counted once for each receiver that they have reached; the same as `messages`
    /// except in fan-out.
    pub deliveries: u64,
    /// Bytes of the deliveries, in one direction.
    pub bytes: u64,
    /// The time of each message from when it was to be sent to its answer; in fan-out to its last
    /// receiver; in churn from when the connection was due to the answer on it. Messages without an
    /// answer are included with the time that was waited for it. Empty in one direction.
    pub latency: Latencies,
    /// In fan-out the time of each message to its first receiver; otherwise empty.
    pub first: Latencies,
    /// The time of each connection to open.
    pub connect: Latencies,
}

impl Counts {
    pub(super) fn none() -> Self {
        Self {
            messages: 0,
            deliveries: 0,
            bytes: 0,
            latency: no_latencies(),
            first: no_latencies(),
            connect: no_latencies(),
        }
    }
}

/// The counts of one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// True if it belongs to the warm-up, which is not part of the outcome.
    pub warmup: bool,
    /// Its beginning: the time since the beginning of the warm-up, or of the measured time.
    pub from: Duration,
    /// Its length.
    pub length: Duration,
    /// The counts.
    pub counts: Counts,
    /// All faults since the start.
    pub faults: Faults,
}

/// The reason why a load has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadEnd {
    /// Its time was over.
    Duration,
    /// A signal has ended it early: SIGINT, SIGTERM or SIGHUP.
    Interrupted,
    /// Too few clients were connected to go on.
    Abandoned,
}

/// The result of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOutcome {
    /// The time of day at which the measured time began.
    pub started: SystemTime,
    /// The length of the measured time.
    pub elapsed: Duration,
    /// With a rate, the time until the last answer to a message of the measured time: much more if
    /// the server could not keep up. Otherwise the same as `elapsed`.
    pub took: Duration,
    /// The reason why it has ended.
    pub end: LoadEnd,
    /// The largest number of clients connected at the same time, slow ones not included.
    pub clients: usize,
    /// Number of slow readers that the server has closed.
    pub slow_closed: usize,
    /// The counts of the measured time.
    pub counts: Counts,
    /// The faults, those of the warm-up included.
    pub faults: Faults,
    /// The first bytes of the server, if it is of another kind than the load is for.
    pub mismatch: Option<Mismatch>,
}

impl LoadOutcome {
    /// A count as a rate: per second of the time that the load took.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }
}
