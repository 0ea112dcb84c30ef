//! Bounds of a tick and of a client.

use std::time::Duration;

use crate::config::{Config, SlowConsumer};
use crate::net::FOREVER;
use crate::service::{MOST_INPUT, Needs};

/// Linger time of a client that the server closes, by default.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Bounds of a tick and of a client. Sizes are in bytes.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The most input that is read from a client in one turn, or output that it publishes.
    pub(super) turn: usize,
    /// Bytes published in one tick after which the remaining turns wait for the next one.
    pub(super) publish: u64,
    /// A client further behind the shared output than this holds up the room.
    pub(super) backlog: u64,
    pub(super) max_clients: usize,
    pub(super) high_water: u64,
    /// Time that a client may hold up the room; `None` is unlimited.
    pub(super) patience: Option<Duration>,
    pub(super) slow_consumer: SlowConsumer,
    /// Time that a stop may take.
    pub(super) grace: Duration,
    /// Time that a client which is being closed may take.
    pub(super) linger: Duration,
    /// True if the server stops by itself after one client.
    pub(super) once: bool,
}

impl Limits {
    /// The bounds that a configuration sets for a service.
    pub(super) fn new(config: &Config, needs: Needs) -> Self {
        let linger = config.sockets.linger;
        let most_clients = if config.once { 1 } else { usize::MAX };
        Self {
            turn: MOST_INPUT,
            publish: (needs.capacity / 4).max(1),
            backlog: needs.capacity / 2,
            max_clients: config
                .max_clients
                .map_or(most_clients, |max| max.min(most_clients)),
            high_water: config.high_water,
            patience: config.patience,
            slow_consumer: config.slow_consumer,
            grace: config.grace,
            linger: linger.map_or(LINGER, |linger| linger.min(FOREVER)),
            once: config.once,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Role;
    use crate::server::clients::Clients;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Echo, Room, Service};
    use crate::testing::{Answer, Script};

    /// Bytes of a segment of the log, as README tells.
    const SEGMENT: u64 = 512 * 1024;

    #[test]
    fn bounds_of_a_tick_come_from_the_capacity_of_the_service() {
        let config = Config::default();
        let bounds = |capacity| {
            let needs = Needs {
                capacity,
                ..Needs::default()
            };
            let limits = Limits::new(&config, needs);
            (limits.turn, limits.publish, limits.backlog)
        };
        assert_eq!(bounds(4000), (MOST_INPUT, 1000, 2000));
        assert_eq!(bounds(1), (MOST_INPUT, 1, 0), "a tick publishes something");
        let most = u64::MAX;
        assert_eq!(bounds(most), (MOST_INPUT, most / 4, most / 2));
    }

    #[test]
    fn server_for_one_client_has_room_for_one() {
        let clients = |once, max_clients| {
            let config = Config {
                max_clients,
                once,
                ..Config::default()
            };
            Limits::new(&config, Echo::new().needs()).max_clients
        };
        assert_eq!(clients(true, Some(5)), 1);
        assert_eq!((clients(true, None), clients(false, None)), (1, usize::MAX));
        assert_eq!((clients(true, Some(0)), clients(false, Some(5))), (0, 5));
    }

    /// Gives each sender a turn of the largest input twice, after the beginning of a longest line.
    fn send_most(clients: &mut Clients<Broadcast, Script>, senders: &[usize], room: &Room) {
        for &key in senders {
            let start = vec![b'x'; room.max_message - 1];
            let input = [b"x\n", &b"\n".repeat(MOST_INPUT - 2)[..]].concat();
            for input in [start, input.clone(), input] {
                clients.touch(key, |connection, _| {
                    connection.stream_mut().cuts_reads = true;
                    connection.stream_mut().on_read(Answer::Give(input));
                    connection.expect_input();
                });
            }
        }
    }

    /// The log of the smallest room beside a reader that reads nothing, and senders that send as
    /// much as they may in each turn. README promises its size and a segment.
    #[test]
    fn log_has_at_most_its_size_and_a_segment() {
        let mut net = TestNet::new();
        let room = Room {
            log_size: 4 * (MOST_INPUT + 64 * 1024) as u64,
            max_message: 64 * 1024,
            ..Room::default()
        };
        let service = Broadcast::new(room.clone()).expect("the smallest log there may be");
        let mut clients = fixture::clients(service, &Config::default(), &net);
        let senders =
            [(); 8].map(|()| fixture::admit(&mut clients, &mut net, Role::Publish, false));
        fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
        let mut most = 0;
        while !clients.is_held() {
            send_most(&mut clients, &senders, &room);
            for _ in 0..4 {
                clients.read(usize::MAX, false, |_, _, _| {});
                clients.publish();
                most = most.max(clients.service().held());
            }
        }
        assert!(most <= room.log_size + SEGMENT, "{most} bytes are held");
        assert!(most > room.log_size / 2, "held up without need: {most}");
        let published = clients.service().published();
        clients.read(usize::MAX, false, |_, _, _| {});
        assert_eq!(clients.service().published(), published, "it is held up");
    }

    /// A client is read on only when its turn comes again.
    #[test]
    fn turn_reads_or_publishes_no_more_than_its_share() {
        let mut net = TestNet::new();
        let room = Room::default();
        let service = Broadcast::new(room.clone()).expect("the default room");
        let mut clients = fixture::clients(service, &Config::default(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
        send_most(&mut clients, &[sender], &room);
        clients.read(usize::MAX, false, |_, _, _| {});
        let first = clients.service().published();
        let most = MOST_INPUT + room.max_message;
        assert!((1..=most as u64).contains(&first), "{first} bytes");
    }
}
