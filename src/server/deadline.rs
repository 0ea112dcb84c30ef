//! Deadlines: the patience with those who hold up the room, the linger of those on their way
//! out, the grace of a stopping server. Few are counted at a time, except while it stops, so
//! plain lists are scanned.

use std::time::{Duration, Instant};

use log::warn;

use super::stop::Stop;
use super::tick::{Client, Tick};
use crate::close::CloseReason;
use crate::config::SlowConsumer;
use crate::net::Net;
use crate::service::Service;

/// How long a client that we close may take to end its side, unless something else is said.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// After so much silence there is nothing left of its input that closing could collide with.
pub(super) const SILENCE: Duration = Duration::from_millis(100);

/// A client that holds up the room.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) key: usize,
    since: Instant,
}

/// A client on its way out.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) key: usize,
    /// When it is dropped, whatever it does: counted from the start, and again from when it
    /// had been sent everything. Who isn't too slow may also take its time as long as it takes
    /// something.
    last: Instant,
    delivered: bool,
    /// When it is dropped if nothing moves until then, and nothing waits to go out.
    silent: Instant,
    /// What had been received and sent when that was set.
    traffic: (u64, u64),
}

impl Lingering {
    pub(super) fn new(key: usize, now: Instant, linger: Duration, traffic: (u64, u64)) -> Self {
        Self {
            key,
            last: now + linger,
            delivered: false,
            silent: now + SILENCE,
            traffic,
        }
    }

    fn deadline(&self) -> Instant {
        self.last.min(self.silent)
    }
}

/// How long it is until `deadline`: rounded up to what poll(2) can wait for, so that it is
/// over after one sleep.
pub(super) fn remaining(deadline: Instant, now: Instant) -> Duration {
    let left = deadline.saturating_duration_since(now);
    let millis = left.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

impl<S: Service, N: Net> Tick<S, N> {
    /// A client that is too far behind holds up the room from now on, until it has caught up.
    pub(super) fn hold(&mut self, key: usize) {
        if matches!(self.stop, Stop::Draining) {
            return;
        }
        let client = &mut self.clients[key];
        if client.holding || client.connection.lag(&self.service) <= self.limits.backlog {
            return;
        }
        if client.spent {
            client.connection.skip(&mut self.service);
            return;
        }
        client.holding = true;
        let since = self.net.now();
        self.holding.push(Holding { key, since });
    }

    /// The earliest deadline of a client.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let patience = self.limits.patience;
        // In the order of their coming: the first is the earliest.
        let holding = self
            .holding
            .first()
            .and_then(|h| h.since.checked_add(patience?));
        let lingering = self.lingering.iter().map(Lingering::deadline).min();
        [holding, lingering].into_iter().flatten().min()
    }

    /// Acts on the deadlines that have passed.
    pub(super) fn expire(&mut self) {
        let timed = self.timeouts.are_on() || self.is_stopping();
        if self.holding.is_empty() && self.lingering.is_empty() && !timed {
            return; // nothing to time, and no need to ask for the time
        }
        let now = self.net.now();
        self.expire_clients(now);
        self.expire_holding(now);
        self.expire_lingering(now);
        self.expire_grace(now);
    }

    /// Lets those go who have caught up, and closes those with whom patience has run out, or makes
    /// them skip.
    fn expire_holding(&mut self, now: Instant) {
        let patience = self.limits.patience;
        let mut holding = std::mem::take(&mut self.holding);
        holding.retain(|h| {
            let client = &mut self.clients[h.key];
            let lost = patience.is_some_and(|p| now.saturating_duration_since(h.since) >= p);
            let behind = client.connection.lag(&self.service) > 0;
            client.holding = behind && !client.connection.is_closed();
            if client.holding && lost {
                client.holding = false;
                self.give_up(h.key);
                self.after(h.key);
            }
            self.clients[h.key].holding
        });
        self.holding = holding;
    }

    /// What becomes of a slow consumer.
    fn give_up(&mut self, key: usize) {
        let client = &mut self.clients[key];
        match self.limits.slow_consumer {
            SlowConsumer::Close => {
                let reason = CloseReason::SlowConsumer;
                client.connection.close(&mut self.service, reason);
            }
            SlowConsumer::Skip => {
                let Client { id, address, .. } = client;
                warn!("client {id} ({address}) is a slow consumer: it misses messages");
                client.spent = true;
                client.connection.skip(&mut self.service);
            }
        }
    }

    fn expire_lingering(&mut self, now: Instant) {
        let linger = self.limits.linger;
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain_mut(|l| {
            let client = &mut self.clients[l.key];
            let traffic = client.connection.traffic();
            let waiting = client.connection.waiting() > 0;
            let slow = client.connection.closing() == Some(CloseReason::SlowConsumer);
            if !l.delivered && (!waiting || (!slow && traffic.1 != l.traffic.1)) {
                l.delivered = !waiting;
                l.last = now + linger;
            }
            if waiting || traffic != l.traffic {
                l.traffic = traffic;
                l.silent = now + SILENCE;
            }
            let over = now >= l.deadline();
            if over && let Some(reason) = client.connection.closing() {
                client.connection.abort(&self.service, reason);
                self.after(l.key);
            }
            !over
        });
        // What was closed just now is in `gone`; `after` adds nobody here for it.
        self.lingering.append(&mut lingering);
    }
}
