//! Clients that read nothing, beside those of the workload.

use super::clients::Clients;
use super::dialer::Connection;
use super::message::Messages;
use super::{Load, LoadMode};
use crate::net::link::Link;
use crate::net::{Dial, Readiness};

/// Clients that read nothing, and the number of those that the server has closed.
pub(super) struct Slow<N: Dial> {
    /// The key of the first.
    base: usize,
    links: Clients<Link<N::Stream>>,
    /// Messages that they send, if they do: the answers are never read.
    messages: Option<Messages>,
    /// True at the end of the run, when they read: the end of a closed connection lies behind
    /// everything that was not read.
    reads: bool,
    closed: usize,
}

impl<N: Dial> Slow<N> {
    pub(super) fn new(load: &Load) -> Self {
        let sends = matches!(load.mode, LoadMode::Echo | LoadMode::Stream);
        Self {
            base: load.active_clients(),
            links: Clients::new(load.slow),
            messages: sends.then(|| Messages::new(load.size, usize::MAX)),
            reads: false,
            closed: 0,
        }
    }

    /// Number of clients that the server has closed.
    pub(super) fn closed(&self) -> usize {
        self.closed
    }

    pub(super) fn open(&mut self, key: usize, connection: Connection<N>) {
        if let Connection::Stream(stream) = connection {
            self.links.insert(key - self.base, Link::new(stream));
            self.send(key - self.base);
        }
    }

    /// Handles an event; at the end of the run it reads, by way of the buffer.
    pub(super) fn ready(&mut self, key: usize, ready: Readiness, buffer: &mut [u8]) {
        let index = key - self.base;
        let Some((link, _)) = self.links.get_mut(index) else {
            return;
        };
        link.latch(ready);
        if self.reads {
            return self.read(index, buffer);
        }
        // Closed or reset. Urgent data, which looks the same, is sent by no service.
        if ready.ending {
            return self.close(index);
        }
        self.send(index);
    }

    fn close(&mut self, index: usize) {
        self.links.remove(index);
        self.closed += 1;
    }

    /// True if there are clients that are not known to be closed.
    pub(super) fn has_open(&self) -> bool {
        self.links.connected() > 0
    }

    /// Begins to read.
    pub(super) fn begin_to_read(&mut self, buffer: &mut [u8]) {
        self.reads = true;
        for index in 0..self.links.len() {
            if let Some((link, _)) = self.links.get_mut(index) {
                link.ready.readable = true;
                self.read(index, buffer);
            }
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        while let Some((link, _)) = self.links.get_mut(index)
            && link.ready.readable
        {
            match link.read(buffer) {
                Ok(Some(1..)) => {}
                Ok(None) => return,
                Ok(Some(0)) | Err(_) => self.close(index),
            }
        }
    }

    /// Sends until the kernel takes no more.
    fn send(&mut self, index: usize) {
        let (Some((link, _)), Some(messages)) = (self.links.get_mut(index), &self.messages) else {
            return;
        };
        link.flush();
        while link.ready.writable && link.broken.is_none() && link.outbox.is_empty() {
            link.send(messages.plain(messages.most()).into(), true);
        }
    }
}
