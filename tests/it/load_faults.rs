//! The load tester against servers that misbehave on purpose: each is caught, and named.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::common::loading::{SIZE, assert_faults, at_once, failure, load, named, run};
use crate::common::misbehaving::{Defect, Misbehaving};
use crate::common::with;
use resound::load::Fault::{
    Closed, Corrupt, Disordered, Doubled, Lost, Refused, Reset, Stray, Unanswered,
};
use resound::load::{Fault, Load, LoadEnd, LoadOutcome};

/// The message at which the defect shows.
const AT: u64 = 5;

/// Messages in flight at a time, where it is more than one.
const DEEP: usize = 4;

/// A load with a timeout for messages that are never received: with one in flight, a client sends no
/// other until then. The timeout is well before the end, and longer than the machine may be busy
/// otherwise; the rate leaves time for further messages.
fn impatient(load: Load) -> Load {
    with(load, |load| {
        load.rate = Some(400.into());
        load.duration = Duration::from_millis(1200);
        load.timeout = Duration::from_millis(250);
    })
}

/// Two clients, of which the first accepted is the victim.
#[track_caller]
fn caught(defect: Defect, settings: impl Fn(Load) -> Load) -> LoadOutcome {
    let server = Misbehaving::echo(SIZE, defect, AT);
    let two = with(load(server.address), |load| {
        load.clients = 2;
        load.duration = Duration::from_millis(600);
    });
    let outcome = run(&settings(two));
    assert_eq!(outcome.clients, 2, "{defect:?}");
    outcome
}

#[track_caller]
fn assert_caught(defect: Defect, settings: impl Fn(Load) -> Load, expected: &[(Fault, u64)]) {
    let outcome = caught(defect, settings);
    assert_eq!(outcome.end, LoadEnd::Duration, "{defect:?}");
    assert!(outcome.counts.messages > 0, "{defect:?}");
    let answers = outcome.counts.latency.len();
    assert!(answers >= outcome.counts.messages, "{defect:?}");
    assert_faults(&outcome, expected, &format!("{defect:?}"));
}

fn deep(load: Load) -> Load {
    with(load, |load| load.depth = DEEP)
}

/// Sends a number of messages, however long that takes.
fn scheduled(load: Load) -> Load {
    with(load, |load| {
        load.rate = Some(400.into());
        load.duration = Duration::from_millis(300);
    })
}

fn unverified(load: Load) -> Load {
    with(load, |load| load.verify = false)
}

#[test]
fn a_sound_server_is_not_blamed() {
    for settings in [
        |load| load,
        deep,
        unverified,
        |load| unverified(deep(load)),
        |load: Load| {
            with(load, |load| {
                load.depth = 1000;
                load.size = SIZE;
            })
        },
    ] {
        assert_caught(Defect::None, settings, &[]);
    }
}

#[test]
fn at_depth_one_faults_that_spoil_no_order_are_named_at_once() {
    let cases = [
        (Defect::Double, &[(Doubled, 1)][..]),
        (Defect::Undigit, &[(Corrupt, 1)]),
        (Defect::Filler, &[(Corrupt, 1)]),
    ];
    at_once(&cases, |&(defect, expected)| {
        assert_caught(defect, scheduled, expected);
    });
}

#[test]
fn at_depth_one_missing_messages_are_named_after_further_ones() {
    let cases = [
        (Defect::Drop, &[(Lost, 1)][..]),
        (Defect::Swap, &[(Disordered, 1)]),
        (Defect::Lose, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Misdeliver, &[(Lost, 1), (Stray, 1)]),
        // A message that was never sent is received in its place.
        (Defect::Renumber, &[(Lost, 1), (Stray, 1)]),
        // They spoil the next one, too.
        (Defect::Cut, &[(Lost, 2), (Corrupt, 1)]),
        (Defect::Newline, &[(Lost, 2), (Corrupt, 1)]),
    ];
    at_once(&cases, |&(defect, expected)| {
        assert_caught(defect, impatient, expected);
    });
}

#[test]
fn without_a_schedule_one_more_is_sent_all_the_same() {
    let settings = |load| with(impatient(load), |load| load.rate = None);
    assert_caught(Defect::Drop, settings, &[(Lost, 1)]);
    assert_caught(Defect::Cut, settings, &[(Lost, 2), (Corrupt, 1)]);
}

#[test]
fn with_several_under_way_each_is_named_by_those_that_follow() {
    let cases = [
        (Defect::Drop, &[(Lost, 1)][..]),
        (Defect::Double, &[(Doubled, 1)]),
        (Defect::Swap, &[(Disordered, 1)]),
        (Defect::Undigit, &[(Corrupt, 1)]),
        (Defect::Filler, &[(Corrupt, 1)]),
        (Defect::Lose, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Cut, &[(Lost, 2), (Corrupt, 1)]),
        (Defect::Newline, &[(Lost, 2), (Corrupt, 1)]),
        (Defect::Misdeliver, &[(Lost, 1), (Stray, 1)]),
        (Defect::Renumber, &[(Lost, 1), (Stray, 1)]),
    ];
    at_once(&cases, |&(defect, expected)| {
        assert_caught(defect, |load| scheduled(deep(load)), expected);
    });
    assert_caught(Defect::Drop, deep, &[(Lost, 1)]);
}

#[test]
fn server_that_stops_answering_leaves_all_messages_in_flight_unanswered() {
    let patient = |load: Load| with(load, |load| load.timeout = Duration::from_millis(600));
    assert_caught(Defect::Stop, patient, &[(Unanswered, 1)]);
    let settings = |load| unverified(patient(load));
    assert_caught(Defect::Stop, settings, &[(Unanswered, 1)]);
    let settings = |load| patient(deep(load));
    let outcome = caught(Defect::Stop, settings);
    assert_faults(&outcome, &[(Unanswered, DEEP as u64)], "deep");
    // They are slow, not absent.
    assert!(outcome.counts.latency.max() >= 600_000_000);
}

#[test]
fn closes_and_resets_are_told_apart() {
    for (defect, fault, cause) in [
        (Defect::Close, Closed, "the server has closed it"),
        (Defect::Reset, Reset, "connection reset by peer"),
    ] {
        for settings in [|load| load, unverified] {
            let outcome = caught(defect, settings);
            assert_faults(&outcome, &[(fault, 1), (Unanswered, 1)], cause);
            assert_eq!(outcome.faults.cause(), Some(cause));
            assert_eq!(outcome.end, LoadEnd::Duration);
        }
        let outcome = caught(defect, deep);
        let unanswered = outcome.faults.count(Unanswered);
        assert!((1..=DEEP as u64).contains(&unanswered), "{unanswered}");
        assert_faults(&outcome, &[(fault, 1), (Unanswered, unanswered)], cause);
    }
}

#[test]
fn without_any_client_left_the_load_ends() {
    let server = Misbehaving::echo(SIZE, Defect::Reset, AT);
    let outcome = run(&with(load(server.address), |load| {
        load.duration = Duration::from_secs(60);
    }));
    assert_eq!(outcome.end, LoadEnd::Abandoned);
    assert!(outcome.elapsed < Duration::from_secs(30));
    assert_eq!(outcome.counts.messages, AT);
    assert_faults(&outcome, &[(Reset, 1), (Unanswered, 1)], "alone");
}

#[test]
fn unverified_messages_are_counted_all_the_same() {
    for (defect, expected) in [
        // Only a missing answer, or surplus bytes, can be detected.
        (Defect::Drop, &[(Unanswered, 1)][..]),
        (Defect::Cut, &[(Unanswered, 1)]),
        (Defect::Double, &[(Stray, 1)]),
        (Defect::Filler, &[]),
        (Defect::Undigit, &[]),
        (Defect::Misdeliver, &[(Unanswered, 1), (Stray, 1)]),
    ] {
        let settings = |load| {
            with(unverified(load), |load| {
                load.timeout = Duration::from_millis(500);
            })
        };
        if defect == Defect::Misdeliver {
            // Surplus bytes may be received after the end.
            let outcome = caught(defect, settings);
            assert_eq!(outcome.faults.count(Unanswered), 1);
            assert!(outcome.faults.total() <= 2, "{:?}", named(&outcome.faults));
            continue;
        }
        assert_caught(defect, settings, expected);
    }
}

#[test]
fn unused_port_is_no_load() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let line = format!("cannot connect to {address}: connection refused");
    assert_eq!(failure(&load(address)), line);
}

#[test]
fn clients_after_the_listener_closed_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // One client is accepted, and not answered. One that connects at the same moment is reset.
    let server = thread::spawn(move || listener.accept().unwrap());
    let outcome = run(&with(load(address), |load| {
        load.clients = 4;
        load.connect_rate = Some(10.into());
        load.timeout = Duration::from_millis(500);
    }));
    let failed = outcome.faults.count(Refused) + outcome.faults.count(Reset);
    assert_eq!(failed, 3);
    assert!(outcome.faults.count(Refused) >= 1);
    assert_eq!(outcome.clients as u64, 4 - outcome.faults.count(Refused));
    drop(server.join().unwrap());
}
