//! The tick: one pass of the event loop.
//!
//! Events only latch readiness; the work is done afterwards, in phases, at our own pace. Clients
//! are removed in the last phase only, so a slab key means the same client all through a tick.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use log::{debug, info, trace, warn};
use slab::Slab;

use super::accept::{Acceptor, Door};
use super::console::Console;
use super::datagrams::Mail;
use super::deadline::{Holding, LINGER, Lingering, remaining};
use super::heartbeat::Heart;
use super::stop::Stop;
use super::timeouts::Timeouts;
use crate::bytes::aligned::Aligned;
use crate::close::{CloseReason, Stats};
use crate::config::{Config, SlowConsumer};
use crate::connection::Connection;
use crate::net::FOREVER;
use crate::net::address::{Address, Role};
use crate::net::{Event, Net};
use crate::peer::Peer;
use crate::service::{MOST_INPUT, Service};
use crate::text::template::TemplateRenderer;

/// Bytes read from a client in one turn if somebody is shown what it sends.
const SHOWN: usize = 16 * 1024;

/// What bounds a tick and a client.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Bytes read from a client in one turn, or published by it.
    pub(super) turn: usize,
    /// Bytes published in one tick, after which the turns of the others come in the next one.
    pub(super) publish: u64,
    /// A client further behind the shared output than this holds up the room.
    pub(super) backlog: u64,
    pub(super) max_clients: usize,
    pub(super) high_water: u64,
    pub(super) patience: Option<Duration>,
    pub(super) slow_consumer: SlowConsumer,
    pub(super) grace: Duration,
    /// How long a client that is being closed may take.
    pub(super) linger: Duration,
    /// It stops by itself after one client.
    pub(super) once: bool,
}

impl Limits {
    /// Those that a configuration makes for a service.
    pub(super) fn new(config: &Config, service: &impl Service) -> Self {
        Self {
            turn: MOST_INPUT,
            publish: service.needs().capacity / 4,
            backlog: service.needs().capacity / 2,
            max_clients: config.max_clients.unwrap_or(usize::MAX),
            high_water: config.high_water,
            patience: config.patience,
            slow_consumer: config.slow_consumer,
            grace: config.grace,
            // Beyond this a deadline means nothing, and clocks overflow.
            linger: config
                .sockets
                .linger
                .map_or(LINGER, |linger| linger.min(FOREVER)),
            once: config.once,
        }
    }
}

/// A connection and what the tick keeps beside it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "in which lists it is, in any combination"
)]
pub(super) struct Client<T, S: Service> {
    pub(super) connection: Connection<T, S>,
    pub(super) id: u64,
    pub(super) address: Address,
    pub(super) opened: Instant,
    pub(super) role: Role,
    /// It is in the turn queue, and among those to be written to.
    pub(super) queued: bool,
    pub(super) flushing: bool,
    /// It holds up the room.
    pub(super) holding: bool,
    /// It was made to skip, and nobody waits for it again before it has caught up.
    pub(super) spent: bool,
    /// Its time to part is being counted.
    pub(super) lingering: bool,
    /// The server stops when it is gone.
    pub(super) last: bool,
    /// How often in a row the heart has found that it was sent nothing.
    pub(super) silence: u8,
}

impl<T, S: Service> Client<T, S> {
    /// What a user should hear of, even without asking for every client's end.
    fn warn(&self, reason: CloseReason) {
        let Self { id, address, .. } = self;
        match reason {
            CloseReason::SlowConsumer => {
                warn!("client {id} ({address}) is a slow consumer: closing it");
            }
            CloseReason::Kicked => info!("client {id} ({address}) is kicked"),
            CloseReason::Error(kind) if address.is_stdio() => {
                warn!("{address} has failed ({kind}): it is used no more");
            }
            CloseReason::Reset if address.is_stdio() => info!("{address} is read no more"),
            CloseReason::MessageTooLong => {
                warn!(
                    "client {id} ({address}) sent a message longer than max-message allows: closing it"
                );
            }
            CloseReason::Stalled => {
                warn!("client {id} ({address}) doesn't take what it is sent: closing it");
            }
            _ => {}
        }
    }
}

/// The state of the loop, over a kernel `N`.
pub(super) struct Tick<S: Service, N: Net> {
    pub(super) net: N,
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) clients: Slab<Client<N::Stream, S>>,
    pub(super) acceptor: Acceptor,
    pub(super) console: Option<Console<N::Stream>>,
    pub(super) heart: Option<Heart>,
    pub(super) mail: Mail,
    pub(super) timeouts: Timeouts,
    /// What newcomers are sent first.
    pub(super) greeting: Option<TemplateRenderer>,
    events: Vec<Event>,
    /// Every turn reads into this.
    buffer: Aligned,
    /// Clients that could be read, in the order of their turns.
    pub(super) turns: VecDeque<usize>,
    /// Clients whose streams take output again.
    pub(super) writable: Vec<usize>,
    /// Clients to be removed at the end of the tick.
    pub(super) gone: Vec<usize>,
    /// How much of the shared output was offered to everybody.
    offered: u64,
    /// Clients too far behind: while there are any, nobody is read.
    pub(super) holding: Vec<Holding>,
    /// Clients on their way out.
    pub(super) lingering: Vec<Lingering>,
    pub(super) stop: Stop,
    /// Somebody has asked for the stop.
    pub(super) asked: bool,
    /// When a stopping server ends, whatever is pending; never if none.
    pub(super) grace: Option<Instant>,
    pub(super) stats: Stats,
}

impl<S: Service, N: Net> Tick<S, N> {
    /// A loop over listeners and sockets for datagrams.
    pub(super) fn new(
        net: N,
        doors: Vec<Door>,
        mailboxes: &[Address],
        service: S,
        config: &Config,
    ) -> Self {
        let limits = Limits::new(config, &service);
        Self {
            mail: Mail::new(config, mailboxes, net.now()),
            timeouts: Timeouts::new(config, net.now()),
            greeting: config.greeting.clone().map(TemplateRenderer::new),
            net,
            buffer: Aligned::zeroed(limits.turn.min(service.needs().most_input)),
            offered: service.published(),
            service,
            limits,
            clients: Slab::new(),
            acceptor: Acceptor::new(doors),
            console: None,
            heart: None,
            events: Vec::new(),
            turns: VecDeque::new(),
            writable: Vec::new(),
            gone: Vec::new(),
            holding: Vec::new(),
            lingering: Vec::new(),
            stop: Stop::No,
            asked: false,
            grace: None,
            stats: Stats::default(),
        }
    }

    /// One pass of the loop.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.wait()?;
        self.set_time();
        self.accept();
        self.deliver();
        // Before reading: what goes out makes room for what comes in.
        self.flush();
        self.read();
        self.publish();
        self.expire();
        self.beat();
        self.reap();
        self.converse();
        trace!(
            "{} events, {} clients, {} of them to be read",
            self.events.len(),
            self.clients.len(),
            self.turns.len()
        );
        Ok(())
    }

    /// Tells those the time who want to know it.
    pub(super) fn set_time(&mut self) {
        if self.timeouts.are_on() {
            self.timeouts.set_time(self.net.now());
        }
        if self.service.needs().time {
            self.service.set_time(self.net.time_of_day());
        }
        if let Some(greeting) = &mut self.greeting
            && greeting.template().wants_time()
        {
            greeting.set_time(self.net.time_of_day());
        }
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
                        if let Some(console) = &mut self.console {
                            console.latch(key, ready);
                        }
                        continue;
                    };
                    client.connection.latch(ready);
                    if ready.readable && !client.queued {
                        client.queued = true;
                        self.turns.push_back(key);
                    }
                    let flush = ready.writable && client.connection.wants_flush(&self.service);
                    if flush && !client.flushing {
                        client.flushing = true;
                        self.writable.push(key);
                    }
                }
                Event::Listener(listener) => self.acceptor.latch(listener),
                Event::Datagram(mailbox) => self.mail.latch(mailbox),
                Event::Stop => self.stop(),
                Event::Report => self.report(),
            }
        }
        self.events = events;
        Ok(())
    }

    /// How long the next wait may sleep.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let held = !self.holding.is_empty();
        let turns = !self.turns.is_empty() && !held;
        let talks = self.console.as_ref().is_some_and(Console::wants_turn);
        // What a stop outside of the next wait has begun; a client that it has closed.
        let ends = matches!(self.stop, Stop::LastTurns(_)) || !self.gone.is_empty();
        let mail = self.mail.is_latched() || !self.writable.is_empty();
        if turns || ends || self.has_news() || talks || mail || self.can_accept() {
            return Some(Duration::ZERO);
        }
        let next = [
            self.grace,
            self.next_deadline(),
            self.timeouts.next(),
            self.next_beat(),
            self.console.as_ref().and_then(Console::deadline),
            self.acceptor.resting_until().filter(|_| !held),
        ];
        let next = next.into_iter().flatten().min()?;
        Some(remaining(next, self.net.now()))
    }

    /// Whether something was published that wasn't offered yet: who has gone may leave a word.
    pub(super) fn has_news(&self) -> bool {
        self.service.published() != self.offered
    }

    /// Takes in a new client; its key is known to the kernel from here on. Its address comes back
    /// if the kernel doesn't take it.
    pub(super) fn open(
        &mut self,
        mut stream: N::Stream,
        address: Address,
        role: Role,
        local: &Address,
    ) -> Result<usize, (Address, io::Error)> {
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        if let Err(e) = self.net.register(&mut stream, key) {
            return Err((address, e));
        }
        self.stats.clients += 1;
        let id = self.stats.clients;
        debug!("client {id} ({address}) connected");
        let peer = Peer {
            id,
            address: &address,
            local,
            role,
        };
        let greeting = self.greeting.as_mut().filter(|_| peer.is_greeted());
        let greeting = greeting.map_or(&[][..], |greeting| {
            let about = greeting.about(&peer);
            greeting.say(about.who())
        });
        let connection = Connection::open(stream, &mut self.service, &peer, greeting);
        entry.insert(Client {
            connection,
            id,
            address,
            opened: self.net.now(),
            role,
            queued: false,
            flushing: false,
            holding: false,
            spent: false,
            lingering: false,
            last: false,
            silence: 0,
        });
        self.after(key);
        Ok(key)
    }

    /// The keys of all clients, for what may change more than the client itself.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.clients.iter().map(|(key, _)| key).collect()
    }

    /// Makes a client's next turn read, whether or not the kernel tells of input.
    pub(super) fn expect_input(&mut self, key: usize) {
        self.clients[key].connection.expect_input();
        self.after(key);
    }

    /// Writes to those whose streams take output again.
    fn flush(&mut self) {
        let mut writable = std::mem::take(&mut self.writable);
        writable.retain(|&key| {
            let client = &mut self.clients[key];
            client.flushing = client.connection.flush(&mut self.service);
            let more = client.flushing;
            self.after(key);
            more
        });
        self.writable = writable;
    }

    /// A client that has had its share is written to in the next tick.
    pub(super) fn flush_later(&mut self, key: usize, more: bool) {
        let client = &mut self.clients[key];
        if more && !client.flushing {
            client.flushing = true;
            self.writable.push(key);
        }
    }

    /// Gives each client in the queue one turn. While the room is held up, only those whose
    /// input is discarded anyway have theirs.
    fn read(&mut self) {
        let held = !self.holding.is_empty();
        let start = self.service.published();
        // What is shown costs more than what is only moved.
        let shown = self.console.is_some();
        let turn = if shown {
            self.limits.turn.min(SHOWN)
        } else {
            self.limits.turn
        };
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
                turn,
                self.limits.high_water,
                |input| {
                    if let Some(console) = &mut self.console {
                        let peer = (client.id, &client.address);
                        console.hear(key, peer, input, self.net.now());
                    }
                },
            );
            if connection.waiting() > 0 && connection.wants_flush(&self.service) {
                let more = connection.flush(&mut self.service);
                self.flush_later(key, more);
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
        if !self.has_news() {
            return;
        }
        self.offered = self.service.published();
        let high_water = self.limits.high_water;
        let timed = self.timeouts.are_on();
        let mut special = Vec::new();
        for (key, client) in &mut self.clients {
            let connection = &mut client.connection;
            let flush = connection.wants_flush(&self.service);
            if flush && connection.flush(&mut self.service) && !client.flushing {
                client.flushing = true;
                self.writable.push(key);
            }
            let late = connection.lag(&self.service) > self.limits.backlog;
            // What it was sent may have brought it below the high-water mark again.
            let again = !client.queued && connection.wants_turn(&self.service, high_water);
            if late || again || timed || client.spent || !connection.is_serving() {
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
        if self.timeouts.are_on() {
            self.note(key);
        }
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
        client.spent = client.spent && connection.lag(&self.service) > 0;
        if let Some(reason) = connection.closing()
            && !client.lingering
        {
            client.lingering = true;
            client.warn(reason);
            let (now, linger) = (self.net.now(), self.limits.linger);
            let lingering = Lingering::new(key, now, linger, connection.traffic());
            self.lingering.push(lingering);
        }
    }

    /// Removes the clients that are closed. From here on their keys may be used again.
    fn reap(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.gone);
        let mut last = false;
        self.forget_closed();
        for key in gone.drain(..) {
            let Some(client) = self.clients.get_mut(key) else {
                continue; // named twice
            };
            let Some(reason) = client.connection.finish(&mut self.service) else {
                continue;
            };
            let client = self.clients.remove(key);
            self.timeouts.forget(key);
            if !client.lingering {
                client.warn(reason);
            }
            let (received, sent) = client.connection.traffic();
            self.stats.count(reason, received, sent);
            last |= client.last;
            match (&client.address, reason) {
                (Address::Stdin, CloseReason::Error(kind)) => self.stats.stdin_error = Some(kind),
                (Address::Stdout, CloseReason::Error(kind)) => self.stats.stdout_error = Some(kind),
                _ => {}
            }
            if let Some(console) = &mut self.console {
                console.show_part(key);
            }
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
        if last {
            self.stop_by_itself();
        }
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Takes those who are about to be removed out of every list but `gone`.
    fn forget_closed(&mut self) {
        let clients = &self.clients;
        let stays = |key: usize| !clients[key].connection.is_closed();
        self.turns.retain(|&key| stays(key));
        self.writable.retain(|&key| stays(key));
        self.holding.retain(|h| stays(h.key));
        self.lingering.retain(|l| stays(l.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Socket;
    use crate::service::{Broadcast, Echo};

    /// What an idle client costs: its entry in the slab, which is as large as an `Option`.
    fn entry<S: Service>() -> usize {
        size_of::<Option<Client<Socket, S>>>()
    }

    #[test]
    fn an_idle_client_is_small() {
        assert!(entry::<Echo>() <= 160, "{}", entry::<Echo>());
        assert!(entry::<Broadcast>() <= 240, "{}", entry::<Broadcast>());
    }
}
