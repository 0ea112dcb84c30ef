//! Echo over real sockets: round trips, pipelining, a bulk stream, short-lived connections.

mod common;

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::{Running, receive, send, settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resound::Echo;

/// Bytes in a short message.
const SHORT: usize = 64;

/// Bytes that a bulk stream sends in one go.
const CHUNK: usize = 64 * 1024;

/// Chunks of a bulk stream that are on their way at any time. The server takes as much from a
/// client that reads nothing, its high-water mark, so sending them never waits for receiving.
const WINDOW: usize = 4;

/// Chunks of a bulk stream in an iteration.
const CHUNKS: usize = 256;

/// What is sent in one go: a message, or some of them at once, each with a number of its own
/// at its end.
struct Batch {
    bytes: Vec<u8>,
    /// Bytes in a message.
    size: usize,
    /// Messages in the batch.
    count: usize,
    /// The next number.
    next: u64,
}

impl Batch {
    fn new(size: usize, count: usize) -> Self {
        Self {
            bytes: (0..=u8::MAX).cycle().take(size * count).collect(),
            size,
            count,
            next: 0,
        }
    }

    /// The batch with numbers from `first` on.
    fn numbered(&mut self, first: u64) -> &[u8] {
        for (number, message) in (first..).zip(self.bytes.chunks_exact_mut(self.size)) {
            let (_, end) = message.split_last_chunk_mut().expect("a number fits");
            *end = number.to_ne_bytes();
        }
        &self.bytes
    }

    /// Sends a batch to the server from every client, then receives them all.
    fn exchange(&mut self, clients: &mut [TcpStream], buffer: &mut Vec<u8>) {
        let numbers = (self.next..).step_by(self.count);
        for (number, client) in numbers.clone().zip(&mut *clients) {
            send(client, self.numbered(number));
        }
        for (number, client) in numbers.zip(&mut *clients) {
            receive(client, self.numbered(number), buffer);
        }
        self.next += (clients.len() * self.count) as u64;
    }
}

/// One iteration is a batch of `count` messages from each client, and back.
fn bench_exchange(c: &mut Criterion, group: &str, size: usize, count: usize, clients: usize) {
    let server = Running::start(Echo::new());
    let mut streams = server.clients(clients);
    let mut batch = Batch::new(size, count);
    let mut buffer = Vec::new();
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements((clients * count) as u64));
    let id = BenchmarkId::new(format!("{size} B"), clients);
    group.bench_function(id, |b| {
        b.iter(|| batch.exchange(&mut streams, &mut buffer));
    });
    group.finish();
    drop(streams);
    server.stop();
}

fn round_trip(c: &mut Criterion) {
    for size in [SHORT, 4096] {
        for clients in [1, 50, 1000] {
            bench_exchange(c, "echo/round trip", size, 1, clients);
        }
    }
}

fn pipelined(c: &mut Criterion) {
    bench_exchange(c, "echo/pipelined by 16", SHORT, 16, 50);
}

/// A stream of chunks by one client, `WINDOW` of them ahead of what has come back.
fn stream(client: &mut TcpStream, chunks: &mut Batch, buffer: &mut Vec<u8>) {
    let first = chunks.next;
    chunks.next += CHUNKS as u64;
    for number in first..chunks.next + WINDOW as u64 {
        if number < chunks.next {
            send(client, chunks.numbered(number));
        }
        if let Some(back) = number.checked_sub(WINDOW as u64)
            && back >= first
        {
            receive(client, chunks.numbered(back), buffer);
        }
    }
}

fn bulk(c: &mut Criterion) {
    let server = Running::start(Echo::new());
    let mut client = server.client();
    let mut chunks = Batch::new(CHUNK, 1);
    let mut buffer = Vec::new();
    let mut group = c.benchmark_group("echo/bulk");
    group.throughput(Throughput::Bytes((CHUNKS * CHUNK) as u64));
    group.bench_function("1 connection", |b| {
        b.iter(|| stream(&mut client, &mut chunks, &mut buffer));
    });
    group.finish();
    drop(client);
    server.stop();
}

/// A client that comes, has one message echoed, and goes; until the server has gone, too.
fn visit(server: &Running, message: &[u8], buffer: &mut Vec<u8>) {
    let mut client = server.client();
    send(&mut client, message);
    receive(&mut client, message, buffer);
    let ended = client.shutdown(Shutdown::Write);
    ended.expect("the client is connected");
    let rest = client.read(buffer).expect("the server closes in time");
    assert_eq!(rest, 0, "more came back than was sent");
}

/// Measured for a short time: each iteration takes a port from the system, which gets it back
/// much later, and there are only some ten thousand.
fn connect(c: &mut Criterion) {
    let server = Running::start(Echo::new());
    let message = [b'x'; SHORT];
    let mut buffer = Vec::new();
    let mut group = c.benchmark_group("echo/connect, echo, close");
    group.throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(1));
    group.bench_function("64 B", |b| {
        b.iter(|| visit(&server, &message, &mut buffer));
    });
    group.finish();
    server.stop();
}

criterion_group!(
    name = benches;
    config = settings();
    targets = round_trip, pipelined, bulk, connect
);
criterion_main!(benches);
