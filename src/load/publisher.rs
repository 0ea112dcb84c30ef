//! The messages of one publisher, each of which goes to many receivers.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::moment::Moment;
use super::tally::Tally;

/// The messages of one publisher that have not reached all of their receivers.
///
/// Their times and counts lie apart: most messages are delivered many at a time, and then only the
/// counts are touched.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The number of the oldest of them.
    first: u64,
    /// The time at which each was sent, or was to be.
    times: VecDeque<Moment>,
    /// The number of receivers that each has yet to reach.
    left: VecDeque<u32>,
    /// The number after the last that has reached a receiver.
    fresh: u64,
    /// Messages that will never reach all of their receivers.
    incomplete: BTreeSet<u64>,
    /// Messages beyond the depth that may be in flight, because all others are long overdue.
    extra: usize,
}

impl Publisher {
    /// A publisher whose first message has the number `base`.
    pub(super) fn new(base: u64) -> Self {
        Self {
            first: base,
            times: VecDeque::new(),
            left: VecDeque::new(),
            fresh: base,
            incomplete: BTreeSet::new(),
            extra: 0,
        }
    }

    /// The number of the message that is sent next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    /// Number of messages that may be sent, with at most `depth` in flight.
    pub(super) fn room(&self, depth: usize) -> usize {
        depth
            .saturating_add(self.extra)
            .saturating_sub(self.left.len())
    }

    /// True if messages beyond the depth may be in flight.
    pub(super) fn is_suspect(&self) -> bool {
        self.extra > 0
    }

    /// Allows one more message, which may show that others were lost, if all in flight were sent
    /// before this time; true if it does.
    pub(super) fn suspect(&mut self, sent_before: Moment) -> bool {
        let late = self.times.back().is_some_and(|sent| *sent < sent_before);
        self.extra += usize::from(late);
        late
    }

    /// Records a message that is not counted.
    pub(super) fn send_probe(&mut self) {
        self.first += 1;
    }

    /// Records messages that are sent at these times, each to `receivers` clients.
    pub(super) fn send(&mut self, times: impl Iterator<Item = Moment>, receivers: u32) {
        self.times.extend(times);
        self.left.resize(self.times.len(), receivers);
    }

    /// Records that messages have reached one of their receivers.
    pub(super) fn deliver(&mut self, numbers: Range<u64>, now: Moment, tally: &mut Tally) {
        let end = numbers.end.min(self.next());
        for number in self.fresh.max(self.first).max(numbers.start)..end {
            tally.first(self.times[self.index(number)], now);
        }
        let sent = self.times.get(self.index(numbers.start));
        let sent = sent.copied().unwrap_or(Moment::START);
        tally.delivered(numbers.end - numbers.start, sent);
        self.fresh = self.fresh.max(numbers.end);
        self.count_down(numbers);
        self.settle(now, tally);
    }

    /// The index of a message in flight, or the index after the last.
    fn index(&self, number: u64) -> usize {
        let index = number.saturating_sub(self.first);
        usize::try_from(index).map_or(self.left.len(), |index| index.min(self.left.len()))
    }

    /// Takes one from the receivers that these messages have yet to reach.
    fn count_down(&mut self, numbers: Range<u64>) {
        let range = self.index(numbers.start)..self.index(numbers.end);
        let (older, newer) = self.left.as_mut_slices();
        let split = older.len();
        let parts = [
            &mut older[range.start.min(split)..range.end.min(split)],
            &mut newer[range.start.max(split) - split..range.end.max(split) - split],
        ];
        for left in parts.into_iter().flatten() {
            *left = left.saturating_sub(1);
        }
    }

    /// Records that messages will never reach one of their receivers.
    pub(super) fn give_up(&mut self, numbers: Range<u64>, now: Moment, tally: &mut Tally) {
        self.incomplete
            .extend(numbers.start.max(self.first)..numbers.end);
        self.count_down(numbers);
        self.settle(now, tally);
    }

    /// Settles messages without receivers to reach, from the oldest on.
    fn settle(&mut self, now: Moment, tally: &mut Tally) {
        while self.left.front() == Some(&0) {
            self.pop(now, tally, true);
        }
    }

    /// Settles the oldest message: it has reached all receivers, unless one is known to miss it.
    fn pop(&mut self, now: Moment, tally: &mut Tally, complete: bool) {
        self.left.pop_front();
        self.extra = 0;
        let Some(sent) = self.times.pop_front() else {
            return;
        };
        if !self.incomplete.is_empty() && self.incomplete.remove(&self.first) || !complete {
            tally.incomplete(sent, now);
        } else {
            tally.complete(sent, now);
        }
        self.first += 1;
    }

    /// Settles all messages, which have not reached all of their receivers.
    pub(super) fn give_up_all(&mut self, now: Moment, tally: &mut Tally) {
        while !self.left.is_empty() {
            self.pop(now, tally, false);
        }
    }

    /// True if nothing is in flight.
    pub(super) fn is_settled(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Fault;

    fn at(nanos: u64) -> Moment {
        Moment::START.plus_nanos(nanos)
    }

    /// A publisher with messages in flight that were sent at 100, 101 and so on.
    fn publisher(count: usize, receivers: u32) -> (Publisher, Tally) {
        let mut publisher = Publisher::new(7);
        publisher.send((100..100 + count as u64).map(at), receivers);
        let mut tally = Tally::new(10);
        tally.begin(at(0), at(0)..at(1000));
        (publisher, tally)
    }

    /// Completed, begun, and the messages in flight.
    fn state(publisher: &Publisher, tally: Tally) -> (u64, u64, usize) {
        let (counts, faults) = tally.into_total();
        assert_eq!(faults.count(Fault::Lost), 0);
        (counts.messages, counts.first.len(), publisher.left.len())
    }

    #[test]
    fn message_is_complete_with_its_last_receiver() {
        let (mut publisher, mut tally) = publisher(4, 2);
        publisher.deliver(7..10, at(200), &mut tally);
        publisher.deliver(7..9, at(210), &mut tally);
        assert_eq!((publisher.first, publisher.next()), (9, 11));
        publisher.deliver(9..11, at(220), &mut tally);
        assert_eq!(state(&publisher, tally), (3, 4, 1));
    }

    #[test]
    fn message_that_one_receiver_misses_is_not_complete() {
        let (mut publisher, mut tally) = publisher(3, 2);
        publisher.deliver(7..10, at(200), &mut tally);
        publisher.give_up(7..9, at(200), &mut tally);
        publisher.deliver(9..10, at(200), &mut tally);
        assert!(publisher.incomplete.is_empty());
        assert_eq!(state(&publisher, tally), (1, 3, 0));
    }

    #[test]
    fn message_that_is_given_up_is_not_complete() {
        let (mut publisher, mut tally) = publisher(3, 2);
        publisher.deliver(7..8, at(200), &mut tally);
        publisher.give_up_all(at(300), &mut tally);
        publisher.deliver(7..10, at(310), &mut tally);
        assert_eq!(publisher.next(), 10);
        assert_eq!(state(&publisher, tally), (0, 1, 0));
    }

    #[test]
    fn one_more_message_is_allowed_when_all_are_late() {
        let (mut publisher, mut tally) = publisher(3, 2);
        assert_eq!((publisher.room(3), publisher.room(5)), (0, 2));
        assert!(!publisher.suspect(at(102)));
        assert!(publisher.suspect(at(103)));
        assert_eq!(publisher.room(3), 1);
        publisher.deliver(7..8, at(200), &mut tally);
        publisher.deliver(7..8, at(200), &mut tally);
        assert_eq!(publisher.room(3), 1);
        assert_eq!(publisher.room(usize::MAX), usize::MAX - 2);
    }

    #[test]
    fn counts_go_round_in_their_ring() {
        let (mut publisher, mut tally) = publisher(0, 0);
        for round in 0..1000 {
            let first = 7 + round * 3;
            publisher.send([at(100); 3].into_iter(), 3);
            for receiver in 0..3 {
                publisher.deliver(first..first + 3, at(200 + receiver), &mut tally);
            }
        }
        assert_eq!(state(&publisher, tally), (3000, 3000, 0));
    }
}
