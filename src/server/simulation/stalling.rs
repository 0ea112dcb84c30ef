//! A room beside readers that stall, one after the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::actor::{Actor, Behaviour};
use super::kernel::Kernel;
use super::net::SimNet;
use super::world::World;
use super::{faultless, limits, server};
use crate::config::{Config, SlowConsumer};
use crate::net::address::Role;
use crate::server::limits::Limits;
use crate::server::tick::Tick;
use crate::service::{Broadcast, Room, Service};

const PATIENCE: Duration = Duration::from_millis(200);
/// Readers that stall, one in each patience: as one a second in a minute, with a patience of a second.
const STALLING: u32 = 60;
/// Readers that miss nothing.
const HEALTHY: usize = 3;
/// Largest buffer of the kernel, in bytes.
const BUFFER: usize = 50;
const BACKLOG: u64 = 200;
const SEGMENT: usize = 64;

/// The result of a run.
#[derive(Debug)]
struct Outcome {
    time: Duration,
    /// Time for which the room was held up.
    held: Duration,
    /// Bytes published.
    published: u64,
}

/// A room with a publisher at full rate, healthy readers, and readers that stall.
struct Stalling {
    world: Rc<RefCell<World>>,
    tick: Tick<Broadcast, SimNet>,
    start: Instant,
    held: Duration,
}

impl Stalling {
    fn new(seed: u64, slow_consumer: SlowConsumer, stalling: Vec<Behaviour>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut kernel = Kernel::new(rng.fork(), faultless(BUFFER));
        kernel.odds.descriptors = 999;
        kernel.odds.full_size = true;
        let start = kernel.now;
        // The healthy readers are there first.
        let mut actors = vec![Actor::new(prompt(), start + PATIENCE / 10, script())];
        actors.extend((0..HEALTHY).map(|_| Actor::new(prompt(), start, Vec::new())));
        let arrivals = (0u32..).map(|number| start + PATIENCE * number);
        let arriving = stalling.into_iter().zip(arrivals);
        actors.extend(arriving.map(|(behaviour, at)| Actor::new(behaviour, at, Vec::new())));
        let world = Rc::new(RefCell::new(World::new(kernel, actors).without_stops()));
        let limits = Limits {
            turn: 100,
            publish: 100,
            backlog: BACKLOG,
            max_clients: 999,
            patience: Some(PATIENCE),
            slow_consumer,
            ..limits(&mut rng)
        };
        let service = Broadcast::with_segments(Room::default(), SEGMENT);
        let net = SimNet(Rc::clone(&world));
        let tick = server(net, &[Role::Both], service, limits, &Config::default());
        Self {
            world,
            tick,
            start,
            held: Duration::ZERO,
        }
    }

    fn time(&self) -> Duration {
        self.world.borrow().kernel.now - self.start
    }

    /// Runs the room for 60 times the patience.
    fn go(mut self) -> Outcome {
        while self.time() < PATIENCE * STALLING {
            let (held, before) = (self.tick.clients.is_held(), self.time());
            self.tick.tick().unwrap();
            if held {
                self.held += self.time().saturating_sub(before);
            }
            self.check_memory();
        }
        self.check_healthy();
        Outcome {
            time: self.time(),
            held: self.held,
            published: self.tick.clients.service().published(),
        }
    }

    fn check_memory(&self) {
        let limits = self.tick.clients.limits();
        let held = self.tick.clients.service().held();
        let bound = BACKLOG + limits.publish + (limits.turn + 4 * SEGMENT) as u64;
        assert!(held <= bound, "{held} bytes are held, more than {bound}");
    }

    /// Checks that the healthy readers have all that the publisher sent, up to the backlog.
    fn check_healthy(&self) {
        let world = self.world.borrow();
        let (publisher, readers) = world.actors.split_first().unwrap();
        for reader in &readers[..HEALTHY] {
            assert!(!reader.has_left(), "a healthy reader was closed");
            assert!(publisher.script.starts_with(&reader.received));
            let behind = publisher.sent - reader.received.len();
            assert!(behind < 1000, "{behind} bytes are missing");
        }
    }
}

/// Reads and sends all that it can.
fn prompt() -> Behaviour {
    Behaviour {
        send: BUFFER,
        receive: usize::MAX,
        acts_one_in: 1,
        ..Behaviour::default()
    }
}

/// Numbered lines, more than are sent in a run.
fn script() -> Vec<u8> {
    let lines = (0..400_000).map(|number| format!("{number}\n"));
    lines.collect::<String>().into_bytes()
}

/// Readers that read a number of bytes, and then nothing more.
fn stalling(read: impl Fn(u32) -> usize) -> Vec<Behaviour> {
    let stalling = |number| Behaviour {
        pause: Some((read(number), None)),
        ..prompt()
    };
    (0..STALLING).map(stalling).collect()
}

#[test]
fn readers_that_stall_leave_nine_tenths_of_the_time() {
    let read = |number| 700 * number as usize % 10_000;
    let (close, skip) = (SlowConsumer::Close, SlowConsumer::Skip);
    let alone = Stalling::new(1, close, Vec::new()).go();
    for (seed, slow_consumer, readers) in [
        (2, close, stalling(|_| 0)),
        (3, close, stalling(read)),
        (5, skip, stalling(|_| 0)),
        (6, skip, stalling(read)),
    ] {
        let beside = Stalling::new(seed, slow_consumer, readers).go();
        let held = beside.held.saturating_sub(alone.held);
        assert!(held * 10 <= beside.time, "{seed}: held up for {held:?}");
        let (few, enough) = (beside.published, alone.published / 2);
        assert!(few > enough, "{seed}: only {few} bytes were published");
    }
}
