//! Rates: a number of events in a time.

use std::time::Duration;

/// A number of messages, or of connections, in a time, at an even pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number; at least 1.
    pub count: u64,
    /// The time; above 0, and at most a hundred years.
    pub per: Duration,
}

impl Rate {
    /// The most events in a second: more than one thread can bring about.
    pub const MOST: u64 = 10_000_000;

    /// True if it is at most [`Rate::MOST`] a second.
    #[must_use]
    pub fn is_possible(self) -> bool {
        let second = Duration::from_secs(1).as_nanos();
        u128::from(self.count) * second <= u128::from(Self::MOST) * self.per.as_nanos()
    }

    /// The same rate, as a number per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }

    /// The time of an event, counted from 0, in nanoseconds after the first.
    pub(super) fn nanos(self, index: u64) -> u64 {
        let after = u128::from(index) * self.per.as_nanos() / u128::from(self.count.max(1));
        u64::try_from(after).unwrap_or(u64::MAX)
    }

    /// The time of the first event that is not before a time, both counted from the first event.
    #[must_use]
    pub fn first_after(self, time: Duration) -> Duration {
        let index = (time.as_nanos() * u128::from(self.count)).div_ceil(self.per.as_nanos().max(1));
        Duration::from_nanos(self.nanos(u64::try_from(index).unwrap_or(u64::MAX)))
    }
}

/// A number per second.
impl From<u64> for Rate {
    fn from(count: u64) -> Self {
        Self {
            count,
            per: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_event_after_a_time_is_one_of_the_rate() {
        let minute = Duration::from_secs(60);
        let rate = Rate {
            count: 7,
            per: minute,
        };
        assert_eq!(rate.first_after(Duration::ZERO), Duration::ZERO);
        assert_eq!(rate.first_after(minute), minute);
        let next = rate.first_after(minute + Duration::from_nanos(1));
        assert_eq!(next, minute + minute / 7);
        assert!((rate.per_second() - 7.0 / 60.0).abs() < 1e-12);
    }

    proptest! {
        /// No rate overflows, and at up to one event a nanosecond no first event is early.
        #[test]
        fn events_are_in_order(
            count in 1..u64::MAX,
            per in 1..3_155_760_000_000_000_000_u64,
            time in 0..3_155_760_000_000_000_000_u64,
            index in 0..u64::MAX - 1,
        ) {
            let rate = Rate { count, per: Duration::from_nanos(per) };
            prop_assert!(rate.nanos(index) <= rate.nanos(index + 1));
            let (time, rate) = (Duration::from_nanos(time), Rate { count: count % per + 1, ..rate });
            prop_assert!(rate.first_after(time) >= time);
        }
    }
}
