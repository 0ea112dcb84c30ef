//! Broadcast over real sockets: a flood of lines to many subscribers, and a single line to all.

mod common;

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use common::{Running, TIMEOUT, receive, send, settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resound::Broadcast;

/// Bytes in a line.
const LINE: usize = 64;

/// Lines in a flood.
const LINES: usize = 1000;

/// How long a subscriber waits for a probe before another is sent.
const PROBE: Duration = Duration::from_millis(20);

/// Probes after which a subscriber that has seen none is never going to.
const PROBES: usize = 500;

/// The service under load.
fn broadcast() -> Broadcast {
    Broadcast::new(resound::Room::default()).expect("the defaults go together")
}

/// A room with one client that publishes and many that read.
struct Room {
    server: Running,
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Room {
    /// A room whose subscribers have all joined, and have nothing left to read.
    fn new(subscribers: usize) -> Self {
        let server = Running::start(broadcast());
        let mut room = Self {
            publisher: server.client(),
            subscribers: server.clients(subscribers),
            server,
            buffer: Vec::new(),
        };
        room.await_subscribers();
        room
    }

    /// Everybody has joined when everybody has seen a probe; then a last line, which comes
    /// after every probe, tells where they end.
    fn await_subscribers(&mut self) {
        let (probe, last) = (lines("probe", 1), lines("last", 1));
        for subscriber in &mut self.subscribers {
            let joined = (0..PROBES).any(|_| {
                let seen = has_input(subscriber);
                if !seen {
                    send(&mut self.publisher, &probe);
                }
                seen
            });
            assert!(joined, "a subscriber was never served");
        }
        send(&mut self.publisher, &last);
        for subscriber in &mut self.subscribers {
            while next_line(subscriber) != last[..] {}
        }
    }

    /// Publishes lines and waits until every subscriber has received all of them.
    fn deliver(&mut self, lines: &[u8]) {
        send(&mut self.publisher, lines);
        for subscriber in &mut self.subscribers {
            receive(subscriber, lines, &mut self.buffer);
        }
    }

    fn close(self) {
        drop((self.publisher, self.subscribers));
        self.server.stop();
    }
}

/// Whether a subscriber has something to read, or soon gets it.
fn has_input(subscriber: &TcpStream) -> bool {
    let limited = |limit| subscriber.set_read_timeout(Some(limit));
    limited(PROBE).expect("the socket has this option");
    let peeked = subscriber.peek(&mut [0]);
    limited(TIMEOUT).expect("the socket has this option");
    match peeked {
        Ok(bytes) => {
            assert!(bytes > 0, "the server has closed a subscriber");
            true
        }
        Err(e) if matches!(e.kind(), WouldBlock | TimedOut) => false,
        Err(e) => panic!("a subscriber was lost: {e}"),
    }
}

fn next_line(subscriber: &mut TcpStream) -> [u8; LINE] {
    let mut line = [0; LINE];
    let received = subscriber.read_exact(&mut line);
    received.expect("the last line comes in time");
    line
}

/// Numbered lines of equal length.
fn lines(text: &str, count: usize) -> Vec<u8> {
    let line = |n| format!("{text} {n:0width$}\n", width = LINE - text.len() - 2);
    (0..count).map(line).collect::<String>().into_bytes()
}

/// One iteration is the publication of `count` lines and the delivery of each to each subscriber.
fn bench_delivery(c: &mut Criterion, group: &str, count: usize, subscribers: usize) {
    let mut room = Room::new(subscribers);
    let lines = lines("line", count);
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements((count * subscribers) as u64));
    let id = BenchmarkId::new(format!("{LINE} B"), subscribers);
    group.bench_function(id, |b| b.iter(|| room.deliver(&lines)));
    group.finish();
    room.close();
}

/// The lines arrive in one piece and go out in one piece to each: what a delivery costs at best.
fn flood(c: &mut Criterion) {
    for subscribers in [10, 100, 1000] {
        bench_delivery(c, "broadcast/flood of 1,000 lines", LINES, subscribers);
    }
}

fn one_to_all(c: &mut Criterion) {
    bench_delivery(c, "broadcast/one line to all", 1, 100);
}

criterion_group!(
    name = benches;
    config = settings();
    targets = flood, one_to_all
);
criterion_main!(benches);
