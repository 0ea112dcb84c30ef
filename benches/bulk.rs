//! Streams in one direction, beside the floor: what discard takes and chargen gives.

mod common;
mod peers;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use common::{Running, settings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use resound::{Chargen, Discard};

/// Bytes in an iteration, and in a write or a read.
const BYTES: usize = 64 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// Sends a stream, until the server has read all of it.
fn fill(server: SocketAddr, chunk: &[u8]) {
    let mut client = TcpStream::connect(server).expect("the server listens");
    for _ in 0..BYTES / chunk.len() {
        client.write_all(chunk).expect("the server reads");
    }
    client.shutdown(Shutdown::Write).expect("it is connected");
    let rest = client.read(&mut [0]).expect("the server closes");
    assert_eq!(rest, 0, "discard says something");
}

/// Receives a part of a stream without end.
fn drain(client: &mut TcpStream, chunk: &mut [u8]) {
    for _ in 0..BYTES / chunk.len() {
        client.read_exact(chunk).expect("there is always more");
    }
}

fn discard(c: &mut Criterion) {
    let server = Running::start(Discard::new());
    let chunk = vec![b'x'; CHUNK];
    let mut group = c.benchmark_group("bulk/discard");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(20);
    for (name, address) in [("resound", server.address()), ("floor", peers::discard())] {
        group.bench_function(name, |b| b.iter(|| fill(address, &chunk)));
    }
    group.finish();
    server.stop();
}

fn chargen(c: &mut Criterion) {
    let server = Running::start(Chargen::new(false));
    let mut chunk = vec![0; CHUNK];
    let mut group = c.benchmark_group("bulk/chargen");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(20);
    for (name, address) in [("resound", server.address()), ("floor", peers::chargen())] {
        let mut client = TcpStream::connect(address).expect("the server listens");
        group.bench_function(name, |b| b.iter(|| drain(&mut client, &mut chunk)));
    }
    group.finish();
    server.end();
}

criterion_group!(name = benches; config = settings(); targets = discard, chargen);
criterion_main!(benches);
