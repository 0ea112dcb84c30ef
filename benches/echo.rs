//! Echo over real sockets: round trips, pipelining, a bulk stream, short-lived connections.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::client::{Client, give_up};
use crate::common::{Bench, compare, some};
use crate::peers::Kind;
use criterion::{Criterion, Throughput};

/// Bytes in a short message.
const SHORT: usize = 64;

/// Bytes that a bulk stream sends in one go.
const CHUNK: usize = 64 * 1024;

/// Bytes of a bulk stream in an iteration.
const STREAM: usize = 256 * CHUNK;

/// Bytes of a bulk stream that are on their way at any time.
const WINDOW: usize = 4 * CHUNK;

pub(crate) const BENCH: Bench = Bench {
    kind: Kind::Echo,
    targets: &[round_trip, pipelined, bulk, connect],
};

/// Bytes sent in one go: a message, or some of them at once, each with a number of its own
/// at its end.
struct Batch {
    bytes: Vec<u8>,
    /// Bytes in a message.
    size: usize,
}

impl Batch {
    fn new(size: usize, count: usize) -> Self {
        let bytes = (0..=u8::MAX).cycle().take(size * count).collect();
        Self { bytes, size }
    }

    /// The batch with numbers from `first` on.
    fn numbered(&mut self, first: u64) -> &[u8] {
        for (number, message) in (first..).zip(self.bytes.chunks_exact_mut(self.size)) {
            let (_, end) = message.split_last_chunk_mut().expect("a number fits");
            *end = number.to_ne_bytes();
        }
        &self.bytes
    }
}

/// Clients that each send a batch of messages, and get it back.
struct Exchange {
    clients: Vec<Client>,
    batch: Batch,
    count: usize,
    /// The next message's number.
    next: u64,
    buffer: Vec<u8>,
}

impl Exchange {
    fn new(server: SocketAddr, clients: usize, size: usize, count: usize) -> Self {
        Self {
            clients: Client::many(server, clients),
            batch: Batch::new(size, count),
            count,
            next: 0,
            buffer: Vec::new(),
        }
    }

    fn turn(&mut self) {
        let numbers = (self.next..).step_by(self.count);
        for (number, client) in numbers.clone().zip(&mut self.clients) {
            client.send(self.batch.numbered(number));
        }
        for (number, client) in numbers.zip(&mut self.clients) {
            client.receive(self.batch.numbered(number), &mut self.buffer);
        }
        self.next += (self.clients.len() * self.count) as u64;
    }
}

/// One iteration is a batch of `count` messages from each client, and back.
fn exchange(c: &mut Criterion, group: &str, size: usize, count: usize, clients: usize) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements((clients * count) as u64));
    let start = |server| Exchange::new(server, clients, size, count);
    compare(&mut group, Kind::Echo, start, Exchange::turn);
    group.finish();
}

fn round_trip(c: &mut Criterion) {
    for (size, name) in [(SHORT, "64 B"), (4096, "4 KiB")] {
        for clients in [1, 50, 1000] {
            let by = some(clients, "client");
            exchange(
                c,
                &format!("echo/round trip of {name} by {by}"),
                size,
                1,
                clients,
            );
        }
    }
}

fn pipelined(c: &mut Criterion) {
    let group = "echo/pipelined, 16 of 64 B by 50 clients";
    exchange(c, group, SHORT, 16, 50);
}

/// A client that sends without end, `WINDOW` bytes ahead of the echo.
struct Stream {
    client: Client,
    chunk: Batch,
    expected: Batch,
    /// Chunks sent and received in earlier iterations.
    chunks: u64,
    buffer: Vec<u8>,
}

impl Stream {
    fn new(server: SocketAddr) -> Self {
        Self {
            client: Client::connect(server),
            chunk: Batch::new(CHUNK, 1),
            expected: Batch::new(CHUNK, 1),
            chunks: 0,
            buffer: vec![0; CHUNK],
        }
    }

    fn turn(&mut self) {
        let (mut sent, mut received) = (0, 0);
        while received < STREAM {
            let number = self.chunks + (sent / CHUNK) as u64;
            let chunk = &self.chunk.numbered(number)[sent % CHUNK..];
            let may_send = sent < STREAM && sent < received + WINDOW;
            let output = if may_send { chunk } else { &[] };
            let input = &mut self.buffer[received % CHUNK..];
            let (out, back) = self.client.exchange(output, input);
            sent += out;
            received += back;
            if back > 0 && received % CHUNK == 0 {
                self.check((received / CHUNK) as u64 - 1);
            }
        }
        self.chunks += (STREAM / CHUNK) as u64;
    }

    /// Compares the end of a chunk: it has the chunk's number.
    fn check(&mut self, number: u64) {
        let expected = self.expected.numbered(self.chunks + number);
        if self.buffer[CHUNK - SHORT..] != expected[CHUNK - SHORT..] {
            give_up("the stream was changed by the echo");
        }
    }
}

fn bulk(c: &mut Criterion) {
    let mut group = c.benchmark_group("echo/bulk stream");
    group.throughput(Throughput::Bytes(STREAM as u64));
    compare(&mut group, Kind::Echo, Stream::new, Stream::turn);
    group.finish();
}

/// A client that connects, has one message echoed and ends, until the server has ended too.
fn visit(server: SocketAddr) {
    let (message, mut buffer) = ([b'x'; SHORT], Vec::new());
    let mut client = Client::connect(server);
    client.send(&message);
    client.receive(&message, &mut buffer);
    client.finish(&mut buffer);
}

/// Measured for a short time: each iteration takes a port from the system, which gets it back
/// later, and there are only some ten thousand.
fn connect(c: &mut Criterion) {
    let mut group = c.benchmark_group("echo/connect, echo, close");
    group.throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(1));
    compare(
        &mut group,
        Kind::Echo,
        |server| server,
        |server| visit(*server),
    );
    group.finish();
}
