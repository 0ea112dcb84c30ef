//! A made-up kernel: bounded socket buffers, edge-triggered readiness that is told once, errors
//! anywhere, a clock that stands still unless everybody sleeps. All from one seed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use rustix::io::Errno;

use super::actor::Actor;
use crate::net::address::Address;
use crate::net::datagram::{BatchCounts, Datagram, ReplyFn};
use crate::net::{Event, Net, Readiness, Stream};

/// Where the server's one socket for datagrams is bound.
pub(super) static MAILBOX: Address =
    Address::Udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7007));

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    data: VecDeque<u8>,
    capacity: usize,
    /// The writer has ended it.
    pub(super) ended: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity - self.data.len()
    }
}

/// A connection: what the kernel knows of both its ends.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of a kernel, in any combination"
)]
pub(super) struct Conn {
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    /// The client has reset it.
    pub(super) reset: bool,
    /// The server has closed it, with input unread or before more came: what was on its way
    /// to the client is destroyed.
    pub(super) destroyed: bool,
    /// The server wants closing to reset it.
    pub(super) cut: bool,
    pub(super) dropped: bool,
    pub(super) dropped_at: Option<Instant>,
    /// When the server shut its output.
    pub(super) shut: Option<Instant>,
    /// When the client last sent something.
    pub(super) heard: Option<Instant>,
    /// All that the kernel took from the server.
    pub(super) taken: Vec<u8>,
    /// When the server last read or wrote something, and the longest that it did neither.
    pub(super) moved: Option<Instant>,
    pub(super) longest_pause: Duration,
    /// When the kernel last took something, and since when it takes no more.
    pub(super) took: Option<Instant>,
    pub(super) stuck_since: Option<Instant>,
    /// Where it has come.
    listener: usize,
    key: Option<usize>,
    edge: Readiness,
    /// The server has read the end or the error.
    end_read: bool,
    /// A write was short: tell when there is room.
    starved: bool,
}

impl fmt::Display for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, pipe) in [
            ("to server", &self.to_server),
            ("to client", &self.to_client),
        ] {
            let (held, capacity) = (pipe.data.len(), pipe.capacity);
            write!(f, "{name} {held} of {capacity}, ended {}; ", pipe.ended)?;
        }
        let Self {
            reset,
            dropped,
            destroyed,
            starved,
            ..
        } = self;
        write!(
            f,
            "reset {reset}, dropped {dropped}, destroyed {destroyed}, starved {starved}"
        )
    }
}

impl Conn {
    /// Something was read, written or ended.
    fn moves(&mut self, now: Instant) {
        let pause = self.moved.map_or(Duration::ZERO, |moved| now - moved);
        self.longest_pause = self.longest_pause.max(pause);
        self.moved = Some(now);
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.to_server.data.is_empty()
    }

    /// The client doesn't take what the server has for it.
    pub(super) fn is_full(&self) -> bool {
        self.starved
    }

    /// What a poller would see now.
    fn level(&self) -> Readiness {
        Readiness {
            readable: !self.to_server.data.is_empty() || self.to_server.ended || self.reset,
            writable: self.to_client.room() > 0 || self.reset,
            ending: self.to_server.ended || self.reset,
        }
    }
}

/// What can go wrong, in one of so many calls; never if 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Odds {
    pub(super) interrupted: usize,
    pub(super) spurious: usize,
    pub(super) aborted_accept: usize,
    /// Events tell the whole state, as epoll does, and not only what is new.
    pub(super) whole_state: bool,
    /// How many connections have a descriptor.
    pub(super) descriptors: usize,
    pub(super) buffer: usize,
    /// Reads stop short though there is more.
    pub(super) cuts_reads: bool,
}

/// The kernel and everybody outside the server.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) conns: Vec<Conn>,
    pub(super) actors: Vec<Actor>,
    pub(super) odds: Odds,
    /// Connections that were not accepted yet, of all listeners.
    backlog: VecDeque<usize>,
    /// For each listener, whether its backlog has become longer, which was not told yet.
    listener_edges: Vec<bool>,
    pub(super) listening: bool,
    /// Datagrams that wait for the server, and what it has answered.
    pub(super) mail: VecDeque<(Vec<u8>, SocketAddr)>,
    pub(super) answers: Vec<(Vec<u8>, SocketAddr)>,
    pub(super) stops: usize,
    /// Connections with an edge that was not told yet, in their order.
    pending: VecDeque<usize>,
    /// Calls of the server since the last wait.
    pub(super) calls: usize,
    /// Waits in a row without sleep after which the server did nothing at all.
    vain: usize,
    open: usize,
    /// The server sleeps for ever, and nobody will wake it.
    pub(super) stuck: bool,
}

impl World {
    pub(super) fn new(rng: Rng, odds: Odds, actors: Vec<Actor>) -> Self {
        Self {
            rng,
            now: Instant::now(),
            conns: Vec::new(),
            actors,
            odds,
            backlog: VecDeque::new(),
            listener_edges: vec![false],
            listening: true,
            mail: VecDeque::new(),
            answers: Vec::new(),
            stops: 0,
            pending: VecDeque::new(),
            calls: 0,
            vain: 0,
            open: 0,
            stuck: false,
        }
    }

    /// There are so many listeners.
    pub(super) fn listen(&mut self, listeners: usize) {
        self.listener_edges = vec![false; listeners];
    }

    fn chance(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.rng.usize(..one_in) == 0
    }

    fn raise(&mut self, id: usize, edge: Readiness) {
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

    /// Moves what was raised into `events`; what is no longer true isn't told.
    fn collect(&mut self, events: &mut Vec<Event>) {
        for (listener, edge) in self.listener_edges.iter_mut().enumerate() {
            if std::mem::take(edge) && self.listening {
                events.push(Event::Listener(listener));
            }
        }
        for _ in 0..std::mem::take(&mut self.stops) {
            events.push(Event::Stop);
        }
        if !self.mail.is_empty() {
            events.push(Event::Datagram(0));
        }
        while let Some(id) = self.pending.pop_front() {
            let spurious = self.chance(self.odds.spurious);
            let whole = self.odds.whole_state;
            let conn = &mut self.conns[id];
            let edge = std::mem::take(&mut conn.edge);
            let level = conn.level();
            let told = Readiness {
                readable: (edge.readable || whole) && level.readable || spurious,
                writable: (edge.writable || whole) && level.writable,
                ending: (edge.ending || whole) && level.ending,
            };
            if let (Some(key), false) = (conn.key, conn.dropped)
                && told != Readiness::default()
            {
                events.push(Event::Client(key, told));
            }
        }
        self.rng.shuffle(events);
    }

    /// Lets the clients act until something has happened or `timeout` has passed.
    fn sleep(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        let deadline = timeout.map(|t| self.now + t);
        loop {
            for _ in 0..self.rng.usize(..4) {
                self.act();
            }
            self.collect(events);
            if !events.is_empty() || deadline.is_some_and(|d| self.now >= d) {
                return;
            }
            if self.actors.iter().any(|a| a.can_act(self)) {
                self.now += Duration::from_micros(self.rng.u64(..300));
                continue;
            }
            let alarm = self.actors.iter().filter_map(|a| a.alarm(self)).min();
            let Some(next) = [alarm, deadline].into_iter().flatten().min() else {
                self.stuck = true;
                return;
            };
            self.now = next.max(self.now);
        }
    }

    /// One step of some client that can take one.
    fn act(&mut self) {
        let able: Vec<usize> = (0..self.actors.len())
            .filter(|&i| self.actors[i].can_act(self))
            .collect();
        if let Some(&i) = able.get(self.rng.usize(..able.len().max(1))) {
            let mut actor = std::mem::take(&mut self.actors[i]);
            actor.act(self);
            self.actors[i] = actor;
        }
    }
}

/// What is checked after each tick.
impl World {
    pub(super) fn conn(&self, stream: &SimStream) -> &Conn {
        &self.conns[stream.id]
    }

    /// Input that the server was told of and has not read.
    pub(super) fn has_unread(&self, stream: &SimStream) -> bool {
        let conn = &self.conns[stream.id];
        conn.edge == Readiness::default() && conn.level().readable && !conn.end_read
    }

    /// The kernel will tell when it takes output again, or has something to tell already.
    pub(super) fn will_tell_of_room(&self, stream: &SimStream) -> bool {
        let conn = &self.conns[stream.id];
        conn.starved || conn.edge != Readiness::default()
    }

    /// The server was told of connections that it has not accepted.
    pub(super) fn has_waiting(&self) -> bool {
        let told = |id: &usize| !self.listener_edges[self.conns[*id].listener];
        self.backlog.iter().any(told)
    }
}

/// What clients do.
impl World {
    /// A new connection, in the listener's backlog; none when nobody listens.
    pub(super) fn connect(&mut self) -> Option<usize> {
        if !self.listening {
            return None;
        }
        let capacity = |rng: &mut Rng, most: usize| rng.usize(1..=most);
        let mut conn = Conn::default();
        conn.to_server.capacity = capacity(&mut self.rng, self.odds.buffer);
        conn.to_client.capacity = capacity(&mut self.rng, self.odds.buffer);
        conn.listener = self.rng.usize(..self.listener_edges.len());
        self.listener_edges[conn.listener] = true;
        self.conns.push(conn);
        self.backlog.push_back(self.conns.len() - 1);
        Some(self.conns.len() - 1)
    }

    /// How many bytes the kernel would take for the server.
    pub(super) fn room(&self, id: usize) -> usize {
        let conn = &self.conns[id];
        if conn.to_server.ended || conn.destroyed {
            0
        } else {
            conn.to_server.room()
        }
    }

    /// Whether a read would tell something: bytes or the end.
    pub(super) fn has_news(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        !conn.to_client.data.is_empty() || conn.to_client.ended || conn.destroyed
    }

    pub(super) fn send(&mut self, id: usize, bytes: &[u8]) {
        let now = self.now;
        let conn = &mut self.conns[id];
        if conn.dropped {
            // Data for a closed socket is answered with a reset.
            conn.destroyed = true;
            return;
        }
        assert!(bytes.len() <= conn.to_server.room());
        conn.to_server.data.extend(bytes);
        conn.heard = Some(now);
        self.raise(
            id,
            Readiness {
                readable: true,
                ..Readiness::default()
            },
        );
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

    pub(super) fn reset(&mut self, id: usize) {
        let keep = self.rng.bool();
        let conn = &mut self.conns[id];
        conn.reset = true;
        if !keep {
            conn.to_server.data.clear();
        }
        let edge = Readiness {
            readable: true,
            writable: true,
            ending: true,
        };
        self.raise(id, edge);
    }

    /// At most `most` bytes for a client, and whether the stream has ended after them.
    pub(super) fn receive(&mut self, id: usize, most: usize) -> (Vec<u8>, bool) {
        let conn = &mut self.conns[id];
        if conn.destroyed {
            return (Vec::new(), true);
        }
        let n = most.min(conn.to_client.data.len());
        let bytes = conn.to_client.data.drain(..n).collect();
        let over = conn.to_client.data.is_empty() && conn.to_client.ended;
        // As Linux does it: not for every byte, but when a good part is free.
        if conn.starved && !conn.dropped && conn.to_client.room() * 3 >= conn.to_client.capacity {
            conn.starved = false;
            self.raise(
                id,
                Readiness {
                    writable: true,
                    ..Readiness::default()
                },
            );
        }
        (bytes, over)
    }
}

/// The kernel as the tick has it.
#[derive(Debug)]
pub(super) struct SimNet(pub(super) Rc<RefCell<World>>);

/// A server's end of a connection.
pub(super) struct SimStream {
    world: Rc<RefCell<World>>,
    id: usize,
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({})", self.id)
    }
}

impl Net for SimNet {
    type Stream = SimStream;

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.vain = if world.calls > 0 { 0 } else { world.vain + 1 };
        world.calls = 0;
        if timeout != Some(Duration::ZERO) {
            world.vain = 0;
        }
        assert!(
            world.vain < 3,
            "the server polls without sleeping and does nothing"
        );
        let odds = world.odds;
        if !world.chance(odds.interrupted) {
            world.sleep(timeout, events);
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<(SimStream, Address)> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let waits = |id: &usize| world.conns[*id].listener == listener;
        let Some(place) = world.backlog.iter().position(waits) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        if world.open >= odds.descriptors {
            return Err(Errno::MFILE.into());
        }
        if world.chance(odds.aborted_accept) {
            let id = world.backlog.remove(place).unwrap();
            world.conns[id].destroyed = true;
            world.conns[id].dropped = true;
            return Err(Errno::CONNABORTED.into());
        }
        let id = world.backlog.remove(place).unwrap();
        world.open += 1;
        world.conns[id].moved = Some(world.now);
        let world = Rc::clone(&self.0);
        let port = u16::try_from(id).unwrap();
        let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok((SimStream { world, id }, address))
    }

    fn register(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        let reused = world.conns.iter().any(|c| c.key == Some(key) && !c.dropped);
        assert!(!reused, "two connections under one key");
        world.conns[stream.id].key = Some(key);
        let level = world.conns[stream.id].level();
        world.raise(stream.id, level);
        Ok(())
    }

    fn local_address(&self, _: usize, _: &SimStream) -> Address {
        Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 7)))
    }

    fn receive_and_reply(&mut self, _: usize, reply: &mut ReplyFn<'_>) -> io::Result<BatchCounts> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let mut done = BatchCounts::default();
        for _ in 0..4 {
            let Some((bytes, source)) = world.mail.pop_front() else {
                break;
            };
            done.received += 1;
            let mut answer = Vec::new();
            let datagram = Datagram {
                bytes: &bytes,
                from: &Address::Udp(source),
                to: None,
            };
            if reply(datagram, &mut answer) {
                done.sent += 1;
                world.answers.push((answer, source));
            }
        }
        done.more = !world.mail.is_empty();
        Ok(done)
    }

    fn is_local(address: SocketAddr) -> bool {
        address.ip().is_loopback()
    }

    fn close_listeners(&mut self) {
        let mut world = self.0.borrow_mut();
        world.listening = false;
        while let Some(id) = world.backlog.pop_front() {
            world.conns[id].destroyed = true;
            world.conns[id].dropped = true;
        }
    }

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn time_of_day(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Read for SimStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let conn = &mut world.conns[self.id];
        if conn.to_server.data.is_empty() {
            conn.end_read = conn.reset || conn.to_server.ended;
            return match (conn.reset, conn.to_server.ended) {
                (true, _) => Err(ErrorKind::ConnectionReset.into()),
                (false, true) => Ok(0),
                (false, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        // Not `VecDeque::read`, which stops at the wrap: a short read means drained.
        let n = buffer.len().min(conn.to_server.data.len());
        let n = if odds.cuts_reads {
            world.rng.usize(1..=n)
        } else {
            n
        };
        let conn = &mut world.conns[self.id];
        for (to, from) in buffer.iter_mut().zip(conn.to_server.data.drain(..n)) {
            *to = from;
        }
        let now = world.now;
        world.conns[self.id].moves(now);
        Ok(n)
    }
}

impl Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = world.now;
        let conn = &mut world.conns[self.id];
        assert!(conn.shut.is_none(), "a write after the output was shut");
        if conn.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(conn.to_client.room());
        conn.starved |= n < bytes.len();
        if n == 0 {
            conn.stuck_since.get_or_insert(now);
            return Err(ErrorKind::WouldBlock.into());
        }
        conn.stuck_since = (n < bytes.len()).then_some(now);
        conn.to_client.data.extend(&bytes[..n]);
        conn.taken.extend(&bytes[..n]);
        conn.moves(now);
        conn.took = Some(now);
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SimStream {
    fn short_read_drains(&self) -> bool {
        !self.world.borrow().odds.cuts_reads
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let now = world.now;
        let conn = &mut world.conns[self.id];
        assert!(conn.shut.is_none(), "the output is shut twice");
        conn.shut = Some(now);
        conn.moves(now);
        conn.to_client.ended = true;
        if conn.reset {
            Err(ErrorKind::NotConnected.into())
        } else {
            Ok(())
        }
    }

    fn reset_on_close(&mut self) {
        self.world.borrow_mut().conns[self.id].cut = true;
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        world.open -= 1;
        let now = world.now;
        let conn = &mut world.conns[self.id];
        conn.dropped = true;
        conn.dropped_at = Some(now);
        conn.moves(now);
        conn.to_client.ended = true;
        if conn.cut || !conn.to_server.data.is_empty() {
            conn.destroyed = true;
        }
    }
}
