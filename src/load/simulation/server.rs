//! Scripted servers at the other end of the load.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::net::simulation::{Remote, World};

/// The service of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Echo,
    Room,
    Sink,
    Source,
}

/// The fault of a server, which it has now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    /// A message is not answered.
    Lose,
    /// A message is answered twice.
    Double,
    /// An answer is sent after the next one.
    Swap,
    /// A byte of an answer is changed.
    Corrupt,
    /// Nothing more is received from the client.
    Stall,
    /// The connection is closed, half-closed or reset.
    Cut,
}

/// Counts of what a server has done.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Bytes that were received, and messages that were answered as they should be, by connection.
    pub(super) received: Vec<u64>,
    pub(super) answered: Vec<u64>,
    /// Number of defects that were played.
    pub(super) defects: u64,
}

/// The server's end of one connection.
#[derive(Debug, Default)]
struct Link {
    /// The beginning of a message.
    partial: Vec<u8>,
    outbox: VecDeque<u8>,
    /// An answer that is sent after the next one.
    held: Option<Vec<u8>>,
    stalled: bool,
    cut: bool,
    ended: bool,
}

/// A server for messages of one size.
pub(super) struct Server {
    pub(super) service: Service,
    pub(super) defect: Defect,
    /// The defect is played with one in this number of messages.
    pub(super) one_in: usize,
    /// The time, after the first message, for which the defect is played.
    pub(super) window: Duration,
    pub(super) size: usize,
    /// Connections that no defect is played with: those of slow clients.
    pub(super) spared: usize,
    /// The load is interrupted at this time, and again later.
    interrupt: Option<Instant>,
    pub(super) report: Rc<RefCell<Report>>,
    first: Option<Instant>,
    links: Vec<Link>,
    live: Vec<usize>,
    next: usize,
}

impl Server {
    pub(super) fn new(service: Service, size: usize) -> Self {
        Self {
            service,
            defect: Defect::None,
            one_in: 0,
            window: Duration::ZERO,
            size,
            spared: 0,
            interrupt: None,
            report: Rc::default(),
            first: None,
            links: Vec::new(),
            live: Vec::new(),
            next: 0,
        }
    }

    /// Interrupts the load this long after its start.
    pub(super) fn interrupt_after(&mut self, time: Duration) {
        self.interrupt = Some(Instant::now() + time);
    }

    /// Adds new connections to the table.
    fn find_new(&mut self, world: &World) {
        let mut report = self.report.borrow_mut();
        while self.links.len() < world.count() {
            self.live.push(self.links.len());
            self.links.push(Link::default());
            report.received.push(0);
            report.answered.push(0);
        }
        self.live.retain(|&id| !world.is_dropped(id));
    }

    /// True if the defect is played with this message.
    fn plays(&mut self, id: usize, world: &mut World) -> bool {
        let within = self
            .first
            .is_some_and(|first| world.now < first + self.window);
        let within = within && id >= self.spared;
        within && self.one_in > 0 && world.rng.usize(..self.one_in) == 0
    }

    /// One step with a connection; false if there is none.
    fn step(&mut self, id: usize, world: &mut World) -> bool {
        if self.links[id].cut || !world.is_connected(id) {
            return false;
        }
        let room = world.room(id);
        if self.service == Service::Source && room > 0 {
            let n = world.rng.usize(1..=room);
            world.send(id, &vec![b'x'; n]);
            return true;
        }
        let link = &mut self.links[id];
        if room > 0 && !link.outbox.is_empty() {
            let n = world.rng.usize(1..=room.min(link.outbox.len()));
            let bytes: Vec<u8> = link.outbox.drain(..n).collect();
            world.send(id, &bytes);
            return true;
        }
        let waits = link.outbox.len() > 4 * self.size && self.service == Service::Echo;
        if link.stalled || link.ended || waits {
            return false;
        }
        if let Some(datagram) = world.receive_datagram(id) {
            self.answer_datagram(id, datagram, world);
            return true;
        }
        if !world.has_input(id) {
            return false;
        }
        let most = world.rng.usize(1..=5 * self.size);
        let (bytes, ended) = world.receive(id, most);
        self.report.borrow_mut().received[id] += bytes.len() as u64;
        self.links[id].ended = ended;
        self.links[id].partial.extend(bytes);
        while self.links[id].partial.len() >= self.size && !self.links[id].cut {
            let message: Vec<u8> = self.links[id].partial.drain(..self.size).collect();
            self.answer(id, &message, world);
        }
        true
    }

    fn answer_datagram(&mut self, id: usize, mut datagram: Vec<u8>, world: &mut World) {
        if self.service == Service::Sink {
            return;
        }
        self.first.get_or_insert(world.now);
        let defective = self.plays(id, world);
        self.report.borrow_mut().defects += u64::from(defective);
        match self.defect {
            Defect::Lose if defective => return,
            Defect::Corrupt if defective => datagram[0] ^= 4,
            Defect::Cut if defective => return world.reset(id),
            Defect::Double if defective => {
                world.send_datagram(id, &datagram);
            }
            _ => {}
        }
        let sent = world.send_datagram(id, &datagram);
        self.report.borrow_mut().answered[id] += u64::from(sent);
    }

    fn answer(&mut self, id: usize, message: &[u8], world: &mut World) {
        let receivers: Vec<usize> = match self.service {
            Service::Echo => vec![id],
            Service::Room => self.live.iter().copied().filter(|&to| to != id).collect(),
            Service::Sink | Service::Source => Vec::new(),
        };
        // The first message is answered well: it may be a room's probe.
        let is_first = self.first.is_none();
        self.first.get_or_insert(world.now);
        for to in receivers {
            let follows = self.links[to].held.is_some() || self.links[to].cut;
            if !is_first && !follows && self.plays(to, world) {
                self.play(to, message.to_vec(), world);
            } else {
                self.put(to, message);
                self.report.borrow_mut().answered[to] += 1;
                let held = self.links[to].held.take();
                self.put(to, &held.unwrap_or_default());
            }
        }
    }

    fn put(&mut self, to: usize, bytes: &[u8]) {
        self.links[to].outbox.extend(bytes);
    }

    /// Answers a message with the server's fault.
    fn play(&mut self, to: usize, mut message: Vec<u8>, world: &mut World) {
        let link = &mut self.links[to];
        self.report.borrow_mut().defects += 1;
        match self.defect {
            Defect::None => self.put(to, &message),
            Defect::Lose => {}
            Defect::Double => self.put(to, &[&message[..], &message].concat()),
            Defect::Swap => link.held = Some(message),
            Defect::Corrupt => {
                // Behind the number: a wrong number is another message's.
                let at = world.rng.usize(16..message.len() - 1);
                message[at] ^= 4;
                self.put(to, &message);
            }
            Defect::Stall => link.stalled = true,
            Defect::Cut => {
                link.cut = true;
                match world.rng.u8(..3) {
                    0 => world.close(to),
                    1 => world.half_close(to),
                    _ => world.reset(to),
                }
            }
        }
    }
}

impl Remote for Server {
    fn act(&mut self, world: &mut World) -> bool {
        self.find_new(world);
        if self.interrupt.is_some_and(|at| world.now >= at) {
            world.stops += 1;
            let again = Duration::from_millis(world.rng.u64(1..500));
            self.interrupt = (world.rng.bool()).then(|| world.now + again);
            return true;
        }
        for _ in 0..self.live.len() {
            self.next = (self.next + 1) % self.live.len();
            if self.step(self.live[self.next], world) {
                return true;
            }
        }
        false
    }

    fn alarm(&self) -> Option<Instant> {
        self.interrupt
    }
}
