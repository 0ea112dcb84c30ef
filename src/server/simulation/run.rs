//! One run: a server over its world, stopped at some time, with checks after each tick.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::actor::{Actor, Behaviour};
use super::checked::CheckedService;
use super::kernel::{Kernel, Odds};
use super::net::SimNet;
use super::random::{self, length};
use super::world::World;
use super::{HEARTBEAT, server};
use crate::config::{Config, Heartbeat};
use crate::net::address::Role;
use crate::server::limits::Limits;
use crate::server::tick::Tick;

/// Ticks after which a run counts as endless. A room that is held up for good is stopped after an
/// hour; with the shortest idle timeout that is a tick every 4 ms.
const MOST_TICKS: usize = 2_000_000;

/// The properties of a service that a run depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) clients: ClientsEnd,
    /// Bytes that the service adds to the bound of shared output in memory.
    pub(super) slack: u64,
    /// Most bytes of the rest of a message, if the slack does not count them.
    pub(super) rest: usize,
    /// Limits that come from the room, as in a real server.
    pub(super) log: Option<LogLimits>,
    /// True if the first client is standard input.
    pub(super) has_stdin: bool,
}

/// The end of clients whose input has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientsEnd {
    /// The server ends all of them.
    All,
    /// It keeps those that only subscribe.
    NotSubscribers,
    /// It goes on sending to all of them.
    NotOfItself,
}

/// Limits that come from the size of a room's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub(super) turn: usize,
    pub(super) publish: u64,
    pub(super) backlog: u64,
    /// Most bytes of the log, as README tells.
    pub(super) bound: u64,
}

impl Setting {
    fn adjust(&self, limits: &mut Limits) {
        if let Some(log) = self.log {
            limits.turn = log.turn;
            limits.publish = log.publish;
            limits.backlog = log.backlog;
        }
        if self.clients == ClientsEnd::NotOfItself {
            // Output without end counts as one byte: with a limit of 0 no input would be read.
            limits.high_water += 1;
        }
    }
}

/// One run of a server.
pub(super) struct Run<S: CheckedService> {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) tick: Tick<S, SimNet>,
    start: Instant,
    /// Bytes that the service adds to the bound of shared output in memory.
    pub(super) slack: u64,
    /// Most bytes of the rest of a message, which a close puts into the outbox.
    pub(super) rest: usize,
    /// The bound of shared output in memory that README tells, if the limits come from the room.
    pub(super) documented: Option<u64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    /// True if it sends heartbeats.
    pub(super) heartbeats: bool,
    /// The tick before which the server is told to stop, whatever its clients do.
    stop_at: Option<usize>,
    /// The tick after which the server is made to end with its first client.
    last_client_at: usize,
    /// Times at which it began to stop, and at which its grace began, if it has one.
    pub(super) stopped: Option<Instant>,
    pub(super) grace: Option<Instant>,
    /// True once it was told to stop.
    told: bool,
    /// True once it was told a second time, which cuts off its clients.
    pub(super) cut: bool,
    /// Connections whose clients were closed as idle.
    pub(super) closed_as_idle: HashSet<usize>,
}

impl<S: CheckedService> Run<S> {
    /// A run with random limits, faults and clients. `script` makes the bytes that a client sends.
    pub(super) fn new(
        rng: &mut Rng,
        service: S,
        setting: Setting,
        script: impl Fn(&mut Rng) -> Vec<u8>,
    ) -> Self {
        let mut limits = random::limits(rng);
        setting.adjust(&mut limits);
        let odds = random::odds(rng);
        let mut kernel = Kernel::new(rng.fork(), odds);
        let start = kernel.now;
        let mut roles = vec![Role::Both];
        if rng.u8(..4) == 0 {
            roles.extend([Role::Publish, Role::Subscribe]);
        }
        kernel.listen(roles.len());
        kernel.has_stdin = setting.has_stdin;
        kernel.subscribe_listener = match setting.clients {
            ClientsEnd::All => None,
            ClientsEnd::NotSubscribers => Some(roles.len() - 1).filter(|&i| i > 0),
            ClientsEnd::NotOfItself => Some(0),
        };
        let mut actors = actors(rng, start, script);
        admit_all(&mut limits, &mut kernel.odds, &mut actors);
        let world = Rc::new(RefCell::new(World::new(kernel, actors)));
        let config = Config {
            idle_timeout: random::timeout(rng),
            write_timeout: random::timeout(rng),
            ..Config::default()
        };
        Self {
            tick: server(SimNet(Rc::clone(&world)), &roles, service, limits, &config),
            world,
            start,
            slack: setting.slack,
            rest: setting.rest,
            documented: setting.log.map(|log| log.bound),
            idle_timeout: config.idle_timeout,
            write_timeout: config.write_timeout,
            heartbeats: false,
            stop_at: match setting.clients {
                ClientsEnd::NotOfItself => Some(length(rng, 300)),
                _ => (rng.u8(..3) == 0).then(|| length(rng, 2000)),
            },
            last_client_at: length(rng, 2000) * rng.usize(1..20),
            stopped: None,
            grace: None,
            told: false,
            cut: false,
            closed_as_idle: HashSet::new(),
        }
    }

    pub(super) fn start_heartbeat(&mut self, every: Duration) {
        let text = HEARTBEAT.to_vec();
        self.tick.start_heartbeat(&Heartbeat { every, text });
        self.heartbeats = true;
    }

    /// Runs it until the server is done, then checks all that was sent.
    pub(super) fn go(mut self) {
        for tick in 0..MOST_TICKS {
            self.maybe_stop(tick);
            let (held, before) = (self.tick.clients.is_held(), self.tick.clients.admitted());
            let waiting = held || self.tick.clients.has_unpublished();
            let published = self.tick.clients.service().published();
            self.tick.tick().unwrap();
            let now = self.world.borrow().kernel.now;
            let judged_at = self.world.borrow().polled_at;
            self.check_timeouts(judged_at);
            self.check_idle_closes();
            let quiet = !waiting && self.tick.clients.service().published() == published;
            self.check_arrivals(judged_at, quiet);
            if tick == self.last_client_at
                && let Some(key) = self.tick.clients.keys().first()
            {
                self.tick.clients.stop_after(*key);
            }
            let admitted = self.tick.clients.admitted() - before;
            // A stop that begins after the hold has ended accepts once more.
            assert!(
                !held || admitted == 0 || self.tick.is_stopping(),
                "a client is admitted while the room is held up"
            );
            self.note_stop(now);
            self.check_bounds();
            self.check_wakes();
            if self.tick.is_done() {
                return self.check_end();
            }
        }
        panic!("the server does not come to an end");
    }

    /// Notes that the server has begun to stop by itself, because its last client has left.
    fn note_stop(&mut self, now: Instant) {
        if self.tick.is_stopping() && self.stopped.is_none() {
            self.stopped = Some(now);
            let limited = self.tick.clients.limits().patience.is_some();
            self.grace = self.stopped.filter(|_| limited);
        }
    }

    /// Stops the server: at its time, when all clients are finished, or when they cannot finish.
    fn maybe_stop(&mut self, tick: usize) {
        let mut world = self.world.borrow_mut();
        let over = world.actors.iter().all(Actor::is_finished);
        // With some kernels the server tries to accept again and again, and is never stuck.
        let time = (world.kernel.now - self.start).saturating_sub(world.stopped_for);
        let stuck = world.stuck || time > Duration::from_secs(3600);
        if stuck && !over && self.stopped.is_none() {
            self.dump(&world);
            let stopped = world.actors.iter().any(Actor::has_stopped);
            let lossless = self.tick.clients.limits().patience.is_none() && self.slack > 0;
            assert!(
                stopped && lossless,
                "the server sleeps, and clients are not finished"
            );
        }
        let due = over || stuck || self.stop_at == Some(tick);
        let again = self.stopped.is_some() && !self.cut && world.kernel.rng.u16(..500) == 0;
        if (due && self.stopped.is_none()) || again {
            world.kernel.stops = 1;
            self.cut = self.told;
            self.told = true;
            self.stopped.get_or_insert(world.kernel.now);
            self.grace = Some(world.kernel.now);
        }
        world.stuck = false;
    }

    /// Prints the state of the server and of each client, for the reader of a failed run.
    pub(super) fn dump(&self, world: &World) {
        let clients = &self.tick.clients;
        let (limits, kernel) = (clients.limits(), &world.kernel);
        let time = kernel.now - self.start;
        eprintln!("{limits:?}, {:?}, at {time:?}", kernel.odds);
        for actor in &world.actors {
            let conn = actor.conn().map(|id| kernel.conns[id].to_string());
            eprintln!("{actor}; {conn:?}");
        }
        for client in clients.iter() {
            let (connection, id) = (client.connection(), client.peer().id);
            let lag = connection.lag(clients.service());
            eprintln!("{id}: {connection:?}, lag {lag}");
        }
    }
}

/// Clients that arrive within 20 ms.
fn actors(rng: &mut Rng, start: Instant, script: impl Fn(&mut Rng) -> Vec<u8>) -> Vec<Actor> {
    let count = length(rng, 14) + 1;
    let mut actor = || {
        let arrival = start + Duration::from_micros(rng.u64(..20_000));
        let script = script(rng);
        Actor::new(Behaviour::random(rng), arrival, script)
    };
    (0..count).map(|_| actor()).collect()
}

/// Makes sure that every client is admitted in the end. Where there is no room for all at once, the
/// clients that never leave get room of their own, and the others leave without waiting.
fn admit_all(limits: &mut Limits, odds: &mut Odds, actors: &mut [Actor]) {
    if limits.max_clients.min(odds.descriptors) >= actors.len() {
        return;
    }
    let staying = actors.iter().filter(|a| a.behaviour.may_stop()).count();
    limits.max_clients += staying;
    odds.descriptors += staying;
    for actor in actors {
        actor.behaviour.ends_early = true;
    }
}
