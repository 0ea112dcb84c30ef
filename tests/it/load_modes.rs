//! The load tester against the real services: its counts are those of the services.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::common::loading::{SIZE, assert_faults, failure, load, run};
use crate::common::misbehaving::{Defect, Misbehaving};
use crate::common::running::{Running, config, listening_on};
use crate::common::with;
use crate::common::{Folder, allow_many_descriptors};
use resound::load::Fault::{Closed, Corrupt, Reset, Stray, Unanswered};
use resound::load::{LoadEnd, LoadMode, Rate};
use resound::{Chargen, Discard, Echo, Service};

/// The same service over TCP and a Unix socket.
fn both<S>(folder: &Folder, name: &str, service: S) -> Running
where
    S: Service + Send + 'static,
    S::Session: Send,
{
    let config = listening_on(&["127.0.0.1:0", &folder.unix(name)]);
    Running::start(&config, service)
}

#[test]
fn echoes_are_as_many_as_the_server_has_sent() {
    let folder = Folder::new();
    for (index, verify) in [(0, true), (1, true), (0, false), (1, false)] {
        let name = format!("{index}{verify}");
        let server = both(&folder, &name, Echo::new());
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.clients = 5;
            load.depth = 8;
            load.verify = verify;
        }));
        assert_faults(&outcome, &[], &name);
        assert_eq!((outcome.clients, outcome.end), (5, LoadEnd::Duration));
        let counts = &outcome.counts;
        assert!(counts.messages > 0);
        assert_eq!(counts.deliveries, counts.messages);
        assert_eq!(counts.bytes, counts.messages * SIZE as u64);
        assert_eq!(counts.latency.len(), counts.messages);
        assert_eq!(counts.connect.len(), 5);
        let stats = server.stop();
        assert_eq!((stats.clients, stats.bytes_in), (5, stats.bytes_out));
        assert!(stats.bytes_in >= counts.bytes, "{stats}");
    }
}

#[test]
fn bulk_is_echoed_whole() {
    let folder = Folder::new();
    for index in 0..2 {
        let server = both(&folder, &index.to_string(), Echo::new());
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.mode = LoadMode::Stream;
            load.clients = 2;
            load.size = 64 * 1024;
            load.depth = 16;
        }));
        assert_faults(&outcome, &[], "bulk");
        assert!(outcome.counts.messages > 0);
        let stats = server.stop();
        assert_eq!(stats.bytes_in, stats.bytes_out);
        assert!(stats.bytes_in >= outcome.counts.bytes);
    }
}

#[test]
fn longest_and_shortest_messages_are_echoed() {
    let server = Running::echo();
    for (size, depth) in [(resound::load::SHORTEST_MESSAGE, 1000), (1 << 20, 2)] {
        let outcome = run(&with(load(server.address()), |load| {
            load.size = size;
            load.depth = depth;
        }));
        assert_faults(&outcome, &[], &size.to_string());
        assert!(outcome.counts.messages > 0);
    }
}

#[test]
fn churn_counts_as_many_connections_as_the_server() {
    let folder = Folder::new();
    for index in 0..2 {
        let server = both(&folder, &index.to_string(), Echo::new());
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.mode = LoadMode::Churn;
            load.clients = 4;
        }));
        assert_faults(&outcome, &[], "closed");
        assert!(outcome.counts.messages > 0);
        assert_eq!(outcome.counts.latency.len(), outcome.counts.messages);
        let stats = server.stop();
        assert!(stats.clients >= outcome.counts.messages);

        let server = both(&folder, &format!("open{index}"), Echo::new());
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.mode = LoadMode::Churn;
            load.clients = 4;
            load.rate = Some(200.into());
            load.duration = Duration::from_millis(300);
        }));
        assert_faults(&outcome, &[], "open");
        assert_eq!(outcome.counts.messages, 60);
        let stats = server.stop();
        assert_eq!((stats.clients, stats.bytes_in), (60, 60 * SIZE as u64));
        assert_eq!(stats.bytes_out, stats.bytes_in);
    }
}

#[test]
fn a_visit_begins_when_it_is_due_and_not_with_the_next_one() {
    let server = Running::echo();
    let outcome = run(&with(load(server.address()), |load| {
        load.mode = LoadMode::Churn;
        load.clients = 4;
        load.rate = Some(4.into());
        load.duration = Duration::from_secs(1);
    }));
    assert_faults(&outcome, &[], "seldom");
    assert_eq!(outcome.counts.messages, 4);
    let least = outcome.counts.latency.min();
    assert!(least < 120_000_000, "{least} ns");
}

#[test]
fn visits_to_a_server_that_misbehaves_are_named() {
    for (defect, expected) in [
        (Defect::None, &[][..]),
        (Defect::Filler, &[(Corrupt, 1)]),
        (Defect::Double, &[(Stray, 1)]),
        (Defect::Close, &[(Closed, 1), (Unanswered, 1)]),
        (Defect::Reset, &[(Reset, 1), (Unanswered, 1)]),
        (Defect::Stop, &[(Unanswered, 1)]),
        (Defect::Stall, &[]),
    ] {
        let server = Misbehaving::echo(SIZE, defect, 0);
        let outcome = run(&with(load(server.address), |load| {
            load.mode = LoadMode::Churn;
            load.clients = 2;
            load.rate = Some(100.into());
            load.timeout = Duration::from_secs(1);
        }));
        assert_faults(&outcome, expected, &format!("{defect:?}"));
        let unanswered = outcome.faults.count(Unanswered);
        assert_eq!(outcome.counts.messages, 20 - unanswered, "{defect:?}");
        let longest = outcome.counts.latency.max();
        assert!(defect != Defect::Stall || longest >= 48_000_000);
    }
}

#[test]
fn sink_receives_all_bytes_sent() {
    let folder = Folder::new();
    for (index, rate) in [(0, None), (1, None), (0, Some(1000)), (1, Some(1000))] {
        let server = both(&folder, &format!("{index}{rate:?}"), Discard::new());
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.mode = LoadMode::Sink;
            load.clients = 2;
            load.size = 1000;
            load.rate = rate.map(Rate::from);
        }));
        assert_faults(&outcome, &[], "sink");
        assert!(outcome.counts.bytes > 0);
        assert!(rate.is_none() || outcome.counts.bytes <= 200 * 1000);
        let stats = server.stop();
        assert_eq!(stats.clients, 2);
        assert!(stats.bytes_in >= outcome.counts.bytes, "{stats}");
        assert_eq!(stats.bytes_out, 0);
    }
}

#[test]
fn source_sends_all_bytes_received() {
    let folder = Folder::new();
    for index in 0..2 {
        let server = both(&folder, &index.to_string(), Chargen::new(false));
        let outcome = run(&with(load(&server.addresses[index]), |load| {
            load.mode = LoadMode::Source;
            load.clients = 2;
            load.size = 1000;
        }));
        assert_faults(&outcome, &[], "source");
        assert!(outcome.counts.bytes > 0);
        let stats = server.stop();
        assert_eq!((stats.clients, stats.bytes_in), (2, 0));
        assert!(stats.bytes_out >= outcome.counts.bytes);
    }
}

#[test]
fn connections_are_opened_at_the_pace_that_was_asked_for() {
    let server = Running::echo();
    let begun = Instant::now();
    let outcome = run(&with(load(server.address()), |load| {
        load.clients = 30;
        load.connect_rate = Some(100.into());
        load.duration = Duration::from_millis(100);
    }));
    let took = begun.elapsed();
    assert_eq!(outcome.clients, 30);
    assert_faults(&outcome, &[], "a pace");
    // The last one is opened 29 gaps after the first; one of them may be made up for.
    assert!(took >= Duration::from_millis(280 + 100), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn clients_come_from_addresses_of_their_own() {
    let server = Misbehaving::echo(SIZE, Defect::None, 0);
    let outcome = run(&with(load(server.address), |load| load.clients = 40));
    assert_faults(&outcome, &[], "spread");
    let distinct: HashSet<_> = server.peers().into_iter().collect();
    assert_eq!(distinct.len(), 40);
    assert!(distinct.iter().all(std::net::IpAddr::is_loopback));
}

#[test]
fn two_thousand_clients_are_served() {
    allow_many_descriptors();
    let server = Running::echo();
    let outcome = run(&with(load(server.address()), |load| {
        load.clients = 2000;
        load.duration = Duration::from_millis(500);
        load.timeout = Duration::from_secs(20);
    }));
    assert_eq!(outcome.clients, 2000);
    assert_faults(&outcome, &[], "a crowd");
    assert!(outcome.counts.messages >= 2000);
    assert_eq!(outcome.counts.connect.len(), 2000);
    let stats = server.stop();
    assert_eq!(stats.clients, 2000);
}

#[test]
fn full_server_refuses_no_client_but_lets_them_wait() {
    let config = with(config(), |config| config.max_clients = Some(1));
    let server = Running::start(&config, Echo::new());
    let outcome = run(&with(load(server.address()), |load| {
        load.clients = 2;
        load.timeout = Duration::from_millis(500);
    }));
    // The second one waits in the accept queue, with its first message.
    assert_eq!(outcome.clients, 2);
    assert_faults(&outcome, &[(Unanswered, 1)], "full");
}

#[test]
fn contradictory_settings_are_one_line() {
    let base = load("127.0.0.1:1");
    for (settings, line) in [
        (
            with(base.clone(), |load| load.size = 16),
            "a message has at least 17 bytes",
        ),
        (
            with(base.clone(), |load| load.clients = 0),
            "a load has at least one client",
        ),
        (
            with(base.clone(), |load| load.clients = 1 << 21),
            "there are too many clients",
        ),
        (
            with(base.clone(), |load| load.rate = Some(0.into())),
            "a rate is above 0, in a time above 0",
        ),
        (
            with(load("udp://127.0.0.1:1"), |load| {
                load.mode = LoadMode::Churn;
            }),
            "datagrams are for echo and sink",
        ),
    ] {
        assert_eq!(failure(&settings), line);
    }
}
