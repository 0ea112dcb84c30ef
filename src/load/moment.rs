//! Times of a load.

use std::ops::Add;
use std::time::{Duration, Instant};

/// A time: nanoseconds since the load's start.
///
/// Half the size of an [`Instant`]: one is stored for each message in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// The load's start.
    pub(super) const START: Self = Self(0);
    /// A time after every other.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// A time, given the load's start.
    pub(super) fn between(start: Instant, time: Instant) -> Self {
        Self(nanos(time.saturating_duration_since(start)))
    }

    /// The time since an earlier one; zero if that is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The same in nanoseconds, as latencies are recorded.
    pub(super) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time that is earlier by a duration; at least the start.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// The time this number of nanoseconds later.
    pub(super) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// At most [`NEVER`](Self::NEVER).
    fn add(self, time: Duration) -> Self {
        self.plus_nanos(nanos(time))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_overflow() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let moment = Moment::between(start, start + second);
        assert_eq!(moment, Moment::START + second);
        assert_eq!(Moment::between(start + second, start), Moment::START);
        assert_eq!(moment + Duration::MAX, Moment::NEVER);
        assert_eq!(moment.before(2 * second), Moment::START);
        assert_eq!((moment + second).since(moment), second);
        assert_eq!(moment.since(moment + second), Duration::ZERO);
    }
}
