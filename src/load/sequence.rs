//! Received numbers of one sender: missing, late and repeated ones.

use std::ops::Range;

/// Gaps that are remembered. Numbers in older ones count as received.
const MOST_GAPS: usize = 1024;

/// The numbers of a sender's messages that were received.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// The number after the highest that was received.
    next: u64,
    /// Missing numbers below it, in order.
    missing: Vec<Range<u64>>,
}

/// The place of a number among those that were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was expected.
    Next,
    /// It was expected after these, which are missing.
    After(Range<u64>),
    /// It was missing.
    Late,
    /// It was received before.
    Again,
}

impl Sequence {
    /// A sequence that is expected to begin with this number.
    pub(super) fn starting_at(first: u64) -> Self {
        Self {
            next: first,
            missing: Vec::new(),
        }
    }

    /// The number after the highest that was received.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Records a received number.
    pub(super) fn see(&mut self, number: u64) -> Seen {
        if number == self.next {
            self.next += 1;
            return Seen::Next;
        }
        if number > self.next {
            let gap = self.next..number;
            self.next = number + 1;
            self.miss(gap.clone());
            return Seen::After(gap);
        }
        if self.find(number) {
            Seen::Late
        } else {
            Seen::Again
        }
    }

    /// Records `count` numbers more, each of which was expected.
    pub(super) fn advance(&mut self, count: u64) {
        self.next += count;
    }

    fn miss(&mut self, gap: Range<u64>) {
        if self.missing.len() == MOST_GAPS {
            self.missing.remove(0);
        }
        self.missing.push(gap);
    }

    /// Removes a number from those that are missing; true if it was.
    fn find(&mut self, number: u64) -> bool {
        let Some(at) = self.missing.iter().position(|gap| gap.contains(&number)) else {
            return false;
        };
        let gap = self.missing[at].clone();
        let parts = [gap.start..number, number + 1..gap.end];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.missing.splice(at..=at, parts);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_next_late_repeated_or_after_a_gap() {
        let mut sequence = Sequence::starting_at(10);
        assert_eq!(sequence.see(10), Seen::Next);
        assert_eq!(sequence.see(14), Seen::After(11..14));
        assert_eq!(sequence.see(12), Seen::Late);
        assert_eq!(sequence.see(12), Seen::Again);
        assert_eq!(sequence.see(14), Seen::Again);
        assert_eq!(sequence.see(11), Seen::Late);
        assert_eq!(sequence.see(15), Seen::Next);
        assert_eq!(sequence.see(9), Seen::Again);
        assert_eq!(sequence.next(), 16);
    }

    #[test]
    fn memory_is_bounded_whatever_is_missing() {
        let mut sequence = Sequence::starting_at(0);
        for number in 0..10_000 {
            sequence.see(number * 2 + 1);
        }
        assert_eq!(sequence.missing.len(), MOST_GAPS);
        assert_eq!(sequence.see(0), Seen::Again);
        assert_eq!(sequence.see(19_998), Seen::Late);
    }

    proptest! {
        #[test]
        fn sequence_agrees_with_a_set(numbers in proptest::collection::vec(0..60u64, 0..120)) {
            let mut sequence = Sequence::starting_at(0);
            let mut received = BTreeSet::new();
            for number in numbers {
                let next = received.last().map_or(0, |last| last + 1);
                let again = !received.insert(number);
                let expected = match number {
                    _ if again => Seen::Again,
                    n if n == next => Seen::Next,
                    n if n > next => Seen::After(next..n),
                    _ => Seen::Late,
                };
                prop_assert_eq!(sequence.see(number), expected);
            }
        }
    }
}
