//! Clients that read nothing.

use super::line::Line;
use super::message::Messages;
use super::wire::Wire;
use super::{Load, LoadMode};
use crate::net::Readiness;

/// Clients that read nothing, and whether the server puts up with them.
pub(super) struct Slow {
    /// The key of the first.
    base: usize,
    lines: Vec<Option<Line>>,
    /// What they send, if they do: they have answers coming that they never take.
    says: Option<Messages>,
    closed: usize,
}

impl Slow {
    pub(super) fn new(load: &Load) -> Self {
        let says = matches!(load.mode, LoadMode::Echo | LoadMode::Stream);
        Self {
            base: load.players(),
            lines: std::iter::repeat_with(|| None).take(load.slow).collect(),
            says: says.then(|| Messages::new(load.size, usize::MAX)),
            closed: 0,
        }
    }

    /// How many the server has closed.
    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    pub(super) fn open(&mut self, key: usize, wire: Wire) {
        if let Wire::Stream(socket) = wire {
            self.lines[key - self.base] = Some(Line::new(socket));
            self.send(key - self.base);
        }
    }

    pub(super) fn ready(&mut self, key: usize, ready: Readiness) {
        let index = key - self.base;
        let Some(line) = &mut self.lines[index] else {
            return;
        };
        line.latch(ready);
        // Its end, an error: it was closed or reset. Urgent data isn't sent by any of these.
        if ready.ending {
            self.lines[index] = None;
            self.closed += 1;
            return;
        }
        self.send(index);
    }

    /// Sends until the kernel takes no more.
    fn send(&mut self, index: usize) {
        let (Some(line), Some(says)) = (&mut self.lines[index], &self.says) else {
            return;
        };
        line.flush();
        while line.ready.writable && line.broken.is_none() && line.outbox.is_empty() {
            line.send([says.plain(says.most()), &[]], true);
        }
    }
}
