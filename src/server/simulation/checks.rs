//! The checks of a run, after each tick and at its end.

use std::time::{Duration, Instant};

use super::HEARTBEAT;
use super::actor::Actor;
use super::checked::CheckedService;
use super::conn::Conn;
use super::model::Record;
use super::run::Run;
use crate::close::CloseReason;
use crate::server::clients::SILENCE;
use crate::server::limits::LINGER;
use crate::service::ARRIVAL;

/// After each tick.
impl<S: CheckedService> Run<S> {
    /// Checks that memory is within its bounds.
    pub(super) fn check_bounds(&self) {
        let limits = self.tick.clients.limits();
        let high_water = usize::try_from(limits.high_water + self.slack).unwrap();
        for client in self.tick.clients.iter() {
            let waiting = client.connection().waiting();
            assert!(
                waiting <= high_water + limits.turn + self.rest,
                "an outbox of {waiting} bytes"
            );
        }
        self.tick.stats(); // compares with the model
        let held = self.tick.clients.service().held();
        let bound = limits.backlog + limits.publish + limits.turn as u64 + self.slack;
        let bound = self.documented.unwrap_or(bound);
        if held > bound {
            self.dump(&self.world.borrow());
        }
        assert!(held <= bound, "{held} bytes are held, more than {bound}");
    }

    /// Checks that the timeouts of no client had passed at `now`, the time of the tick's judgement.
    pub(super) fn check_timeouts(&self, now: Instant) {
        let world = self.world.borrow();
        for client in self.tick.clients.iter() {
            let connection = client.connection();
            let history = &world.kernel.conns[connection.stream().id()].history;
            if connection.closing().is_some() || connection.is_closed() {
                continue;
            }
            if !client.peer().is_remote() {
                continue; // standard input has no timeouts
            }
            let late = |at: Option<Instant>, limit: Option<Duration>| {
                limit.is_some_and(|limit| at.is_some_and(|at| now > at + limit))
            };
            // In a room, and in a stop, a client may have to wait for its turn.
            let waits = self.slack > 0 || self.tick.is_stopping();
            assert!(
                waits || !late(history.active_at, self.idle_timeout),
                "it is idle for too long"
            );
            let stuck = connection.is_stuck(self.tick.clients.service());
            let blocked = history.blocked_since.filter(|_| stuck);
            // The server looks four times in a timeout, and once more to begin with.
            let write = self.write_timeout;
            let write = write.map(|t| t + t / 4 + Duration::from_millis(10));
            // After a stop of the process it looks as often as that again.
            let stopped = world.stopped_for > Duration::ZERO;
            assert!(
                stopped || !late(blocked, write),
                "it is stalled for too long"
            );
        }
    }

    /// Checks that the room is told of a client with its first input, or after [`ARRIVAL`] without any.
    /// `quiet_tick`: in the tick nothing was published or flushed, so that no client held up the room.
    pub(super) fn check_arrivals(&self, now: Instant, quiet_tick: bool) {
        let clients = &self.tick.clients;
        let model = clients.service().model().borrow();
        for client in clients.iter().filter(|c| c.connection().is_serving()) {
            let record = &model.records[&client.connection().stream().id()];
            let age = now.saturating_duration_since(client.opened());
            let quiet = record.input.is_empty();
            let early = record.arrived && quiet && age < ARRIVAL;
            assert!(!early, "a client that may be a probe is announced");
            let known = !clients.service().needs().arrivals || record.arrived;
            assert!(known || quiet, "a client with input is not announced");
            let late = age > ARRIVAL + Duration::from_millis(10) && quiet_tick;
            assert!(known || !late, "a quiet client never arrives");
        }
    }

    /// Checks that no client was taken for idle while its input waited.
    pub(super) fn check_idle_closes(&mut self) {
        let world = self.world.borrow();
        for client in self.tick.clients.iter() {
            let connection = client.connection();
            let id = connection.stream().id();
            let idle = connection.closing() == Some(CloseReason::Idle);
            if !idle || !self.closed_as_idle.insert(id) {
                continue;
            }
            // A client that takes nothing is not read; in a room nothing is kept to tell by.
            let high_water = self.tick.clients.limits().high_water;
            let full = self.slack > 0 || connection.waiting() as u64 > high_water;
            let conn = &world.kernel.conns[id];
            assert!(
                full || conn.to_server.data.is_empty(),
                "input of a client that was closed as idle waits"
            );
        }
    }

    /// Checks that the server forgets nothing that the kernel will not report again.
    pub(super) fn check_wakes(&mut self) {
        self.check_queues();
        let awake = self.tick.timeout() == Some(Duration::ZERO);
        assert!(
            awake || !self.tick.clients.has_unpublished(),
            "published bytes are forgotten"
        );
        assert!(awake || !self.tick.is_ending(), "an end is forgotten");
        let accepts = self.tick.may_accept() || self.tick.is_stopping();
        assert!(
            accepts || !self.world.borrow().kernel.has_reported_connections(),
            "connections in the accept queue are forgotten"
        );
    }

    /// Checks that each client that could progress is queued.
    fn check_queues(&self) {
        let clients = &self.tick.clients;
        let kernel = &self.world.borrow().kernel;
        for client in clients.iter() {
            let connection = client.connection();
            let owed = connection.waiting() as u64 + connection.lag(clients.service());
            let id = connection.stream().id();
            let taken_up = !kernel.has_reported_input(id) || client.is_queued();
            let full = connection.is_serving() && owed > clients.limits().high_water;
            assert!(taken_up || full, "input is forgotten");
            let told = kernel.will_report_room(id) || client.is_flushing();
            assert!(
                owed == 0 || told || clients.has_unpublished(),
                "output is forgotten"
            );
        }
    }
}

/// At the end.
impl<S: CheckedService> Run<S> {
    /// Checks that nothing is left over, and each client's input, output and close.
    pub(super) fn check_end(&self) {
        assert!(self.tick.clients.is_idle(), "a client is left over");
        let service = self.tick.clients.service();
        assert!(
            service.held() <= self.slack,
            "the log holds bytes that no client is owed"
        );
        let world = self.world.borrow();
        let model = service.model().borrow();
        for actor in &world.actors {
            let Some(id) = actor.conn() else { continue };
            let conn = &world.kernel.conns[id];
            assert!(conn.dropped, "a descriptor is left over");
            if let Some(record) = model.records.get(&id) {
                self.check_client(actor, conn, record, &service.expected(id));
            } else {
                assert!(
                    actor.received.is_empty(),
                    "a client that was not admitted received bytes"
                );
            }
        }
    }

    fn check_client(&self, actor: &Actor, conn: &Conn, record: &Record, owed: &[Vec<u8>]) {
        assert!(
            actor.script.starts_with(&record.input),
            "input differs from the bytes sent"
        );
        let heartbeat = if self.heartbeats {
            self.tick.clients.service().frame_line(HEARTBEAT)
        } else {
            Vec::new()
        };
        let written = &conn.history.written;
        let private = Private {
            first: &record.greeting,
            between: &heartbeat,
            last: &record.last,
        };
        let end = follow(written, private, owed);
        let reset = conn.reset_by_client || conn.resets_on_close || conn.reset_by_server;
        assert!(
            end != Position::Within || reset,
            "a clean end within a message"
        );
        assert!(
            written.starts_with(&actor.received),
            "the kernel has failed"
        );
        let all = end == Position::Between(owed.len());
        self.check_close(actor, conn, record, end, all);
    }

    /// Checks that a client was closed for a valid reason. `end`: the end of its output; `all`: its
    /// output is complete.
    fn check_close(&self, actor: &Actor, conn: &Conn, record: &Record, end: Position, all: bool) {
        let history = &conn.history;
        let reason = record.reason.expect("every session is given back");
        let late = matches!(reason, CloseReason::Idle | CloseReason::Stalled);
        assert!(!late || !conn.is_stdin, "standard input has a timeout");
        match reason {
            CloseReason::PeerClosed => {
                assert!(all, "output was lost");
                check_end_of_input(actor, conn, record);
            }
            CloseReason::Reset => self.check_reset(actor, conn),
            CloseReason::SlowConsumer => {
                assert!(self.tick.clients.limits().patience.is_some());
                self.check_close_by_server(conn, end);
            }
            CloseReason::Idle => {
                assert!(
                    Some(history.longest_pause) >= self.idle_timeout,
                    "it wasn't idle"
                );
                self.check_close_by_server(conn, end);
            }
            CloseReason::Stalled => {
                let dropped = history.dropped_at.unwrap();
                let pause = history.written_at.map(|at| dropped - at);
                let pause = pause.unwrap_or(history.longest_pause);
                assert!(Some(pause) >= self.write_timeout, "it wasn't stalled");
                assert!(conn.resets_on_close, "a clean end within a message");
            }
            CloseReason::MessageTooLong => {
                assert!(record.too_long);
                self.check_close_by_server(conn, end);
            }
            CloseReason::Shutdown => {
                assert!(self.stopped.is_some(), "the server is not stopping");
                if !self.cut && !self.is_grace_over(history.dropped_at) {
                    assert!(all && !record.too_long, "pending output was not delivered");
                    self.check_close_by_server(conn, end);
                }
            }
            other => panic!("an unexpected close reason: {other}"),
        }
    }

    /// Checks a client that has reset its connection.
    fn check_reset(&self, actor: &Actor, conn: &Conn) {
        assert!(
            actor.reset && conn.reset_by_client,
            "no client has reset it"
        );
        let dropped = conn.history.dropped_at.unwrap();
        let stopping = self.stopped.is_some_and(|at| dropped >= at);
        assert!(stopping || !conn.has_unread(), "input was lost");
    }

    /// Checks that a client which the server closed got no torn message, and had time to read its end.
    fn check_close_by_server(&self, conn: &Conn, end: Position) {
        let history = &conn.history;
        let dropped = history.dropped_at.unwrap();
        let over = self.is_grace_over(history.dropped_at);
        let hurried = conn.to_server.ended || conn.reset_by_client || self.cut || over;
        let Some(shut) = history.shut_at else {
            assert!(
                hurried || conn.write_blocked,
                "dropped without shutting its output"
            );
            return;
        };
        let whole = matches!(end, Position::Between(_));
        assert!(whole || conn.reset_by_client, "the last message is torn");
        let last_sent = history.sent_at.map_or(shut, |at| at.max(shut));
        let lingered = dropped - shut >= LINGER || dropped - last_sent >= SILENCE;
        assert!(
            hurried || lingered,
            "dropped before the client could read its end"
        );
    }

    /// True if the grace was over at a time.
    fn is_grace_over(&self, at: Option<Instant>) -> bool {
        let grace = self.tick.clients.limits().grace;
        self.grace.is_some_and(|start| at >= Some(start + grace))
    }
}

/// Checks a client that has ended its input.
fn check_end_of_input(actor: &Actor, conn: &Conn, record: &Record) {
    assert!(actor.half_closed && !record.too_long);
    assert!(
        actor.reset || record.input == actor.script,
        "input was lost"
    );
    assert!(!conn.reset_by_server, "output in flight was lost");
    let received = actor.received == conn.history.written;
    assert!(
        !actor.has_left() || actor.reset || received,
        "output was lost"
    );
}

/// The end of a client's output, in terms of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// After this number of whole messages that the client is owed.
    Between(usize),
    /// Within a message or a private text.
    Within,
}

/// Texts for one client only: its greeting, heartbeats, and its last line. Each may be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Private<'a> {
    pub(super) first: &'a [u8],
    pub(super) between: &'a [u8],
    pub(super) last: &'a [u8],
}

/// Follows a client's output: the greeting, then the messages that it is owed in their order, with
/// heartbeats between them, and the last line after some of them. Panics at any other byte.
pub(super) fn follow(written: &[u8], private: Private<'_>, owed: &[Vec<u8>]) -> Position {
    let (heartbeat, last) = (private.between, private.last);
    let Some(mut rest) = written.strip_prefix(private.first) else {
        assert!(private.first.starts_with(written), "no greeting at first");
        return Position::Within;
    };
    let mut messages = owed.iter();
    for whole in 0.. {
        while !heartbeat.is_empty() && rest.starts_with(heartbeat) {
            rest = &rest[heartbeat.len()..];
        }
        if rest.is_empty() || rest == last {
            return Position::Between(whole);
        }
        let message = messages.next().map_or(&[][..], |message| message);
        let after = rest.strip_prefix(message);
        let Some(after) = after.filter(|after| after.len() < rest.len()) else {
            let cut = [message, heartbeat, last].map(|text| text.starts_with(rest));
            assert!(cut.contains(&true), "bytes that the client is not owed");
            return Position::Within;
        };
        rest = after;
    }
    unreachable!("the output is finite")
}
