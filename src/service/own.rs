//! Stretches of the log that their sender does not get back.

use std::collections::VecDeque;

/// A stretch of the log that its sender does not get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) start: u64,
    pub(super) end: u64,
    sender: u64,
}

/// The own messages of clients that are behind, in the order of the log. Empty as a rule: the
/// cursor of a client that is caught up passes its own message at once.
#[derive(Debug, Default)]
pub(super) struct OwnMessages(VecDeque<Own>);

impl OwnMessages {
    /// Adds what `sender` published from `start` to `end`, the end of the log.
    pub(super) fn push(&mut self, sender: u64, start: u64, end: u64) {
        match self.0.back_mut() {
            Some(last) if last.sender == sender && last.end == start => last.end = end,
            _ => self.0.push_back(Own { start, end, sender }),
        }
    }

    /// Forgets the stretches that end before `start`. If every client has read the whole log
    /// (`is_read`), forgets all, and frees their memory.
    pub(super) fn forget(&mut self, start: u64, is_read: bool) {
        if self.0.is_empty() {
            return; // the usual case
        }
        let freed = self.0.partition_point(|own| own.end <= start);
        self.0.drain(..freed);
        if is_read {
            self.0 = VecDeque::new();
        }
    }

    /// The first stretch of `sender` that ends after `from`.
    pub(super) fn next(&self, sender: u64, from: u64) -> Option<Own> {
        let first = self.0.partition_point(|own| own.end <= from);
        let mut later = self.0.iter().skip(first);
        later.find(|own| own.sender == sender).copied()
    }

    /// True if it holds no memory.
    #[cfg(test)]
    pub(super) fn is_unallocated(&self) -> bool {
        self.0.capacity() == 0
    }
}
