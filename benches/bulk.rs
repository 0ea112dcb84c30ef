//! Streams in one direction, beside the floor: what discard takes and chargen gives.

use std::net::SocketAddr;

use crate::common::client::Client;
use crate::common::{Bench, compare};
use crate::peers::Kind;
use criterion::{Criterion, Throughput};

/// Bytes in an iteration, and in a write or a read.
const BYTES: usize = 64 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;

pub(crate) const BENCH: Bench = Bench {
    kind: Kind::Discard,
    targets: &[discard, chargen],
};

/// Sends a stream, until the server has read all of it.
fn fill(server: SocketAddr, chunk: &[u8]) {
    let mut client = Client::connect(server);
    for _ in 0..BYTES / chunk.len() {
        client.send(chunk);
    }
    client.finish(&mut [0]);
}

fn discard(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk/discard");
    group.throughput(Throughput::Bytes(BYTES as u64));
    let start = |server| (server, vec![b'x'; CHUNK]);
    let turn = |(server, chunk): &mut (SocketAddr, Vec<u8>)| fill(*server, chunk);
    compare(&mut group, Kind::Discard, start, turn);
    group.finish();
}

/// Receives a part of a stream without end.
fn chargen(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk/chargen");
    group.throughput(Throughput::Bytes(BYTES as u64));
    let start = |server| (Client::connect(server), vec![0; CHUNK]);
    let turn = |(client, chunk): &mut (Client, Vec<u8>)| {
        for _ in 0..BYTES / chunk.len() {
            client.fill(chunk);
        }
    };
    compare(&mut group, Kind::Chargen, start, turn);
    group.finish();
}
