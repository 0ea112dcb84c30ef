//! Echo of datagrams, beside the floor: one at a time, and 32 under way.

mod common;
mod peers;

use std::net::{SocketAddr, UdpSocket};

use common::{Running, TIMEOUT, settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resound::Echo;

/// Bytes in a datagram.
const SIZE: usize = 64;

/// Sends so many datagrams, and receives as many.
fn exchange(client: &UdpSocket, count: u64, next: &mut u64) {
    let mut datagram = [0; SIZE];
    for number in *next..*next + count {
        datagram[..8].copy_from_slice(&number.to_ne_bytes());
        client.send(&datagram).expect("it can be sent");
    }
    for number in *next..*next + count {
        let n = client.recv(&mut datagram).expect("it comes back in time");
        let back = datagram
            .first_chunk()
            .map(|bytes| u64::from_ne_bytes(*bytes));
        assert_eq!((n, back), (SIZE, Some(number)), "not what was sent");
    }
    *next += count;
}

fn bench(c: &mut Criterion, name: &str, server: SocketAddr) {
    let client = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    client.connect(server).expect("it is an address");
    let set = client.set_read_timeout(Some(TIMEOUT));
    set.expect("it isn't zero");
    let mut next = 0;
    let mut group = c.benchmark_group("udp/echo of 64 B");
    for count in [1, 32] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new(name, count), |b| {
            b.iter(|| exchange(&client, count, &mut next));
        });
    }
    group.finish();
}

fn udp(c: &mut Criterion) {
    let server = Running::datagrams(Echo::new());
    bench(c, "resound", server.address());
    server.stop();
    bench(c, "floor", peers::udp_echo());
}

criterion_group!(name = benches; config = settings(); targets = udp);
criterion_main!(benches);
