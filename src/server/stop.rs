//! Stopping: no more clients, a last turn for each, what is pending goes out.

use log::{info, warn};
use std::time::Instant;

use super::console::Console;
use super::tick::{Client, Tick};
use crate::close::CloseReason;
use crate::net::Net;
use crate::service::Service;
use crate::text::plural;

/// How often datagrams are looked for when it stops: more than there is room for in a socket that
/// nobody has made much larger than it is by default, but not for as long as a flood goes on.
const LAST_DELIVERIES: usize = 16;

/// Whether the server is stopping, and how far that has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    No,
    /// This many turns are left until everybody has had the last one.
    LastTurns(usize),
    /// Nobody is served any more; what is pending goes out.
    Draining,
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Somebody asks for a stop: the first time it begins, the second time is the end.
    pub(super) fn stop(&mut self) {
        if self.asked {
            return self.abort_all();
        }
        self.asked = true;
        self.begin_stop();
        // It may have begun without a limit, or long ago: who asks may expect the whole grace.
        self.start_grace();
    }

    /// The work is done: the stop begins without anybody asking for it. Where nothing may be lost
    /// it takes as long as it takes.
    pub(super) fn stop_by_itself(&mut self) {
        if self.is_stopping() {
            return;
        }
        self.begin_stop();
        if self.limits.patience.is_some() {
            self.start_grace();
        }
    }

    fn start_grace(&mut self) {
        self.grace = self.net.now().checked_add(self.limits.grace);
    }

    /// No more clients, and a last turn for each, so that what had arrived is answered.
    fn begin_stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        info!("stopping");
        // What has come by now is answered, unless one was enough.
        if !self.limits.once {
            self.set_time();
            self.mail.latch_all();
            for _ in 0..LAST_DELIVERIES {
                if self.mail.is_latched() {
                    self.deliver();
                }
            }
        }
        self.close_doors();
        for (key, client) in &mut self.clients {
            client.connection.expect_input();
            if !client.queued {
                client.queued = true;
                self.turns.push_back(key);
            }
        }
        self.stop = Stop::LastTurns(self.turns.len());
        if self.turns.is_empty() {
            self.drain_all();
        }
    }

    /// One client has had its turn; after everybody's last one nobody is served any more.
    pub(super) fn count_last_turn(&mut self) {
        if let Stop::LastTurns(left) = self.stop {
            self.stop = Stop::LastTurns(left - 1);
            if left == 1 {
                self.drain_all();
            }
        }
    }

    /// Takes no more input from anybody. There is nothing left to hold up, and only the grace
    /// limits how long the slow ones take.
    pub(super) fn drain_all(&mut self) {
        self.stop = Stop::Draining;
        for holding in self.holding.drain(..) {
            self.clients[holding.key].holding = false;
        }
        for key in self.keys() {
            let connection = &mut self.clients[key].connection;
            connection.finish_message(&mut self.service);
            connection.drain(&mut self.service, CloseReason::Shutdown);
            self.after(key);
        }
    }

    /// Closes every client at once.
    fn abort_all(&mut self) {
        let pending = |client: &&Client<_, _>| self.backlog(client) > 0;
        let clients = self.clients.iter().map(|(_, client)| client);
        let pending = clients.filter(pending).count() as u64;
        if pending > 0 {
            let clients = plural(pending, "client");
            warn!("closing {clients} with something pending");
        }
        if let Some(console) = &mut self.console {
            console.give_up();
        }
        for (key, client) in &mut self.clients {
            client
                .connection
                .abort(&self.service, CloseReason::Shutdown);
            self.gone.push(key);
        }
    }

    /// Ends the drain when its time is over.
    pub(super) fn expire_grace(&mut self, now: Instant) {
        let over = self.grace.is_some_and(|grace| now >= grace);
        if over && !self.clients.is_empty() {
            info!("the grace is over");
            self.abort_all();
        }
    }

    /// Whether the server was stopped and has nobody left, and the operator has seen everything.
    pub(super) fn is_done(&self) -> bool {
        let seen = self.console.as_ref().is_none_or(Console::is_done);
        self.is_stopping() && self.clients.is_empty() && seen
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
}
