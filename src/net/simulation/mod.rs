//! A simulated kernel for loops that open connections: outcomes of connecting at any time or never,
//! full accept queues, small buffers, readiness that is told once, waits that return early, a clock
//! that stands still unless the loop waits. All of it comes from one seed.
//!
//! The other ends are a [`Remote`], which a test writes. `SEED=7 cargo test` runs one seed again,
//! `SEEDS=100000` that many.

mod connection;
mod net;
mod remote;
mod seeds;
mod world;

pub(crate) use connection::History;
pub(crate) use net::{SimNet, SimStream};
pub(crate) use seeds::for_each_seed;
pub(crate) use world::{Odds, Remote, Stops, World};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Slices;
    use crate::net::address::Address;
    use crate::net::link::Link;
    use crate::net::{ConnectOptions, Datagrams, Dial, Event, Net};
    use fastrand::Rng;
    use std::io::{ErrorKind, Write};
    use std::time::Duration;

    /// A remote end that returns what it receives, and ends when the loop has.
    struct Echo;

    impl Remote for Echo {
        fn act(&mut self, world: &mut World) -> bool {
            for id in 0..world.count() {
                let room = world.room(id);
                if let Some(datagram) = world.receive_datagram(id) {
                    world.send_datagram(id, &datagram);
                    return true;
                }
                if room > 0 && world.is_connected(id) && world.has_input(id) {
                    let (bytes, ended) = world.receive(id, room);
                    world.send(id, &bytes);
                    if ended {
                        world.half_close(id);
                    }
                    return true;
                }
            }
            false
        }
    }

    fn net(seed: u64, change: impl FnOnce(&mut Odds)) -> SimNet {
        let mut odds = Odds {
            connecting: Duration::from_millis(30),
            buffer: 40,
            smallest_buffer: 10,
            interrupted: 7,
            early: 5,
            cuts_reads: seed.is_multiple_of(2),
            whole_state: seed.is_multiple_of(3),
            ..Odds::default()
        };
        change(&mut odds);
        SimNet::new(World::new(Rng::with_seed(seed), odds, Box::new(Echo)))
    }

    fn address() -> Address {
        Address::Tcp(([127, 0, 0, 1], 7).into())
    }

    /// The next events, each of the key 0.
    fn wait(net: &mut SimNet, each: &mut impl FnMut(crate::net::Readiness)) {
        let mut events = Vec::new();
        net.wait(None, &mut events).unwrap();
        for event in events {
            if let Event::Client(0, ready) = event {
                each(ready);
            }
        }
    }

    #[test]
    fn bytes_are_echoed_through_small_buffers() {
        for_each_seed(100, &[], |seed| {
            let mut net = net(seed, |_| {});
            let start = net.now();
            let mut stream = net.connect(&address(), ConnectOptions::default()).unwrap();
            net.register(&mut stream, 0).unwrap();
            let mut connected = false;
            while !connected {
                wait(&mut net, &mut |ready| connected |= ready.writable);
            }
            net.finish_connect(&stream, &address()).unwrap();
            assert!(net.now() - start < Duration::from_millis(60));
            let mut link = Link::new(stream);
            let sent: Vec<u8> = (0..250).collect();
            link.send(Slices::new(&sent, &[]), true);
            let (mut received, mut buffer) = (Vec::new(), [0; 100]);
            while received.len() < sent.len() {
                wait(&mut net, &mut |ready| link.latch(ready));
                link.flush();
                while link.ready.readable
                    && let Some(n) = link.read(&mut buffer).unwrap()
                {
                    received.extend_from_slice(&buffer[..n]);
                }
            }
            assert_eq!(received, sent);
            drop(link);
            assert_eq!(net.0.borrow().open(), 0);
        });
    }

    #[test]
    fn refused_connection_is_reported_with_its_cause() {
        let mut net = net(1, |odds| odds.refused = 1);
        let mut stream = net.connect(&address(), ConnectOptions::default()).unwrap();
        net.register(&mut stream, 0).unwrap();
        let mut known = false;
        while !known {
            wait(&mut net, &mut |ready| known |= ready.writable);
        }
        let error = net.finish_connect(&stream, &address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn connection_without_an_answer_leaves_the_loop_asleep() {
        let mut net = net(1, |odds| odds.unanswered = 1);
        let mut stream = net.connect(&address(), ConnectOptions::default()).unwrap();
        net.register(&mut stream, 0).unwrap();
        for _ in 0..100 {
            wait(&mut net, &mut |_| panic!("it is ready"));
        }
        assert!(net.0.borrow().stuck);
    }

    #[test]
    fn full_accept_queue_blocks() {
        let mut net = net(1, |odds| odds.queue_full = 1);
        let to = Address::Unix(std::path::Path::new("/socket").into());
        let blocked = net.connect(&to, ConnectOptions::default()).err().unwrap();
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn datagrams_are_echoed_whole() {
        let mut net = net(1, |odds| odds.interrupted = 0);
        let opened = net.open_datagrams(&address(), ConnectOptions::default());
        let (mut socket, _) = opened.unwrap();
        net.register_datagrams(&mut socket, 0).unwrap();
        socket.send(b"").unwrap();
        socket.send(b"seven").unwrap();
        let mut received = Vec::new();
        while received.len() < 2 {
            wait(&mut net, &mut |_| {});
            let mut buffer = [0; 9];
            while let Ok(n) = socket.receive(&mut buffer) {
                received.push(buffer[..n].to_vec());
            }
        }
        assert_eq!(received, [&b""[..], b"seven"]);
    }

    #[test]
    fn bytes_for_a_closed_connection_reset_it() {
        let mut net = net(1, |odds| odds.interrupted = 0);
        let id = net.0.borrow_mut().open_connected();
        let mut stream = net.stream(id);
        net.register(&mut stream, 0).unwrap();
        net.0.borrow_mut().close(id);
        assert_eq!(stream.write(b"late").unwrap(), 4);
        let error = stream.write(b"later").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        drop(stream);
        assert!(net.0.borrow().is_dropped(id));
    }

    #[test]
    #[should_panic(expected = "the loop polls without sleeping")]
    fn loop_that_never_sleeps_is_found() {
        let mut net = net(1, |_| {});
        for _ in 0..10 {
            let mut events = Vec::new();
            net.wait(Some(Duration::ZERO), &mut events).unwrap();
        }
    }
}
