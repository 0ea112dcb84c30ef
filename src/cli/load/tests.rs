//! The options of the load tester, from a command line to a `Load`.

use clap::Parser;

use super::super::{Cli, Command, with};
use super::*;

#[track_caller]
fn parsed(args: &[&str]) -> LoadArgs {
    let all = ["resound", "load"].iter().chain(args);
    let cli = Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    match cli.command {
        Command::Load(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// The load of a valid command line.
#[track_caller]
fn checked(args: &[&str]) -> Load {
    let parsed = parsed(args);
    parsed.check().unwrap_or_else(|e| panic!("{args:?}: {e}"));
    parsed.load()
}

/// An echo with the defaults.
fn plain() -> Load {
    with(
        Load::new("127.0.0.1:9999".parse().unwrap(), LoadMode::Echo),
        |load| {
            load.clients = 50;
            load.publishers = 0;
            load.slow = 0;
            load.size = 64;
            load.depth = 1;
            load.rate = None;
            load.connect_rate = None;
            load.duration = Duration::from_secs(10);
            load.warmup = Duration::from_secs(1);
            load.timeout = Duration::from_secs(2);
            load.interval = Duration::from_secs(1);
            load.spin = has_spare_processor();
            load.verify = false;
            load.catch_signals = true;
        },
    )
}

#[test]
fn each_mode_has_its_defaults() {
    let bulk = |mode| {
        with(plain(), |load| {
            load.mode = mode;
            load.clients = 4;
            load.size = 65_536;
        })
    };
    let stream = LoadMode::Stream;
    for (mode, expected) in [
        ("echo", plain()),
        ("stream", with(bulk(stream), |load| load.depth = 16)),
        ("churn", with(plain(), |load| load.mode = LoadMode::Churn)),
        (
            "fanout",
            with(plain(), |load| {
                load.mode = LoadMode::Fanout;
                load.clients = 100;
                load.publishers = 1;
                load.depth = 1024;
            }),
        ),
        ("sink", bulk(LoadMode::Sink)),
        ("source", bulk(LoadMode::Source)),
    ] {
        assert_eq!(checked(&["9999", "--mode", mode]), expected);
    }
    assert_eq!(checked(&["9999"]), plain());
    let args = parsed(&["9999"]);
    assert!(!args.json && !args.has_lines() && args.hdr.is_none());
    assert!(args.max_p99.is_none() && args.min_rate.is_none());
}

#[test]
fn every_option_arrives() {
    let args = [
        "unix:@room",
        "--mode=fanout",
        "--subscribers=19000",
        "--publishers=3",
        "--slow=7",
        "--size=1KiB",
        "--depth=unlimited",
        "--rate=20000",
        "--connect-rate=500",
        "--duration=1m",
        "--warmup=0s",
        "--timeout=5s",
        "--verify",
        "--spin=off",
        "--interval=250ms",
        "--json",
        "--hdr=out.hlog",
        "--max-p99=2ms",
        "--min-rate=19000",
    ];
    let expected = with(
        Load::new("unix:@room".parse().unwrap(), LoadMode::Fanout),
        |load| {
            load.clients = 19_000;
            load.publishers = 3;
            load.slow = 7;
            load.size = 1024;
            load.depth = usize::MAX;
            load.rate = Some(20_000.into());
            load.connect_rate = Some(500.into());
            load.duration = Duration::from_secs(60);
            load.warmup = Duration::ZERO;
            load.timeout = Duration::from_secs(5);
            load.interval = Duration::from_millis(250);
            load.spin = false;
            load.verify = true;
            load.catch_signals = true;
        },
    );
    assert_eq!(checked(&args), expected);
    let args = parsed(&args);
    assert!(args.json && args.has_lines());
    assert_eq!(args.hdr, Some("out.hlog".into()));
    assert_eq!(args.max_p99, Some(Duration::from_millis(2)));
    assert_eq!(args.min_rate, Some(19_000.into()));
}

/// With a rate the messages in flight are unlimited, unless a depth is given.
#[test]
fn a_rate_makes_the_loop_open() {
    assert_eq!(checked(&["7", "--rate=1"]).depth, usize::MAX);
    assert_eq!(checked(&["7", "--rate=1", "--depth=8"]).depth, 8);
    assert_eq!(checked(&["7", "--depth=8", "--clients=3"]).clients, 3);
    let open = checked(&["7", "--mode=stream", "--rate=1"]);
    assert_eq!(open.depth, usize::MAX);
}

#[test]
fn rate_has_a_message_in_the_measured_time() {
    let args = ["7", "--rate=1/m", "--duration=10s"];
    assert_refused(
        &args,
        "with --rate 1/m no message is due within --duration 10s after --warmup 1s",
    );
    for fits in ["--warmup=0s", "--warmup=51s", "--warmup=1m"] {
        checked(&[&args[..], &[fits]].concat());
    }
    let rate = checked(&["7", "--rate=0.5"]).rate.unwrap();
    assert_eq!((rate.count, rate.per), (1, Duration::from_secs(2)));
}

#[test]
fn every_kind_of_address_can_be_loaded() {
    for address in [
        "7",
        "[::1]:7",
        "example.org:7",
        "udp://7",
        "unix:/s",
        "unix:@s",
        "unixgram:/s",
    ] {
        assert_eq!(checked(&[address]).to, address.parse().unwrap());
    }
    assert_eq!(checked(&["udp://7", "--mode=sink"]).size, 64);
    assert_eq!(checked(&["udp://7", "--size=65507"]).size, 65_507);
}

#[track_caller]
fn assert_refused(args: &[&str], cause: &str) {
    let error = parsed(args).check().unwrap_err();
    assert_eq!(error, cause, "{args:?}");
}

#[test]
fn options_of_other_modes_are_refused_with_a_reason() {
    for (args, cause) in [
        (
            &["--mode=fanout", "--clients=3"][..],
            "--clients is not for --mode fanout, which has --subscribers and --publishers",
        ),
        (&["--subscribers=3"], "--subscribers is not for --mode echo"),
        (
            &["--mode=churn", "--publishers=3"],
            "--publishers is not for --mode churn",
        ),
        (
            &["--mode=churn", "--slow=1"],
            "--slow is not for --mode churn",
        ),
        (
            &["--mode=sink", "--slow=1"],
            "--slow is not for --mode sink",
        ),
        (
            &["--mode=churn", "--depth=2"],
            "--depth is not for --mode churn",
        ),
        (
            &["--mode=sink", "--depth=2"],
            "--depth is not for --mode sink",
        ),
        (
            &["--mode=source", "--depth=2"],
            "--depth is not for --mode source",
        ),
        (
            &["--mode=source", "--rate=2"],
            "--rate is not for --mode source",
        ),
        (
            &["--mode=sink", "--verify"],
            "--verify is not for --mode sink",
        ),
        (
            &["--mode=source", "--max-p99=1ms"],
            "--max-p99 is not for --mode source",
        ),
        (&["--mode=sink", "--hdr=x"], "--hdr is not for --mode sink"),
        (&["--depth=unlimited"], "--depth unlimited needs --rate"),
    ] {
        assert_refused(&[&["7"], args].concat(), cause);
    }
}

#[test]
fn unsuitable_addresses_are_refused_with_a_reason() {
    for (args, cause) in [
        (&["*:7"][..], "'*:7' is not a single address to connect to"),
        (&["0"], "no server listens on port 0: '127.0.0.1:0'"),
        (
            &["udp://0"],
            "no server listens on port 0: 'udp://127.0.0.1:0'",
        ),
        (
            &["unixgram:/s", "--mode=stream"],
            "--mode stream is for connections, and 'unixgram:/s' has none",
        ),
        (
            &["udp://7", "--mode=churn"],
            "--mode churn is for connections, and 'udp://127.0.0.1:7' has none",
        ),
        (
            &["udp://7", "--mode=fanout"],
            "--mode fanout is for connections, and 'udp://127.0.0.1:7' has none",
        ),
        (
            &["udp://7", "--mode=source"],
            "--mode source is for connections, and 'udp://127.0.0.1:7' has none",
        ),
        (
            &["udp://7", "--slow=1"],
            "--slow is for connections, and 'udp://127.0.0.1:7' has none",
        ),
        (
            &["udp://7", "--size=65508"],
            "a datagram has at most 65507 bytes: --size",
        ),
    ] {
        assert_refused(args, cause);
    }
}

#[test]
fn more_clients_than_a_system_can_have_are_refused() {
    let most = usize::MAX.to_string();
    let subscribers = format!("--subscribers={most}");
    for (args, options) in [
        (&["7", "--clients", &most][..], "--clients"),
        (&["7", "--slow", &most], "--slow"),
        (&["7", "--clients=1000000", "--slow=1"], "--clients, --slow"),
        (
            &["7", "--mode=fanout", "--publishers", &most],
            "--publishers",
        ),
        (
            &[
                "7",
                "--mode=fanout",
                "--publishers=1",
                &subscribers,
                "--slow=2",
            ],
            "--subscribers, --publishers, --slow",
        ),
    ] {
        // The options were not named.
        assert_refused(args, &format!("more than 1000000 clients: {options}"));
    }
    assert_eq!(checked(&["7", "--clients=1000000"]).clients, 1_000_000);
}

#[test]
fn bad_values_are_refused_with_a_reason() {
    for (args, cause) in [
        (&[][..], "<ADDR>"),
        (&["localhost"], "expected HOST:PORT"),
        (&["7", "--mode=flood"], "expected echo, stream, churn"),
        (&["7", "--clients=0"], "from 1 on"),
        (&["7", "--subscribers=some"], "from 1 on"),
        (&["7", "--publishers=-1"], "from 1 on"),
        (&["7", "--slow=few"], "invalid digit"),
        (&["7", "--size=16"], "which are 17 bytes"),
        (&["7", "--size=1GiB"], "larger than 64MiB"),
        (&["7", "--size=lots"], "expected a size"),
        (&["7", "--depth=0"], "from 1 on, or 'unlimited'"),
        (&["7", "--rate=0"], "expected a rate such as 20000, 0.5"),
        (&["7", "--connect-rate=0"], "expected a rate such as"),
        (&["7", "--min-rate=0"], "30/m or 1/2s"),
        (&["7", "--duration=9ms"], "10ms or more"),
        (&["7", "--interval=0s"], "10ms or more"),
        (&["7", "--timeout=never"], "expected a duration"),
        (&["7", "--warmup=-1s"], "expected a duration"),
        (&["7", "--max-p99=quick"], "expected a duration"),
        (&["7", "--spin=maybe"], "expected on or off"),
    ] {
        let all = ["resound", "load"].iter().chain(args);
        let error = Cli::try_parse_from(all).unwrap_err().to_string();
        assert!(error.contains(cause), "{args:?}: {error}");
    }
}
