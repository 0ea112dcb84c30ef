//! The times at which messages are to be sent.

use std::ops::Range;

use super::moment::Moment;
use super::rate::Rate;

/// The times at which messages are to be sent, at a rate that does not depend on the server.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    rate: Rate,
    start: Moment,
    end: Moment,
    /// Messages that were due so far.
    due: u64,
}

impl Schedule {
    /// A schedule of messages at a rate, from the start of `times` on and before its end.
    pub(super) fn new(rate: Rate, times: Range<Moment>) -> Self {
        Self {
            rate,
            start: times.start,
            end: times.end,
            due: 0,
        }
    }

    /// The time of a message, counted from 0.
    pub(super) fn time(&self, index: u64) -> Moment {
        self.start.plus_nanos(self.rate.nanos(index))
    }

    /// The time of a message, counted from 0, of one of `senders` clients that take turns.
    pub(super) fn time_of(&self, key: usize, senders: usize, number: u64) -> Moment {
        let earlier = number.saturating_mul(senders as u64);
        self.time(earlier.saturating_add(key as u64))
    }

    /// The index of the next message, if that is due.
    pub(super) fn next_due(&mut self, now: Moment) -> Option<u64> {
        let index = self.due;
        let time = self.time(index);
        if time > now || time >= self.end {
            return None;
        }
        self.due += 1;
        Some(index)
    }

    /// The time of the next message; none if there are no more.
    pub(super) fn next_time(&self) -> Option<Moment> {
        Some(self.time(self.due)).filter(|time| *time < self.end)
    }

    /// Ends the schedule: nothing more is due.
    pub(super) fn stop(&mut self) {
        self.end = self.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_keeps_its_rate_under_any_polling() {
        let at = |nanos| Moment::START.plus_nanos(nanos);
        let mut schedule = Schedule::new(3.into(), at(1_000_000_000)..at(3_000_000_000));
        let due = |s: &mut Schedule, now| std::iter::from_fn(|| s.next_due(now)).count();
        assert_eq!(due(&mut schedule, at(999_999_999)), 0);
        assert_eq!(due(&mut schedule, at(1_000_000_000)), 1);
        assert_eq!(schedule.next_time(), Some(at(1_333_333_333)));
        assert_eq!(due(&mut schedule, at(2_000_000_000)), 3);
        assert_eq!(due(&mut schedule, Moment::NEVER), 2);
        assert_eq!(schedule.next_time(), None);
        assert_eq!(schedule.time(u64::MAX), Moment::NEVER);
    }

    /// A rate was a whole number of messages a second.
    #[test]
    fn rate_may_be_below_one_a_second() {
        let per = std::time::Duration::from_secs(2);
        let mut schedule = Schedule::new(Rate { count: 1, per }, Moment::START..Moment::NEVER);
        let second = |n: u64| Moment::START.plus_nanos(n * 1_000_000_000);
        assert_eq!(schedule.next_due(second(0)), Some(0));
        assert_eq!(schedule.next_due(second(1)), None);
        assert_eq!(schedule.next_time(), Some(second(2)));
        assert_eq!(schedule.next_due(second(2)), Some(1));
    }

    #[test]
    fn senders_take_turns() {
        let schedule = Schedule::new(1_000_000_000.into(), Moment::START..Moment::NEVER);
        for index in 0..12 {
            let (key, number) = (usize::try_from(index % 4).unwrap(), index / 4);
            assert_eq!(schedule.time_of(key, 4, number), schedule.time(index));
        }
    }

    #[test]
    fn stopped_schedule_has_nothing_due() {
        let mut schedule = Schedule::new(1.into(), Moment::START..Moment::NEVER);
        schedule.stop();
        assert_eq!(schedule.next_due(Moment::NEVER), None);
        assert_eq!(schedule.next_time(), None);
    }
}
