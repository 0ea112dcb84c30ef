//! Passes over many clients: flush, read, publish, reap. They walk the table for speed, and settle
//! the clients as a touch does.

use std::time::Instant;

use log::{Level, log_enabled};

use super::{Client, Clients, Wait};
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
            if let Some(client) = self.table.get_mut(key) {
                client.flushing = false;
            }
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
        if !held {
            self.unpark();
        }
        let most_shown = if shown { SHOWN } else { usize::MAX };
        let budget = self.limits.turn.min(most_shown);
        let mut turns = 0;
        for _ in 0..self.turns.len() {
            #[cfg(test)]
            crate::testing::work::step();
            if turns == most || !self.may_publish() {
                break;
            }
            let key = self.turns.pop_front().expect("there are that many");
            if !self.is_known(key) {
                continue;
            }
            let client = &mut self.table[key];
            if held && client.connection.is_serving() {
                client.wait = Wait::Parked;
                self.parked.push_back((key, client.id()));
                continue;
            }
            client.wait = Wait::None;
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

    /// Lets the parked clients have turns again, before those that were put into the queue later.
    fn unpark(&mut self) {
        if self.parked.is_empty() {
            return; // the usual case
        }
        let parked = std::mem::take(&mut self.parked);
        let later = std::mem::take(&mut self.turns);
        for (key, id) in parked {
            let client = self.table.get_mut(key);
            if let Some(client) =
                client.filter(|client| client.wait == Wait::Parked && client.id() == id)
            {
                client.wait = Wait::Turns;
                self.turns.push_back(key);
            }
        }
        self.turns.extend(later);
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
            let turn = client.wait == Wait::None
                && connection.wants_turn(&self.service, self.limits.high_water);
            let more = connection.has_more() && !client.flushing;
            let settled = !(late || turn || more || timed || client.skipped);
            if !settled || client.stops_server || !connection.is_serving() {
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
        self.unlist(&closed);
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
        if !self.is_held() {
            self.unpark();
        }
        reaped
    }

    /// Takes the closed clients out of the lists that are walked for it, if one of them is there. A
    /// tick works on all of `turns` and `flushes` anyway, unless it publishes to every client.
    fn unlist(&mut self, closed: &[usize]) {
        let table = &self.table;
        let any = |is: fn(&Client<T, S>) -> bool| {
            let mut clients = closed.iter().filter_map(|&key| table.get(key));
            clients.any(is)
        };
        let stays = |key: usize| !table[key].connection.is_closed();
        if any(|client| client.wait == Wait::Turns) {
            self.turns.retain(|&key| stays(key));
        }
        if any(|client| client.flushing) {
            self.flushes.retain(|&key| stays(key));
        }
        if any(|client| client.holding) {
            self.holds.retain(stays);
        }
    }

    fn remove(&mut self, key: usize, reason: CloseReason, now: &impl Fn() -> Instant) {
        let client = self.table.remove(key);
        self.timeouts.forget(key);
        self.holds.forget(key);
        self.lingering.remove(key);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::Readiness;
    use crate::net::address::Role;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Room};
    use crate::testing::work::steps;
    use crate::testing::{Answer, Script};

    /// A room that is held up, and `count` clients that have sent a line.
    fn held_room(net: &mut TestNet, count: usize) -> (Clients<Broadcast, Script>, Vec<usize>) {
        let service = Broadcast::with_segments(Room::default(), 1 << 10);
        let mut clients = fixture::clients(service, &Config::default(), net);
        let mut admit =
            |clients: &mut _, stalled| fixture::admit(clients, net, Role::Both, stalled);
        let senders: Vec<usize> = (0..count).map(|_| admit(&mut clients, false)).collect();
        admit(&mut clients, true);
        let flooding = admit(&mut clients, false);
        while !clients.is_held() {
            fixture::send(&mut clients, flooding, &[b'\n'; 10_000]);
        }
        for &key in &senders {
            fixture::send(&mut clients, key, format!("{key}\n").as_bytes());
        }
        (clients, senders)
    }

    const ENDING: Readiness = Readiness {
        readable: true,
        writable: false,
        ending: true,
        hung_up: false,
    };

    fn read(clients: &mut Clients<Broadcast, Script>) -> Vec<usize> {
        let mut keys = Vec::new();
        clients.read(usize::MAX, false, |key, _, _| keys.push(key));
        keys
    }

    /// The queue was walked in every tick of a room that was held up.
    #[test]
    fn clients_that_wait_for_a_turn_cost_nothing_while_the_room_is_held_up() {
        let mut net = TestNet::new();
        let (mut clients, senders) = held_room(&mut net, 1000);
        assert_eq!(steps(|| assert!(read(&mut clients).is_empty())), 0);
        // One of them leaves: the others are not walked, and what it still sends is read.
        clients.touch(senders[3], |connection, service| {
            connection.close(service, CloseReason::Kicked);
            connection.stream_mut().on_read(Answer::End);
            connection.latch(ENDING);
        });
        assert_eq!(steps(|| assert!(read(&mut clients).is_empty())), 1);
        let reaped = clients.reap(|| net.now.get(), |key| assert_eq!(key, senders[3]));
        assert_eq!((reaped, clients.len()), (Reaped::Clients, 1001));
    }

    #[test]
    fn clients_that_waited_have_their_turns_in_order_when_the_room_goes_on() {
        let mut net = TestNet::new();
        let (mut clients, mut senders) = held_room(&mut net, 5);
        read(&mut clients);
        // The second is replaced by another client with the same key, which has sent nothing.
        let gone = senders.remove(1);
        clients.touch(gone, |connection, service| {
            connection.abort(service, CloseReason::Reset);
        });
        clients.reap(|| net.now.get(), |_| {});
        assert_eq!(
            fixture::admit(&mut clients, &mut net, Role::Both, false),
            gone
        );
        clients.touch(5, |connection, service| {
            connection.abort(service, CloseReason::Reset);
        });
        clients.reap(|| net.now.get(), |_| {});
        assert!(!clients.is_held() && clients.has_work());
        assert_eq!(read(&mut clients), senders);
        assert!(!clients.get(gone).is_queued());
    }

    /// Its use is noted when it happens: otherwise every client would be asked in each tick.
    #[test]
    fn client_that_was_only_published_to_is_known_to_be_used() {
        let mut net = TestNet::new();
        let service = Broadcast::with_segments(Room::default(), 1 << 10);
        let mut clients = fixture::clients(service, &Config::default(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
        let last = fixture::admit(&mut clients, &mut net, Role::Subscribe, false);
        clients.stop_after(last);
        assert!(!clients.has_used_final());
        fixture::send(&mut clients, sender, b"hello\n");
        assert!(clients.has_used_final());
    }
}
