//! Workload: bulk in one direction, by clients that only send or only receive.

use super::clients::Clients;
use super::dialer::Connection;
use super::faults::Fault;
use super::message::Messages;
use super::run::{ConnectRequest, Input, NOT_TAKEN, Run};
use super::workload::Workload;
use super::{Load, LoadMode};
use crate::net::link::Link;
use crate::net::{Dial, Readiness, Stream};

/// Clients that only send, or only receive.
pub(super) struct OneWay<N: Dial> {
    clients: Clients<Client<N::Stream>>,
    messages: Messages,
    sends: bool,
    finished: bool,
}

struct Client<T> {
    link: Link<T>,
    /// Bytes sent, or received.
    moved: u64,
}

impl<N: Dial> OneWay<N> {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: Clients::new(load.clients),
            messages: Messages::new(load.size, usize::MAX),
            sends: load.mode == LoadMode::Sink,
            finished: false,
        }
    }

    /// One read or write of a client; it is closed if its connection has ended.
    fn turn(&mut self, key: usize, run: &mut Run<N>) {
        let Some((client, ledger)) = self.clients.get_mut(key) else {
            return;
        };
        let size = self.messages.size() as u64;
        let (before, due) = (client.moved, ledger.due().saturating_mul(size));
        let ended = if self.sends {
            client.send(due, &self.messages, run) || client.receive(false, run)
        } else {
            client.receive(true, run)
        };
        let whole = client.moved / size - before / size;
        run.tally.moved(client.moved - before, whole, run.now);
        let sends = self.sends && client.link.ready.writable && client.moved < due;
        let can_go_on = sends || client.link.ready.readable;
        if ended {
            self.clients.remove(key);
        } else if can_go_on && !self.finished {
            self.clients.push_turn(key);
        }
    }
}

impl<T: Stream> Client<T> {
    /// One write, of at most `due` bytes since the beginning; true if the connection has ended.
    fn send(&mut self, due: u64, messages: &Messages, run: &mut Run<impl Dial>) -> bool {
        let all = messages.plain(messages.most());
        let left = usize::try_from(due.saturating_sub(self.moved)).unwrap_or(usize::MAX);
        // The last write may have ended inside a message.
        let at = usize::try_from(self.moved % all.len() as u64).unwrap_or(0);
        let end = all.len().min(at.saturating_add(left));
        if !self.link.ready.writable || at == end {
            return false;
        }
        self.moved += self.link.write(all[at..end].into()) as u64;
        if self.link.broken.is_none() {
            return false;
        }
        let faults = run.tally.faults();
        faults.lose(Fault::Reset, || NOT_TAKEN.to_owned());
        true
    }

    /// One read; true if the connection has ended. Bytes are stray unless they are `expected`.
    fn receive(&mut self, expected: bool, run: &mut Run<impl Dial>) -> bool {
        if !self.link.ready.readable {
            return false;
        }
        match run.read(&mut self.link) {
            Input::Bytes(n) if expected => self.moved += n as u64,
            Input::Bytes(_) => run.tally.faults().add(Fault::Stray, 1),
            Input::Nothing => {}
            Input::End => return true,
        }
        false
    }
}

impl<N: Dial> Workload<N> for OneWay<N> {
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, _: &mut Run<N>) {
        if let Connection::Stream(stream) = connection {
            let link = Link::new(stream);
            self.clients.insert(request.key, Client { link, moved: 0 });
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, _: &mut Run<N>) {
        if let Some((client, _)) = self.clients.get_mut(key) {
            client.link.latch(ready);
            self.clients.push_turn(key);
        }
    }

    fn begin(&mut self, run: &mut Run<N>) {
        self.clients.begin(run);
    }

    fn advance(&mut self, run: &mut Run<N>) {
        self.clients.fall_due(self.clients.len(), run);
        for _ in 0..self.clients.turns() {
            if let Some(key) = self.clients.next_turn() {
                self.turn(key, run);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.clients.turns() > 0
    }

    fn finish(&mut self, _: &mut Run<N>) {
        self.finished = true;
        self.clients.clear_turns();
    }

    /// The byte count of the kernel is all that is known: there is no answer to wait for.
    fn is_settled(&self) -> bool {
        true
    }

    fn give_up(&mut self, _: &mut Run<N>) {}

    fn connected(&self) -> usize {
        self.clients.connected()
    }
}
