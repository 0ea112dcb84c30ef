//! Timers: the phase of the tick that judges clients by their deadlines.
//!
//! Deadlines are: the idle and the write timeout, the patience with a client that holds up the
//! room, and the linger time of a client on its way out. The lists of clients with deadlines lie in
//! `clients/timeouts.rs` and `clients/waiting.rs`.

use std::time::{Duration, Instant};

use log::warn;

use super::clients::Clients;
use crate::close::CloseReason;
use crate::config::SlowConsumer;
use crate::net::Stream;
use crate::service::Service;

/// The phase, with its one setting.
#[derive(Debug)]
pub(super) struct Timers {
    slow_consumer: SlowConsumer,
}

impl Timers {
    pub(super) fn new(slow_consumer: SlowConsumer) -> Self {
        Self { slow_consumer }
    }

    /// Acts on the deadlines that had passed at `now`. Deadlines that start meanwhile count from
    /// `noted`, which is later if events were taken in between.
    pub(super) fn run<S: Service, T: Stream>(
        &self,
        now: Instant,
        noted: Instant,
        clients: &mut Clients<S, T>,
    ) {
        clients.start_deadlines(noted);
        clients.advance_timeouts(noted);
        while let Some(key) = clients.next_try(now) {
            if clients.try_write(key) {
                clients.touch(key, |connection, service| {
                    connection.abort(service, CloseReason::Stalled);
                });
            }
        }
        while let Some(key) = clients.next_idle(now) {
            clients.touch(key, |connection, service| {
                connection.close(service, CloseReason::Idle);
            });
        }
        clients.tell_silences(now);
        for key in clients.end_holds(now) {
            self.end_patience(key, clients);
        }
        clients.end_lingering(now, noted);
    }

    /// Closes a slow consumer, or makes it skip.
    fn end_patience<S: Service, T: Stream>(&self, key: usize, clients: &mut Clients<S, T>) {
        match self.slow_consumer {
            SlowConsumer::Close => clients.touch(key, |connection, service| {
                connection.close(service, CloseReason::SlowConsumer);
            }),
            SlowConsumer::Skip => {
                let peer = clients.get(key).peer();
                let (id, address) = (peer.id, peer.address);
                warn!("client {id} ({address}) is a slow consumer: it misses messages");
                clients.skip(key);
            }
        }
    }
}

/// Time until `deadline`, rounded up to milliseconds, the unit of poll(2): after one sleep the
/// deadline has passed.
pub(super) fn remaining(deadline: Instant, now: Instant) -> Duration {
    let left = deadline.saturating_duration_since(now);
    let millis = left.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::address::Role;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Echo, Room};
    use crate::testing::{Answer, Script};

    const SECOND: Duration = Duration::from_secs(1);

    /// The reason for which a client is closing.
    fn closing<S: Service>(clients: &Clients<S, Script>, key: usize) -> Option<CloseReason> {
        clients.get(key).connection().closing()
    }

    fn run<S: Service>(timers: &Timers, net: &TestNet, clients: &mut Clients<S, Script>) {
        clients.set_time(net);
        timers.run(net.now.get(), net.now.get(), clients);
    }

    #[test]
    fn idle_client_is_closed_and_an_active_one_is_not() {
        let mut net = TestNet::new();
        let config = Config {
            idle_timeout: Some(10 * SECOND),
            ..Config::default()
        };
        let mut clients = fixture::clients(Echo::new(), &config, &net);
        let idle = fixture::admit(&mut clients, &mut net, Role::Both, false);
        let active = fixture::admit(&mut clients, &mut net, Role::Both, false);
        net.pass(5 * SECOND);
        clients.set_time(&net);
        fixture::send(&mut clients, active, b"x");
        net.pass(5 * SECOND);
        assert_eq!(clients.next_deadline(), Some(net.now.get()));
        run(&Timers::new(SlowConsumer::Close), &net, &mut clients);
        assert_eq!(closing(&clients, idle), Some(CloseReason::Idle));
        assert_eq!(closing(&clients, active), None);
    }

    #[test]
    fn client_that_takes_nothing_is_reset_after_the_write_timeout() {
        let mut net = TestNet::new();
        let config = Config {
            write_timeout: Some(4 * SECOND),
            ..Config::default()
        };
        let mut clients = fixture::clients(Echo::new(), &config, &net);
        let key = fixture::admit(&mut clients, &mut net, Role::Both, true);
        let timers = Timers::new(SlowConsumer::Close);
        let start = net.now.get();
        fixture::send(&mut clients, key, b"x");
        while !clients.get(key).connection().is_closed() {
            let deadline = clients.next_deadline().unwrap();
            net.now.set(deadline);
            run(&timers, &net, &mut clients);
        }
        let after = net.now.get() - start;
        assert!((4 * SECOND..5 * SECOND).contains(&after), "{after:?}");
    }

    /// A room with a sender and a reader that is stalled, and holds it up.
    fn held_room(net: &mut TestNet) -> (Clients<Broadcast, Script>, usize, usize) {
        let config = Config {
            patience: Some(SECOND),
            ..Config::default()
        };
        let service = Broadcast::with_segments(Room::default(), 1 << 10);
        let mut clients = fixture::clients(service, &config, net);
        let sender = fixture::admit(&mut clients, net, Role::Both, false);
        let reader = fixture::admit(&mut clients, net, Role::Both, true);
        while !clients.is_held() {
            fixture::send(&mut clients, sender, &[b'\n'; 10_000]);
        }
        (clients, sender, reader)
    }

    #[test]
    fn slow_consumer_is_closed_when_the_patience_is_over() {
        let mut net = TestNet::new();
        let (mut clients, _, reader) = held_room(&mut net);
        let timers = Timers::new(SlowConsumer::Close);
        run(&timers, &net, &mut clients);
        assert_eq!(clients.next_deadline(), Some(net.now.get() + SECOND));
        assert!(clients.is_held());
        net.pass(SECOND);
        run(&timers, &net, &mut clients);
        assert_eq!(closing(&clients, reader), Some(CloseReason::SlowConsumer));
        assert!(!clients.is_held());
    }

    #[test]
    fn time_in_which_the_process_was_held_up_is_not_the_clients() {
        let mut net = TestNet::new();
        let (mut clients, _, reader) = held_room(&mut net);
        let timers = Timers::new(SlowConsumer::Close);
        run(&timers, &net, &mut clients);
        net.pass(5 * SECOND);
        clients.excuse(5 * SECOND);
        run(&timers, &net, &mut clients);
        assert_eq!((closing(&clients, reader), clients.is_held()), (None, true));
        net.pass(SECOND);
        run(&timers, &net, &mut clients);
        // It lingers for another second, less a part for the silence.
        assert!(closing(&clients, reader).is_some());
        net.pass(5 * SECOND);
        clients.excuse(5 * SECOND);
        run(&timers, &net, &mut clients);
        assert!(closing(&clients, reader).is_some());
        net.pass(SECOND);
        run(&timers, &net, &mut clients);
        assert!(clients.get(reader).connection().is_closed());
    }

    #[test]
    fn slow_consumer_that_skips_holds_up_the_room_once() {
        let mut net = TestNet::new();
        let (mut clients, sender, reader) = held_room(&mut net);
        let timers = Timers::new(SlowConsumer::Skip);
        run(&timers, &net, &mut clients);
        net.pass(SECOND);
        run(&timers, &net, &mut clients);
        assert_eq!(
            (closing(&clients, reader), clients.is_held()),
            (None, false)
        );
        for _ in 0..1000 {
            fixture::send(&mut clients, sender, &[b'\n'; 10_000]);
            assert!(!clients.is_held());
        }
    }

    #[test]
    fn caught_up_client_holds_up_the_room_no_more() {
        let mut net = TestNet::new();
        let (mut clients, _, reader) = held_room(&mut net);
        clients.touch(reader, |connection, service| {
            connection.stream_mut().stall(false);
            connection.expect_room();
            connection.flush(service);
        });
        // It takes a megabyte in a pass.
        while clients.get(reader).unsent(clients.service()) > 0 {
            clients.flush();
        }
        run(&Timers::new(SlowConsumer::Close), &net, &mut clients);
        assert!(!clients.is_held());
        assert_eq!(closing(&clients, reader), None);
    }

    /// Memory is bounded by what a tick may publish, whoever publishes it.
    #[test]
    fn lines_after_a_pause_and_the_turns_behind_them_share_a_tick() {
        let mut net = TestNet::new();
        let room = Room {
            line_timeout: Some(SECOND),
            log_size: 40, // of which a tick may publish a quarter
            ..Room::default()
        };
        let service = Broadcast::with_segments(room, 1 << 10);
        let mut clients = fixture::clients(service, &Config::default(), &net);
        clients.set_time(&net);
        let [one, two] =
            [(); 2].map(|()| fixture::admit(&mut clients, &mut net, Role::Both, false));
        for key in [one, two] {
            fixture::send(&mut clients, key, b"0123456789");
        }
        net.pass(SECOND);
        run(&Timers::new(SlowConsumer::Close), &net, &mut clients);
        assert_eq!(clients.service().published(), 11);
        for published in [11, 15] {
            clients.touch(one, |connection, _| {
                connection
                    .stream_mut()
                    .on_read(Answer::Give(b"now\n".to_vec()));
                connection.expect_input();
            });
            clients.read(usize::MAX, false, |_, _, _| {});
            assert_eq!(clients.service().published(), published);
            clients.publish();
        }
    }

    #[test]
    fn closing_client_is_dropped_after_a_silence() {
        let mut net = TestNet::new();
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let key = fixture::admit(&mut clients, &mut net, Role::Both, false);
        clients.touch(key, |connection, service| {
            connection.close(service, CloseReason::Kicked);
        });
        let timers = Timers::new(SlowConsumer::Close);
        run(&timers, &net, &mut clients);
        let deadline = net.now.get() + super::super::clients::SILENCE;
        assert_eq!(clients.next_deadline(), Some(deadline));
        net.now.set(deadline);
        run(&timers, &net, &mut clients);
        assert!(clients.get(key).connection().is_closed());
    }

    #[test]
    fn sleep_is_rounded_up_to_milliseconds() {
        let now = Instant::now();
        let left = |micros| remaining(now + Duration::from_micros(micros), now).as_millis();
        assert_eq!([0, 1, 1000, 1001].map(left), [0, 1, 1, 2]);
        assert_eq!(remaining(now, now + SECOND), Duration::ZERO);
    }
}
