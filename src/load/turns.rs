//! Whose turn it is.

use std::collections::VecDeque;

/// Clients that could go on without a further event, in the order of their turns.
#[derive(Debug)]
pub(super) struct Turns {
    keys: VecDeque<usize>,
    /// By key, whether it is among them.
    queued: Vec<bool>,
}

impl Turns {
    /// Turns of so many clients, none of whom has one.
    pub(super) fn of(clients: usize) -> Self {
        Self {
            keys: VecDeque::new(),
            queued: vec![false; clients],
        }
    }

    /// Its turn comes, once.
    pub(super) fn push(&mut self, key: usize) {
        if !std::mem::replace(&mut self.queued[key], true) {
            self.keys.push_back(key);
        }
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let key = self.keys.pop_front()?;
        self.queued[key] = false;
        Some(key)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn clear(&mut self) {
        while self.pop().is_some() {}
    }
}
