//! The kernel and the remote ends.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::connection::{Connecting, Connection, History, Pipe};
use crate::net::{Event, Readiness};

/// The remote ends of all connections.
pub(crate) trait Remote {
    /// Takes one step, if there is one to take now; false if there is none.
    fn act(&mut self, world: &mut World) -> bool;

    /// The next time at which there will be a step without anything else happening.
    fn alarm(&self) -> Option<Instant> {
        None
    }
}

/// The stops of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stops {
    /// At most ten seconds, in which the remote ends do some of what they can.
    #[default]
    Short,
    /// The same, or up to three hours.
    Long,
    /// Up to three hours, in which the remote ends do all they can.
    Whole,
}

/// Odds of each fault, as one in a number of calls (0: never).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    /// A call is interrupted; a wait, too, unless it polls.
    pub(crate) interrupted: usize,
    /// A wait returns before its time, without an event.
    pub(crate) early: usize,
    /// The process is stopped for a while after a wait that could sleep.
    pub(crate) stopped: usize,
    pub(crate) stops: Stops,
    /// An event tells of input that isn't there.
    pub(crate) spurious: usize,
    /// A connection is refused; gets no answer, ever; finds a full accept queue.
    pub(crate) refused: usize,
    pub(crate) unanswered: usize,
    pub(crate) queue_full: usize,
    /// Events tell the whole state, as epoll does, and not only changes.
    pub(crate) whole_state: bool,
    /// Reads stop short though there is more.
    pub(crate) cuts_reads: bool,
    /// Longest time that connecting takes.
    pub(crate) connecting: Duration,
    /// Largest buffer of a direction, in bytes.
    pub(crate) buffer: usize,
    /// Smallest one; at least the largest datagram, where there are any.
    pub(crate) smallest_buffer: usize,
}

/// The kernel, its clock, and the remote ends.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) odds: Odds,
    /// The time for which the loop may poll without sleeping before something that is due.
    pub(crate) awake: Duration,
    /// The longest time that a poll takes.
    pub(crate) poll: Duration,
    /// Stops that the loop has yet to be told of.
    pub(crate) stops: usize,
    /// The loop sleeps for ever, and nothing will wake it.
    pub(crate) stuck: bool,
    /// A loop that sleeps for ever is told to stop.
    pub(crate) stops_stuck: bool,
    /// Calls of the loop since the last wait.
    pub(super) calls: usize,
    pub(super) connections: Vec<Connection>,
    remote: Option<Box<dyn Remote>>,
    /// Connections with an edge that was not told yet, in their order.
    pending: VecDeque<usize>,
    /// Waits in a row that didn't sleep and after which the loop did nothing; since when.
    idle_polls: usize,
    idle_since: Instant,
}

impl World {
    pub(crate) fn new(rng: Rng, odds: Odds, remote: Box<dyn Remote>) -> Self {
        let now = Instant::now();
        Self {
            rng,
            now,
            odds,
            awake: Duration::ZERO,
            poll: Duration::from_micros(2),
            stops: 0,
            stuck: false,
            stops_stuck: false,
            calls: 0,
            connections: Vec::new(),
            remote: Some(remote),
            pending: VecDeque::new(),
            idle_polls: 0,
            idle_since: now,
        }
    }

    /// Connections that the loop has not dropped.
    pub(crate) fn open(&self) -> usize {
        self.connections.iter().filter(|c| !c.dropped).count()
    }

    /// Opens a connection that is connected already, such as a standard stream.
    pub(crate) fn open_connected(&mut self) -> usize {
        self.add(Connecting::Connected)
    }

    /// Opens a regular file with this content for the loop to read.
    pub(crate) fn open_file(&mut self, content: &[u8]) -> usize {
        let id = self.open_connected();
        let file = &mut self.connections[id];
        file.is_file = true;
        file.to_loop.capacity = content.len();
        file.to_loop.data.extend(content);
        file.to_loop.ended = true;
        id
    }

    /// Makes every write to a connection fail.
    pub(crate) fn fail_writes(&mut self, id: usize, error: ErrorKind) {
        self.connections[id].write_error = Some(error);
    }

    pub(super) fn add(&mut self, connecting: Connecting) -> usize {
        let Odds {
            buffer,
            smallest_buffer,
            ..
        } = self.odds;
        let mut pipe = || Pipe {
            capacity: self
                .rng
                .usize(smallest_buffer..=buffer.max(smallest_buffer)),
            ..Pipe::default()
        };
        let (to_remote, to_loop) = (pipe(), pipe());
        self.connections.push(Connection {
            connecting,
            to_remote,
            to_loop,
            reset: false,
            closed: false,
            dropped: false,
            cut: false,
            key: None,
            edge: Readiness::default(),
            starved: false,
            is_file: false,
            write_error: None,
            history: History {
                begun: self.now,
                dropped: None,
                moved: None,
                end_read: None,
                bytes_read: 0,
            },
        });
        self.connections.len() - 1
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.rng.usize(..one_in) == 0
    }

    /// An outcome of connecting.
    pub(super) fn outcome(&mut self) -> Connecting {
        let odds = self.odds;
        if self.chance(odds.unanswered) {
            return Connecting::Pending(None);
        }
        let result = if self.chance(odds.refused) {
            Err(ErrorKind::ConnectionRefused)
        } else {
            Ok(())
        };
        let longest = u64::try_from(odds.connecting.as_nanos()).unwrap_or(u64::MAX);
        let time = Duration::from_nanos(self.rng.u64(..=longest));
        Connecting::Pending(Some((self.now + time, result)))
    }

    pub(super) fn raise(&mut self, id: usize, edge: Readiness) {
        let connection = &mut self.connections[id];
        if connection.key.is_none() || connection.dropped || connection.is_file {
            return;
        }
        if connection.edge == Readiness::default() {
            self.pending.push_back(id);
        }
        connection.edge.readable |= edge.readable;
        connection.edge.writable |= edge.writable;
        connection.edge.ending |= edge.ending;
    }

    /// Completes connecting where its time has come.
    fn complete(&mut self) {
        for id in 0..self.connections.len() {
            let connection = &mut self.connections[id];
            let Connecting::Pending(Some((at, result))) = connection.connecting else {
                continue;
            };
            if at <= self.now {
                connection.connecting = match result {
                    Ok(()) => Connecting::Connected,
                    Err(kind) => Connecting::Failed(kind),
                };
                let level = connection.level();
                self.raise(id, level);
            }
        }
    }

    /// Moves what was raised into `events`, except what is no longer true.
    fn collect(&mut self, events: &mut Vec<Event>) {
        self.complete();
        events.extend(std::iter::repeat_n(
            Event::Stop,
            std::mem::take(&mut self.stops),
        ));
        while let Some(id) = self.pending.pop_front() {
            let spurious = self.chance(self.odds.spurious);
            let whole = self.odds.whole_state;
            let connection = &mut self.connections[id];
            let edge = std::mem::take(&mut connection.edge);
            let level = connection.level();
            let told = Readiness {
                readable: (edge.readable || whole) && level.readable || spurious,
                writable: (edge.writable || whole) && level.writable,
                ending: (edge.ending || whole) && level.ending,
                hung_up: false,
            };
            if let (Some(key), false) = (connection.key, connection.dropped)
                && told != Readiness::default()
            {
                events.push(Event::Client(key, told));
            }
        }
        self.rng.shuffle(events);
    }

    /// One wait of the loop.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        self.check_idle_polls(timeout);
        let odds = self.odds;
        // A poll takes some time, too.
        self.now += self.poll.mul_f64(self.rng.f64().max(0.1));
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps && self.chance(odds.interrupted) {
            return;
        }
        let part = if self.chance(odds.early) {
            self.rng.f64()
        } else {
            1.0
        };
        // Cut only if early: the longest duration there is can't be multiplied.
        let timeout = timeout.map(|t| if part < 1.0 { t.mul_f64(part) } else { t });
        self.sleep(timeout, events);
        if sleeps && self.chance(odds.stopped) {
            let for_hours = match odds.stops {
                Stops::Short => false,
                Stops::Long => self.rng.bool(),
                Stops::Whole => true,
            };
            let longest = if for_hours { 10_000_000 } else { 10_000 };
            self.now += Duration::from_millis(self.rng.u64(..longest));
            if odds.stops == Stops::Whole {
                self.complete();
                while self.act() {}
                return;
            }
            for _ in 0..self.rng.usize(..10) {
                self.act();
            }
        }
    }

    /// Tells the readiness of a connection from now on, and that of now.
    pub(super) fn register(&mut self, id: usize, key: usize) {
        self.connections[id].key = Some(key);
        let level = self.connections[id].level();
        self.raise(id, level);
    }

    fn check_idle_polls(&mut self, timeout: Option<Duration>) {
        if std::mem::take(&mut self.calls) > 0 {
            self.idle_polls = 0;
        }
        if timeout != Some(Duration::ZERO) {
            self.idle_polls = 0;
            return;
        }
        if self.idle_polls == 0 {
            self.idle_since = self.now;
        }
        self.idle_polls += 1;
        let time = self.now - self.idle_since;
        assert!(
            self.idle_polls <= 3 || time <= self.awake,
            "the loop polls without sleeping and does nothing for {time:?}"
        );
    }

    /// Lets the remote ends act until something has happened or `timeout` has passed.
    fn sleep(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        let deadline = timeout.and_then(|timeout| self.now.checked_add(timeout));
        loop {
            self.complete();
            for _ in 0..self.rng.usize(..4) {
                self.act();
            }
            self.collect(events);
            if !events.is_empty() || deadline.is_some_and(|deadline| self.now >= deadline) {
                return;
            }
            if self.act() {
                self.now += Duration::from_micros(self.rng.u64(..100));
                continue;
            }
            let alarm = self.remote.as_ref().and_then(|remote| remote.alarm());
            let outcomes = self.connections.iter().filter_map(|c| match c.connecting {
                Connecting::Pending(Some((at, _))) if !c.dropped => Some(at),
                _ => None,
            });
            let Some(next) = outcomes.chain(alarm).chain(deadline).min() else {
                self.stuck = true;
                if self.stops_stuck {
                    events.push(Event::Stop);
                }
                return;
            };
            self.now = next.max(self.now);
        }
    }

    fn act(&mut self) -> bool {
        let Some(mut remote) = self.remote.take() else {
            return false;
        };
        let acted = remote.act(self);
        self.remote = Some(remote);
        acted
    }
}
