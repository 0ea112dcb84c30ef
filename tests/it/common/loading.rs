//! Loads for tests: short ones, which end by themselves.

use super::with;
use std::fmt::Display;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use resound::load::{Fault, Faults, Load, LoadMode, LoadOutcome};

/// Bytes in a message.
pub(crate) const SIZE: usize = 64;

/// One client, one message at a time, all of them checked.
#[track_caller]
pub(crate) fn load(to: impl Display) -> Load {
    with(
        Load::new(
            to.to_string().parse().expect("it is an address"),
            LoadMode::Echo,
        ),
        |load| {
            load.clients = 1;
            load.publishers = 1;
            load.slow = 0;
            load.size = SIZE;
            load.depth = 1;
            load.rate = None;
            load.connect_rate = None;
            load.duration = Duration::from_millis(200);
            load.warmup = Duration::ZERO;
            load.timeout = Duration::from_secs(5);
            load.interval = Duration::from_millis(100);
            load.spin = false;
            load.verify = true;
            load.catch_signals = false;
        },
    )
}

#[track_caller]
pub(crate) fn run(load: &Load) -> LoadOutcome {
    load.run(|_| ()).unwrap_or_else(|e| panic!("{e}"))
}

/// The error of a load that cannot be run.
#[track_caller]
pub(crate) fn failure(load: &Load) -> String {
    let error = load.run(|_| ()).expect_err("it cannot be run");
    error.to_string()
}

/// Serves each client on a thread of its own, which ends with the client.
#[track_caller]
pub(crate) fn serve(client: fn(usize, TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            thread::spawn(move || client(number, stream));
        }
    });
    address
}

/// All faults with a count.
pub(crate) fn named(faults: &Faults) -> Vec<(Fault, u64)> {
    let all = Fault::ALL.map(|fault| (fault, faults.count(fault)));
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Asserts that these are all faults, with their counts.
#[track_caller]
pub(crate) fn assert_faults(outcome: &LoadOutcome, expected: &[(Fault, u64)], what: &str) {
    let cause = outcome.faults.cause();
    assert_eq!(named(&outcome.faults), expected, "{what}: {cause:?}");
}

/// Tests all cases at the same time: most of their time is waiting.
pub(crate) fn at_once<T: Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| test(case));
        }
    });
}
