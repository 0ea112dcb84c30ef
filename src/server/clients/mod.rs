//! The clients of a server: the service, the table, and every list that a client can be in.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Clients`]: admitting a client, touching it, and the lists that a touch settles |
//! | `passes.rs` | passes over many clients: flush, read, publish, reap |
//! | `ending.rs` | ends of clients: deadlines, and the stop of the server |
//! | `client.rs` | [`Client`]: an entry of the table |
//! | `waiting.rs`, `timeouts.rs` | lists with deadlines |
//!
//! A phase of the tick changes a connection through [`Clients::touch`], or through a method of
//! [`Clients`]. Both settle the lists afterwards, so a phase cannot forget to.

mod client;
mod ending;
mod fault;
mod holds;
mod passes;
mod patience;
#[cfg(test)]
mod tests;
mod timeouts;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use log::{Level, log_enabled};
use slab::Slab;

use super::limits::Limits;
use super::throttle::LogThrottle;
use crate::bytes::aligned::Aligned;
use crate::close::Stats;
use crate::config::Config;
use crate::connection::Connection;
use crate::net::address::{Address, Role};
use crate::net::{Net, Readiness, Stream};
use crate::peer::Peer;
use crate::service::{Needs, Service};
use crate::text::template::TemplateRenderer;
pub(super) use client::Client;
use client::Wait;
use holds::Holds;
pub(super) use passes::Reaped;
use timeouts::{Output, Timeouts};
#[cfg(test)]
pub(super) use waiting::SILENCE;
use waiting::Waiting;

/// The clients of a server over streams `T`, and the service that they share.
///
/// Invariants: a client that could be read without a further event is in the turn queue, and one
/// that has had its share of output is in the list of flushes. A key is removed from all lists
/// when its client is removed from the table.
pub(super) struct Clients<S: Service, T> {
    service: S,
    needs: Needs,
    table: Slab<Client<T, S>>,
    limits: Limits,
    /// The text that a client is sent first.
    greeting: Option<TemplateRenderer>,
    /// Every turn reads into this.
    buffer: Aligned,
    /// Clients that could be read, in the order of their turns.
    turns: VecDeque<usize>,
    /// Clients that have no turn while the room is held up, in the order of their turns: their keys
    /// and numbers. A client that is closed or closing may be in it still.
    parked: VecDeque<(usize, u64)>,
    /// Clients that are written to in the next tick.
    flushes: Vec<usize>,
    /// Clients that are removed at the end of the tick.
    closed: Vec<usize>,
    /// True once a client whose close stops the server has exchanged a byte.
    used_final: bool,
    /// Clients too far behind: while there are any, no client is read.
    holds: Holds,
    /// Clients on their way out.
    lingering: Waiting,
    timeouts: Timeouts,
    probe_log: LogThrottle,
    /// Position in the shared output up to which every client was written to.
    flushed_to: u64,
    /// True once no client is served any more: the server stops.
    draining: bool,
    stats: Stats,
}

impl<S: Service, T: Stream> Clients<S, T> {
    /// No clients yet.
    pub(super) fn new(service: S, config: &Config, limits: Limits, now: Instant) -> Self {
        let needs = service.needs();
        Self {
            needs,
            table: Slab::new(),
            greeting: config.greeting.clone().map(TemplateRenderer::new),
            holds: Holds::new(limits.patience),
            buffer: Aligned::zeroed(limits.turn.min(needs.most_input).max(1)),
            lingering: Waiting::new(limits.linger),
            limits,
            turns: VecDeque::new(),
            parked: VecDeque::new(),
            flushes: Vec::new(),
            closed: Vec::new(),
            used_final: false,
            timeouts: Timeouts::new(
                config.idle_timeout,
                config.write_timeout,
                needs.partial_timeout,
                now,
            ),
            probe_log: LogThrottle::default(),
            flushed_to: service.published(),
            draining: false,
            stats: Stats::default(),
            service,
        }
    }

    /// Sets the time for the timeouts, the service and the greeting. A clock is read only for those
    /// that need it.
    pub(super) fn set_time(&mut self, net: &impl Net) {
        if self.timeouts.are_on() || self.timeouts.limit_partials() {
            self.timeouts.set_time(net.now());
        }
        if self.needs.time {
            self.service.set_time(net.time_of_day());
        }
        if let Some(greeting) = &mut self.greeting
            && greeting.template().wants_time()
        {
            greeting.set_time(net.time_of_day());
        }
    }

    /// Admits a client that was accepted at the address `local`. Returns its key, under which its
    /// stream is registered with the kernel.
    ///
    /// # Errors
    /// If the stream can't be registered. The client's address is returned with the error.
    pub(super) fn open<N: Net<Stream = T>>(
        &mut self,
        net: &mut N,
        mut stream: T,
        address: Address,
        role: Role,
        local: &Address,
    ) -> Result<usize, (Address, io::Error)> {
        let entry = self.table.vacant_entry();
        let key = entry.key();
        if let Err(e) = net.register(&mut stream, key) {
            return Err((address, e));
        }
        self.stats.clients += 1;
        let peer = Peer {
            id: self.stats.clients,
            address: &address,
            local,
            role,
        };
        let greeting = self.greeting.as_mut().filter(|_| peer.is_greeted());
        let greeting = greeting.map_or(&[][..], |greeting| {
            let recipient = greeting.save(&peer);
            greeting.render(recipient.get())
        });
        let now = net.now();
        let mut connection = Connection::open(stream, &mut self.service, &peer, greeting);
        let logged = log_enabled!(Level::Debug);
        if peer.is_announced() && (self.needs.arrivals || logged) {
            connection.await_arrival();
        }
        let newcomer = connection.is_newcomer();
        let client = entry.insert(Client::new(connection, &peer, now));
        if newcomer {
            self.timeouts.note_newcomer(key, now);
        }
        if !newcomer || log_enabled!(Level::Trace) {
            client.log_connected();
        }
        // A replay. A greeting may have filled the stream: then no event says that it is writable.
        if client.connection.wants_flush(&self.service) {
            client.flushing = true;
            self.flushes.push(key);
        }
        self.settle(key);
        Ok(key)
    }

    /// The only way from a phase to a connection: lets `act` work on it, then settles every list
    /// that the client may have to be in.
    pub(super) fn touch<R: Default>(
        &mut self,
        key: usize,
        act: impl FnOnce(&mut Connection<T, S>, &mut S) -> R,
    ) -> R {
        if !self.is_known(key) {
            return R::default();
        }
        let result = act(&mut self.table[key].connection, &mut self.service);
        self.settle(key);
        result
    }

    /// True if there is a client with this key, which a list has named.
    ///
    /// A list that names a client which has left is a fault of this program. Tests fail by it; a
    /// server says so, forgets the key, and goes on serving the others.
    #[inline]
    fn is_known(&mut self, key: usize) -> bool {
        self.table.contains(key) || self.forget_unknown(key)
    }

    #[cold]
    fn forget_unknown(&mut self, key: usize) -> bool {
        fault::report(format_args!(
            "client key {key} is in a list, and not in the table"
        ));
        self.timeouts.forget(key);
        self.holds.retain(|held| held != key);
        self.holds.forget(key);
        self.lingering.remove(key);
        false
    }

    /// Puts a client into the lists that the last touch made it a member of: timeouts, turns,
    /// flushes, lingering, closed.
    #[inline]
    fn settle(&mut self, key: usize) {
        if self.timeouts.are_on() {
            self.note_activity(key);
        }
        let client = &mut self.table[key];
        if client.stops_server {
            self.used_final = self.used_final || client.is_used(self.needs.arrivals);
        }
        let connection = &client.connection;
        if connection.is_closed() {
            self.closed.push(key);
            return;
        }
        let queued = client.is_queued();
        if !queued && connection.wants_turn(&self.service, self.limits.high_water) {
            client.wait = Wait::Turns;
            self.turns.push_back(key);
        }
        if !client.flushing && connection.has_more() {
            client.flushing = true;
            self.flushes.push(key);
        }
        client.skipped = client.skipped && connection.lag(&self.service) > 0;
        if !connection.is_serving() {
            self.settle_leaving(key);
        }
    }

    /// Puts a client that is not served any more into the lists that differ for it: it has turns also
    /// while the room is held up, and lingers once its close has begun.
    fn settle_leaving(&mut self, key: usize) {
        let client = &mut self.table[key];
        if client.wait == Wait::Parked {
            client.wait = Wait::Turns;
            self.turns.push_back(key);
        }
        if client.lingering {
            self.lingering.touch(key);
        } else if client.connection.closing().is_some() {
            self.begin_lingering(key);
        }
    }

    /// Notes that a client may have arrived.
    fn note_arrival(&mut self, key: usize) {
        if self.table[key].connection.is_newcomer() {
            return;
        }
        self.timeouts.note_arrival(key);
        if !log_enabled!(Level::Trace) {
            self.table[key].log_connected();
        }
    }

    /// Notes if a client that has sent something, by which messages were `published`, waits with the
    /// beginning of another one.
    fn note_partial(&mut self, key: usize, published: bool) {
        if self.timeouts.limit_partials() {
            let session = self.table[key].connection.session();
            let waits = session.is_some_and(|session| self.service.has_partial(session));
            self.timeouts.note_partial(key, waits, published);
        }
    }

    fn note_activity(&mut self, key: usize) {
        let client = &mut self.table[key];
        let (connection, peer) = client.split();
        let activity = connection.take_activity();
        // A client on its way out has a deadline of its own.
        let leaving = connection.is_closed() || connection.closing().is_some();
        if leaving || !peer.is_timed() {
            return self.timeouts.forget(key);
        }
        let output = Output {
            stuck: connection.is_stuck(&self.service),
            writable: connection.is_writable(),
        };
        self.timeouts.note(key, activity, output);
    }

    fn begin_lingering(&mut self, key: usize) {
        let client = &mut self.table[key];
        client.lingering = true;
        if let Some(reason) = client.connection.closing() {
            client.log_closing(reason);
        }
        let traffic = client.connection.traffic();
        self.lingering.add(key, traffic);
    }

    /// Remembers the readiness of a client's stream. False if there is no such client.
    pub(super) fn latch(&mut self, key: usize, ready: Readiness) -> bool {
        let Some(client) = self.table.get_mut(key) else {
            return false;
        };
        client.connection.latch(ready);
        if ready.readable && !client.is_queued() {
            client.wait = Wait::Turns;
            self.turns.push_back(key);
        }
        let flush = ready.writable && client.connection.wants_flush(&self.service);
        if flush && !client.flushing {
            client.flushing = true;
            self.flushes.push(key);
        }
        true
    }

    /// Makes the server stop when this client is closed.
    pub(super) fn stop_after(&mut self, key: usize) {
        self.table[key].stops_server = true;
        self.settle(key);
    }

    /// True once a client whose close stops the server has exchanged a byte.
    pub(super) fn has_used_final(&self) -> bool {
        self.used_final
    }

    /// Makes room for one client more than the limit, for a standard stream.
    pub(super) fn reserve_one(&mut self) {
        self.limits.max_clients = self.limits.max_clients.saturating_add(1);
    }

    /// Counts the heartbeat checks in a row, this one included, in which a client could have been
    /// sent something but was not. Always 0 for a client that gets no heartbeats.
    pub(super) fn count_silence(&mut self, key: usize) -> u8 {
        let client = &mut self.table[key];
        let silent = client.connection.was_silent(&self.service);
        let (_, peer) = client.split();
        let applies = peer.listens() && peer.is_timed();
        client.silence = if silent && applies {
            client.silence + 1
        } else {
            0
        };
        client.silence
    }

    /// Counts the silence of a client from now on, after a heartbeat was sent to it.
    pub(super) fn restart_silence(&mut self, key: usize) {
        let client = &mut self.table[key];
        client.connection.was_silent(&self.service);
        client.silence = 1;
    }

    /// The service.
    pub(super) fn service(&self) -> &S {
        &self.service
    }

    /// The service, for events that belong to no client.
    pub(super) fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// True if no further client may be admitted.
    pub(super) fn is_full(&self) -> bool {
        self.table.len() >= self.limits.max_clients
    }

    /// True while a client holds up the room: no client is read or admitted.
    pub(super) fn is_held(&self) -> bool {
        !self.holds.is_empty()
    }

    /// A client that holds up the room.
    pub(super) fn holder(&self) -> Option<&Client<T, S>> {
        Some(&self.table[self.holds.keys().next()?])
    }

    /// True if bytes were published since the last [`publish`](Self::publish). The close of a client
    /// may publish a notice.
    pub(super) fn has_unpublished(&self) -> bool {
        self.service.published() != self.flushed_to
    }

    /// True if the share of a tick is not used up by what was published since the last
    /// [`publish`](Self::publish): memory is bounded by it.
    fn may_publish(&self) -> bool {
        self.service.published() - self.flushed_to < self.limits.publish
    }

    /// True if a tick has work without any event: a turn, a flush, a publication, a removal.
    pub(super) fn has_work(&self) -> bool {
        let turns = self.has_turns();
        let lists = !self.flushes.is_empty() || !self.closed.is_empty();
        turns || lists || self.has_unpublished()
    }

    /// Number of clients admitted so far.
    #[cfg(test)]
    pub(super) fn admitted(&self) -> u64 {
        self.stats.clients
    }

    /// True if no list remembers a client.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let turns = self.turns.is_empty() && self.parked.is_empty();
        let queues = turns && self.flushes.is_empty() && self.closed.is_empty();
        let waits = self.holds.is_empty() && self.lingering.is_empty();
        self.table.is_empty() && queues && waits && self.timeouts.next().is_none()
    }

    /// True if a client is to be removed.
    #[cfg(test)]
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// True if the service or the greeting needs the exact local address of each client.
    pub(super) fn wants_local_address(&self) -> bool {
        let greeting = self.greeting.as_ref();
        let greeting = greeting.is_some_and(|greeting| greeting.template().wants_local());
        self.needs.local_address || greeting
    }

    /// A copy of all keys, for a walk that touches the clients.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.table.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn get(&self, key: usize) -> &Client<T, S> {
        &self.table[key]
    }

    /// All clients, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client<T, S>> {
        self.table.iter().map(|(_, client)| client)
    }

    /// The key of the client with this number.
    pub(super) fn find(&self, id: u64) -> Option<usize> {
        let mut clients = self.table.iter();
        let found = clients.find(|(_, client)| client.peer().id == id);
        found.map(|(key, _)| key)
    }

    /// Counters of all clients so far, the present ones included.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        for client in self.iter() {
            let (received, sent) = client.connection.traffic();
            stats.bytes_in += received;
            stats.bytes_out += sent;
        }
        if let Some(traffic) = self.service.traffic() {
            stats.messages = traffic.messages;
            stats.missed = traffic.missed;
            stats.undelivered = traffic.undelivered;
            stats.incomplete = traffic.incomplete;
            let sessions = self.iter().filter_map(|client| client.connection.session());
            let owed = sessions.map(|session| self.service.balance(session).owed);
            stats.deliveries = traffic.promised - owed.sum::<u64>();
        }
        stats
    }
}
