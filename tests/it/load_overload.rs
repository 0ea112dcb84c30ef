//! The load tester under settings that cannot be met: the shortfall is reported.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::common::Folder;
use crate::common::loading::{SIZE, assert_faults, load, run, serve};
use crate::common::misbehaving::{Defect, Misbehaving};
use crate::common::program::Program;
use crate::common::with;
use resound::load::Fault::{Closed, Corrupt, Refused, Unanswered};
use resound::load::LoadMode;
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

/// Milliseconds in nanoseconds.
const MS: u64 = 1_000_000;

/// Echoes `count` messages, each after a pause.
fn echo(mut stream: TcpStream, count: usize, pause: Duration) {
    let mut message = [0; SIZE];
    for _ in 0..count {
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        thread::sleep(pause);
        if stream.write_all(&message).is_err() {
            return;
        }
    }
}

#[test]
fn server_that_cannot_keep_up_is_not_reported_at_the_rate_asked_for() {
    let slow = serve(|_, stream| echo(stream, usize::MAX, Duration::from_millis(2)));
    let outcome = run(&with(load(slow), |load| {
        load.rate = Some(1000.into());
        load.depth = usize::MAX;
    }));
    assert_faults(&outcome, &[], "all of them come");
    assert_eq!(outcome.counts.messages, 200);
    assert_eq!(outcome.elapsed, Duration::from_millis(200));
    assert!(outcome.took >= Duration::from_millis(390), "{outcome:?}");
    let rate = outcome.per_second(outcome.counts.messages);
    assert!(rate < 520.0, "{rate}");
    assert!(outcome.counts.latency.max() >= 190 * MS);
}

#[test]
fn messages_due_for_a_closed_client_count_too() {
    let server = serve(|number, stream| {
        let count = if number == 0 { 50 } else { usize::MAX };
        echo(stream, count, Duration::ZERO);
    });
    let outcome = run(&with(load(server), |load| {
        load.clients = 3;
        load.rate = Some(1500.into());
        load.depth = usize::MAX;
        load.duration = Duration::from_millis(400);
    }));
    let missing = 600 - outcome.counts.messages;
    assert!(missing >= 150, "{missing}");
    let closed = outcome.faults.count(Closed) + outcome.faults.count(resound::load::Fault::Reset);
    assert_eq!(closed, 1);
    assert_eq!(outcome.faults.count(Unanswered), missing);
    assert_eq!(outcome.counts.latency.len(), 600);
}

/// Longer than the timeout, and in a room: no client is given up for that.
#[test]
fn a_stall_of_a_room_shows_in_all_that_had_to_wait_for_it() {
    let args = ["broadcast", "-l", "127.0.0.1:0", "--patience", "unlimited"];
    let server = Program::start(&args);
    let settings = with(load(server.address()), |load| {
        load.mode = LoadMode::Fanout;
        load.clients = 3;
        load.rate = Some(500.into());
        load.depth = usize::MAX;
        load.duration = Duration::from_millis(900);
        load.timeout = Duration::from_millis(500);
    });
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            server.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(600));
            server.signal(Signal::CONT);
        });
        run(&settings)
    });
    assert_faults(&outcome, &[], "a stall is no fault");
    assert_eq!(outcome.counts.messages, 450);
    assert_eq!(outcome.counts.deliveries, 3 * 450);
    // Those of 600 ms wait for 300 ms on average; the load may have begun late.
    let waited = outcome.counts.latency.count_between(100 * MS, u64::MAX);
    assert!(waited >= 150, "{waited}");
    assert!(outcome.counts.latency.max() >= 500 * MS);
}

#[test]
fn a_backlog_that_stays_full_is_no_reason_to_wait_for_ever() {
    let folder = Folder::new();
    let path = folder.path("full.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let name = SockAddr::unix(&path).unwrap();
    listener.bind(&name).unwrap();
    listener.listen(1).unwrap();
    let outcome = run(&with(load(folder.unix("full.sock")), |load| {
        load.clients = 20;
        load.timeout = Duration::from_millis(100);
    }));
    let refused = outcome.faults.count(Refused);
    assert!((15..20).contains(&refused), "{refused}");
    assert_eq!(outcome.faults.cause(), Some("timed out"));
    assert_eq!(outcome.clients as u64, 20 - refused);
}

#[test]
fn the_first_answer_of_a_client_is_looked_at_in_any_case() {
    let server = Misbehaving::echo(SIZE, Defect::Filler, 0);
    let outcome = run(&with(load(server.address), |load| load.verify = false));
    assert_faults(&outcome, &[(Corrupt, 1)], "no echo");
}

#[test]
fn server_that_ends_at_once_is_not_taken_for_a_stopped_reader() {
    let server = serve(|number, stream| {
        if number > 0 {
            echo(stream, usize::MAX, Duration::ZERO);
        }
    });
    // Clients that stop reading are connected first.
    let outcome = run(&with(load(server), |load| load.slow = 1));
    assert_faults(&outcome, &[], "slow ones are no fault");
    assert_eq!((outcome.slow_closed, outcome.clients), (1, 1));
}
