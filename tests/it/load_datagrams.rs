//! The load tester against servers over UDP: those that misbehave on purpose, and sound ones.

use std::time::Duration;

use crate::common::loading::{SIZE, assert_faults, at_once, load, run};
use crate::common::misbehaving::{Defect, MisbehavingDatagrams};
use crate::common::running::{Running, listening_on};
use crate::common::with;
use crate::common::{Folder, free_port};
use resound::load::Fault::{Corrupt, Doubled, Lost, Refused, Stray};
use resound::load::{Fault, Load, LoadEnd, LoadMode};
use resound::{Discard, Echo};

/// The timeout after which a datagram is lost: longer than the machine might be busy otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);

fn expect(defect: Defect, settings: impl Fn(Load) -> Load, expected: &[(Fault, u64)]) {
    let server = MisbehavingDatagrams::echo(defect, 5);
    let impatient = with(load(&server.address), |load| load.timeout = TIMEOUT);
    let outcome = run(&settings(impatient));
    assert!(outcome.counts.messages > 0, "{defect:?}");
    assert_faults(&outcome, expected, &format!("{defect:?}"));
}

#[test]
fn each_fault_of_datagrams_is_named() {
    let cases = [
        (Defect::None, &[][..]),
        (Defect::Drop, &[(Lost, 1)]),
        (Defect::Double, &[(Doubled, 1)]),
        // The received bytes are no message, and the message itself is lost.
        (Defect::Undigit, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Filler, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Cut, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Renumber, &[(Lost, 1), (Stray, 1)]),
    ];
    for depth in [1, 4] {
        at_once(&cases, |&(defect, expected)| {
            expect(
                defect,
                |load| with(load, |load| load.depth = depth),
                expected,
            );
        });
    }
}

#[test]
fn datagrams_of_others_are_strays() {
    let two = |load: Load| {
        with(load, |load| {
            load.clients = 2;
            load.depth = 4;
        })
    };
    expect(Defect::Misdeliver, two, &[(Lost, 1), (Stray, 1)]);
}

#[test]
fn datagrams_may_come_in_any_order() {
    let deep = |load: Load| with(load, |load| load.depth = 4);
    expect(Defect::Swap, deep, &[]);
    expect(Defect::Overtake, deep, &[(Doubled, 1)]);
}

#[test]
fn without_checks_contents_are_not_looked_at() {
    let unverified = |load: Load| with(load, |load| load.verify = false);
    expect(Defect::Filler, unverified, &[]);
    expect(Defect::Double, unverified, &[(Doubled, 1)]);
    expect(Defect::Drop, unverified, &[(Lost, 1)]);
}

#[test]
fn unanswered_datagrams_are_lost() {
    expect(Defect::Stop, |load| load, &[(Lost, 1)]);
    expect(
        Defect::Stop,
        |load| with(load, |load| load.depth = 4),
        &[(Lost, 4)],
    );
}

#[test]
fn due_messages_are_accounted_for_when_answers_stop() {
    for depth in [1, 8, 1000] {
        let server = MisbehavingDatagrams::echo(Defect::Stop, 50);
        let outcome = run(&with(load(&server.address), |load| {
            load.depth = depth;
            load.rate = Some(1000.into());
            load.timeout = Duration::from_millis(500);
        }));
        assert_eq!(outcome.counts.messages, 50);
        assert_faults(&outcome, &[(Lost, 150)], &format!("depth {depth}"));
        assert_eq!(outcome.counts.latency.len(), 200);
    }
}

#[test]
fn unbound_port_refuses_datagrams() {
    let port = free_port("127.0.0.1");
    let outcome = run(&with(load(format!("udp://127.0.0.1:{port}")), |load| {
        load.clients = 3;
        load.duration = Duration::from_secs(60);
    }));
    assert_eq!(outcome.end, LoadEnd::Abandoned);
    assert_eq!(outcome.faults.cause(), Some("connection refused"));
    assert_faults(&outcome, &[(Refused, 3), (Lost, 3)], "no server");
    assert_eq!(outcome.counts.messages, 0);
}

#[test]
fn an_echo_answers_all_that_is_sent_over_udp_and_unix_sockets() {
    let folder = Folder::new();
    let config = with(
        listening_on(&["udp://127.0.0.1:0", &folder.unixgram("s")]),
        |config| config.udp_rate = None,
    );
    let server = Running::start(&config, Echo::new());
    for address in &server.addresses {
        let outcome = run(&with(load(address), |load| {
            load.clients = 5;
            load.depth = 3;
            load.rate = Some(1000.into());
        }));
        assert_faults(&outcome, &[], &address.to_string());
        assert_eq!((outcome.clients, outcome.counts.messages), (5, 200));
    }
    for address in &server.addresses {
        let outcome = run(&with(load(address), |load| load.clients = 3));
        assert_faults(&outcome, &[], &address.to_string());
    }
    let stats = server.stop();
    assert!(stats.datagrams >= 400);
    assert_eq!(stats.datagrams, stats.answers);
    assert_eq!(stats.bytes_in, stats.datagrams * SIZE as u64);
}

#[test]
fn sink_for_datagrams_may_drop_messages() {
    let folder = Folder::new();
    let config = listening_on(&["udp://127.0.0.1:0", &folder.unixgram("s")]);
    let server = Running::start(&config, Discard::new());
    let mut sent = 0;
    for address in &server.addresses {
        let outcome = run(&with(load(address), |load| {
            load.mode = LoadMode::Sink;
            load.clients = 2;
            load.rate = Some(1000.into());
        }));
        assert_faults(&outcome, &[], &address.to_string());
        // The last message may be sent after the end, and is not counted then.
        assert!((1..=200).contains(&outcome.counts.messages));
        assert_eq!(outcome.counts.bytes, outcome.counts.messages * SIZE as u64);
        assert!(outcome.counts.latency.is_empty());
        sent += outcome.counts.messages;
    }
    let received = server.stop().datagrams;
    assert!((1..=400).contains(&received) && received <= 400 && sent <= 400);
}
