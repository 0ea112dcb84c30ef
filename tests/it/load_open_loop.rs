//! Messages sent at their times, whatever the server does; and the intervals reported meanwhile.

use std::thread;
use std::time::Duration;

use crate::common::loading::{SIZE, assert_faults, load, run};
use crate::common::misbehaving::{Defect, Misbehaving};
use crate::common::running::Running;
use crate::common::{skipped, with};
use resound::load::Fault::{Lost, Reset, Unanswered};
use resound::load::{Interval, Load, LoadOutcome};

/// Milliseconds in nanoseconds.
const MS: u64 = 1_000_000;

/// The message at which the server stalls or stops.
const AT: u64 = 300;

fn open(to: impl std::fmt::Display) -> Load {
    with(load(to), |load| {
        load.rate = Some(1000.into());
        load.depth = 1000;
        load.duration = Duration::from_millis(600);
    })
}

/// The number of messages that took longer than `milliseconds`.
fn slower(outcome: &LoadOutcome, milliseconds: u64) -> u64 {
    outcome
        .counts
        .latency
        .count_between(milliseconds * MS, u64::MAX)
}

/// A load against a server that stalls once. The second value is true if the machine itself did not
/// stall in the same time, as a second load against a sound server shows.
#[track_caller]
fn stalled(settings: impl Fn(Load) -> Load) -> (LoadOutcome, bool) {
    let (stalls, sound) = (Defect::Stall, Defect::None);
    let [server, other] = [stalls, sound].map(|defect| Misbehaving::echo(SIZE, defect, AT));
    let (outcome, control) = thread::scope(|scope| {
        let control = scope.spawn(|| run(&open(other.address)));
        let outcome = run(&settings(open(server.address)));
        (outcome, control.join().expect("it doesn't panic"))
    });
    assert_faults(&outcome, &[], "a stall is no fault");
    (outcome, slower(&control, 4) == 0)
}

/// Tries to find the machine idle.
const TRIES: usize = 6;

#[test]
fn a_stall_shows_in_all_that_had_to_wait_for_it() {
    for depth in [1000, 1] {
        let quiet = (0..TRIES).any(|_| {
            let (outcome, quiet) = stalled(|load| with(load, |load| load.depth = depth));
            assert_eq!(outcome.counts.messages, 600);
            let (long, longest) = (slower(&outcome, 25), outcome.counts.latency.max());
            // Whatever else the machine does, they have waited for this time.
            assert!(longest >= 48 * MS, "{longest} ns");
            assert!(long >= 20, "{long} of 25");
            assert!(slower(&outcome, 10) >= 35, "those behind it");
            assert!(!quiet || long <= 35, "{long} of 25");
            assert!(!quiet || longest <= 65 * MS, "{longest} ns");
            quiet
        });
        if !quiet {
            skipped("in part: the machine is too busy to tell what else was late");
        }
    }
}

#[test]
fn a_closed_loop_hides_the_same_stall() {
    let quiet = (0..TRIES).any(|_| {
        let closed = |load: Load| {
            with(load, |load| {
                load.rate = None;
                load.depth = 1;
            })
        };
        let (outcome, quiet) = stalled(closed);
        let (long, longest) = (slower(&outcome, 25), outcome.counts.latency.max());
        assert!(longest >= 48 * MS, "{longest} ns");
        assert!(long >= 1 && (!quiet || long <= 3), "{long} of one");
        quiet
    });
    if !quiet {
        skipped("in part: the machine is too busy to tell what else was late");
    }
}

#[test]
fn the_schedule_is_kept() {
    let server = Running::echo();
    for (clients, depth, rate) in [(1, 1, 500), (7, 1, 1000), (3, 100, 5000)] {
        let outcome = run(&with(open(server.address()), |load| {
            load.clients = clients;
            load.depth = depth;
            load.rate = Some(rate.into());
            load.duration = Duration::from_millis(400);
        }));
        assert_faults(&outcome, &[], "an echo");
        assert_eq!(outcome.counts.messages, rate * 4 / 10);
        assert_eq!(outcome.counts.latency.len(), rate * 4 / 10);
        assert_eq!(outcome.elapsed, Duration::from_millis(400));
    }
    let stats = server.stop();
    // Nothing else was sent, either.
    assert_eq!(stats.bytes_in, (200 + 400 + 2000) * SIZE as u64);
    assert_eq!((stats.bytes_out, stats.clients), (stats.bytes_in, 11));
}

#[test]
fn messages_due_after_the_server_stopped_are_accounted_for() {
    for depth in [1, 16, 1000] {
        for verify in [false, true] {
            let server = Misbehaving::echo(SIZE, Defect::Stop, AT);
            let outcome = run(&with(open(server.address), |load| {
                load.depth = depth;
                load.verify = verify;
                load.timeout = Duration::from_millis(400);
            }));
            assert_eq!(outcome.counts.messages, AT);
            let what = format!("depth {depth}, verify {verify}");
            assert_faults(&outcome, &[(Unanswered, 600 - AT)], &what);
            assert_eq!(outcome.counts.latency.len(), 600, "{what}");
            // The first of them has waited for 0.3 s and the timeout, the last for that alone.
            assert!(slower(&outcome, 390) >= 600 - AT, "{what}");
        }
    }
}

#[test]
fn messages_due_when_a_connection_is_reset_are_accounted_for() {
    let server = Misbehaving::echo(SIZE, Defect::Reset, AT);
    let outcome = run(&open(server.address));
    let unanswered = outcome.faults.count(Unanswered);
    assert_faults(&outcome, &[(Reset, 1), (Unanswered, unanswered)], "reset");
    let all = outcome.counts.messages + unanswered;
    assert!((AT..=600).contains(&all) && unanswered >= 1, "{all}");
}

#[test]
fn lost_messages_are_in_the_latencies_too() {
    let server = Misbehaving::echo(SIZE, Defect::Drop, AT);
    let outcome = run(&open(server.address));
    assert_faults(&outcome, &[(Lost, 1)], "drop");
    assert_eq!(outcome.counts.messages, 599);
    assert_eq!(outcome.counts.latency.len(), 600);
}

#[test]
fn intervals_add_up_and_those_of_the_warm_up_are_marked() {
    let server = Running::echo();
    let settings = with(open(server.address()), |load| {
        load.clients = 3;
        load.warmup = Duration::from_millis(200);
        load.duration = Duration::from_millis(400);
        load.interval = Duration::from_millis(90);
    });
    let mut all: Vec<Interval> = Vec::new();
    let outcome = settings.run(|i| all.push(i.clone())).unwrap();
    assert_faults(&outcome, &[], "an echo");
    assert_eq!(outcome.counts.messages, 400);

    let (warm, measured): (Vec<_>, Vec<_>) = all.iter().partition(|i| i.warmup);
    assert!(all.iter().is_sorted_by_key(|i| !i.warmup));
    assert!(!warm.is_empty() && warm.len() <= 3, "{}", warm.len());
    assert!(!measured.is_empty() && measured.len() <= 6);
    let messages: u64 = all.iter().map(|i| i.counts.messages).sum();
    assert_eq!(messages, 600);
    let latencies: u64 = all.iter().map(|i| i.counts.latency.len()).sum();
    assert_eq!(latencies, 600);
    let bytes: u64 = all.iter().map(|i| i.counts.bytes).sum();
    assert_eq!(bytes, 600 * SIZE as u64);
    let connected: u64 = all.iter().map(|i| i.counts.connect.len()).sum();
    assert_eq!(connected, 3);
    assert_eq!(outcome.counts.connect.len(), 3);

    for phase in [&warm, &measured] {
        for pair in phase.windows(2) {
            assert_eq!(pair[0].from + pair[0].length, pair[1].from);
        }
    }
    assert_eq!(warm[0].from, Duration::ZERO);
    // The first begins where it should, or as late as the machine was.
    let ends = warm[warm.len() - 1].from + warm[warm.len() - 1].length;
    assert_eq!(measured[0].from + Duration::from_millis(200), ends);
}

#[test]
fn in_a_closed_loop_intervals_add_up_to_no_less_than_the_outcome() {
    let server = Running::echo();
    let settings = with(open(server.address()), |load| {
        load.rate = None;
        load.depth = 8;
        load.duration = Duration::from_millis(300);
    });
    let mut messages = 0;
    let outcome = settings.run(|i| messages += i.counts.messages).unwrap();
    // Messages sent after the end, before it was noticed, are no part of the outcome.
    let beyond = messages - outcome.counts.messages;
    assert!(beyond <= 8 * 100, "{beyond}");
    assert!(outcome.counts.messages > 0);
}
