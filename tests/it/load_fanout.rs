//! The load tester in rooms: rooms that misbehave on purpose, and real ones.

use std::time::Duration;

use crate::common::loading::{SIZE, assert_faults, at_once, failure, load, run};
use crate::common::misbehaving::{Defect, Misbehaving};
use crate::common::running::{Running, config, listening_on, room};
use crate::common::with;
use crate::common::{Folder, settled};
use resound::load::Fault::{Closed, Corrupt, Disordered, Doubled, Lost, Stray, Unanswered};
use resound::load::{Fault, Load, LoadMode, LoadOutcome};
use resound::{CloseReason, Config, Room};

/// The message of the fault: after the messages that show that all clients have joined.
const AT: u64 = 40;

fn fanout(to: impl std::fmt::Display) -> Load {
    with(load(to), |load| {
        load.mode = LoadMode::Fanout;
        load.clients = 3;
        load.rate = Some(400.into());
        load.duration = Duration::from_secs(1);
        load.timeout = Duration::from_millis(400);
    })
}

/// A room in which one subscriber is the victim.
#[track_caller]
fn caught(defect: Defect, depth: usize, verify: bool) -> (LoadOutcome, Misbehaving) {
    let server = Misbehaving::broadcast(SIZE, defect, AT);
    let outcome = run(&with(fanout(server.address), |load| {
        load.depth = depth;
        load.verify = verify;
    }));
    assert_eq!(outcome.clients, 4, "{defect:?}");
    assert!(outcome.counts.messages > 0, "{defect:?}");
    (outcome, server)
}

#[track_caller]
fn assert_caught(defect: Defect, depth: usize, expected: &[(Fault, u64)]) {
    let (outcome, _) = caught(defect, depth, true);
    assert_faults(&outcome, expected, &format!("{defect:?} at {depth}"));
}

#[test]
fn fault_of_one_subscriber_alone_is_named() {
    let cases = [
        (Defect::None, &[][..]),
        (Defect::Drop, &[(Lost, 1)]),
        (Defect::Double, &[(Doubled, 1)]),
        (Defect::Swap, &[(Disordered, 1)]),
        // The received bytes are no message, and the message itself is lost.
        (Defect::Undigit, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Filler, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Lose, &[(Lost, 1), (Corrupt, 1)]),
        (Defect::Renumber, &[(Lost, 1), (Stray, 1)]),
    ];
    at_once(&cases, |&(defect, expected)| {
        assert_caught(defect, 16, expected);
    });
}

#[test]
fn a_message_at_a_time_goes_on_after_one_that_was_lost() {
    let cases = [
        (Defect::Drop, &[(Lost, 1)][..]),
        (Defect::Swap, &[(Disordered, 1)]),
        (Defect::Double, &[(Doubled, 1)]),
        (Defect::Filler, &[(Lost, 1), (Corrupt, 1)]),
    ];
    at_once(&cases, |&(defect, expected)| {
        assert_caught(defect, 1, expected);
    });
    // It spoils the next one, too, and there may be no third before the end.
    let (outcome, _) = caught(Defect::Cut, 1, true);
    let lost = outcome.faults.count(Lost) + outcome.faults.count(Unanswered);
    assert_eq!((lost, outcome.faults.count(Corrupt)), (2, 1));
    assert_eq!(outcome.faults.total(), 3);
}

#[test]
fn numbers_are_checked_in_any_case() {
    for (defect, expected) in [
        (Defect::Drop, &[(Lost, 1)][..]),
        (Defect::Double, &[(Doubled, 1)]),
        (Defect::Swap, &[(Disordered, 1)]),
        (Defect::Filler, &[]),
    ] {
        let (outcome, _) = caught(defect, 16, false);
        assert_faults(&outcome, expected, &format!("{defect:?} unverified"));
    }
}

#[test]
fn subscriber_that_gets_nothing_more_is_missed_in_every_later_message() {
    // With room for all of them, so that none is sent so late that the others miss it, too.
    let (outcome, server) = caught(Defect::Stop, 1000, true);
    let missed = settled("what came last", || server.owed()) - AT;
    assert_faults(&outcome, &[(Unanswered, missed)], "stop");
}

#[test]
fn closed_subscriber_is_not_waited_for() {
    let (outcome, _) = caught(Defect::Close, 16, true);
    // The messages in flight to it then were never received.
    let unanswered = outcome.faults.count(Unanswered);
    assert!((1..=16).contains(&unanswered), "{unanswered}");
    assert_faults(&outcome, &[(Closed, 1), (Unanswered, unanswered)], "close");
    assert_eq!(outcome.faults.cause(), Some("the server has closed it"));
    assert!(outcome.counts.latency.max() < 400_000_000, "they waited");
}

#[test]
fn subscriber_that_gets_nothing_at_all_prevents_the_load() {
    let server = Misbehaving::broadcast(SIZE, Defect::Stop, 0);
    let impatient = with(fanout(server.address), |load| {
        load.timeout = Duration::from_millis(200);
    });
    let hint = "clients receive nothing that another publishes: is it a broadcast service at whose address clients may publish, that accepts lines of this length and adds no prefix?";
    assert_eq!(failure(&impatient), format!("1 of 3 {hint}"));

    let server = Running::echo();
    let impatient = with(fanout(server.address()), |load| {
        load.timeout = Duration::from_millis(100);
    });
    assert_eq!(failure(&impatient), format!("3 of 3 {hint}"));
}

#[test]
fn rooms_deliver_to_all_others() {
    let folder = Folder::new();
    for (include_sender, publishers) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let settings = with(Room::default(), |room| room.include_sender = include_sender);
        let config = listening_on(&["127.0.0.1:0", &folder.unix(&publishers.to_string())]);
        for index in 0..2 {
            let server = Running::start(&config, room(&settings));
            let outcome = run(&with(fanout(&server.addresses[index]), |load| {
                load.publishers = publishers;
                load.depth = 100;
                load.rate = Some(1000.into());
                load.duration = Duration::from_millis(200);
                load.timeout = Duration::from_secs(5);
            }));
            let what = format!("{publishers} publishers, senders too: {include_sender}");
            assert_faults(&outcome, &[], &what);
            assert_eq!(outcome.clients, publishers + 3, "{what}");
            // A message counts when its last receiver has it.
            assert_eq!(outcome.counts.messages, 200, "{what}");
            assert_eq!(outcome.counts.latency.len(), 200, "{what}");
            assert_eq!(outcome.counts.first.len(), 200, "{what}");
            let (first, last) = (&outcome.counts.first, &outcome.counts.latency);
            assert!(first.max() <= last.max(), "{what}");
            let stats = server.stop();
            assert_eq!(stats.clients, publishers as u64 + 3, "{what}");
            assert!(stats.messages >= 200, "{what}");
            // Messages that only show that all clients have joined may be late, and count.
            let deliveries = 1..=stats.deliveries;
            assert!(deliveries.contains(&outcome.counts.deliveries), "{what}");
            let receivers = publishers as u64 + 2 + u64::from(include_sender);
            assert_eq!(stats.deliveries, stats.messages * receivers, "{what}");
        }
    }
}

#[test]
fn publishers_without_a_schedule_are_as_fast_as_the_room() {
    let server = Running::broadcast();
    let outcome = run(&with(fanout(server.address()), |load| {
        load.publishers = 2;
        load.depth = 64;
        load.rate = None;
        load.duration = Duration::from_millis(300);
        load.timeout = Duration::from_secs(5);
    }));
    assert_faults(&outcome, &[], "closed loop");
    let stats = server.stop();
    assert!(outcome.counts.messages > 0);
    assert!(stats.messages >= outcome.counts.messages);
    assert!(stats.deliveries >= outcome.counts.deliveries);
}

/// A room, in bulk over a Unix socket, whose buffers are small.
#[track_caller]
fn in_bulk(config: &Config) -> (LoadOutcome, Running) {
    let server = Running::start(config, room(&Room::default()));
    let outcome = run(&with(fanout(server.address()), |load| {
        load.slow = 2;
        load.size = 16 * 1024;
        load.depth = 32;
        load.rate = None;
        load.duration = Duration::from_millis(1500);
        load.timeout = Duration::from_secs(5);
    }));
    (outcome, server)
}

#[test]
fn slow_readers_are_closed_by_a_room_without_patience() {
    let folder = Folder::new();
    let config = with(listening_on(&[&folder.unix("s")]), |config| {
        config.patience = Some(Duration::from_millis(50));
    });
    let (outcome, server) = in_bulk(&config);
    assert_eq!((outcome.clients, outcome.slow_closed), (4, 2));
    assert_faults(&outcome, &[], "bulk");
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::SlowConsumer), 2);
    assert_eq!(stats.clients, 6);
}

#[test]
fn slow_readers_of_an_echo_disturb_no_other_client() {
    let server = Running::start(&config(), resound::Echo::new());
    let outcome = run(&with(load(server.address()), |load| {
        load.slow = 3;
        load.clients = 2;
    }));
    assert_eq!((outcome.clients, outcome.slow_closed), (2, 0));
    assert!(outcome.counts.messages > 0);
    assert_faults(&outcome, &[], "echo");
    let stats = server.stop();
    assert_eq!(stats.clients, 5);
}
