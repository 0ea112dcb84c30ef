//! The load tester as its users meet it, against the servers of the same binary.

#[path = "../../src/report/schema.rs"]
mod schema;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::common::program::{Ended, Program, complaint, run};
use crate::common::pty::terminal;
use crate::common::stdio::output_pipe;
use crate::common::{Folder, eventually, free_port};
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// Long enough for any server to answer something.
const SHORT: [&str; 2] = ["--warmup=50ms", "--duration=300ms"];

/// Loads a server for a short time.
#[track_caller]
fn load(server: &Program, options: &[&str]) -> Ended {
    let address = server.address().to_string();
    run(&[&["load", &address], &SHORT[..], options].concat())
}

/// The same; its JSON fits the schema.
#[track_caller]
fn measured(server: &Program, options: &[&str]) -> Value {
    let ended = load(server, &[options, &["--json"]].concat());
    let object = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    schema::check(&object).unwrap_or_else(|e| panic!("{e}: {object:#}"));
    let passed = object["passed"] == true;
    assert_eq!(ended.code, Some(i32::from(!passed)), "{object:#}");
    object
}

/// Asserts that there are no errors, and that the figures fit each other.
#[track_caller]
fn assert_sane(object: &Value) {
    assert_eq!(object["reasons"], Value::Array(Vec::new()), "{object:#}");
    assert_eq!(object["errors"]["total"], 0, "{object:#}");
    assert_eq!(object["end"], "duration");
    let number = |key: &str| object[key].as_f64().unwrap_or_else(|| panic!("{object:#}"));
    let seconds = number("seconds");
    assert!((0.29..5.0).contains(&seconds), "{object:#}");
    assert!(number("messages") > 0.0, "{object:#}");
    assert!(number("deliveries") >= number("messages"), "{object:#}");
    let rate = number("messages") / seconds;
    let reported = number("messages_per_second");
    // With a rate it counts over the time until the last answer, which may come after the end.
    let least = if object["settings"]["rate"].is_null() {
        0.98
    } else {
        0.8
    };
    assert!((least..1.02).contains(&(reported / rate)), "{object:#}");
}

/// Latencies are in order.
#[track_caller]
fn assert_latencies(latencies: &Value) {
    let names = ["min", "p50", "p90", "p99", "p99_9", "max"];
    let values = names.map(|name| latencies[name].as_f64().expect("it is a number"));
    assert!(values[0] > 0.0 && values.is_sorted(), "{latencies:#}");
    assert!(latencies["count"].as_u64() > Some(0), "{latencies:#}");
}

#[test]
fn echo_is_measured_over_every_kind_of_socket() {
    let folder = Folder::new();
    for address in [
        "127.0.0.1:0",
        "udp://127.0.0.1:0",
        &folder.unix("stream"),
        &folder.unixgram("gram"),
    ] {
        let server = Program::start(&["echo", "-l", address]);
        let object = measured(&server, &["--clients=5", "--verify"]);
        assert_sane(&object);
        assert_latencies(&object["latency_us"]);
        assert_eq!(object["clients"], 5);
        let messages = object["messages"].as_u64().unwrap();
        assert_eq!(object["bytes"], messages * 64, "{object:#}");
        assert_eq!(object["deliveries"], messages);
    }
}

#[test]
fn stream_is_measured() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let object = measured(&server, &["--mode=stream", "--verify"]);
    assert_sane(&object);
    assert_latencies(&object["latency_us"]);
}

#[test]
fn churn_is_measured() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let object = measured(&server, &["--mode=churn", "--clients=5"]);
    assert_sane(&object);
    assert_latencies(&object["latency_us"]);
    assert_latencies(&object["connect_us"]);
}

#[test]
fn fan_out_is_measured_to_the_first_and_the_last_receiver() {
    let server = Program::start(&["broadcast", "-l", "127.0.0.1:0"]);
    let options = [
        "--mode=fanout",
        "--subscribers=10",
        "--publishers=2",
        "--rate=1000",
    ];
    let object = measured(&server, &options);
    assert_sane(&object);
    assert_latencies(&object["latency_us"]);
    assert_latencies(&object["first_receiver_us"]);
    let first = &object["first_receiver_us"]["p50"];
    assert!(first.as_f64() <= object["latency_us"]["p50"].as_f64());
    let (messages, deliveries) = (&object["messages"], &object["deliveries"]);
    assert!(deliveries.as_u64() > messages.as_u64(), "{object:#}");
}

#[test]
fn sink_and_source_are_measured_without_latencies() {
    for (service, mode) in [("discard", "sink"), ("chargen", "source")] {
        let server = Program::start(&[service, "-l", "127.0.0.1:0"]);
        let object = measured(&server, &["--mode", mode]);
        assert_sane(&object);
        assert_eq!(object["latency_us"], Value::Null);
        assert!(object["bytes"].as_u64() > Some(0));
    }
}

/// Messages are sent at their times: as many return as the rate asks for, and no more.
#[test]
fn a_rate_is_kept() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let object = measured(&server, &["--rate=1000", "--clients=10"]);
    assert_sane(&object);
    let achieved = object["messages_per_second"].as_f64().unwrap();
    assert!((800.0..1200.0).contains(&achieved), "{object:#}");
    assert_eq!(object["settings"]["depth"], Value::Null);
}

/// A rate was a whole number a second.
#[test]
fn a_rate_may_be_below_one_a_second() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    for (rate, per_second) in [("0.5", 0.5), ("600/m", 10.0)] {
        // The first of them is due at once.
        let address = server.address().to_string();
        let times = ["--warmup=0s", "--duration=290ms", "--json"];
        let ended = run(&[&["load", &address, "--rate", rate][..], &times].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let object: Value = serde_json::from_str(&ended.stdout).unwrap();
        schema::check(&object).unwrap_or_else(|e| panic!("{e}: {object:#}"));
        let due = if per_second < 1.0 { 1 } else { 3 };
        assert_eq!(object["messages"], due, "{object:#}");
        assert_eq!(object["settings"]["rate"].as_f64(), Some(per_second));
    }
}

#[test]
fn readers_that_stop_are_closed_by_the_server_and_no_error() {
    let folder = Folder::new();
    let address = folder.unix("room");
    let server = Program::start(&["broadcast", "-l", &address, "--patience=0"]);
    let options = [
        "--mode=fanout",
        "--subscribers=2",
        "--slow=2",
        "--size=4KiB",
        "--duration=1s",
    ];
    let args = ["load", &address, "--warmup=0s", "--json"];
    let ended = run(&[&args[..], &options[..]].concat());
    let object: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(object["slow"]["clients"], 2, "{object:#}");
    assert_eq!(object["slow"]["closed"], 2, "{object:#}");
    drop(server);
}

#[test]
fn people_get_a_table_and_bars() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let ended = load(&server, &["--clients=2"]);
    assert_eq!((ended.code, ended.log.len()), (Some(0), 0), "{ended:?}");
    for text in [
        "echo 127.0.0.1:",
        "throughput",
        "p99.9",
        "latency",
        "errors          none",
        "#",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    }
}

#[test]
fn each_limit_not_met_is_a_line_and_code_1() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let ended = load(&server, &["--max-p99=1ns", "--min-rate=1000000000"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        !ended.stdout.is_empty(),
        "the results are there all the same"
    );
    let [p99, rate] = &ended.log[..] else {
        panic!("{ended:?}");
    };
    assert!(p99.starts_with("resound: p99 "), "{p99}");
    assert!(p99.ends_with(" is above --max-p99 1ns"), "{p99}");
    let end = " messages/s are below --min-rate 1000000000";
    assert!(
        rate.starts_with("resound: ") && rate.ends_with(end),
        "{rate}"
    );

    let object = measured(&server, &["--max-p99=1m", "--min-rate=1"]);
    assert_sane(&object);
}

/// A server that answers nothing is no server for it.
#[test]
fn a_server_that_answers_nothing_fails() {
    let server = Program::start(&["discard", "-l", "127.0.0.1:0"]);
    let object = measured(&server, &["--clients=2", "--timeout=100ms"]);
    assert_eq!(object["passed"], false);
    assert_eq!(object["messages"], 0);
}

#[test]
fn unused_port_is_one_line_and_code_1() {
    let port = free_port("127.0.0.1");
    let line = complaint(&["load", &port.to_string()], 1);
    let expected = format!("resound: cannot connect to 127.0.0.1:{port}: connection refused");
    assert_eq!(line, expected);
    let folder = Folder::new();
    let address = folder.unix("missing");
    let line = complaint(&["load", &address], 1);
    let expected = format!("resound: cannot connect to {address}: no such file or directory");
    assert_eq!(line, expected);
}

/// Nothing was on standard output, which a program parsed.
#[test]
fn load_that_cannot_begin_prints_its_object_too() {
    let port = free_port("127.0.0.1").to_string();
    let echo = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let echo = echo.address().to_string();
    for (args, cause) in [
        (&[port.as_str()][..], "connection refused"),
        (
            &[&echo, "--hdr=/missing/log"],
            "cannot write /missing/log: ",
        ),
        (
            &[&echo, "--mode=fanout", "--timeout=50ms"],
            "receive nothing that another",
        ),
    ] {
        let ended = run(&[&["load", "--json"], args].concat());
        let object = serde_json::from_str(&ended.stdout);
        let object: Value = object.unwrap_or_else(|e| panic!("{e}: {ended:?}"));
        schema::check(&object).unwrap_or_else(|e| panic!("{e}: {object:#}"));
        assert_eq!((ended.code, ended.log.len()), (Some(1), 1), "{ended:?}");
        assert_eq!(
            (&object["passed"], &object["end"]),
            (&false.into(), &Value::Null)
        );
        let reason = object["reasons"][0].as_str().unwrap();
        assert_eq!(ended.log[0], format!("resound: {reason}"));
        assert!(reason.contains(cause), "{reason}");
    }
}

#[test]
fn ctrl_c_while_it_connects_is_an_early_end() {
    // Its accept queue holds one client; all others wait.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let args = ["load", &address.to_string(), "--json", "--timeout=1m"];
    let program = Program::spawn_on(&args, Stdio::null(), Stdio::piped());
    let mut first = None;
    eventually("its first client", || {
        first = listener.accept().ok();
        first.is_some()
    });
    program.signal(Signal::INT);
    let ended = program.wait();
    let object: Value = serde_json::from_str(&ended.stdout).unwrap();
    schema::check(&object).unwrap_or_else(|e| panic!("{e}: {object:#}"));
    assert_eq!(
        (ended.code, &object["end"]),
        (Some(0), &"interrupted".into())
    );
}

#[test]
fn ctrl_c_ends_it_early_with_the_results_so_far() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let address = server.address().to_string();
    let args = [
        "load",
        &address,
        "--warmup=0s",
        "--duration=1m",
        "--interval=50ms",
    ];
    let program = Program::spawn_on(&args, Stdio::null(), Stdio::piped());
    program.will_have_logged("msg/s");
    program.signal(Signal::INT);
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("interrupted"), "{ended:?}");
    assert!(ended.stdout.contains("throughput"), "{ended:?}");
}

#[test]
fn intervals_are_lines_on_standard_error_and_the_warm_up_is_marked() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let ended = load(&server, &["--interval=50ms", "--clients=2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warm = |line: &&String| line.contains("warm-up");
    assert!(ended.log.iter().filter(warm).count() >= 1, "{ended:?}");
    assert!(ended.log.len() >= 5, "{ended:?}");
    let told = |line: &String| line.contains(" msg/s ") || line.contains("after the end");
    assert!(ended.log.iter().all(told), "{ended:?}");
    assert!(!ended.stdout.contains("msg/s"), "{ended:?}");
}

#[test]
fn the_latencies_are_a_log_that_can_be_read() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let folder = Folder::new();
    let path = folder.path("latencies.hlog");
    let option = format!("--hdr={}", path.display());
    let ended = load(&server, &[&option, "--interval=100ms"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let log = fs::read(path).unwrap();
    let entries = IntervalLogIterator::new(&log).map(Result::unwrap);
    let is_interval = |entry: &LogEntry<'_>| matches!(entry, LogEntry::Interval(_));
    assert!(entries.filter(is_interval).count() >= 2);
}

#[test]
fn a_log_that_cannot_be_written_is_one_line_before_anything_is_done() {
    let folder = Folder::new();
    let path = folder.path("missing/log");
    let path = path.display();
    // The port is unused, but no connection is tried.
    let line = complaint(&["load", "1", &format!("--hdr={path}")], 1);
    let expected = format!("resound: cannot write {path}: no such file or directory");
    assert_eq!(line, expected);
}

#[test]
fn bad_usage_is_one_line_and_code_2() {
    for (args, cause) in [
        (&["load"][..], "<ADDR>"),
        (&["load", "7", "--size=3"], "which are 17 bytes"),
        (
            &["load", "7", "--mode=sink", "--verify"],
            "--verify is not for --mode sink",
        ),
        (&["load", "*:7"], "not a single address"),
    ] {
        let line = complaint(args, 2);
        assert!(line.starts_with("resound: "), "{line}");
        assert!(line.contains(cause), "{line}");
    }
}

#[test]
fn closed_reader_is_no_failure_but_a_full_disk_is() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let address = server.address().to_string();
    let args = [&["load", &address], &SHORT[..]].concat();

    let (stdout, output) = output_pipe();
    drop(stdout);
    let ended = Program::spawn_on(&args, Stdio::null(), output).wait();
    assert_eq!((ended.code, ended.log.len()), (Some(0), 0), "{ended:?}");

    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let ended = Program::spawn_on(&args, Stdio::null(), full).wait();
        assert_eq!((ended.code, ended.log.len()), (Some(1), 1), "{ended:?}");
        let start = "resound: cannot write to standard output: ";
        assert!(ended.log[0].starts_with(start), "{ended:?}");
    }
}

#[test]
fn on_a_terminal_there_is_a_bar() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let (theirs, _typist, mut stdout) = terminal();
    let mut command = Command::new(env!("CARGO_BIN_EXE_resound"));
    let address = server.address().to_string();
    let args = ["load", &address, "--warmup=0s", "--duration=1500ms"];
    command
        .args(args)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(theirs).spawn().expect("it starts");
    stdout.receives_until("connecting");
    stdout.receives_until("msg/s");
    assert_eq!(child.wait().expect("it is a child").code(), Some(0));
}
