//! The messages of one client: due, in flight, and settled.

use std::collections::VecDeque;

use super::moment::Moment;

/// The messages of one client, numbered from 0 in the order in which they are sent.
///
/// Those below `first` are settled: answered or given up. Those from there on are in flight, as many
/// as there are times. The next ones, below `due`, are to be sent as soon as that is possible.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    first: u64,
    /// The time at which each message in flight was sent, or was to be; [`Moment::NEVER`] once it
    /// is answered, while older ones are not.
    times: VecDeque<Moment>,
    due: u64,
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It answers a message in flight that was sent at this time.
    InFlight(Moment),
    /// The message was settled before.
    Settled,
    /// No such message was sent.
    Unsent,
}

impl Ledger {
    /// The number of the oldest message in flight.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the message that is sent next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.times.len() as u64
    }

    /// Number of messages that are due and not yet sent.
    pub(super) fn unsent(&self) -> u64 {
        self.due.saturating_sub(self.next())
    }

    /// Number of messages to send now, with at most `depth` in flight.
    pub(super) fn sendable(&self, depth: usize) -> usize {
        let free = depth.saturating_sub(self.times.len());
        free.min(usize::try_from(self.unsent()).unwrap_or(usize::MAX))
    }

    /// Number of messages that have become due so far.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// True if nothing is due or in flight.
    pub(super) fn is_settled(&self) -> bool {
        self.times.is_empty() && self.unsent() == 0
    }

    /// One more message is due.
    pub(super) fn fall_due(&mut self) {
        self.due += 1;
    }

    /// Messages are due without end: each as soon as another is answered.
    pub(super) fn fall_due_always(&mut self) {
        self.due = u64::MAX;
    }

    /// Cancels messages that are due and not sent.
    pub(super) fn cancel_unsent(&mut self) {
        self.due = self.due.min(self.next());
    }

    /// Records messages that are sent at these times.
    pub(super) fn send(&mut self, times: impl Iterator<Item = Moment>) {
        self.times.extend(times);
    }

    /// Records messages as sent and settled, where none is in flight.
    pub(super) fn settle_unsent(&mut self, count: u64) {
        self.first += count;
    }

    /// The send times of the oldest and the newest message in flight.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.times.front().copied()
    }

    pub(super) fn newest(&self) -> Option<Moment> {
        self.times.back().copied()
    }

    /// Settles the oldest message in flight; returns its send time.
    pub(super) fn pop(&mut self) -> Option<Moment> {
        let sent = self.times.pop_front()?;
        self.first += 1;
        Some(sent)
    }

    /// Settles a message anywhere among those in flight.
    pub(super) fn answer(&mut self, number: u64) -> Answer {
        if number >= self.next() {
            return Answer::Unsent;
        }
        let index = number.checked_sub(self.first);
        let Some(index) = index.and_then(|index| usize::try_from(index).ok()) else {
            return Answer::Settled;
        };
        let sent = std::mem::replace(&mut self.times[index], Moment::NEVER);
        self.skip_answered();
        if sent == Moment::NEVER {
            Answer::Settled
        } else {
            Answer::InFlight(sent)
        }
    }

    /// Settles answered messages from the oldest on.
    pub(super) fn skip_answered(&mut self) {
        while self.oldest() == Some(Moment::NEVER) {
            self.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::START.plus_nanos(nanos)
    }

    /// A ledger with five messages due, of which three were sent at 100, 101 and 102.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        (0..5).for_each(|_| ledger.fall_due());
        ledger.send((100..103).map(at));
        ledger
    }

    #[test]
    fn depth_and_due_messages_limit_what_is_sendable() {
        let mut ledger = ledger();
        assert_eq!((ledger.sendable(4), ledger.sendable(9)), (1, 2));
        assert_eq!((ledger.sendable(2), ledger.unsent()), (0, 2));
        assert_eq!(ledger.pop(), Some(at(100)));
        assert_eq!(
            (ledger.first(), ledger.next(), ledger.sendable(4)),
            (1, 3, 2)
        );
        ledger.cancel_unsent();
        assert_eq!((ledger.unsent(), ledger.is_settled()), (0, false));
        ledger.fall_due_always();
        assert_eq!(ledger.sendable(9), 7);
    }

    #[test]
    fn answers_settle_messages_in_any_order() {
        let mut ledger = ledger();
        assert_eq!(ledger.answer(1), Answer::InFlight(at(101)));
        assert_eq!((ledger.first(), ledger.times.len()), (0, 3));
        assert_eq!(ledger.answer(1), Answer::Settled);
        assert_eq!(ledger.answer(0), Answer::InFlight(at(100)));
        assert_eq!((ledger.first(), ledger.times.len()), (2, 1));
        assert_eq!(ledger.answer(0), Answer::Settled);
        assert_eq!(ledger.answer(3), Answer::Unsent);
        assert_eq!(ledger.answer(2), Answer::InFlight(at(102)));
        assert_eq!((ledger.times.len(), ledger.is_settled()), (0, false));
        ledger.settle_unsent(2);
        assert!(ledger.is_settled());
    }
}
