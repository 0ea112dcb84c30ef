//! The times at which messages are to be sent.

use std::ops::Range;

use super::moment::Moment;

/// The times at which messages are to be sent, at a rate that does not depend on the server.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Messages a second.
    rate: u64,
    start: Moment,
    end: Moment,
    /// Messages that were due so far.
    due: u64,
}

impl Schedule {
    /// A schedule of `rate` messages a second, from the start of `times` on and before its end.
    pub(super) fn new(rate: u64, times: Range<Moment>) -> Self {
        Self {
            rate,
            start: times.start,
            end: times.end,
            due: 0,
        }
    }

    /// The time of a message, counted from 0.
    pub(super) fn time(&self, index: u64) -> Moment {
        let after = u128::from(index) * 1_000_000_000 / u128::from(self.rate);
        self.start
            .plus_nanos(u64::try_from(after).unwrap_or(u64::MAX))
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
        let mut schedule = Schedule::new(3, at(1_000_000_000)..at(3_000_000_000));
        let due = |s: &mut Schedule, now| std::iter::from_fn(|| s.next_due(now)).count();
        assert_eq!(due(&mut schedule, at(999_999_999)), 0);
        assert_eq!(due(&mut schedule, at(1_000_000_000)), 1);
        assert_eq!(schedule.next_time(), Some(at(1_333_333_333)));
        assert_eq!(due(&mut schedule, at(2_000_000_000)), 3);
        assert_eq!(due(&mut schedule, Moment::NEVER), 2);
        assert_eq!(schedule.next_time(), None);
        assert_eq!(schedule.time(u64::MAX), Moment::NEVER);
    }

    #[test]
    fn senders_take_turns() {
        let schedule = Schedule::new(1_000_000_000, Moment::START..Moment::NEVER);
        for index in 0..12 {
            let (key, number) = (usize::try_from(index % 4).unwrap(), index / 4);
            assert_eq!(schedule.time_of(key, 4, number), schedule.time(index));
        }
    }

    #[test]
    fn stopped_schedule_has_nothing_due() {
        let mut schedule = Schedule::new(1, Moment::START..Moment::NEVER);
        schedule.stop();
        assert_eq!(schedule.next_due(Moment::NEVER), None);
        assert_eq!(schedule.next_time(), None);
    }
}
