//! Bulk in one direction: clients that only send, or only receive.

use super::dialer::Wish;
use super::faults::Fault;
use super::line::{Input, Line, read};
use super::message::Messages;
use super::player::{Context, Player};
use super::turns::Turns;
use super::wire::Wire;
use super::{Load, LoadMode};
use crate::net::{Poller, Readiness};

/// Clients that only send, or only receive.
pub(super) struct OneWay {
    clients: Vec<Option<Client>>,
    alive: usize,
    messages: Messages,
    sends: bool,
    /// Clients that could go on, in the order of their turns.
    turns: Turns,
    finished: bool,
}

struct Client {
    line: Line,
    /// Bytes that are to be sent in all, by now.
    due: u64,
    /// Bytes that have moved.
    moved: u64,
}

impl OneWay {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: std::iter::repeat_with(|| None).take(load.clients).collect(),
            alive: 0,
            messages: Messages::new(load.size, usize::MAX),
            sends: load.mode == LoadMode::Sink,
            turns: Turns::of(load.clients),
            finished: false,
        }
    }

    /// One read or write of a client; it goes if it has ended.
    fn turn(&mut self, key: usize, cx: &mut Context) {
        let Some(client) = &mut self.clients[key] else {
            return;
        };
        let before = client.moved;
        let ended = if self.sends {
            client.send(&self.messages, cx) || client.receive(cx, false)
        } else {
            client.receive(cx, true)
        };
        let size = self.messages.size() as u64;
        let whole = client.moved / size - before / size;
        cx.tally.moved(client.moved - before, whole, cx.now);
        let again = client.could_go_on(self.sends);
        if ended {
            self.clients[key] = None;
            self.alive -= 1;
        } else if again && !self.finished {
            self.turns.push(key);
        }
    }
}

impl Client {
    fn could_go_on(&self, sends: bool) -> bool {
        let due = sends && self.line.ready.writable && self.moved < self.due;
        due || self.line.ready.readable
    }

    /// One write, from where the last has ended; whether the connection has ended.
    fn send(&mut self, messages: &Messages, cx: &mut Context) -> bool {
        let all = messages.plain(messages.most());
        let left = usize::try_from(self.due.saturating_sub(self.moved)).unwrap_or(usize::MAX);
        let at = usize::try_from(self.moved % all.len() as u64).unwrap_or(0);
        let end = all.len().min(at.saturating_add(left));
        if !self.line.ready.writable || at == end {
            return false;
        }
        self.moved += self.line.write(all[at..end].into()) as u64;
        if self.line.broken.is_none() {
            return false;
        }
        let reason = "it takes no more".to_owned();
        cx.tally.faults().lose(Fault::Reset, || reason);
        true
    }

    /// One read; whether the connection has ended. What comes to one that only sends is strange.
    fn receive(&mut self, cx: &mut Context, counts: bool) -> bool {
        if !self.line.ready.readable {
            return false;
        }
        match read(&mut self.line, cx) {
            Input::Some(n) if counts => self.moved += n as u64,
            Input::Some(_) => cx.tally.faults().add(Fault::Stray, 1),
            Input::Nothing => {}
            Input::End => return true,
        }
        false
    }
}

impl Player for OneWay {
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, _: &mut Context) {
        if let Wire::Stream(socket) = wire {
            self.clients[wish.key] = Some(Client {
                line: Line::new(socket),
                due: 0,
                moved: 0,
            });
            self.alive += 1;
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, _: &mut Context) {
        if let Some(client) = &mut self.clients[key] {
            client.line.latch(ready);
            self.turns.push(key);
        }
    }

    fn begin(&mut self, cx: &mut Context) {
        if cx.schedule.is_some() {
            return;
        }
        for key in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[key] {
                client.due = u64::MAX;
            }
            self.turns.push(key);
        }
    }

    fn act(&mut self, cx: &mut Context) {
        while let Some(key) = cx.next_due_of(self.clients.len()) {
            if let Some(client) = &mut self.clients[key] {
                client.due += self.messages.size() as u64;
            }
            self.turns.push(key);
        }
        for _ in 0..self.turns.len() {
            if let Some(key) = self.turns.pop() {
                self.turn(key, cx);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.turns.len() > 0
    }

    fn finish(&mut self, _: &mut Context) {
        self.finished = true;
        self.turns.clear();
    }

    /// What was taken by the kernel is all that is known.
    fn is_done(&self) -> bool {
        true
    }

    fn give_up(&mut self, _: &mut Context) {}

    fn alive(&self) -> usize {
        self.alive
    }
}
