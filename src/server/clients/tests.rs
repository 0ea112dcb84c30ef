//! Tests of clients over a scripted kernel: holds, timeouts, lists, warnings.

use std::time::Duration;

use super::{Clients, fault};
use crate::close::CloseReason;
use crate::config::{Config, SlowConsumer};
use crate::connection::Connection;
use crate::net::Readiness;
use crate::net::address::{Address, Role};
use crate::server::fixture::{self, TestNet};
use crate::server::timers::Timers;
use crate::service::{Broadcast, Chargen, Echo, Room, Service};
use crate::testing::{Answer, Script};

const SECOND: Duration = Duration::from_secs(1);

/// A room whose clients may be 200 bytes behind, and publish 100 in a tick.
fn small_room(config: &Config, net: &TestNet) -> Clients<Broadcast, Script> {
    let room = Room {
        log_size: 400,
        ..Room::default()
    };
    fixture::clients(Broadcast::with_segments(room, 16), config, net)
}

/// Settings with a patience of a second.
fn patient() -> Config {
    Config {
        patience: Some(SECOND),
        ..Config::default()
    }
}

/// Runs the timers at the present time.
fn judge<S: Service>(clients: &mut Clients<S, Script>, net: &TestNet, treatment: SlowConsumer) {
    clients.set_time(net);
    Timers::new(treatment).run(net.now.get(), net.now.get(), clients);
}

/// Publishes this number of lines of ten bytes, one in a tick.
fn send_lines(clients: &mut Clients<Broadcast, Script>, sender: usize, lines: usize) {
    for _ in 0..lines {
        fixture::send(clients, sender, b"123456789\n");
    }
}

/// Lets a client take this number of bytes.
fn take<S: Service>(clients: &mut Clients<S, Script>, key: usize, bytes: u64) {
    let unsent = |clients: &Clients<S, Script>| clients.get(key).unsent(clients.service());
    let left = unsent(clients) - bytes;
    while unsent(clients) > left {
        let most = usize::try_from(unsent(clients) - left).unwrap();
        clients.touch(key, |connection, service| {
            connection.stream_mut().on_write(Answer::Take(most));
            connection.expect_room();
            connection.flush(service);
        });
    }
}

fn closing<S: Service>(clients: &Clients<S, Script>, key: usize) -> Option<CloseReason> {
    clients.get(key).connection().closing()
}

/// A holder that is let go at the backlog would hold up the room again with the next line.
#[test]
fn client_holds_up_the_room_from_the_backlog_until_it_has_caught_up() {
    let mut net = TestNet::new();
    let mut clients = small_room(&patient(), &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    let reader = fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    send_lines(&mut clients, sender, 20);
    assert!(!clients.is_held(), "200 bytes are the backlog");
    send_lines(&mut clients, sender, 1);
    assert!(clients.is_held());
    for left in [150, 10, 0] {
        let lag = clients.get(reader).unsent(clients.service());
        take(&mut clients, reader, lag - left);
        judge(&mut clients, &net, SlowConsumer::Close);
        assert_eq!(clients.is_held(), left > 0, "{left} bytes are left");
    }
    assert_eq!(closing(&clients, reader), None);
}

/// Each of the clients that hold up the room has its own time, and the loop wakes for the first.
#[test]
fn patience_wakes_for_the_first_holder_and_then_for_the_next() {
    let mut net = TestNet::new();
    let mut clients = small_room(&patient(), &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    let pair = [(); 2].map(|()| fixture::admit(&mut clients, &mut net, Role::Subscribe, true));
    send_lines(&mut clients, sender, 21);
    assert_eq!(clients.next_deadline(), None, "its time has not started");
    judge(&mut clients, &net, SlowConsumer::Close);
    let start = net.now.get();
    assert_eq!(clients.next_deadline(), Some(start + SECOND));
    net.pass(SECOND / 2);
    // One of them reads half of what it is behind, which is on its pace.
    take(&mut clients, pair[1], 105);
    judge(&mut clients, &net, SlowConsumer::Close);
    assert_eq!(clients.next_deadline(), Some(start + SECOND));
    take(&mut clients, pair[0], 210);
    judge(&mut clients, &net, SlowConsumer::Close);
    assert!(clients.is_held());
    net.pass(SECOND / 2);
    judge(&mut clients, &net, SlowConsumer::Close);
    let slow = Some(CloseReason::SlowConsumer);
    assert_eq!(pair.map(|key| closing(&clients, key)), [None, slow]);
    assert!(!clients.is_held());
}

#[test]
fn unlimited_patience_never_wakes() {
    let mut net = TestNet::new();
    let config = Config {
        patience: None,
        ..Config::default()
    };
    let mut clients = small_room(&config, &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    send_lines(&mut clients, sender, 21);
    for _ in 0..3 {
        judge(&mut clients, &net, SlowConsumer::Close);
        assert_eq!((clients.is_held(), clients.next_deadline()), (true, None));
        net.pass(1000 * SECOND);
    }
}

/// Of two readers that stall after another did, one was more than half of the backlog behind by
/// then: its time counts from there.
#[test]
fn client_near_the_limit_when_another_holds_counts_from_then() {
    for (near, lines) in [(true, 12), (false, 10)] {
        let mut net = TestNet::new();
        let mut clients = small_room(&patient(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
        let first = fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
        send_lines(&mut clients, sender, 21 - lines);
        let second = fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
        send_lines(&mut clients, sender, lines);
        for key in [first, second] {
            assert_eq!(closing(&clients, key), None);
            while !clients.is_held() {
                send_lines(&mut clients, sender, 1);
            }
            judge(&mut clients, &net, SlowConsumer::Close);
            if key == first {
                net.pass(SECOND);
                judge(&mut clients, &net, SlowConsumer::Close);
            }
        }
        let slow = Some(CloseReason::SlowConsumer);
        assert_eq!(closing(&clients, first), slow);
        assert_eq!(closing(&clients, second), slow.filter(|_| near), "{lines}");
    }
}

/// The notice of a client that leaves is published while another holds up the room.
#[test]
fn client_holds_up_the_room_once_at_a_time() {
    let mut net = TestNet::new();
    let room = Room {
        log_size: 400,
        announce: true,
        ..Room::default()
    };
    let mut clients = fixture::clients(Broadcast::with_segments(room, 16), &patient(), &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    while !clients.is_held() {
        send_lines(&mut clients, sender, 1);
    }
    clients.touch(sender, |c, s| c.close(s, CloseReason::Kicked));
    clients.publish();
    assert_eq!(clients.holds.keys().count(), 1);
}

/// A pipe or a file is no connection to keep.
#[test]
fn standard_streams_have_no_timeouts() {
    let mut net = TestNet::new();
    let config = Config {
        idle_timeout: Some(10 * SECOND),
        write_timeout: Some(4 * SECOND),
        ..Config::default()
    };
    let mut clients = fixture::clients(Echo::new(), &config, &net);
    for (address, stalled) in [(Address::Stdin, false), (Address::Stdout, true)] {
        let mut stream = Script::default();
        stream.stall(stalled);
        let key = fixture::admit_from(&mut clients, &mut net, address, Role::Both, stream);
        fixture::send(&mut clients, key, b"x");
        for _ in 0..100 {
            net.pass(SECOND);
            judge(&mut clients, &net, SlowConsumer::Close);
            assert_eq!(clients.next_deadline(), None);
        }
        assert!(clients.get(key).connection().is_serving());
    }
}

/// A sender that waits for its turn, because another client holds up the room, is not idle.
#[test]
fn client_whose_input_is_held_up_is_not_idle_and_one_without_input_is() {
    let mut net = TestNet::new();
    let config = Config {
        idle_timeout: Some(10 * SECOND),
        patience: None,
        ..Config::default()
    };
    let mut clients = small_room(&config, &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    let silent = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    send_lines(&mut clients, sender, 21);
    assert!(clients.is_held());
    fixture::send(&mut clients, sender, b"more\n");
    net.pass(10 * SECOND);
    judge(&mut clients, &net, SlowConsumer::Close);
    assert_eq!(closing(&clients, silent), Some(CloseReason::Idle));
    for _ in 0..3 {
        assert!(clients.get(sender).connection().is_serving());
        net.pass(10 * SECOND);
        judge(&mut clients, &net, SlowConsumer::Close);
    }
}

/// The write timeout does not wait for a patience that is longer.
#[test]
fn client_that_holds_up_the_room_is_reset_after_the_write_timeout() {
    let mut net = TestNet::new();
    let config = Config {
        write_timeout: Some(4 * SECOND),
        patience: None,
        ..Config::default()
    };
    let mut clients = small_room(&config, &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    let reader = fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    send_lines(&mut clients, sender, 21);
    let start = net.now.get();
    while !clients.get(reader).connection().is_closed() {
        net.now.set(clients.next_deadline().expect("it is stuck"));
        judge(&mut clients, &net, SlowConsumer::Close);
    }
    let after = net.now.get() - start;
    assert!((4 * SECOND..5 * SECOND).contains(&after), "{after:?}");
    clients.reap(|| net.now.get(), |_| {});
    assert!(!clients.is_held());
}

/// Puts a client into a list.
type ListFn = fn(&mut Clients<Chargen, Script>, usize);

/// A key that stays in a list is taken for the next client, or for none: the index then panics.
#[test]
fn removed_client_is_in_no_list() {
    let readable = Readiness {
        readable: true,
        ..Readiness::default()
    };
    let lists: [ListFn; 4] = [
        |_, _| {},
        |clients, key| {
            clients.touch(key, |connection, _| {
                connection.stream_mut().on_read(Answer::Give(vec![0; 9]));
                connection.expect_input();
            });
        },
        |clients, key| clients.touch(key, |c, s| c.close(s, CloseReason::Kicked)),
        |clients, key| clients.touch(key, |c, s| c.drain(s, CloseReason::Shutdown)),
    ];
    for (idle, stalled) in [(None, false), (None, true), (Some(SECOND), true)] {
        for (list, put) in lists.iter().enumerate() {
            let mut net = TestNet::new();
            let config = Config {
                idle_timeout: idle,
                write_timeout: idle,
                ..Config::default()
            };
            let mut clients = fixture::clients(Chargen::new(false), &config, &net);
            let key = fixture::admit(&mut clients, &mut net, Role::Both, stalled);
            clients.flush();
            put(&mut clients, key);
            clients.latch(key, readable);
            clients.touch(key, |c, s| c.abort(s, CloseReason::Reset));
            clients.reap(|| net.now.get(), |_| {});
            assert!(clients.is_idle(), "in a list: {list}, {stalled}");
            clients.flush();
            clients.read(usize::MAX, false, |_, _, _| {});
            judge(&mut clients, &net, SlowConsumer::Close);
        }
    }
}

/// A line that waits for its rest, and an arrival that waits for input.
#[test]
fn removed_client_is_not_waited_for() {
    let mut net = TestNet::new();
    let room = Room {
        announce: true,
        line_timeout: Some(SECOND),
        ..Room::default()
    };
    let service = Broadcast::with_segments(room, 16);
    let mut clients = fixture::clients(service, &Config::default(), &net);
    clients.set_time(&net);
    let newcomer = fixture::admit(&mut clients, &mut net, Role::Both, false);
    let sender = fixture::admit(&mut clients, &mut net, Role::Both, false);
    fixture::send(&mut clients, sender, b"unfinished");
    assert!(clients.next_deadline().is_some());
    for key in [newcomer, sender] {
        clients.touch(key, |c, s| c.abort(s, CloseReason::Reset));
    }
    clients.reap(|| net.now.get(), |_| {});
    clients.publish();
    assert_eq!(clients.next_deadline(), None);
    net.pass(10 * SECOND);
    judge(&mut clients, &net, SlowConsumer::Close);
}

#[test]
fn removed_client_that_held_up_the_room_is_forgotten() {
    let mut net = TestNet::new();
    let mut clients = small_room(&patient(), &net);
    let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
    let reader = fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
    send_lines(&mut clients, sender, 21);
    judge(&mut clients, &net, SlowConsumer::Close);
    for key in [reader, sender] {
        clients.touch(key, |c, s| c.abort(s, CloseReason::Reset));
    }
    clients.reap(|| net.now.get(), |_| {});
    assert!(clients.is_idle() && clients.holder().is_none());
    judge(&mut clients, &net, SlowConsumer::Close);
}

/// A step towards the end of a client.
type EndFn = fn(&mut Connection<Script, Echo>, &mut Echo, CloseReason);

/// A close is said when it begins, or when it ends: not at both times.
#[test]
fn warning_about_a_close_is_logged_once() {
    let end = |connection: &mut Connection<Script, Echo>, service: &mut Echo, reason| {
        connection.close(service, reason);
    };
    let abort = |connection: &mut Connection<Script, Echo>, service: &mut Echo, reason| {
        connection.abort(service, reason);
    };
    let ends: [(&[EndFn], CloseReason, &str); 5] = [
        (&[end, abort], CloseReason::SlowConsumer, "slow consumer"),
        (&[end, end, abort], CloseReason::MessageTooLong, "longer"),
        (&[end, abort], CloseReason::Kicked, "kicked"),
        (&[abort], CloseReason::Stalled, "doesn't take"),
        (&[abort, abort], CloseReason::Kicked, "kicked"),
    ];
    for (steps, reason, said) in ends {
        let lines = fixture::logged(|| {
            let mut net = TestNet::new();
            let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
            let key = fixture::admit(&mut clients, &mut net, Role::Both, true);
            for step in steps {
                clients.touch(key, |connection, service| step(connection, service, reason));
            }
            for _ in 0..2 {
                clients.reap(|| net.now.get(), |_| {});
            }
            assert!(clients.is_empty());
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(said), "{lines:?}");
    }
}

#[test]
fn skip_is_logged_once_for_a_hold() {
    let lines = fixture::logged(|| {
        let mut net = TestNet::new();
        let mut clients = small_room(&patient(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
        fixture::admit(&mut clients, &mut net, Role::Subscribe, true);
        for _ in 0..100 {
            send_lines(&mut clients, sender, 3);
            judge(&mut clients, &net, SlowConsumer::Skip);
            net.pass(SECOND);
        }
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("misses messages"), "{lines:?}");
}

/// A fault of this program in one client is no end for the others: release builds abort at a panic.
#[test]
fn key_of_no_client_in_a_list_is_forgotten_and_the_others_are_served() {
    let mut net = TestNet::new();
    let config = Config {
        idle_timeout: Some(SECOND),
        write_timeout: Some(SECOND),
        ..Config::default()
    };
    let mut clients = fixture::clients(Echo::new(), &config, &net);
    let keys = [(); 5].map(|()| fixture::admit(&mut clients, &mut net, Role::Both, false));
    let [turn, flush, closing, held, healthy] = keys;
    clients.turns.push_back(turn);
    clients.flushes.push(flush);
    clients.touch(closing, |c, s| c.close(s, CloseReason::Kicked));
    let place = clients.place(held);
    clients.holds.add(held, place);
    for key in [turn, flush, closing, held] {
        clients.table.remove(key);
    }
    let lines = fixture::logged(|| {
        fault::EXPECTED.set(true);
        clients.flush();
        clients.read(usize::MAX, false, |_, _, _| {});
        for _ in 0..3 {
            Timers::new(SlowConsumer::Close).run(net.now.get(), net.now.get(), &mut clients);
            net.pass(SECOND);
            clients.set_time(&net);
            fixture::send(&mut clients, healthy, b"x");
        }
        fault::EXPECTED.set(false);
    });
    assert!(
        lines.iter().any(|line| line.contains("a fault of resound")),
        "{lines:?}"
    );
    assert_eq!(fixture::sent(&mut clients, healthy), "xxx");
    assert!(clients.turns.is_empty() && clients.flushes.is_empty());
    assert!(clients.holds.is_empty() && clients.lingering.is_empty());
}
