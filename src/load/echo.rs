//! Messages that go out and come back, over streams.

use std::collections::VecDeque;

use super::Load;
use super::dialer::Wish;
use super::faults::Fault;
use super::line::{Input, Line, read};
use super::message::{Frames, Messages, Piece, sender_and_number};
use super::player::{Context, Player};
use super::sequence::{Seen, Sequence};
use super::wire::Wire;
use crate::net::{Poller, Readiness};

/// Clients whose messages come back.
pub(super) struct Echo {
    clients: Vec<Option<Client>>,
    /// Of those who have gone, or never came: their first message that was never accounted for.
    gone: Vec<u64>,
    alive: usize,
    messages: Messages,
    depth: usize,
    verify: bool,
    /// Clients for which something has become due.
    touched: Vec<usize>,
}

struct Client {
    line: Line,
    /// The number of the message that comes back next, and when it and those after it were sent.
    first: u64,
    sent: VecDeque<u64>,
    /// Messages that are to be sent in all, by now.
    due: u64,
    /// Messages beyond the depth, because older ones are long overdue.
    extra: usize,
    /// Bytes of a message that has come in part.
    begun: usize,
    frames: Frames,
    come: Sequence,
}

impl Client {
    fn new(line: Line) -> Self {
        Self {
            line,
            first: 0,
            sent: VecDeque::new(),
            due: 0,
            extra: 0,
            begun: 0,
            frames: Frames::default(),
            come: Sequence::from(0),
        }
    }

    /// The number of the message that is sent next.
    fn next(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    /// The oldest message under way has come back, or, if it hasn't, never will; when it was sent.
    fn pop(&mut self) -> Option<u64> {
        let sent = self.sent.pop_front()?;
        self.first += 1;
        self.extra = 0;
        Some(sent)
    }

    /// Sends what is due, as far as the depth and the kernel allow.
    fn send(&mut self, key: usize, game: &mut Game<'_>, cx: &Context) {
        while self.line.outbox.is_empty() && self.line.broken.is_none() {
            let due = self.due.saturating_sub(self.next());
            let depth = game.depth.saturating_add(self.extra);
            let free = depth.saturating_sub(self.sent.len());
            let count = free.min(usize::try_from(due).unwrap_or(usize::MAX));
            let count = count.min(game.messages.most());
            if count == 0 {
                return;
            }
            self.note(key, count, game.clients, cx);
            let first = self.next() - count as u64;
            let bytes = if game.verify {
                game.messages.numbered(key, first, count)
            } else {
                game.messages.plain(count)
            };
            self.line.send(bytes.into(), true);
        }
    }

    /// Notes when the next messages are, or were to be, sent.
    fn note(&mut self, key: usize, count: usize, clients: usize, cx: &Context) {
        let Some(schedule) = &cx.schedule else {
            self.sent.extend(std::iter::repeat_n(cx.clock(), count));
            return;
        };
        let first = self.next();
        let numbers = first..first + count as u64;
        let times = numbers.map(|number| schedule.time_of(key, clients, number));
        self.sent.extend(times);
    }

    /// What is under way, or should be, never comes.
    fn give_up(&mut self, key: usize, clients: usize, cx: &mut Context) {
        if cx.schedule.is_some() {
            let due = self.due.saturating_sub(self.next());
            self.note(key, usize::try_from(due).unwrap_or(usize::MAX), clients, cx);
        }
        let now = cx.clock();
        for sent in self.sent.drain(..) {
            cx.tally.missed(Fault::Unanswered, sent, now);
        }
        self.due = 0;
    }

    /// Counts what has come; whether the connection has ended.
    fn receive(&mut self, key: usize, game: &mut Game<'_>, cx: &mut Context) -> bool {
        while self.line.ready.readable {
            let n = match read(&mut self.line, cx) {
                Input::Some(n) => n,
                Input::Nothing => return false,
                Input::End => return true,
            };
            let now = cx.clock();
            let buffer = std::mem::take(&mut cx.buffer);
            if game.verify {
                self.check(&buffer[..n], key, game, cx, now);
            } else {
                self.count(&buffer[..n], game.messages, cx, now);
            }
            cx.buffer = buffer;
        }
        false
    }

    /// What comes is taken for what was sent, once the first answer was that.
    fn count(&mut self, input: &[u8], messages: &Messages, cx: &mut Context, now: u64) {
        if self.first == 0 && !messages.goes_on(self.begun, input) {
            cx.tally.faults().add(Fault::Corrupt, 1);
        }
        self.begun += input.len();
        while self.begun >= messages.size() {
            self.begun -= messages.size();
            match self.pop() {
                Some(sent) => cx.tally.answered(sent, now),
                None => cx.tally.faults().add(Fault::Stray, 1),
            }
        }
    }

    /// What comes is looked at.
    fn check(&mut self, input: &[u8], key: usize, game: &Game<'_>, cx: &mut Context, now: u64) {
        let mut frames = std::mem::take(&mut self.frames);
        frames.feed(input, game.messages.size(), |piece| match piece {
            Piece::Message(message) => self.judge(message, key, game, cx, now),
            Piece::Garbage => cx.tally.faults().add(Fault::Corrupt, 1),
        });
        self.frames = frames;
    }

    fn judge(&mut self, message: &[u8], key: usize, game: &Game<'_>, cx: &mut Context, now: u64) {
        let (sender, number) = sender_and_number(message).unwrap_or_default();
        if !game.messages.is_intact(message, sender, number) {
            cx.tally.faults().add(Fault::Corrupt, 1);
            // Its number may be wrong, too; in its place it stands for the one expected.
            if self.pop().is_some() {
                self.come.see(self.come.next());
            }
            return;
        }
        if sender != key || number >= self.next() {
            cx.tally.faults().add(Fault::Stray, 1);
            return;
        }
        match self.come.see(number) {
            Seen::Next => {}
            Seen::After(gap) => {
                for _ in gap {
                    let sent = self.pop().unwrap_or(now);
                    cx.tally.missed(Fault::Lost, sent, now);
                }
            }
            Seen::Late => {
                cx.tally.found();
                return;
            }
            Seen::Again => {
                cx.tally.faults().add(Fault::Doubled, 1);
                return;
            }
        }
        if let Some(sent) = self.pop() {
            cx.tally.answered(sent, now);
        }
    }
}

/// What all clients have in common, while one of them has its turn.
struct Game<'a> {
    messages: &'a mut Messages,
    clients: usize,
    depth: usize,
    verify: bool,
}

impl Echo {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: std::iter::repeat_with(|| None).take(load.clients).collect(),
            gone: vec![0; load.clients],
            alive: 0,
            messages: Messages::new(load.size, load.depth),
            depth: load.depth,
            verify: load.verify,
            touched: Vec::new(),
        }
    }

    /// Does something with a client, unless it has gone; it goes if it has ended by that.
    fn with(
        &mut self,
        key: usize,
        cx: &mut Context,
        act: impl FnOnce(&mut Client, &mut Game<'_>, &mut Context) -> bool,
    ) {
        let mut game = Game {
            clients: self.clients.len(),
            messages: &mut self.messages,
            depth: self.depth,
            verify: self.verify,
        };
        let Some(client) = &mut self.clients[key] else {
            return;
        };
        if act(client, &mut game, cx) {
            self.gone[key] = client.due.max(client.next());
            client.give_up(key, game.clients, cx);
            self.clients[key] = None;
            self.alive -= 1;
        }
    }

    fn send(&mut self, key: usize, cx: &mut Context) {
        self.with(key, cx, |client, game, cx| {
            client.send(key, game, cx);
            false
        });
    }
}

impl Player for Echo {
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, _: &mut Context) {
        if let Wire::Stream(socket) = wire {
            self.clients[wish.key] = Some(Client::new(Line::new(socket)));
            self.alive += 1;
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, cx: &mut Context) {
        self.with(key, cx, |client, game, cx| {
            client.line.latch(ready);
            client.line.flush();
            let ended = client.receive(key, game, cx);
            if !ended {
                client.send(key, game, cx);
            }
            ended
        });
    }

    fn begin(&mut self, cx: &mut Context) {
        if cx.schedule.is_some() {
            return;
        }
        for key in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[key] {
                client.due = u64::MAX;
            }
            self.send(key, cx);
        }
    }

    fn act(&mut self, cx: &mut Context) {
        let mut touched = std::mem::take(&mut self.touched);
        while let Some(key) = cx.next_due_of(self.clients.len()) {
            if let Some(client) = &mut self.clients[key] {
                client.due += 1;
                touched.push(key);
            }
        }
        for key in touched.drain(..) {
            self.send(key, cx);
        }
        self.touched = touched;
    }

    /// Where messages are numbered one more may show that those before it were lost; or another one,
    /// if the first has been spoilt with them.
    fn expire(&mut self, sent_before: u64, cx: &mut Context) {
        if !self.verify {
            return;
        }
        for key in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[key]
                && client.sent.back().is_some_and(|sent| *sent < sent_before)
            {
                client.extra += 1;
                self.send(key, cx);
            }
        }
    }

    fn finish(&mut self, cx: &mut Context) {
        for client in self.clients.iter_mut().flatten() {
            if cx.schedule.is_none() {
                client.due = client.next();
            }
        }
    }

    fn is_done(&self) -> bool {
        let mut clients = self.clients.iter().flatten();
        clients.all(|client| client.sent.is_empty() && client.due <= client.next())
    }

    fn give_up(&mut self, cx: &mut Context) {
        let clients = self.clients.len();
        for (key, client) in self.clients.iter_mut().enumerate() {
            match client {
                Some(client) => client.give_up(key, clients, cx),
                None => cx.give_up_share(key, clients, self.gone[key], Fault::Unanswered),
            }
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }
}
