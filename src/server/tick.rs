//! The tick: one pass of the event loop.
//!
//! Events only latch readiness; the work is done afterwards, in phases, at our own pace. Clients
//! are removed in the last phase only, so a slab key means the same client all through a tick.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use log::{debug, info, trace, warn};
use slab::Slab;

use super::accept::Acceptor;
use super::deadline::{Holding, Lingering, remaining};
use crate::address::Address;
use crate::aligned::Aligned;
use crate::close::{CloseReason, Stats, plural};
use crate::config::Config;
use crate::connection::Connection;
use crate::net::{Event, Net};
use crate::service::{Peer, Service};

/// What bounds a tick and a client.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Bytes read from a client in one turn: the size of the read buffer.
    pub(super) turn: usize,
    /// Bytes published in one tick, after which the turns of the others come in the next one.
    pub(super) publish: u64,
    /// A client further behind the shared output than this holds up the room.
    pub(super) backlog: u64,
    pub(super) max_clients: usize,
    pub(super) high_water: u64,
    pub(super) patience: Option<Duration>,
    pub(super) grace: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            // Larger reads make a bulk stream cheaper; beyond this they outgrow the cache.
            turn: 256 * 1024,
            publish: 1024 * 1024,
            backlog: 2 * 1024 * 1024,
            max_clients: config.max_clients.unwrap_or(usize::MAX),
            high_water: config.high_water,
            patience: config.patience,
            grace: config.grace,
        }
    }
}

/// A connection and what the tick keeps beside it.
pub(super) struct Client<T, S> {
    pub(super) connection: Connection<T, S>,
    id: u64,
    address: Address,
    opened: Instant,
    /// It is in the turn queue.
    pub(super) queued: bool,
    /// It holds up the room.
    pub(super) holding: bool,
    /// Its time to part is being counted.
    pub(super) lingering: bool,
}

impl<T, S> Client<T, S> {
    /// What a user should hear of, even without asking for every client's end.
    fn warn(&self, reason: CloseReason) {
        let Self { id, address, .. } = self;
        match reason {
            CloseReason::SlowConsumer => {
                warn!("client {id} ({address}) is a slow consumer: closing it");
            }
            CloseReason::MessageTooLong => {
                warn!("client {id} ({address}) sent a message that is too long: closing it");
            }
            _ => {}
        }
    }
}

/// Whether the server is stopping, and how far that has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    No,
    /// This many turns are left until everybody has had the last one.
    LastTurns(usize),
    /// Nobody is served any more; what is pending goes out.
    Draining,
}

/// The state of the loop, over a kernel `N`.
pub(super) struct Tick<S: Service, N: Net> {
    pub(super) net: N,
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) clients: Slab<Client<N::Stream, S::Session>>,
    pub(super) acceptor: Acceptor,
    events: Vec<Event>,
    /// Every turn reads into this.
    buffer: Aligned,
    /// Clients that could be read, in the order of their turns.
    turns: VecDeque<usize>,
    /// Clients whose streams take output again.
    writable: Vec<usize>,
    /// Clients to be removed at the end of the tick.
    gone: Vec<usize>,
    /// How much of the shared output was offered to everybody.
    offered: u64,
    /// Clients too far behind: while there are any, nobody is read.
    pub(super) holding: Vec<Holding>,
    /// Clients on their way out.
    pub(super) lingering: Vec<Lingering>,
    pub(super) stop: Stop,
    /// When a stopping server ends, whatever is pending; never if none.
    grace: Option<Instant>,
    stats: Stats,
}

impl<S: Service, N: Net> Tick<S, N> {
    pub(super) fn new(net: N, listeners: usize, service: S, limits: Limits) -> Self {
        Self {
            net,
            buffer: Aligned::zeroed(limits.turn),
            offered: service.published(),
            service,
            limits,
            clients: Slab::new(),
            acceptor: Acceptor::new(listeners),
            events: Vec::new(),
            turns: VecDeque::new(),
            writable: Vec::new(),
            gone: Vec::new(),
            holding: Vec::new(),
            lingering: Vec::new(),
            stop: Stop::No,
            grace: None,
            stats: Stats::default(),
        }
    }

    /// One pass of the loop.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.wait()?;
        self.accept();
        // Before reading: what goes out makes room for what comes in.
        self.flush();
        self.read();
        self.publish();
        self.expire();
        self.reap();
        trace!(
            "{} events, {} clients, {} of them to be read",
            self.events.len(),
            self.clients.len(),
            self.turns.len()
        );
        Ok(())
    }

    /// Sleeps until something happens, unless somebody could progress; events only latch.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.net.wait(timeout, &mut events)?;
        for &event in &events {
            match event {
                Event::Client(key, ready) => {
                    let Some(client) = self.clients.get_mut(key) else {
                        continue;
                    };
                    client.connection.latch(ready);
                    if ready.readable && !client.queued {
                        client.queued = true;
                        self.turns.push_back(key);
                    }
                    if ready.writable && client.connection.wants_flush(&self.service) {
                        self.writable.push(key);
                    }
                }
                Event::Listener(listener) => self.acceptor.latch(listener),
                Event::Stop => self.begin_stop(),
            }
        }
        self.events = events;
        Ok(())
    }

    /// How long the next wait may sleep.
    fn timeout(&self) -> Option<Duration> {
        let held = !self.holding.is_empty();
        if (!self.turns.is_empty() && !held) || self.can_accept() {
            return Some(Duration::ZERO);
        }
        let next = [
            self.grace,
            self.next_deadline(),
            self.acceptor.resting_until(),
        ];
        let next = next.into_iter().flatten().min()?;
        Some(remaining(next, self.net.now()))
    }

    /// Takes in a new client; its key is known to the kernel from here on.
    pub(super) fn open(&mut self, mut stream: N::Stream, address: Address) {
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        if let Err(e) = self.net.register(&mut stream, key) {
            return self.warn_now_and_then(|| format!("cannot serve {address}: {e}"));
        }
        self.stats.clients += 1;
        let id = self.stats.clients;
        debug!("client {id} ({address}) connected");
        let peer = Peer {
            id,
            address: &address,
        };
        let connection = Connection::open(stream, &mut self.service, &peer);
        entry.insert(Client {
            connection,
            id,
            address,
            opened: self.net.now(),
            queued: false,
            holding: false,
            lingering: false,
        });
        self.after(key);
    }

    /// Writes to those whose streams take output again.
    fn flush(&mut self) {
        let mut writable = std::mem::take(&mut self.writable);
        for key in writable.drain(..) {
            self.clients[key].connection.flush(&mut self.service);
            self.after(key);
        }
        self.writable = writable;
    }

    /// Gives each client in the queue one turn. While the room is held up, only those whose
    /// input is discarded anyway have theirs.
    fn read(&mut self) {
        let held = !self.holding.is_empty();
        let start = self.service.published();
        for _ in 0..self.turns.len() {
            if self.service.published() - start >= self.limits.publish {
                break;
            }
            let key = self.turns.pop_front().expect("there are as many");
            let client = &mut self.clients[key];
            if held && client.connection.is_serving() {
                self.turns.push_back(key);
                continue;
            }
            client.queued = false;
            let connection = &mut client.connection;
            connection.turn(
                &mut self.service,
                self.buffer.bytes_mut(),
                self.limits.high_water,
            );
            if connection.waiting() > 0 && connection.wants_flush(&self.service) {
                connection.flush(&mut self.service);
            }
            self.after(key);
            self.count_last_turn();
        }
        // There may be no more last turns: the others have left before theirs, or can't be read.
        if (self.turns.is_empty() || held) && matches!(self.stop, Stop::LastTurns(..)) {
            self.drain_all();
        }
    }

    /// Offers what was published to everybody, each in one go.
    fn publish(&mut self) {
        let published = self.service.published();
        if published == self.offered {
            return;
        }
        self.offered = published;
        let high_water = self.limits.high_water;
        let mut special = Vec::new();
        for (key, client) in &mut self.clients {
            let connection = &mut client.connection;
            if connection.wants_flush(&self.service) {
                connection.flush(&mut self.service);
            }
            let late = connection.lag(&self.service) > self.limits.backlog;
            // What it was sent may have brought it below the high-water mark again.
            let again = !client.queued && connection.wants_turn(&self.service, high_water);
            if late || again || !connection.is_serving() {
                special.push(key);
            }
        }
        for key in special {
            self.hold(key);
            self.after(key);
        }
    }

    /// What every touch of a connection may have led to: another turn, parting, its end.
    pub(super) fn after(&mut self, key: usize) {
        let client = &mut self.clients[key];
        let connection = &client.connection;
        if connection.is_closed() {
            self.gone.push(key);
            return;
        }
        if !client.queued && connection.wants_turn(&self.service, self.limits.high_water) {
            client.queued = true;
            self.turns.push_back(key);
        }
        if let Some(reason) = connection.is_parting()
            && !client.lingering
        {
            client.lingering = true;
            client.warn(reason);
            let lingering = Lingering::new(key, self.net.now(), connection.traffic());
            self.lingering.push(lingering);
        }
    }

    /// Removes the clients that are closed. From here on their keys may be used again.
    fn reap(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.gone);
        self.forget_closed();
        for key in gone.drain(..) {
            let Some(client) = self.clients.get_mut(key) else {
                continue; // named twice
            };
            let Some(reason) = client.connection.finish(&mut self.service) else {
                continue;
            };
            let client = self.clients.remove(key);
            if !client.lingering {
                client.warn(reason);
            }
            let (received, sent) = client.connection.traffic();
            self.stats.count(reason, received, sent);
            let Client { id, address, .. } = client;
            if log::log_enabled!(log::Level::Debug) {
                let age = self.net.now().duration_since(client.opened);
                debug!(
                    "client {id} ({address}) left after {:.3}s: {received} bytes in, {sent} bytes out, {reason}",
                    age.as_secs_f64()
                );
            }
        }
        self.gone = gone;
        self.acceptor.wake();
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Takes those who are about to be removed out of every list but `gone`.
    fn forget_closed(&mut self) {
        let clients = &self.clients;
        let stays = |key: usize| !clients[key].connection.is_closed();
        self.turns.retain(|&key| stays(key));
        self.holding.retain(|h| stays(h.key));
        self.lingering.retain(|l| stays(l.key));
    }
}

/// Stopping.
impl<S: Service, N: Net> Tick<S, N> {
    /// The first time: no more clients, and a last turn for each, so that what had arrived
    /// is answered. The second time: the end.
    fn begin_stop(&mut self) {
        if !matches!(self.stop, Stop::No) {
            return self.abort_all();
        }
        info!("stopping");
        self.net.close_listeners();
        self.acceptor.close();
        for (key, client) in &mut self.clients {
            client.connection.expect_input();
            if !client.queued {
                client.queued = true;
                self.turns.push_back(key);
            }
        }
        self.grace = self.net.now().checked_add(self.limits.grace);
        self.stop = Stop::LastTurns(self.turns.len());
        if self.turns.is_empty() {
            self.drain_all();
        }
    }

    /// One client has had its turn; after everybody's last one nobody is served any more.
    fn count_last_turn(&mut self) {
        if let Stop::LastTurns(left) = self.stop {
            self.stop = Stop::LastTurns(left - 1);
            if left == 1 {
                self.drain_all();
            }
        }
    }

    /// Takes no more input from anybody. There is nothing left to hold up, and only the grace
    /// limits how long the slow ones take.
    fn drain_all(&mut self) {
        self.stop = Stop::Draining;
        for holding in self.holding.drain(..) {
            self.clients[holding.key].holding = false;
        }
        let keys: Vec<usize> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &mut self.clients[key].connection;
            connection.drain(&mut self.service, CloseReason::Shutdown);
            self.after(key);
        }
    }

    /// Closes every client at once.
    fn abort_all(&mut self) {
        for (key, client) in &mut self.clients {
            client.connection.abort(CloseReason::Shutdown);
            self.gone.push(key);
        }
    }

    /// Ends the drain when its time is over.
    pub(super) fn expire_grace(&mut self, now: Instant) {
        let over = self.grace.is_some_and(|grace| now >= grace);
        if over && !self.clients.is_empty() {
            let left = plural(self.clients.len() as u64, "client");
            warn!("the grace is over: closing {left} with something pending");
            self.abort_all();
        }
    }

    /// Whether the server was stopped and has nobody left.
    pub(super) fn is_done(&self) -> bool {
        !matches!(self.stop, Stop::No) && self.clients.is_empty()
    }

    /// Whether nothing is remembered of any client.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.clients.is_empty()
            && self.turns.is_empty()
            && self.writable.is_empty()
            && self.gone.is_empty()
            && self.holding.is_empty()
            && self.lingering.is_empty()
    }

    pub(super) fn is_stopping(&self) -> bool {
        !matches!(self.stop, Stop::No)
    }

    pub(super) fn into_stats(self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Socket;
    use crate::service::{Broadcast, Echo};

    /// What an idle client costs: its entry in the slab, which is as large as an `Option`.
    fn entry<S: Service>() -> usize {
        size_of::<Option<Client<Socket, S::Session>>>()
    }

    #[test]
    fn an_idle_client_is_small() {
        assert!(entry::<Echo>() <= 160, "{}", entry::<Echo>());
        assert!(entry::<Broadcast>() <= 240, "{}", entry::<Broadcast>());
    }
}
