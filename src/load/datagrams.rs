//! Messages as datagrams: that come back, or are only sent.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::dialer::Wish;
use super::faults::Fault;
use super::message::{Messages, sender_and_number};
use super::player::{Context, Player};
use super::turns::Turns;
use super::wire::Wire;
use super::{Load, LoadMode};
use crate::net::error::cause;
use crate::net::{DatagramClient, Datagrams as _, Poller, Readiness};

/// Datagrams sent or received in a turn.
const TURN: usize = 32;

/// The time of a datagram that has come back.
const ANSWERED: u64 = u64::MAX;

/// Datagrams that were given up of which each client remembers the newest.
const MOST_LATE: usize = 1024;

/// Clients that send datagrams.
pub(super) struct Datagrams {
    clients: Vec<Option<Client>>,
    /// Of those who have gone: their first datagram that was never accounted for.
    gone: Vec<u64>,
    alive: usize,
    messages: Messages,
    depth: usize,
    verify: bool,
    /// They come back.
    echoes: bool,
    turns: Turns,
}

struct Client {
    socket: DatagramClient,
    ready: Readiness,
    /// The number of the oldest datagram under way, and when it and those after it were sent.
    first: u64,
    sent: VecDeque<u64>,
    /// The newest that were given up, and may come yet.
    late: VecDeque<u64>,
    /// Datagrams that are to be sent in all, by now.
    due: u64,
}

impl Client {
    fn next(&self) -> u64 {
        self.first + self.sent.len() as u64
    }

    /// Forgets what is answered, from the oldest on.
    fn settle(&mut self) {
        while self.sent.front() == Some(&ANSWERED) {
            self.sent.pop_front();
            self.first += 1;
        }
    }

    /// The oldest, which was sent at this time, is given up.
    fn lose(&mut self, sent: u64, cx: &mut Context) {
        self.sent.pop_front();
        if self.late.len() == MOST_LATE {
            self.late.pop_front();
        }
        self.late.push_back(self.first);
        self.first += 1;
        let now = cx.clock();
        cx.tally.missed(Fault::Lost, sent, now);
        self.settle();
    }

    /// What is under way, or with a schedule should be, never comes.
    fn give_up(&mut self, key: usize, clients: usize, cx: &mut Context) {
        if let Some(schedule) = &cx.schedule {
            let numbers = self.next()..self.due;
            let times = numbers.map(|number| schedule.time_of(key, clients, number));
            self.sent.extend(times);
        }
        while let Some(&sent) = self.sent.front() {
            self.lose(sent, cx);
        }
    }

    fn may_send(&self, depth: usize) -> bool {
        self.ready.writable && self.sent.len() < depth && self.next() < self.due
    }
}

impl Datagrams {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: std::iter::repeat_with(|| None).take(load.clients).collect(),
            gone: vec![0; load.clients],
            alive: 0,
            messages: Messages::new(load.size, 1),
            depth: load.depth,
            verify: load.verify,
            echoes: load.mode != LoadMode::Sink,
            turns: Turns::of(load.clients),
        }
    }

    /// A client receives and sends some; it goes if it can do neither.
    fn turn(&mut self, key: usize, cx: &mut Context) {
        let result = self.receive(key, cx).and_then(|()| self.send(key, cx));
        let clients = self.clients.len();
        let Some(client) = &mut self.clients[key] else {
            return;
        };
        if let Err(e) = result {
            let fault = match e.kind() {
                ErrorKind::ConnectionRefused => Fault::Refused,
                _ => Fault::Reset,
            };
            cx.tally.faults().lose(fault, || cause(&e));
            self.gone[key] = client.due.max(client.next());
            if self.echoes {
                client.give_up(key, clients, cx);
            }
            self.clients[key] = None;
            self.alive -= 1;
        } else if client.ready.readable || client.may_send(self.depth) {
            self.turns.push(key);
        }
    }

    fn receive(&mut self, key: usize, cx: &mut Context) -> io::Result<()> {
        for _ in 0..TURN {
            let Some(client) = &mut self.clients[key] else {
                return Ok(());
            };
            if !client.ready.readable {
                return Ok(());
            }
            match client.socket.receive(&mut cx.buffer) {
                Ok(n) => self.judge(key, n, cx),
                Err(e) if e.kind() == ErrorKind::WouldBlock => client.ready.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Looks at a datagram that has come.
    fn judge(&mut self, key: usize, length: usize, cx: &mut Context) {
        let Some(client) = &mut self.clients[key] else {
            return;
        };
        let now = cx.clock();
        let datagram = &cx.buffer[..length];
        let known = sender_and_number(datagram).filter(|_| length == self.messages.size());
        let Some((sender, number)) = known else {
            return cx.tally.faults().add(Fault::Corrupt, 1);
        };
        if self.verify && !self.messages.is_intact(datagram, sender, number) {
            return cx.tally.faults().add(Fault::Corrupt, 1);
        }
        if sender != key || number >= client.next() || !self.echoes {
            return cx.tally.faults().add(Fault::Stray, 1);
        }
        let under_way = number.checked_sub(client.first);
        let Some(index) = under_way.and_then(|index| usize::try_from(index).ok()) else {
            if let Some(at) = client.late.iter().position(|late| *late == number) {
                // It stays lost: it has taken too long.
                client.late.remove(at);
            } else {
                cx.tally.faults().add(Fault::Doubled, 1);
            }
            return;
        };
        match std::mem::replace(&mut client.sent[index], ANSWERED) {
            ANSWERED => cx.tally.faults().add(Fault::Doubled, 1),
            sent => cx.tally.answered(sent, now),
        }
        client.settle();
    }

    fn send(&mut self, key: usize, cx: &mut Context) -> io::Result<()> {
        let clients = self.clients.len();
        let Some(client) = &mut self.clients[key] else {
            return Ok(());
        };
        for _ in 0..TURN {
            if !client.may_send(self.depth) {
                return Ok(());
            }
            let number = client.next();
            let time = match &cx.schedule {
                Some(schedule) => schedule.time_of(key, clients, number),
                None => cx.clock(),
            };
            match client.socket.send(self.messages.numbered(key, number, 1)) {
                Ok(n) if self.echoes => {
                    debug_assert_eq!(n, self.messages.size());
                    client.sent.push_back(time);
                }
                Ok(n) => {
                    client.first += 1;
                    cx.tally.moved(n as u64, 1, cx.now);
                }
                Err(e) if is_full(&e) => client.ready.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Whether there will be room later.
fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || Errno::from_io_error(error) == Some(Errno::NOBUFS)
}

impl Player for Datagrams {
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, _: &mut Context) {
        if let Wire::Datagrams(socket) = wire {
            self.clients[wish.key] = Some(Client {
                socket,
                ready: Readiness::default(),
                first: 0,
                sent: VecDeque::new(),
                late: VecDeque::new(),
                due: 0,
            });
            self.alive += 1;
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, _: &mut Context) {
        if let Some(client) = &mut self.clients[key] {
            client.ready.readable |= ready.readable;
            client.ready.writable |= ready.writable;
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
                client.due += 1;
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

    /// What was sent before this time is lost, and makes room for more.
    fn expire(&mut self, sent_before: u64, cx: &mut Context) {
        for key in 0..self.clients.len() {
            let Some(client) = &mut self.clients[key] else {
                continue;
            };
            while let Some(&sent) = client.sent.front()
                && sent < sent_before
            {
                client.lose(sent, cx);
            }
            // A full send buffer, of which the kernel doesn't tell when there is room again.
            client.ready.writable = true;
            self.turns.push(key);
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
        let echoes = self.echoes;
        for (key, client) in self.clients.iter_mut().enumerate() {
            match client {
                _ if !echoes => {}
                Some(client) => client.give_up(key, clients, cx),
                None => cx.give_up_share(key, clients, self.gone[key], Fault::Lost),
            }
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }
}
