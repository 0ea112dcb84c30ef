//! An example of a load, for the tests.

use std::time::{Duration, SystemTime};

use resound::load::{Counts, Faults, Interval, Latencies, Load, LoadEnd, LoadMode, LoadOutcome};

/// An echo with 50 clients.
pub(super) fn load() -> Load {
    let to = "127.0.0.1:9999".parse().expect("it is an address");
    let mut load = Load::new(to, LoadMode::Echo);
    load.spin = true;
    load
}

/// A fan-out to 100 subscribers.
pub(super) fn fanout() -> (Load, LoadOutcome) {
    let mut load = load();
    load.mode = LoadMode::Fanout;
    load.clients = 100;
    load.publishers = 1;
    load.slow = 3;
    load.depth = usize::MAX;
    load.rate = Some(20_000.into());
    let mut outcome = LoadOutcome {
        clients: 101,
        slow_closed: 2,
        ..outcome()
    };
    outcome.counts.deliveries *= 100;
    outcome.counts.bytes *= 100;
    outcome.counts.first = latencies(&[(81_200, 1)]);
    (load, outcome)
}

/// Ten seconds of 182,331 messages each.
pub(super) fn outcome() -> LoadOutcome {
    LoadOutcome {
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_253_400_250),
        elapsed: Duration::from_secs(10),
        took: Duration::from_secs(10),
        end: LoadEnd::Duration,
        clients: 50,
        slow_closed: 0,
        counts: counts(),
        faults: Faults::default(),
        mismatch: None,
    }
}

/// The second of these ten seconds.
pub(super) fn interval() -> Interval {
    Interval {
        warmup: false,
        from: Duration::from_secs(1),
        length: Duration::from_secs(1),
        counts: Counts {
            messages: 182_331,
            deliveries: 182_331,
            bytes: 11_669_184,
            ..counts()
        },
        faults: Faults::default(),
    }
}

pub(super) fn nothing() -> Counts {
    Counts {
        messages: 0,
        deliveries: 0,
        bytes: 0,
        latency: latencies(&[]),
        first: latencies(&[]),
        connect: latencies(&[]),
    }
}

fn counts() -> Counts {
    Counts {
        messages: 1_823_310,
        deliveries: 1_823_310,
        bytes: 116_691_840,
        latency: latencies(&[(231_000, 900), (410_000, 80), (3_200_000, 20)]),
        first: latencies(&[]),
        connect: latencies(&[(52_000, 50)]),
    }
}

/// Latencies in nanoseconds, each with its count.
pub(super) fn latencies(all: &[(u64, u64)]) -> Latencies {
    let hour = 3_600_000_000_000;
    let mut latencies = Latencies::new_with_bounds(1, hour, 3).expect("they are in order");
    for (nanos, times) in all {
        latencies.saturating_record_n(*nanos, *times);
    }
    latencies
}
