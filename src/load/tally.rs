//! Counting while the load runs.

use std::ops::Range;
use std::time::Duration;

use super::faults::{Fault, Faults};
use super::mismatch::{Beginning, Mismatch, MismatchKind, begins_with_digits};
use super::moment::Moment;
use super::outcome::{Counts, Interval};

/// Counts of the load so far.
///
/// A message belongs to the measured time if the time at which it was to be sent lies in it,
/// whenever it is answered.
#[derive(Debug)]
pub(super) struct Tally {
    /// The beginning of the warm-up; none before it.
    begun: Option<Moment>,
    /// The measured time, which follows the warm-up.
    measured: Range<Moment>,
    /// The last answer to a message of the measured time.
    last: Moment,
    total: Counts,
    interval: Counts,
    /// The beginning of the interval.
    since: Moment,
    faults: Faults,
    mismatch: Option<Mismatch>,
    /// True if a message was answered as it should be.
    has_right: bool,
    /// Bytes in a message.
    size: u64,
}

impl Tally {
    /// A tally of messages of `size` bytes, in which nothing is measured yet.
    pub(super) fn new(size: usize) -> Self {
        Self {
            begun: None,
            measured: Moment::NEVER..Moment::NEVER,
            last: Moment::START,
            total: Counts::none(),
            interval: Counts::none(),
            since: Moment::START,
            faults: Faults::default(),
            mismatch: None,
            has_right: false,
            size: size as u64,
        }
    }

    /// Begins the warm-up, after which is measured.
    pub(super) fn begin(&mut self, now: Moment, measured: Range<Moment>) {
        self.begun = Some(now);
        self.since = now;
        // Messages before it were probes. All clients have connected by now.
        let before = std::mem::replace(&mut self.interval, Counts::none());
        self.interval.connect = before.connect;
        self.measured = measured;
    }

    /// True if the warm-up has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The beginning of the measured time.
    pub(super) fn start(&self) -> Moment {
        self.measured.start
    }

    /// The end of the measured time.
    pub(super) fn end(&self) -> Moment {
        self.measured.end
    }

    /// Ends the measured time now, before its end; it begins now at the latest.
    pub(super) fn end_early(&mut self, now: Moment) {
        self.measured = self.measured.start.min(now)..self.measured.end.min(now);
    }

    /// The length of the measured time.
    pub(super) fn measured(&self) -> Duration {
        self.measured.end.since(self.measured.start)
    }

    /// The time from the beginning of the measured time to its end, or to the last answer to its
    /// messages if that is later.
    pub(super) fn took(&self) -> Duration {
        let end = self.last.max(self.measured.end);
        end.since(self.measured.start)
    }

    /// Counts a message, or another request, that was answered.
    pub(super) fn answered(&mut self, sent: Moment, now: Moment) {
        self.complete(sent, now);
        let counted = self.measured.contains(&sent);
        self.delivered_in(1, counted);
    }

    /// Counts a message that has reached its last receiver.
    pub(super) fn complete(&mut self, sent: Moment, now: Moment) {
        let latency = now.nanos_since(sent).max(1);
        self.interval.messages += 1;
        self.interval.latency.saturating_record(latency);
        if self.measured.contains(&sent) {
            self.total.messages += 1;
            self.total.latency.saturating_record(latency);
            self.last = self.last.max(now);
        }
    }

    /// Counts a message that has reached its first receiver.
    pub(super) fn first(&mut self, sent: Moment, now: Moment) {
        let latency = now.nanos_since(sent).max(1);
        self.interval.first.saturating_record(latency);
        if self.measured.contains(&sent) {
            self.total.first.saturating_record(latency);
        }
    }

    /// Counts messages that have reached one of their receivers; `sent` is the time of the first.
    pub(super) fn delivered(&mut self, count: u64, sent: Moment) {
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

    /// Counts bytes of messages without answers, and the messages that they complete.
    pub(super) fn moved(&mut self, bytes: u64, messages: u64, now: Moment) {
        let counted = self.measured.contains(&now);
        let parts = [Some(&mut self.interval), counted.then_some(&mut self.total)];
        for counts in parts.into_iter().flatten() {
            counts.bytes += bytes;
            counts.messages += messages;
            counts.deliveries += messages;
        }
    }

    /// Counts a message without an answer, unless it was sent after the measured time.
    pub(super) fn missed(&mut self, fault: Fault, sent: Moment, now: Moment) {
        if sent >= self.measured.end {
            return;
        }
        self.faults.add(fault, 1);
        self.incomplete(sent, now);
    }

    /// Records the time so far of a message that not all of its receivers get.
    pub(super) fn incomplete(&mut self, sent: Moment, now: Moment) {
        let latency = now.nanos_since(sent).max(1);
        self.interval.latency.saturating_record(latency);
        if self.measured.contains(&sent) {
            self.total.latency.saturating_record(latency);
        }
    }

    /// Counts a message as disordered that was counted as lost.
    pub(super) fn found(&mut self) {
        self.faults.take_back(Fault::Lost);
        self.faults.add(Fault::Disordered, 1);
    }

    /// Records the time that a connection took.
    pub(super) fn connected(&mut self, started: Moment, now: Moment) {
        let time = now.nanos_since(started).max(1);
        self.interval.connect.saturating_record(time);
        self.total.connect.saturating_record(time);
    }

    pub(super) fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Records the beginning of what a client has received.
    pub(super) fn begins(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Right => self.has_right = true,
            Beginning::Late => {}
            Beginning::Other(mismatch) | Beginning::Greeting(mismatch) => {
                self.found_mismatch(mismatch);
            }
        }
    }

    /// True if a message was answered as it should be.
    pub(super) fn has_right(&self) -> bool {
        self.has_right
    }

    /// Records that a client's first bytes are those of a server of another kind. The kind that is
    /// the most certain stays.
    pub(super) fn found_mismatch(&mut self, mismatch: Mismatch) {
        let known = self.mismatch.as_ref().map(|known| known.kind);
        if known < Some(mismatch.kind) {
            self.mismatch = Some(mismatch);
        }
    }

    /// The first bytes of a server of another kind, if it is one. An answer that was altered is one
    /// fault of many if the first answer of another client was right, or if it has a number and others
    /// were right: all that were counted, if these were all checked.
    pub(super) fn mismatch(&self, all_checked: bool) -> Option<&Mismatch> {
        let mismatch = self.mismatch.as_ref()?;
        let others = all_checked && self.total.messages > 0;
        let is_fault = self.has_right || others && begins_with_digits(&mismatch.first);
        (mismatch.kind != MismatchKind::Alters || !is_fault).then_some(mismatch)
    }

    /// The counts since the last call; the next interval begins.
    pub(super) fn take_interval(&mut self, now: Moment) -> Interval {
        let warmup = self.since < self.measured.start;
        let origin = if warmup {
            self.begun.unwrap_or(Moment::START)
        } else {
            self.measured.start
        };
        let counts = std::mem::replace(&mut self.interval, Counts::none());
        let since = std::mem::replace(&mut self.since, now);
        Interval {
            warmup,
            from: since.since(origin),
            length: now.since(since),
            counts,
            faults: self.faults.clone(),
        }
    }

    /// All counts.
    pub(super) fn into_total(self) -> (Counts, Faults) {
        (self.total, self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::START.plus_nanos(nanos)
    }

    #[test]
    fn messages_count_by_the_time_at_which_they_were_to_be_sent() {
        let mut tally = Tally::new(100);
        tally.answered(at(5), at(6)); // before all
        tally.begin(at(10), at(20)..at(30));
        tally.answered(at(19), at(25)); // still of the warm-up
        tally.answered(at(20), at(21));
        tally.answered(at(29), at(50)); // after the end
        tally.answered(at(30), at(31));
        tally.missed(Fault::Lost, at(29), at(79));
        tally.missed(Fault::Lost, at(30), at(79));
        let interval = tally.take_interval(at(50));
        assert!(interval.warmup);
        assert_eq!(interval.counts.messages, 4);
        assert!(!tally.take_interval(at(60)).warmup);
        // The message of 29 was answered at 50.
        assert_eq!(tally.took(), Duration::from_nanos(30));
        let (total, faults) = tally.into_total();
        assert_eq!((total.messages, total.deliveries), (2, 2));
        assert_eq!(total.bytes, 200);
        assert_eq!(faults.count(Fault::Lost), 1);
        assert_eq!(total.latency.len(), 3);
        assert_eq!(total.latency.max(), 50);
    }

    #[test]
    fn time_that_ends_early_has_begun_before() {
        let mut tally = Tally::new(1);
        tally.begin(at(0), at(10)..at(20));
        tally.end_early(at(15));
        assert_eq!(tally.measured(), Duration::from_nanos(5));
        tally.end_early(at(7));
        assert_eq!((tally.measured(), tally.end()), (Duration::ZERO, at(7)));
    }
}
