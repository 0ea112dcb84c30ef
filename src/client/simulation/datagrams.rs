//! The client over simulated datagrams: a server that returns each of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::ends::{INPUT, OUTPUT};
use super::{SEEDS, TOLERANCE, length, odds, sent, text};
use crate::client::Connect;
use crate::net::simulation::{Odds, Remote, SimNet, World, for_each_seed};

/// A server that returns datagrams, and the writer and the reader of the standard streams.
#[derive(Default)]
struct Echo {
    rng: Rng,
    input: Vec<u8>,
    typed: usize,
    ended: bool,
    received: Vec<Vec<u8>>,
    /// Bytes of the datagrams for which the client had room.
    returned: Vec<u8>,
    shown: Vec<u8>,
    /// Number of addresses that refuse datagrams, before that of the server.
    refusing: usize,
    /// Time at which a datagram was last received or returned.
    moved: Option<Instant>,
}

impl Echo {
    fn write_input(&mut self, world: &mut World) -> bool {
        if self.ended || world.is_dropped(INPUT) {
            return false;
        }
        let end = self.input.len().min(self.typed + self.rng.usize(1..50));
        let written = world.send(INPUT, &self.input[self.typed..end]);
        self.typed += written;
        self.ended = self.typed == self.input.len();
        if self.ended {
            world.half_close(INPUT);
        }
        written > 0 || self.ended
    }

    fn serve(&mut self, world: &mut World) -> bool {
        let first = OUTPUT + 1;
        let id = first + self.refusing;
        for refusing in first..id.min(world.count()) {
            if world.receive_datagram(refusing).is_some() {
                world.reset(refusing);
                return true;
            }
        }
        if id >= world.count() {
            return false;
        }
        let Some(datagram) = world.receive_datagram(id) else {
            return false;
        };
        if world.send_datagram(id, &datagram) {
            self.returned.extend(&datagram);
        }
        self.received.push(datagram);
        self.moved = Some(world.now);
        true
    }
}

struct SharedEcho(Rc<RefCell<Echo>>);

impl Remote for SharedEcho {
    fn act(&mut self, world: &mut World) -> bool {
        let mut echo = self.0.borrow_mut();
        match echo.rng.u8(..3) {
            0 if echo.write_input(world) => return true,
            1 if echo.serve(world) => return true,
            _ => {}
        }
        let (bytes, _) = world.receive(OUTPUT, 100);
        echo.shown.extend(&bytes);
        !bytes.is_empty() || echo.serve(world) || echo.write_input(world)
    }
}

#[test]
fn each_line_is_a_datagram_and_a_silence_ends_the_client() {
    for_each_seed(SEEDS, &[], |seed| {
        let mut rng = Rng::with_seed(seed);
        let input = text(&mut rng, 2000);
        let lines = input.split_inclusive(|&byte| byte == b'\n');
        let longest = lines.map(<[u8]>::len).max().unwrap_or(0);
        let odds = Odds {
            // Room for the longest line and its CR.
            smallest_buffer: longest + 1,
            ..odds(&mut rng)
        };
        let echo = Rc::new(RefCell::new(Echo {
            rng: rng.fork(),
            input: input.clone(),
            ..Echo::default()
        }));
        let remote = Box::new(SharedEcho(Rc::clone(&echo)));
        let mut world = World::new(rng.fork(), odds, remote);
        let standard = [world.open_connected(), world.open_connected()];
        assert_eq!(standard, [INPUT, OUTPUT]);
        let net = SimNet::new(world);

        let mut connect = Connect::new("udp://127.0.0.1:1".parse().unwrap());
        connect.crlf = rng.bool();
        let high_water = 4100 + length(&mut rng, 500);
        connect.run_over(net.clone(), high_water).unwrap();

        let (world, echo) = (net.0.borrow(), echo.borrow());
        let lines = input.split_inclusive(|&byte| byte == b'\n');
        let datagrams: Vec<Vec<u8>> = lines.map(|line| sent(line, connect.crlf)).collect();
        assert_eq!(echo.received, datagrams);
        let shown = [&echo.shown[..], &world.in_flight(OUTPUT)].concat();
        assert_eq!(shown, echo.returned);
        let ended = world.history(OUTPUT + 1).dropped.unwrap();
        let silence = Duration::from_secs(1);
        let moves = [
            echo.moved,
            world.history(OUTPUT).moved,
            world.history(INPUT).end_read,
        ];
        let last = moves.into_iter().flatten().max().unwrap();
        assert!(ended - last <= silence + TOLERANCE, "ended late");
        let progress = world
            .history(INPUT)
            .end_read
            .max(world.history(OUTPUT).moved);
        assert!(ended - progress.unwrap() >= silence, "ended early");
    });
}

#[test]
fn the_address_that_does_not_refuse_is_sent_all_of_the_first_datagrams() {
    for_each_seed(SEEDS, &[], |seed| {
        let mut rng = Rng::with_seed(seed);
        // Not more datagrams than are kept for another address.
        let input = text(&mut rng, 64);
        let room = 2 * input.len() + 1;
        let odds = Odds {
            smallest_buffer: room,
            buffer: room,
            ..odds(&mut rng)
        };
        let refusing = rng.usize(..4);
        let echo = Rc::new(RefCell::new(Echo {
            rng: rng.fork(),
            input: input.clone(),
            refusing,
            ..Echo::default()
        }));
        let remote = Box::new(SharedEcho(Rc::clone(&echo)));
        let mut world = World::new(rng.fork(), odds, remote);
        let standard = [world.open_connected(), world.open_connected()];
        assert_eq!(standard, [INPUT, OUTPUT]);
        let net = SimNet::new(world);

        // The port is the number of addresses.
        let to = format!("udp://127.0.0.1:{}", refusing + rng.usize(1..3));
        let connect = Connect::new(to.parse().unwrap());
        connect.run_over(net.clone(), 4100).unwrap();

        let lines = input.split_inclusive(|&byte| byte == b'\n');
        let datagrams: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        assert_eq!(echo.borrow().received, datagrams);
    });
}
