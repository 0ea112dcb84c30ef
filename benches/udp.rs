//! Echo of datagrams: one at a time, and 32 in flight.

use std::net::{SocketAddr, UdpSocket};

use crate::common::client::{give_up, insist};
use crate::common::{Bench, compare, some};
use crate::peers::Kind;
use criterion::{Criterion, Throughput};
use rustix::event::PollFlags;

/// Bytes in a datagram.
const SIZE: usize = 64;

pub(crate) const BENCH: Bench = Bench {
    kind: Kind::Datagrams,
    targets: &[udp],
};

struct Exchange {
    socket: UdpSocket,
    count: u64,
    /// The next datagram's number.
    next: u64,
}

impl Exchange {
    fn new(server: SocketAddr, count: u64) -> Self {
        let any: SocketAddr = if server.is_ipv6() {
            ([0; 8], 0).into()
        } else {
            ([0; 4], 0).into()
        };
        let socket = UdpSocket::bind(any).expect("there is a free port");
        socket.connect(server).expect("it is an address");
        socket.set_nonblocking(true).expect("a socket can do that");
        Self {
            socket,
            count,
            next: 0,
        }
    }

    /// Sends `count` datagrams, and receives as many.
    fn turn(&mut self) {
        let mut datagram = [0; SIZE];
        let numbers = self.next..self.next + self.count;
        for number in numbers.clone() {
            datagram[..8].copy_from_slice(&number.to_ne_bytes());
            insist(&self.socket, PollFlags::OUT, || self.socket.send(&datagram));
        }
        for number in numbers {
            let n = insist(&self.socket, PollFlags::IN, || {
                self.socket.recv(&mut datagram)
            });
            if n != SIZE || datagram[..8] != number.to_ne_bytes() {
                give_up("a datagram was changed by the echo");
            }
        }
        self.next += self.count;
    }
}

fn udp(c: &mut Criterion) {
    for count in [1, 32] {
        let under_way = some(count, "datagram");
        let mut group = c.benchmark_group(format!("udp/{under_way} of 64 B under way"));
        let count = count as u64;
        group.throughput(Throughput::Elements(count));
        let start = |server| Exchange::new(server, count);
        compare(&mut group, Kind::Datagrams, start, Exchange::turn);
        group.finish();
    }
}
