//! Clients that read nothing.

use super::line::Line;
use super::message::Messages;
use super::wire::Wire;
use super::{Load, LoadMode};
use crate::net::{Poller, Readiness};

/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// Clients that read nothing, and whether the server puts up with them.
pub(super) struct Slow {
    /// The key of the first.
    base: usize,
    lines: Vec<Option<Line>>,
    /// What they send, if they do: they have answers coming that they never take.
    says: Option<Messages>,
    /// They read, as it is over: behind what they never took lies the end, if there is one.
    reads: bool,
    closed: usize,
}

impl Slow {
    pub(super) fn new(load: &Load) -> Self {
        let says = matches!(load.mode, LoadMode::Echo | LoadMode::Stream);
        Self {
            base: load.players(),
            lines: std::iter::repeat_with(|| None).take(load.slow).collect(),
            says: says.then(|| Messages::new(load.size, usize::MAX)),
            reads: false,
            closed: 0,
        }
    }

    /// How many the server has closed.
    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    pub(super) fn open(&mut self, key: usize, wire: Wire<Poller>) {
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
        if self.reads {
            return self.read(index);
        }
        // Its end, an error: it was closed or reset. Urgent data isn't sent by any of these.
        if ready.ending {
            return self.close(index);
        }
        self.send(index);
    }

    fn close(&mut self, index: usize) {
        self.lines[index] = None;
        self.closed += 1;
    }

    /// Whether there are some of whom it isn't known that they were closed.
    pub(super) fn has_open(&self) -> bool {
        self.lines.iter().any(Option::is_some)
    }

    /// From now on they read.
    pub(super) fn begin_to_read(&mut self) {
        self.reads = true;
        for index in 0..self.lines.len() {
            if let Some(line) = &mut self.lines[index] {
                line.ready.readable = true;
                self.read(index);
            }
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = vec![0; READ];
        while let Some(line) = &mut self.lines[index]
            && line.ready.readable
        {
            match line.read(&mut buffer) {
                Ok(Some(1..)) => {}
                Ok(None) => return,
                Ok(Some(0)) | Err(_) => self.close(index),
            }
        }
    }

    /// Sends until the kernel takes no more.
    fn send(&mut self, index: usize) {
        let (Some(line), Some(says)) = (&mut self.lines[index], &self.says) else {
            return;
        };
        line.flush();
        while line.ready.writable && line.broken.is_none() && line.outbox.is_empty() {
            line.send(says.plain(says.most()).into(), true);
        }
    }
}
