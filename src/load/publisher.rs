//! A publisher's messages under way.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::player::Context;
use super::tally::Tally;

/// Messages of a publisher that not everybody has yet.
///
/// What is kept of each lies apart by kind: most are delivered many at a time, and then only the
/// counts are touched.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The number of the oldest of them.
    first: u64,
    /// When each was, or was to be, sent.
    times: VecDeque<u64>,
    /// How many have yet to receive it.
    left: VecDeque<u32>,
    /// The first that nobody has.
    fresh: u64,
    /// Those that somebody will never have.
    spoilt: BTreeSet<u64>,
    /// Messages sent so far, probes not counted, and those that should have been.
    sent: u64,
    due: u64,
    /// Messages beyond the depth, because all that are under way are long overdue.
    extra: usize,
}

impl Publisher {
    pub(super) fn new(base: u64) -> Self {
        Self {
            first: base,
            times: VecDeque::new(),
            left: VecDeque::new(),
            fresh: base,
            spoilt: BTreeSet::new(),
            sent: 0,
            due: 0,
            extra: 0,
        }
    }

    /// The number of the message that is sent next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    /// How many more may be under way.
    pub(super) fn room(&self, depth: usize) -> usize {
        depth
            .saturating_add(self.extra)
            .saturating_sub(self.left.len())
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.extra > 0
    }

    /// Nothing has come of all that is under way since this time: a message more may show what was
    /// lost. Whether it may be sent.
    pub(super) fn doubt(&mut self, sent_before: u64) -> bool {
        let late = self.times.back().is_some_and(|sent| *sent < sent_before);
        self.extra += usize::from(late);
        late
    }

    /// A message that doesn't count is sent.
    pub(super) fn probe(&mut self) {
        self.first += 1;
    }

    pub(super) fn begin(&mut self, scheduled: bool) {
        self.due = if scheduled { 0 } else { u64::MAX };
    }

    pub(super) fn fall_due(&mut self) {
        self.due += 1;
    }

    /// How many messages are to be sent by now, if there is room for so many.
    pub(super) fn due(&self, free: usize) -> usize {
        let due = self.due.saturating_sub(self.sent);
        free.min(usize::try_from(due).unwrap_or(usize::MAX))
    }

    /// The next messages are sent, to so many receivers.
    pub(super) fn note(
        &mut self,
        key: usize,
        count: usize,
        publishers: usize,
        receivers: u32,
        cx: &Context,
    ) {
        let now = cx.clock();
        let first = self.sent;
        self.sent += count as u64;
        let time = |index| match &cx.schedule {
            Some(schedule) => schedule.time_of(key, publishers, index),
            None => now,
        };
        self.times.extend((first..self.sent).map(time));
        self.left.extend(std::iter::repeat_n(receivers, count));
    }

    /// What should have been sent by now is as if it were, and never came.
    pub(super) fn note_unsent(
        &mut self,
        key: usize,
        publishers: usize,
        receivers: u32,
        cx: &Context,
    ) {
        if cx.schedule.is_some() {
            let count = self.due(usize::MAX);
            self.note(key, count, publishers, receivers, cx);
        }
    }

    /// Messages have reached one of their receivers.
    pub(super) fn deliver(&mut self, numbers: Range<u64>, now: u64, tally: &mut Tally) {
        let end = numbers.end.min(self.next());
        for number in self.fresh.max(self.first).max(numbers.start)..end {
            tally.first(self.times[self.index(number)], now);
        }
        let sent = self.times.get(self.index(numbers.start));
        tally.delivered(numbers.end - numbers.start, sent.copied().unwrap_or(0));
        self.fresh = self.fresh.max(numbers.end);
        self.count_down(numbers);
        self.settle(now, tally);
    }

    /// The place of a message that is under way, or after those that are.
    fn index(&self, number: u64) -> usize {
        let index = number.saturating_sub(self.first);
        usize::try_from(index).map_or(self.left.len(), |index| index.min(self.left.len()))
    }

    /// One less has yet to receive these.
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

    /// Somebody will never receive these.
    pub(super) fn give_up(&mut self, numbers: Range<u64>, now: u64, tally: &mut Tally) {
        self.spoilt
            .extend(numbers.start.max(self.first)..numbers.end);
        self.count_down(numbers);
        self.settle(now, tally);
    }

    /// Forgets what everybody has, from the oldest on.
    fn settle(&mut self, now: u64, tally: &mut Tally) {
        while self.left.front() == Some(&0) {
            self.pop(now, tally, true);
        }
    }

    /// The oldest message is forgotten: everybody has it, unless that is out of the question.
    fn pop(&mut self, now: u64, tally: &mut Tally, complete: bool) {
        self.left.pop_front();
        self.extra = 0;
        let Some(sent) = self.times.pop_front() else {
            return;
        };
        if !self.spoilt.is_empty() && self.spoilt.remove(&self.first) || !complete {
            tally.spoilt(sent, now);
        } else {
            tally.complete(sent, now);
        }
        self.first += 1;
    }

    /// Nobody waits any longer.
    pub(super) fn give_up_all(&mut self, now: u64, tally: &mut Tally) {
        while !self.left.is_empty() {
            self.pop(now, tally, false);
        }
    }

    /// No more falls due.
    pub(super) fn finish(&mut self, scheduled: bool) {
        if !scheduled {
            self.due = self.sent;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty() && self.due <= self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Fault;

    /// A publisher whose messages, sent at the times 100, 101 and so on, are under way.
    fn publisher(count: usize, receivers: u32) -> (Publisher, Tally) {
        let mut publisher = Publisher::new(7);
        publisher.times = (100..100 + count as u64).collect();
        publisher.left = std::iter::repeat_n(receivers, count).collect();
        let mut tally = Tally::new(10);
        tally.begin(0, 0..1000);
        (publisher, tally)
    }

    /// Completed, begun, and the messages under way.
    fn state(publisher: &Publisher, tally: Tally) -> (u64, u64, usize) {
        let (counts, faults) = tally.into_total();
        assert_eq!(faults.count(Fault::Lost), 0);
        (counts.messages, counts.first.len(), publisher.left.len())
    }

    #[test]
    fn a_message_is_complete_with_its_last_receiver() {
        let (mut publisher, mut tally) = publisher(4, 2);
        publisher.deliver(7..10, 200, &mut tally);
        publisher.deliver(7..9, 210, &mut tally);
        assert_eq!((publisher.first, publisher.next()), (9, 11));
        publisher.deliver(9..11, 220, &mut tally);
        assert_eq!(state(&publisher, tally), (3, 4, 1));
    }

    #[test]
    fn what_somebody_will_never_have_is_not_complete() {
        let (mut publisher, mut tally) = publisher(3, 2);
        publisher.deliver(7..10, 200, &mut tally);
        publisher.give_up(7..9, 200, &mut tally);
        publisher.deliver(9..10, 200, &mut tally);
        assert!(publisher.spoilt.is_empty());
        assert_eq!(state(&publisher, tally), (1, 3, 0));
    }

    #[test]
    fn what_is_given_up_is_not_complete() {
        let (mut publisher, mut tally) = publisher(3, 2);
        publisher.deliver(7..8, 200, &mut tally);
        publisher.give_up_all(300, &mut tally);
        publisher.deliver(7..10, 310, &mut tally);
        assert_eq!(publisher.next(), 10);
        assert_eq!(state(&publisher, tally), (0, 1, 0));
    }

    #[test]
    fn one_more_may_go_out_when_all_are_late() {
        let (mut publisher, mut tally) = publisher(3, 2);
        assert_eq!((publisher.room(3), publisher.room(5)), (0, 2));
        assert!(!publisher.doubt(102));
        assert!(publisher.doubt(103));
        assert_eq!(publisher.room(3), 1);
        publisher.deliver(7..8, 200, &mut tally);
        publisher.deliver(7..8, 200, &mut tally);
        assert_eq!(publisher.room(3), 1);
        assert_eq!(publisher.room(usize::MAX), usize::MAX - 2);
    }

    #[test]
    fn the_counts_go_round_in_their_ring() {
        let (mut publisher, mut tally) = publisher(0, 0);
        for round in 0..1000 {
            let first = 7 + round * 3;
            publisher.times.extend([100; 3]);
            publisher.left.extend([3; 3]);
            for receiver in 0..3 {
                publisher.deliver(first..first + 3, 200 + receiver, &mut tally);
            }
        }
        assert_eq!(state(&publisher, tally), (3000, 3000, 0));
    }
}
