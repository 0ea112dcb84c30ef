//! Ends of clients: deadlines that the timers judge, and the stop of the server.

use std::time::{Duration, Instant};

use super::holds::State;
use super::patience::Place;
use super::waiting::Progress;
use super::{Client, Clients, Wait};
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::Stream;
use crate::service::Service;

impl<S: Service, T: Stream> Clients<S, T> {
    /// True if a client may have a deadline: without one the timers need not ask for the time.
    pub(in crate::server) fn has_deadlines(&self) -> bool {
        self.timeouts.may_be_due() || !self.holds.is_empty() || !self.lingering.is_empty()
    }

    /// True if a client holds up the room or lingers whose time has not started yet, or may have.
    pub(in crate::server) fn has_waiting(&self) -> bool {
        !self.holds.is_empty() || !self.lingering.is_empty()
    }

    /// Starts the time of clients that began to hold up the room, or to linger, since the last
    /// call.
    pub(in crate::server) fn start_deadlines(&mut self, now: Instant) {
        if self.holds.has_new() {
            let (service, backlog) = (&self.service, self.limits.backlog);
            let places = self
                .table
                .iter()
                .filter(|(_, client)| !client.holding && !client.skipped);
            let places = places.map(|(key, client)| (key, place(client, service)));
            let near = places.filter(|(_, place)| place.lag > backlog / 2);
            self.holds.start(now, near);
        }
        self.lingering.start(now);
    }

    /// The earliest deadline of a client.
    pub(in crate::server) fn next_deadline(&self) -> Option<Instant> {
        if !self.has_deadlines() {
            return None; // as a rule, in each pass
        }
        let holding = self.holds.deadline();
        let notice = self.timeouts.next_notice().filter(|_| !self.is_held());
        let lingering = self.lingering.deadline();
        let deadlines = [holding, lingering, self.timeouts.next(), notice];
        deadlines.into_iter().flatten().min()
    }

    /// Gives a time in which the process was held up back to the clients that are waited for.
    pub(in crate::server) fn excuse(&mut self, time: Duration) {
        self.holds.excuse(time);
        self.lingering.excuse(time);
    }

    /// Moves the time by which timeouts are judged on to `now`.
    pub(in crate::server) fn advance_timeouts(&mut self, now: Instant) {
        self.timeouts.set_time(now);
    }

    /// A stuck client whose next try is due.
    pub(in crate::server) fn next_try(&self, now: Instant) -> Option<usize> {
        self.timeouts.next_try(now)
    }

    /// Tries to write to a client that was stuck. True if its write timeout is over.
    pub(in crate::server) fn try_write(&mut self, key: usize) -> bool {
        if !self.is_known(key) {
            return false;
        }
        let connection = &mut self.table[key].connection;
        let stuck = connection.is_stuck(&self.service);
        if stuck {
            connection.expect_room();
        }
        connection.flush(&mut self.service);
        let written = connection.take_activity().written;
        let over = self.timeouts.note_try(key, stuck, written);
        self.settle(key);
        over
    }

    /// A client whose idle timeout is over.
    pub(in crate::server) fn next_idle(&mut self, now: Instant) -> Option<usize> {
        while let Some(key) = self.timeouts.next_idle(now) {
            if !self.is_known(key) {
                continue;
            }
            if !self.table[key].is_queued() {
                return Some(key);
            }
            // It has sent something, and only waits for its turn.
            self.timeouts.postpone_idle(key);
        }
        None
    }

    /// Tells the service of clients that have arrived without input, or whose last message has waited
    /// for its rest for too long, until it has published as much as a tick allows. While the room is
    /// held up nothing is to be published.
    pub(in crate::server) fn tell_silences(&mut self, now: Instant) {
        while !self.is_held() && self.may_publish() {
            if let Some(key) = self.timeouts.take_arrival(now) {
                if self.is_known(key) {
                    self.touch(key, Connection::arrive);
                    self.note_arrival(key);
                }
            } else if let Some(key) = self.timeouts.take_partial(now) {
                if !self.is_known(key) {
                    continue;
                }
                if self.table[key].connection.may_have_input() {
                    // The rest may be there already.
                    self.timeouts.note_partial(key, true, true);
                } else {
                    self.touch(key, Connection::complete_partial);
                }
            } else {
                return;
            }
        }
    }

    /// Ends the holds of clients that have caught up, were closed, or have used up the patience.
    /// Returns the last of these: the slow consumers.
    pub(in crate::server) fn end_holds(&mut self, now: Instant) -> Vec<usize> {
        let mut slow = Vec::new();
        let (table, service) = (&mut self.table, &self.service);
        let mut over = Vec::new();
        let state = |key: usize| {
            let client = table.get(key);
            client.map_or(State::CaughtUp, |client| state(client, service))
        };
        self.holds.end(now, state, |key, failed| {
            over.push(key);
            if failed {
                slow.push(key);
            }
        });
        for key in over {
            if let Some(client) = table.get_mut(key) {
                client.holding = false;
            }
        }
        slow
    }

    /// The place of a client in the shared output.
    pub(super) fn place(&self, key: usize) -> Place {
        place(&self.table[key], &self.service)
    }

    /// Makes a slow consumer go on with the newest message.
    pub(in crate::server) fn skip(&mut self, key: usize) {
        self.table[key].skipped = true;
        self.touch(key, Connection::skip);
    }

    /// Closes the clients on their way out whose time is over.
    pub(in crate::server) fn end_lingering(&mut self, now: Instant, noted: Instant) {
        let table = &self.table;
        self.lingering.note(noted, |key| {
            table.get(key).map_or(Progress::default(), |client| {
                let connection = &client.connection;
                Progress {
                    traffic: connection.traffic(),
                    waiting: connection.waiting() > 0,
                    slow: connection.closing() == Some(CloseReason::SlowConsumer),
                }
            })
        });
        while let Some(key) = self.lingering.take_over(now) {
            if !self.is_known(key) {
                continue;
            }
            if let Some(reason) = self.table[key].connection.closing() {
                self.touch(key, |connection, service| {
                    connection.abort(service, reason);
                });
            }
        }
    }

    /// Puts every client into the queue, for its last turn. Returns the number of turns.
    pub(in crate::server) fn queue_last_turns(&mut self) -> usize {
        for (key, client) in &mut self.table {
            client.connection.expect_input();
            if !client.is_queued() {
                client.wait = Wait::Turns;
                self.turns.push_back(key);
            }
        }
        self.table.len()
    }

    /// True if a turn is possible: a client is in the queue, and the room is not held up.
    pub(in crate::server) fn has_turns(&self) -> bool {
        (!self.turns.is_empty() || !self.parked.is_empty()) && !self.is_held()
    }

    /// Takes no more input from any client. From here on none holds up the room.
    pub(in crate::server) fn drain_all(&mut self) {
        self.draining = true;
        for key in self.holds.keys() {
            self.table[key].holding = false;
        }
        self.holds.clear();
        for key in self.keys() {
            self.touch(key, |connection, service| {
                connection.finish_message(service);
                connection.drain(service, CloseReason::Shutdown);
            });
        }
    }

    /// Closes every client at once. Returns the number of clients for which bytes waited.
    pub(in crate::server) fn abort_all(&mut self) -> u64 {
        let owed = self.iter().filter(|c| c.unsent(&self.service) > 0);
        let owed = owed.count() as u64;
        for key in self.keys() {
            self.touch(key, |connection, service| {
                connection.abort(service, CloseReason::Shutdown);
            });
        }
        owed
    }
}

fn place<S: Service, T: Stream>(client: &Client<T, S>, service: &S) -> Place {
    let lag = client.connection.lag(service);
    Place {
        lag,
        cursor: service.published().saturating_sub(lag),
    }
}

/// The state of a client that holds up the room.
fn state<S: Service, T: Stream>(client: &Client<T, S>, service: &S) -> State {
    let place = place(client, service);
    if place.lag == 0 || client.connection.is_closed() {
        State::CaughtUp
    } else {
        State::Behind(place.cursor)
    }
}
