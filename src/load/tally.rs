//! What is counted while it happens.

use std::ops::Range;
use std::time::Duration;

use super::faults::{Fault, Faults};
use super::outcome::{Counts, Interval};

/// What is counted while it happens. Times are nanoseconds since the load's start.
///
/// A message belongs to what is measured if the time at which it was to be sent lies in it; whenever
/// it comes back.
#[derive(Debug)]
pub(super) struct Tally {
    /// When the warm-up has begun, and what comes after it.
    begun: u64,
    measured: Range<u64>,
    /// When the last answer came to what is measured.
    last: u64,
    total: Counts,
    interval: Counts,
    /// When the interval has begun.
    since: u64,
    faults: Faults,
    /// Bytes in a message.
    size: u64,
}

impl Tally {
    /// Nothing counts yet.
    pub(super) fn new(size: usize) -> Self {
        Self {
            begun: 0,
            measured: u64::MAX..u64::MAX,
            last: 0,
            total: Counts::none(),
            interval: Counts::none(),
            since: 0,
            faults: Faults::default(),
            size: size as u64,
        }
    }

    /// The warm-up begins, and what is measured has a time.
    pub(super) fn begin(&mut self, now: u64, measured: Range<u64>) {
        self.begun = now;
        self.since = now;
        // What went before it was probes; connections are all made by now.
        let before = std::mem::replace(&mut self.interval, Counts::none());
        self.interval.connect = before.connect;
        self.measured = measured;
    }

    /// Whether something may be counted: the warm-up has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// When what is measured begins.
    pub(super) fn start(&self) -> u64 {
        self.measured.start
    }

    /// When it ends.
    pub(super) fn end(&self) -> u64 {
        self.measured.end
    }

    /// It ends now, before its time; and begins now at the latest.
    pub(super) fn end_early(&mut self, now: u64) {
        self.measured = self.measured.start.min(now)..self.measured.end.min(now);
    }

    /// How long is measured.
    pub(super) fn measured(&self) -> Duration {
        Duration::from_nanos(self.measured.end - self.measured.start)
    }

    /// How long it took until the last answer to what is measured came.
    pub(super) fn took(&self) -> Duration {
        let end = self.last.max(self.measured.end);
        Duration::from_nanos(end - self.measured.start)
    }

    /// A message, or what else is asked for, has had its answer.
    pub(super) fn answered(&mut self, sent: u64, now: u64) {
        self.complete(sent, now);
        let counted = self.measured.contains(&sent);
        self.delivered_in(1, counted);
    }

    /// A message has reached its last receiver.
    pub(super) fn complete(&mut self, sent: u64, now: u64) {
        let took = now.saturating_sub(sent).max(1);
        self.interval.messages += 1;
        self.interval.latency.saturating_record(took);
        if self.measured.contains(&sent) {
            self.total.messages += 1;
            self.total.latency.saturating_record(took);
            self.last = self.last.max(now);
        }
    }

    /// A message has reached its first receiver.
    pub(super) fn first(&mut self, sent: u64, now: u64) {
        let took = now.saturating_sub(sent).max(1);
        self.interval.first.saturating_record(took);
        if self.measured.contains(&sent) {
            self.total.first.saturating_record(took);
        }
    }

    /// So many messages have reached one of their receivers.
    pub(super) fn delivered(&mut self, count: u64, sent: u64) {
        self.delivered_in(count, self.measured.contains(&sent));
    }

    fn delivered_in(&mut self, count: u64, counted: bool) {
        let bytes = count * self.size;
        self.interval.deliveries += count;
        self.interval.bytes += bytes;
        if counted {
            self.total.deliveries += count;
            self.total.bytes += bytes;
        }
    }

    /// Bytes have moved that are no messages with answers; so many of these are whole by them.
    pub(super) fn moved(&mut self, bytes: u64, messages: u64, now: u64) {
        let counted = self.measured.contains(&now);
        let parts = [Some(&mut self.interval), counted.then_some(&mut self.total)];
        for counts in parts.into_iter().flatten() {
            counts.bytes += bytes;
            counts.messages += messages;
            counts.deliveries += messages;
        }
    }

    /// A message of which nothing will come; what comes after it, at the end, doesn't count.
    pub(super) fn missed(&mut self, fault: Fault, sent: u64, now: u64) {
        if sent >= self.measured.end {
            return;
        }
        self.faults.add(fault, 1);
        self.spoilt(sent, now);
    }

    /// A message that not all of its receivers got; it has taken so long at least.
    pub(super) fn spoilt(&mut self, sent: u64, now: u64) {
        let took = now.saturating_sub(sent).max(1);
        self.interval.latency.saturating_record(took);
        if self.measured.contains(&sent) {
            self.total.latency.saturating_record(took);
        }
    }

    /// A message that was taken for lost has come.
    pub(super) fn found(&mut self) {
        self.faults.take_back(Fault::Lost);
        self.faults.add(Fault::Disordered, 1);
    }

    /// A connection stands.
    pub(super) fn connected(&mut self, started: u64, now: u64) {
        let took = now.saturating_sub(started).max(1);
        self.interval.connect.saturating_record(took);
        self.total.connect.saturating_record(took);
    }

    pub(super) fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// What has happened since the last time.
    pub(super) fn take_interval(&mut self, now: u64) -> Interval {
        let warmup = self.since < self.measured.start;
        let origin = if warmup {
            self.begun
        } else {
            self.measured.start
        };
        let counts = std::mem::replace(&mut self.interval, Counts::none());
        let since = std::mem::replace(&mut self.since, now);
        Interval {
            warmup,
            from: Duration::from_nanos(since.saturating_sub(origin)),
            length: Duration::from_nanos(now - since),
            counts,
            faults: self.faults.clone(),
        }
    }

    /// All there was.
    pub(super) fn into_total(self) -> (Counts, Faults) {
        (self.total, self.faults)
    }
}

/// When messages are to be sent. Times are nanoseconds since the load's start.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Messages a second.
    rate: u64,
    start: u64,
    end: u64,
    /// Messages that were due so far.
    due: u64,
}

impl Schedule {
    /// One message after the other from `start` on, before `end`.
    pub(super) fn new(rate: u64, times: Range<u64>) -> Self {
        Self {
            rate,
            start: times.start,
            end: times.end,
            due: 0,
        }
    }

    /// When a message, counted from 0, is to be sent.
    pub(super) fn time(&self, index: u64) -> u64 {
        let after = u128::from(index) * 1_000_000_000 / u128::from(self.rate);
        self.start
            .saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// When one of so many, who take turns, is to send a message, counted from 0, of its own.
    pub(super) fn time_of(&self, key: usize, senders: usize, number: u64) -> u64 {
        self.time(Self::index_of(key, senders, number))
    }

    /// Which message of all that is.
    fn index_of(key: usize, senders: usize, number: u64) -> u64 {
        number
            .saturating_mul(senders as u64)
            .saturating_add(key as u64)
    }

    /// When the messages of one of them, from one of its own on, were to be sent so far.
    pub(super) fn times_of(
        &self,
        key: usize,
        senders: usize,
        first: u64,
    ) -> impl Iterator<Item = u64> {
        let indices = Self::index_of(key, senders, first)..self.due;
        indices.step_by(senders).map(|index| self.time(index))
    }

    /// The next message if its time has come.
    pub(super) fn next_due(&mut self, now: u64) -> Option<u64> {
        let index = self.due;
        let time = self.time(index);
        if time > now || time >= self.end {
            return None;
        }
        self.due += 1;
        Some(index)
    }

    /// When the next one is due; none if there is none.
    pub(super) fn next_time(&self) -> Option<u64> {
        Some(self.time(self.due)).filter(|time| *time < self.end)
    }

    /// No more is due.
    pub(super) fn stop(&mut self) {
        self.end = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_by_the_time_at_which_they_were_to_be_sent() {
        let mut tally = Tally::new(100);
        tally.answered(5, 6); // before all
        tally.begin(10, 20..30);
        tally.answered(19, 25); // still of the warm-up
        tally.answered(20, 21);
        tally.answered(29, 50); // after the end
        tally.answered(30, 31);
        tally.missed(Fault::Lost, 29, 79);
        tally.missed(Fault::Lost, 30, 79);
        let interval = tally.take_interval(50);
        assert!(interval.warmup);
        assert_eq!(interval.counts.messages, 4);
        assert!(!tally.take_interval(60).warmup);
        // The one that was due at 29 came at 50.
        assert_eq!(tally.took(), Duration::from_nanos(30));
        let (total, faults) = tally.into_total();
        assert_eq!((total.messages, total.deliveries), (2, 2));
        assert_eq!(total.bytes, 200);
        assert_eq!(faults.count(Fault::Lost), 1);
        assert_eq!(total.latency.len(), 3);
        assert_eq!(total.latency.max(), 50);
    }

    #[test]
    fn a_schedule_keeps_its_rate_whenever_it_is_asked() {
        let mut schedule = Schedule::new(3, 1_000_000_000..3_000_000_000);
        let due = |s: &mut Schedule, now| std::iter::from_fn(|| s.next_due(now)).count();
        assert_eq!(due(&mut schedule, 999_999_999), 0);
        assert_eq!(due(&mut schedule, 1_000_000_000), 1);
        assert_eq!(schedule.next_time(), Some(1_333_333_333));
        assert_eq!(due(&mut schedule, 2_000_000_000), 3);
        assert_eq!(due(&mut schedule, u64::MAX), 2);
        assert_eq!(schedule.next_time(), None);
        assert_eq!(schedule.time(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_ends_early_has_begun_before() {
        let mut tally = Tally::new(1);
        tally.begin(0, 10..20);
        tally.end_early(15);
        assert_eq!(tally.measured(), Duration::from_nanos(5));
        tally.end_early(7);
        assert_eq!((tally.measured(), tally.end()), (Duration::ZERO, 7));
    }
}
