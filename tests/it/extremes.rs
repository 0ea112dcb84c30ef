//! The least and the largest settings of the library and of the binary: a server with them serves, and
//! a load with them ends. Times are added to clocks, and sizes to each other: each sum has to hold.

use std::time::Duration;

use crate::common::client::{join, wait_until_joined};
use crate::common::loading::{failure, load, run};
use crate::common::program::{Program, complaint};
use crate::common::running::{Running, config, room};
use crate::common::with;
use resound::load::{Load, LoadMode, Rate};
use resound::{Config, Echo, Heartbeat, Replay, Room};

/// A server with this time, number and size in every setting that takes one.
fn extreme(time: Duration, size: u64) -> Config {
    with(config(), |config| {
        let count = usize::try_from(size).unwrap_or(usize::MAX);
        config.max_clients = Some(count.max(3));
        config.high_water = size;
        config.patience = Some(time);
        config.heartbeat = Some(Heartbeat::new(time, "beat"));
        config.udp_rate = Some(u32::try_from(size).unwrap_or(u32::MAX));
        config.grace = time;
        config.sockets.linger = Some(time);
        if time > Duration::ZERO {
            config.idle_timeout = Some(time);
            config.write_timeout = Some(time);
        }
    })
}

fn assert_echoes(config: &Config) {
    let server = Running::start(config, Echo::new());
    let client = server.connect();
    client.send("hello");
    client.receives("hello");
    client.finish();
    client.receives_end();
    assert_eq!(server.stop().clients, 1);
}

fn assert_broadcasts(config: &Config, settings: &Room) {
    let server = Running::start(config, room(settings));
    let clients = join(server.address(), 2);
    wait_until_joined(&clients);
    server.stop();
}

#[test]
fn longest_times_and_largest_sizes_are_served() {
    let largest = extreme(Duration::MAX, u64::MAX);
    assert_echoes(&largest);
    assert_broadcasts(&largest, &Room::default());
    for replay in [Replay::Messages(u64::MAX), Replay::Bytes(u64::MAX / 4)] {
        let settings = with(Room::default(), |room| {
            room.max_message = 1 << 30;
            room.log_size = u64::MAX;
            room.line_timeout = Some(Duration::MAX);
            room.replay = replay;
        });
        assert_broadcasts(&largest, &settings);
    }
}

#[test]
fn shortest_times_and_smallest_sizes_are_served() {
    let smallest = with(extreme(Duration::ZERO, 0), |config| {
        config.heartbeat = None; // it would be heard among the messages
        config.sockets.linger = None; // an end would be a reset
    });
    assert_echoes(&smallest);
    let settings = with(Room::default(), |room| {
        room.max_message = 100;
        room.replay = Replay::Bytes(0);
    });
    assert_broadcasts(&smallest, &settings);
}

#[test]
fn largest_settings_of_the_program_are_served() {
    const MAX: &str = "18446744073709551615";
    let options = [
        "--max-clients",
        "--high-water",
        "--log-size",
        "--replay",
        "--idle-timeout",
        "--write-timeout",
        "--line-timeout",
        "--patience",
        "--grace",
        "--linger",
        "--heartbeat",
    ];
    let times = options[4..].iter().map(|option| (option, "100years"));
    let sizes = options[..4].iter().map(|option| (option, MAX));
    let given = sizes
        .chain(times)
        .map(|(option, value)| format!("{option}={value}"));
    let args: Vec<_> = ["broadcast", "-l", "127.0.0.1:0"]
        .map(str::to_owned)
        .into_iter()
        .chain(given)
        .collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let program = Program::start(&args);
    let clients = [program.connect(), program.connect()];
    wait_until_joined(&clients);
    assert_eq!(program.terminate().code, Some(0));
}

#[test]
fn largest_settings_of_a_load_end() {
    let server = Running::echo();
    for mode in [LoadMode::Echo, LoadMode::Churn] {
        let outcome = run(&with(load(server.address()), |load| {
            load.mode = mode;
            load.rate = Some(Rate::from(Rate::MOST));
            load.connect_rate = Some(Rate::from(Rate::MOST));
            load.duration = Duration::from_millis(100);
            load.timeout = Duration::from_millis(100);
            load.interval = Duration::MAX;
            load.depth = usize::MAX;
        }));
        assert!(outcome.counts.messages > 0);
    }
    for (name, change) in [
        (
            "a rate",
            (|load| load.rate = Some(Rate::from(u64::MAX))) as fn(&mut Load),
        ),
        ("a rate", |load| {
            load.connect_rate = Some(Rate::from(u64::MAX));
        }),
        ("a message", |load| load.size = usize::MAX),
        ("there are too many clients", |load| {
            load.clients = usize::MAX;
        }),
        ("there are too many clients", |load| load.slow = usize::MAX),
        ("there are too many clients", |load| {
            load.publishers = usize::MAX;
        }),
        ("a time", |load| load.duration = Duration::MAX),
    ] {
        let error = failure(&with(load(server.address()), change));
        assert!(error.starts_with(name), "{error}");
    }
}

/// It made a schedule of all messages that were due, until the memory was gone.
#[test]
fn rate_that_no_program_reaches_is_refused() {
    let line = complaint(&["load", "--rate", "18446744073709551615", "7"], 2);
    let reason = "more than 10000000 a second";
    assert!(line.contains("--rate") && line.contains(reason), "{line}");
    let line = complaint(&["broadcast", "--log-size", "17EiB"], 2);
    let reason = "16EiB or larger";
    assert!(
        line.contains("--log-size") && line.contains(reason),
        "{line}"
    );
}
