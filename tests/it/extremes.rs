//! The least and the largest settings of the library and of the binary: a server with them serves, and
//! a load with them ends. Times are added to clocks, and sizes to each other: each sum has to hold.

use std::time::Duration;

use crate::common::Folder;
use crate::common::client::{join, wait_until_joined};
use crate::common::connecting::Piped;
use crate::common::loading::{failure, load, run};
use crate::common::program::{Program, complaint};
use crate::common::running::{Running, config, listening_on, room};
use crate::common::with;
use resound::load::{Load, LoadMode, Rate};
use resound::{
    Chargen, Config, Discard, Echo, Heartbeat, Keepalive, Replay, Room, Server, SocketOptions,
};

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
        config.spin = time;
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

fn sockets(change: impl FnOnce(&mut SocketOptions)) -> Config {
    with(config(), |config| change(&mut config.sockets))
}

/// Probes with these settings.
fn keepalive(idle: Duration, interval: Duration, count: u32) -> Config {
    let probes = with(Keepalive::new(idle), |keepalive| {
        keepalive.interval = Some(interval);
        keepalive.count = Some(count);
    });
    sockets(|options| options.keepalive = Some(probes))
}

#[test]
fn extremes_of_socket_options_are_served() {
    let second = Duration::from_secs(1);
    assert_echoes(&keepalive(second, second, 1));
    let longest = Duration::from_secs(32_767);
    assert_echoes(&keepalive(longest, longest, 127));
    for backlog in [0, 1, i32::MAX, -1, i32::MIN] {
        assert_echoes(&sockets(|options| options.backlog = backlog));
    }
    for size in [0, 1, i32::MAX as usize, 1 << 31, 1 << 32, usize::MAX] {
        assert_echoes(&sockets(|options| options.recv_buffer = Some(size)));
        assert_echoes(&sockets(|options| options.send_buffer = Some(size)));
    }
    for number in [0, 1, 32_767, i32::MAX.unsigned_abs()] {
        assert_echoes(&sockets(|options| options.defer_accept = Some(number)));
        assert_echoes(&sockets(|options| options.fast_open = Some(number)));
    }
    assert_echoes(&sockets(|options| options.tos = Some(u8::MAX)));
    let spin = Duration::from_nanos(1);
    assert_echoes(&with(config(), |config| config.spin = spin));
}

#[test]
fn socket_options_that_the_kernel_does_not_take_are_refused_by_name() {
    let second = Duration::from_secs(1);
    for (name, config) in [
        ("SO_KEEPALIVE", keepalive(Duration::ZERO, second, 1)),
        ("SO_KEEPALIVE", keepalive(Duration::MAX, second, 1)),
        ("SO_KEEPALIVE", keepalive(second, Duration::ZERO, 1)),
        ("SO_KEEPALIVE", keepalive(second, Duration::MAX, 1)),
        ("SO_KEEPALIVE", keepalive(second, second, 0)),
        ("SO_KEEPALIVE", keepalive(second, second, u32::MAX)),
        (
            "TCP_FASTOPEN",
            sockets(|options| options.fast_open = Some(u32::MAX)),
        ),
    ] {
        let error = Server::bind(&config, Echo::new()).map(drop).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// The kernel was given the low 32 bits of a size: 4 GiB were the least.
#[test]
fn buffer_of_more_bytes_than_the_kernel_counts_is_the_largest() {
    let in_force = |size| {
        let config = sockets(|options| {
            options.recv_buffer = Some(size);
            options.send_buffer = Some(size);
        });
        let server = Server::bind(&config, Echo::new()).unwrap();
        let options = server.bound_addresses()[0].options.clone();
        let buffers = options.split(", ").filter(|option| option.contains("BUF"));
        let sizes = buffers.filter_map(|buffer| buffer.split_whitespace().nth(1));
        sizes.map(str::to_owned).collect::<Vec<_>>()
    };
    let largest = in_force(i32::MAX as usize);
    assert_eq!(largest.len(), 2);
    for size in [1 << 31, 1 << 32, usize::MAX] {
        assert_eq!(in_force(size), largest, "{size}");
    }
}

/// The client takes the standard streams of its process for itself, so it has a process of its own:
/// `unlimited` is the library's `Duration::MAX`.
#[test]
fn longest_times_of_a_client_are_taken() {
    let folder = Folder::new();
    for time in ["unlimited", "100years"] {
        let address = folder.unix(time);
        let options = ["timeout", "retry", "reconnect"].map(|name| format!("--{name}={time}"));
        let options = options.each_ref().map(String::as_str);
        let client = Piped::with(&[&[address.as_str()], &options[..]].concat());
        client.program.will_have_logged("retrying");
        let server = Running::start(&listening_on(&[&address]), Discard::new());
        client.stdin.send("hello");
        assert_eq!(client.end().code, Some(0));
        assert_eq!(server.stop().bytes_in, 5);
    }
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

/// The largest settings with which a load ends soon.
fn largest(server: &Running, mode: LoadMode) -> Load {
    with(load(server.address()), |load| {
        load.mode = mode;
        load.rate = (mode != LoadMode::Source).then_some(Rate::from(Rate::MOST));
        load.connect_rate = Some(Rate::from(Rate::MOST));
        load.duration = Duration::from_millis(100);
        load.timeout = Duration::from_millis(100);
        load.interval = Duration::MAX;
        load.depth = usize::MAX;
    })
}

#[test]
fn largest_settings_of_a_load_end() {
    for (mode, server) in [
        (LoadMode::Echo, Running::echo()),
        (LoadMode::Stream, Running::echo()),
        (LoadMode::Churn, Running::echo()),
        (LoadMode::Fanout, Running::broadcast()),
        (LoadMode::Sink, Running::start(&config(), Discard::new())),
        (
            LoadMode::Source,
            Running::start(&config(), Chargen::new(false)),
        ),
    ] {
        let settings = largest(&server, mode);
        let counts = run(&settings).counts;
        assert!(counts.messages + counts.bytes > 0, "{mode:?}");
        server.stop();
    }
    let server = Running::echo();
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
