//! What a load has come to.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::faults::Faults;

/// Latencies in nanoseconds, with three significant digits, from 1 ns to an hour.
pub type Latencies = Histogram<u64>;

/// An hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Latencies of which there are none yet.
pub(super) fn no_latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order")
}

/// What was done in some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Messages that came back; connections that were served ([`LoadMode::Churn`]); messages that
    /// everybody has ([`LoadMode::Fanout`]); chunks that were taken or came.
    ///
    /// [`LoadMode::Churn`]: super::LoadMode::Churn
    /// [`LoadMode::Fanout`]: super::LoadMode::Fanout
    pub messages: u64,
    /// Messages that have reached one of their receivers; elsewhere than in fan-out the same as
    /// `messages`.
    pub deliveries: u64,
    /// Bytes of these, in one direction.
    pub bytes: u64,
    /// How long each message took, from the time at which it was to be sent: until it was back; in
    /// fan-out until the last receiver had it; until its connection had its answer. Messages that
    /// were never answered are in it with the time until the end. Empty for what has no answers.
    pub latency: Latencies,
    /// In fan-out how long each took until the first receiver had it; else empty.
    pub first: Latencies,
    /// How long connecting took.
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

/// What was done lately.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// It belongs to the warm-up, and isn't part of the outcome.
    pub warmup: bool,
    /// When it began, since the beginning of the warm-up, or of what is measured.
    pub from: Duration,
    /// How long it was.
    pub length: Duration,
    /// What was done in it.
    pub counts: Counts,
    /// All that has gone wrong since the start.
    pub faults: Faults,
}

/// Why a load has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadEnd {
    /// Its time was over.
    Duration,
    /// Somebody has ended it early, by SIGINT or SIGTERM.
    Interrupted,
    /// No client was left.
    Abandoned,
}

/// What a load has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOutcome {
    /// When what is measured began.
    pub started: SystemTime,
    /// How long that was.
    pub elapsed: Duration,
    /// With a rate, how long it was until the last answer to it came: much more if the server
    /// couldn't keep up. Else the same.
    pub took: Duration,
    /// Why it has ended.
    pub end: LoadEnd,
    /// Clients that were connected at the same time, at most; slow ones not counted.
    pub clients: usize,
    /// Slow readers that the server has closed.
    pub slow_closed: usize,
    /// What was done.
    pub counts: Counts,
    /// What has gone wrong, warm-up included.
    pub faults: Faults,
}

impl LoadOutcome {
    /// So many a second of the time that it took.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(1e-9)
    }
}
