//! A simulated kernel: bounded socket buffers, edge-triggered readiness that is reported once, and
//! errors in any call. Chance decides by a seed; the clock moves only when the simulation moves it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use fastrand::Rng;

use super::conn::Conn;
use crate::net::{Event, Readiness};

/// Odds of each fault, as one in a number of calls (0: never), and limits of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Odds {
    /// Odds of an interrupted call.
    pub(super) interrupted: usize,
    /// Odds of an event for input that isn't there.
    pub(super) spurious: usize,
    /// Odds of a connection that is aborted before it is accepted.
    pub(super) aborted_accept: usize,
    /// True if events report the whole state, as epoll does, and not only changes.
    pub(super) whole_state: bool,
    /// True if reads may stop short of the available input.
    pub(super) cuts_reads: bool,
    /// Most connections that the server can have open.
    pub(super) descriptors: usize,
    /// Largest buffer of a direction, in bytes.
    pub(super) buffer: usize,
    /// True if every buffer is that large.
    pub(super) full_size: bool,
}

/// The kernel: connections, listeners, datagrams, and the clock.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) odds: Odds,
    /// All connections that there ever were.
    pub(super) conns: Vec<Conn>,
    /// Connections with an edge that no event has reported yet, oldest first.
    pending: VecDeque<usize>,
    /// The accept queue of all listeners.
    pub(super) accept_queue: VecDeque<usize>,
    /// For each listener, true if a connection was queued that no event has reported yet.
    listener_edges: Vec<bool>,
    pub(super) listening: bool,
    /// The listener whose clients the server keeps although their input has ended.
    pub(super) subscribe_listener: Option<usize>,
    /// True if the first connection is standard input.
    pub(super) has_stdin: bool,
    /// Datagrams that the server has yet to receive, with their sources.
    pub(super) datagrams: VecDeque<(Vec<u8>, SocketAddr)>,
    /// Datagrams that the server has sent, with their destinations.
    pub(super) replies: Vec<(Vec<u8>, SocketAddr)>,
    /// Stop events that the server has yet to get.
    pub(super) stops: usize,
    /// Connections that the server has open.
    pub(super) open: usize,
    /// Calls of the server since the last wait.
    pub(super) calls: usize,
}

impl Kernel {
    /// A kernel with one listener.
    pub(super) fn new(rng: Rng, odds: Odds) -> Self {
        Self {
            rng,
            now: Instant::now(),
            odds,
            conns: Vec::new(),
            pending: VecDeque::new(),
            accept_queue: VecDeque::new(),
            listener_edges: vec![false],
            listening: true,
            subscribe_listener: None,
            has_stdin: false,
            datagrams: VecDeque::new(),
            replies: Vec::new(),
            stops: 0,
            open: 0,
            calls: 0,
        }
    }

    /// Sets the number of listeners.
    pub(super) fn listen(&mut self, listeners: usize) {
        self.listener_edges = vec![false; listeners];
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.rng.usize(..one_in) == 0
    }

    /// Notes a connection's readiness for the next event.
    pub(super) fn raise(&mut self, id: usize, edge: Readiness) {
        let conn = &mut self.conns[id];
        if conn.key.is_none() || conn.dropped {
            return;
        }
        if conn.edge == Readiness::default() {
            self.pending.push_back(id);
        }
        conn.edge.readable |= edge.readable;
        conn.edge.writable |= edge.writable;
        conn.edge.ending |= edge.ending;
    }

    /// Moves all readiness that was raised into `events`, except what is no longer true.
    pub(super) fn collect(&mut self, events: &mut Vec<Event>) {
        for (listener, edge) in self.listener_edges.iter_mut().enumerate() {
            if std::mem::take(edge) && self.listening {
                events.push(Event::Listener(listener));
            }
        }
        for _ in 0..std::mem::take(&mut self.stops) {
            events.push(Event::Stop);
        }
        if !self.datagrams.is_empty() {
            events.push(Event::Datagram(0));
        }
        while let Some(id) = self.pending.pop_front() {
            events.extend(self.event(id));
        }
        self.rng.shuffle(events);
    }

    /// The event for a connection's edge; none if there is nothing left to report.
    fn event(&mut self, id: usize) -> Option<Event> {
        let spurious = self.chance(self.odds.spurious);
        let whole = self.odds.whole_state;
        let conn = &mut self.conns[id];
        let edge = std::mem::take(&mut conn.edge);
        let level = conn.level();
        let ready = Readiness {
            readable: (edge.readable || whole) && level.readable || spurious,
            writable: (edge.writable || whole) && level.writable,
            ending: (edge.ending || whole) && level.ending,
            hung_up: level.hung_up,
        };
        let key = conn.key.filter(|_| !conn.dropped)?;
        (ready != Readiness::default()).then_some(Event::Client(key, ready))
    }
}

/// Calls of the clients.
impl Kernel {
    /// A new connection, in the accept queue of any listener; none if the server no longer listens.
    pub(super) fn connect(&mut self) -> Option<usize> {
        if !self.listening {
            return None;
        }
        let least = if self.odds.full_size {
            self.odds.buffer
        } else {
            1
        };
        let capacity = |rng: &mut Rng, most: usize| rng.usize(least..=most);
        let mut conn = Conn::default();
        conn.to_server.capacity = capacity(&mut self.rng, self.odds.buffer);
        conn.to_client.capacity = capacity(&mut self.rng, self.odds.buffer);
        conn.listener = self.rng.usize(..self.listener_edges.len());
        self.listener_edges[conn.listener] = true;
        let id = self.conns.len();
        conn.is_stdin = self.has_stdin && id == 0;
        self.conns.push(conn);
        self.accept_queue.push_back(id);
        Some(id)
    }

    /// Bytes that a client could send now.
    pub(super) fn room(&self, id: usize) -> usize {
        let conn = &self.conns[id];
        if conn.to_server.ended || conn.reset_by_server {
            0
        } else {
            conn.to_server.room()
        }
    }

    /// True if a client would receive bytes or the end now.
    pub(super) fn is_receivable(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        !conn.to_client.data.is_empty() || conn.to_client.ended || conn.reset_by_server
    }

    pub(super) fn send(&mut self, id: usize, bytes: &[u8]) {
        let now = self.now;
        let conn = &mut self.conns[id];
        if conn.dropped {
            // TCP answers data for a closed socket with a reset.
            conn.reset_by_server = true;
            return;
        }
        assert!(bytes.len() <= conn.to_server.room());
        conn.to_server.data.extend(bytes);
        conn.history.sent_at = Some(now);
        let edge = Readiness {
            readable: true,
            ..Readiness::default()
        };
        self.raise(id, edge);
    }

    pub(super) fn half_close(&mut self, id: usize) {
        self.conns[id].to_server.ended = true;
        let edge = Readiness {
            readable: true,
            ending: true,
            ..Readiness::default()
        };
        self.raise(id, edge);
    }

    /// Resets a connection. Input that the server has not read may be lost.
    pub(super) fn reset(&mut self, id: usize) {
        let keep = self.rng.bool();
        let conn = &mut self.conns[id];
        conn.reset_by_client = true;
        if !keep {
            conn.to_server.data.clear();
        }
        let edge = Readiness {
            readable: true,
            writable: true,
            ending: true,
            hung_up: false,
        };
        self.raise(id, edge);
    }

    /// Takes at most `most` bytes for a client. True if the stream has ended after them.
    pub(super) fn receive(&mut self, id: usize, most: usize) -> (Vec<u8>, bool) {
        let conn = &mut self.conns[id];
        if conn.reset_by_server {
            return (Vec::new(), true);
        }
        let pipe = &mut conn.to_client;
        let n = most.min(pipe.data.len());
        let bytes = pipe.data.drain(..n).collect();
        let ended = pipe.data.is_empty() && pipe.ended;
        // Linux reports room only when a third of the buffer is free.
        let reports = pipe.room() * 3 >= pipe.capacity;
        if conn.write_blocked && !conn.dropped && reports {
            conn.write_blocked = false;
            let edge = Readiness {
                writable: true,
                ..Readiness::default()
            };
            self.raise(id, edge);
        }
        (bytes, ended)
    }
}

/// Facts for the checks after each tick.
impl Kernel {
    /// True if input was reported to the server that it has not read.
    pub(super) fn has_reported_input(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        conn.edge == Readiness::default() && conn.level().readable && !conn.history.end_read
    }

    /// True if an event will follow once a connection has room for output.
    pub(super) fn will_report_room(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        conn.write_blocked || conn.edge != Readiness::default()
    }

    /// True if connections were reported to the server that it has not accepted.
    pub(super) fn has_reported_connections(&self) -> bool {
        let reported = |id: &usize| !self.listener_edges[self.conns[*id].listener];
        self.accept_queue.iter().any(reported)
    }
}
