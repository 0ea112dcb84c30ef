//! Broadcast over real sockets: a flood of lines to many subscribers, by one and by several, beside
//! a client that does not read; and a single line to all.

use std::net::SocketAddr;

use crate::common::client::{Client, give_up};
use crate::common::remote::remote;
use crate::common::room::{LINE, gather, lines};
use crate::common::{Bench, compare, some};
use crate::peers::Kind;
use criterion::{Criterion, Throughput};

/// Lines in a flood.
const LINES: usize = 1000;

/// Floods after which the kernel takes nothing more for a client that doesn't read: they
/// are more than the 4 MiB and 6 MiB that Linux gives to both ends of a connection at most.
const FLOODS: usize = 200;

pub(crate) const BENCH: Bench = Bench {
    kind: Kind::Broadcast,
    targets: &[flood, publishers, stopped, one_to_all],
};

/// Some clients that publish, and many that read.
struct Room {
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// The lines that each publisher sends in an iteration.
    texts: Vec<Vec<u8>>,
    /// The subscriber whose lines are compared next.
    looked_at: usize,
    buffer: Vec<u8>,
}

impl Room {
    /// A room whose clients have all joined, and have nothing left to read.
    fn new(server: SocketAddr, publishers: usize, subscribers: usize, count: usize) -> Self {
        let own = count / publishers;
        let mut room = Self {
            publishers: Client::many(server, publishers),
            subscribers: Client::many(server, subscribers),
            texts: (0..publishers)
                .map(|n| lines(&format!("{n}"), own))
                .collect(),
            looked_at: 0,
            buffer: Vec::new(),
        };
        let (first, others) = room
            .publishers
            .split_first_mut()
            .expect("there is a publisher");
        gather(first, others.iter_mut().chain(&mut room.subscribers));
        room
    }

    /// The same beside a client that doesn't read, and to which nothing more can be sent.
    fn with_stopped(server: SocketAddr, subscribers: usize) -> (Self, Client) {
        let stopped = Client::connect(server);
        let mut room = Self::new(server, 1, subscribers, LINES);
        for _ in 0..FLOODS {
            room.turn();
        }
        (room, stopped)
    }

    /// Publishes the lines of all and waits until every client has received those of the others.
    fn turn(&mut self) {
        for (publisher, text) in self.publishers.iter_mut().zip(&self.texts) {
            publisher.send(text);
        }
        if let [text] = &self.texts[..] {
            for subscriber in &mut self.subscribers {
                subscriber.receive(text, &mut self.buffer);
            }
        } else {
            self.receive_from_all();
        }
    }

    /// Lines of several publishers are received in any order, those of each in its own. The order is
    /// checked for one subscriber an iteration: comparing must not be what is measured.
    fn receive_from_all(&mut self) {
        self.buffer.resize(self.texts.iter().map(Vec::len).sum(), 0);
        for (number, subscriber) in self.subscribers.iter_mut().enumerate() {
            subscriber.fill(&mut self.buffer);
            if number == self.looked_at && !in_order(&self.buffer, &self.texts) {
                give_up("the lines of some publisher have not arrived as they were sent");
            }
        }
        for (publisher, own) in self.publishers.iter_mut().zip(&self.texts) {
            let others = self.buffer.len() - own.len();
            publisher.fill(&mut self.buffer[..others]);
        }
        self.looked_at = (self.looked_at + 1) % self.subscribers.len();
    }
}

/// True if all lines are there, each once, and those of a publisher in its order.
fn in_order(received: &[u8], texts: &[Vec<u8>]) -> bool {
    let mut rest: Vec<_> = texts.iter().map(|text| text.chunks_exact(LINE)).collect();
    received.chunks_exact(LINE).all(|line| {
        let publisher = usize::from(line[0].wrapping_sub(b'0'));
        rest.get_mut(publisher).and_then(Iterator::next) == Some(line)
    })
}

/// One iteration is the publication of `count` lines, and the delivery of each to all others.
fn deliver(c: &mut Criterion, group: &str, publishers: usize, subscribers: usize, count: usize) {
    let mut group = c.benchmark_group(group);
    let deliveries = count * (subscribers + publishers - 1);
    group.throughput(Throughput::Elements(deliveries as u64));
    let start = |server| Room::new(server, publishers, subscribers, count);
    compare(&mut group, Kind::Broadcast, start, Room::turn);
    group.finish();
}

/// The lines arrive in one piece and go out in one piece to each: the least cost of a delivery.
fn flood(c: &mut Criterion) {
    for subscribers in [10, 100, 1000] {
        let to = some(subscribers, "subscriber");
        deliver(
            c,
            &format!("broadcast/flood to {to}"),
            1,
            subscribers,
            LINES,
        );
    }
}

fn publishers(c: &mut Criterion) {
    deliver(c, "broadcast/flood by 10 publishers to 100", 10, 100, LINES);
}

fn one_to_all(c: &mut Criterion) {
    deliver(c, "broadcast/one line to 100", 1, 100, 1);
}

/// A client that doesn't read misses lines, and no other waits for it.
fn stopped(c: &mut Criterion) {
    if remote().is_some() {
        eprintln!("broadcast: beside a stopped reader only servers of our own are measured");
        return;
    }
    let mut group = c.benchmark_group("broadcast/flood to 100 beside a stopped reader");
    group.throughput(Throughput::Elements((LINES * 100) as u64));
    let start = |server| Room::with_stopped(server, 100);
    let turn = |(room, _): &mut (Room, Client)| room.turn();
    compare(&mut group, Kind::Skipping, start, turn);
    group.finish();
}
