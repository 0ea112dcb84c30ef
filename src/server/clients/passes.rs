//! Passes over many clients: flush, read, publish, reap. They walk the table for speed, and settle
//! the clients as a touch does.

use std::time::Instant;

use log::{Level, log_enabled};

use super::Clients;
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::Stream;
use crate::net::address::Address;
use crate::peer::Peer;
use crate::service::Service;
use crate::text::plural;

/// Bytes read from a client in one turn if its input is shown on a console: showing bytes costs more
/// than moving them.
const SHOWN: usize = 16 * 1024;

/// Result of removing the closed clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Reaped {
    /// No client was removed.
    Nothing,
    /// Clients were removed.
    Clients,
    /// Clients were removed, and the server stops after one of them.
    Final,
}

impl<S: Service, T: Stream> Clients<S, T> {
    /// Writes to the clients whose streams take output again, or that have had their share.
    pub(in crate::server) fn flush(&mut self) {
        let mut keys = std::mem::take(&mut self.flushes);
        for key in keys.drain(..) {
            self.table[key].flushing = false;
            self.touch(key, Connection::flush);
        }
        if self.flushes.is_empty() {
            self.flushes = keys; // keeps its memory
        }
    }

    /// Gives the clients in the queue one turn each, at most `most` turns, and returns their
    /// number. `on_input` is called with each piece of input; `shown` makes the turns short.
    ///
    /// While the room is held up only clients whose input is discarded have a turn.
    pub(in crate::server) fn read(
        &mut self,
        most: usize,
        shown: bool,
        mut on_input: impl FnMut(usize, &Peer<'_>, &[u8]),
    ) -> usize {
        let held = self.is_held();
        let budget = if shown {
            self.limits.turn.min(SHOWN)
        } else {
            self.limits.turn
        };
        let mut turns = 0;
        for _ in 0..self.turns.len() {
            if turns == most || !self.may_publish() {
                break;
            }
            let key = self.turns.pop_front().expect("there are that many");
            let client = &mut self.table[key];
            if held && client.connection.is_serving() {
                self.turns.push_back(key);
                continue;
            }
            client.queued = false;
            let (connection, peer) = client.split();
            let newcomer = connection.is_newcomer();
            let before = self.service.published();
            let has_read = connection.turn(
                &mut self.service,
                self.buffer.bytes_mut(),
                budget,
                self.limits.high_water,
                |input| on_input(key, &peer, input),
            );
            let timed = has_read && peer.is_timed();
            if connection.waiting() > 0 && connection.is_writable() {
                connection.flush(&mut self.service);
            }
            if timed {
                self.note_partial(key, self.service.published() != before);
            }
            if newcomer {
                self.note_arrival(key);
            }
            self.settle(key);
            turns += 1;
        }
        turns
    }

    /// Writes what was published since the last call, in one flush for each client.
    pub(in crate::server) fn publish(&mut self) {
        if !self.has_unpublished() {
            return;
        }
        self.flushed_to = self.service.published();
        let timed = self.timeouts.are_on();
        let mut unsettled = Vec::new();
        for (key, client) in &mut self.table {
            let connection = &mut client.connection;
            if connection.is_writable() {
                connection.flush(&mut self.service);
            }
            let late = connection.lag(&self.service) > self.limits.backlog;
            // The flush may have brought the client below the high-water mark again.
            let turn =
                !client.queued && connection.wants_turn(&self.service, self.limits.high_water);
            let more = connection.has_more() && !client.flushing;
            if late || turn || more || timed || client.skipped || !connection.is_serving() {
                unsettled.push(key);
            }
        }
        for key in unsettled {
            self.hold_if_late(key);
            self.settle(key);
        }
    }

    /// Makes a client that is too far behind hold up the room, until it has caught up.
    fn hold_if_late(&mut self, key: usize) {
        if self.draining {
            return;
        }
        let client = &mut self.table[key];
        if client.holding || client.connection.lag(&self.service) <= self.limits.backlog {
            return;
        }
        if client.skipped {
            client.connection.skip(&mut self.service);
            return;
        }
        client.holding = true;
        let place = self.place(key);
        self.holds.add(key, place);
    }

    /// Removes the closed clients: from here on their keys may be used again. `on_removed` is
    /// called with each key; `now` is asked for the time only for the log.
    pub(in crate::server) fn reap(
        &mut self,
        now: impl Fn() -> Instant,
        mut on_removed: impl FnMut(usize),
    ) -> Reaped {
        if self.closed.is_empty() {
            return Reaped::Nothing;
        }
        let mut closed = std::mem::take(&mut self.closed);
        let mut reaped = Reaped::Clients;
        self.unlist_closed();
        for key in closed.drain(..) {
            // A key may be in the list twice.
            let Some(client) = self.table.get_mut(key) else {
                continue;
            };
            let Some(reason) = client.connection.finish(&mut self.service) else {
                continue;
            };
            if client.stops_server && client.is_used(self.needs.arrivals) {
                reaped = Reaped::Final;
            }
            self.remove(key, reason, &now);
            on_removed(key);
        }
        self.closed = closed;
        reaped
    }

    /// Takes the closed clients out of every list but that of the closed.
    fn unlist_closed(&mut self) {
        let table = &self.table;
        let stays = |key: usize| !table[key].connection.is_closed();
        self.turns.retain(|&key| stays(key));
        self.flushes.retain(|&key| stays(key));
        self.holds.retain(stays);
        self.lingering.retain(|lingering| stays(lingering.key));
    }

    fn remove(&mut self, key: usize, reason: CloseReason, now: &impl Fn() -> Instant) {
        let client = self.table.remove(key);
        self.timeouts.forget(key);
        self.holds.forget(key);
        let (received, sent) = client.connection.traffic();
        self.stats.count(reason, received, sent);
        if !client.lingering {
            client.log_closing(reason);
        }
        let probe = client.is_probe(reason, self.needs.arrivals);
        if probe {
            self.stats.probes += 1;
        }
        if probe && client.connection.is_newcomer() && !log_enabled!(Level::Trace) {
            self.probe_log.debug_total(now(), || {
                let probes = plural(self.stats.probes, "client");
                format!("{probes} came and went without a byte: -vv logs each")
            });
        } else {
            client.log_closed(reason, now);
        }
        match (client.peer().address, reason) {
            (Address::Stdin, CloseReason::Error(kind)) => self.stats.stdin_error = Some(kind),
            (Address::Stdout, CloseReason::Error(kind)) => self.stats.stdout_error = Some(kind),
            _ => {}
        }
    }
}
