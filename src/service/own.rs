//! Stretches of the log that their sender does not get back.
//!
//! The stretches of all clients lie in one queue, in the order of the log, and those of one client
//! form a [`Chain`] through it. Each operation takes the same time, however many other clients have
//! stretches.

use std::collections::VecDeque;

/// A stretch of the log that its sender does not get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Number of the sender's next stretch, or [`NONE`].
    next: u64,
}

/// The stretches of one client that its cursor has not passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Number of the oldest stretch, or [`NONE`].
    first: u64,
    /// Number of the newest, if there is one.
    last: u64,
}

/// No stretch.
const NONE: u64 = u64::MAX;

impl Chain {
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// The own messages of clients that are behind, in the order of the log. Empty as a rule: the
/// cursor of a client that is caught up passes its own message at once.
///
/// Stretches are numbered from 0 in the order of the log.
#[derive(Debug, Default)]
pub(super) struct OwnMessages {
    stretches: VecDeque<Own>,
    /// Number of stretches forgotten so far: the number of the oldest in memory.
    forgotten: u64,
}

impl OwnMessages {
    /// Adds what the client of `chain` published from `start` to `end`, the end of the log.
    pub(super) fn push(&mut self, chain: &mut Chain, start: u64, end: u64) {
        let number = self.forgotten + self.stretches.len() as u64;
        if chain.is_empty() {
            chain.first = number;
        } else {
            let last = self.index(chain.last);
            let last = &mut self.stretches[last];
            if last.end == start {
                last.end = end;
                return;
            }
            last.next = number;
        }
        chain.last = number;
        let next = NONE;
        self.stretches.push_back(Own { start, end, next });
    }

    /// Takes the stretches that end at `cursor` or before it out of a client's chain. Each is taken
    /// out once.
    pub(super) fn pass(&self, chain: &mut Chain, cursor: u64) {
        while let Some(own) = self.get(chain.first)
            && own.end <= cursor
        {
            chain.first = own.next;
        }
    }

    /// Forgets the stretches that end at `start` or before it; each is forgotten once. If every
    /// client has read the whole log (`is_read`), forgets all, and frees their memory.
    pub(super) fn forget(&mut self, start: u64, is_read: bool) {
        if self.stretches.is_empty() {
            return; // the usual case
        }
        if is_read {
            self.forgotten += self.stretches.len() as u64;
            self.stretches = VecDeque::new();
        }
        while self.stretches.front().is_some_and(|own| own.end <= start) {
            self.stretches.pop_front();
            self.forgotten += 1;
        }
    }

    /// The first stretch of a client that ends after `from`.
    pub(super) fn next(&self, chain: Chain, from: u64) -> Option<Own> {
        self.of(chain).find(|own| own.end > from)
    }

    /// The stretches of a client, in the order of the log.
    pub(super) fn of(&self, chain: Chain) -> impl Iterator<Item = Own> {
        std::iter::successors(self.get(chain.first), |own| self.get(own.next))
    }

    fn get(&self, number: u64) -> Option<Own> {
        let own = (number != NONE).then(|| self.stretches[self.index(number)])?;
        #[cfg(test)]
        crate::testing::work::step();
        Some(own)
    }

    /// Index of a stretch that is in a chain: no cursor has passed it, so it is in memory.
    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.forgotten).expect("the stretches fit in memory")
    }

    /// True if it holds no memory.
    #[cfg(test)]
    pub(super) fn is_unallocated(&self) -> bool {
        self.stretches.capacity() == 0
    }
}
