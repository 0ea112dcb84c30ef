//! Signals, and what a process inherits of them: a mask that blocks them, dispositions that ignore
//! them, the place of a container's first process.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use crate::common::client::Client;
use crate::common::connecting::unserved_port;
use crate::common::program::Program;
use crate::common::stdio::output_pipe;
use crate::common::{Folder, skipped};
use nix::sys::signal::SigSet;
use rustix::process::Signal;

/// Bytes that a pipe holds (pipe(7)).
const CAPACITY: usize = 65_536;

/// Signals that ask for a stop.
const STOPS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// Begins a script of sh whose program ignores signals.
const IGNORING: &str = r#"trap '' INT TERM; exec "$0" "$@""#;

/// A load that lasts until it is stopped.
fn endless_load(server: &Program) -> Vec<String> {
    let to = server.address().to_string();
    let args = [
        "load",
        &to,
        "--warmup=0s",
        "--duration=1h",
        "--interval=50ms",
    ];
    args.map(str::to_owned).to_vec()
}

/// Starts it on a thread that blocks every signal, which the process inherits.
fn start_with_blocked_signals(args: &[&str]) -> Program {
    let start = || {
        SigSet::all().thread_block().expect("it is allowed");
        Program::start_with(&[], args)
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it only starts"))
}

/// The servers, each with one of the ways in which it is used.
const SERVERS: [&[&str]; 9] = [
    &["echo"],
    &["echo", "--prefix=> ", "--console"],
    &["discard", "--show"],
    &["reply", "now", "--once"],
    &["daytime"],
    &["time"],
    &["chargen"],
    &["broadcast", "--stdin", "--stdout"],
    &["broadcast", "--announce", "--heartbeat=1s"],
];

/// Starts every command that has a loop and stops it by each signal. The files of sockets are
/// removed.
fn assert_stops(signals: &[Signal], start: fn(&[&str]) -> Program, send: fn(&Program, Signal)) {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let load = endless_load(&server);
    let load: Vec<&str> = load.iter().map(String::as_str).collect();
    let folder = Folder::new();
    let listen = ["-l", "127.0.0.1:0", "-l", &folder.unix("socket")];
    let servers = SERVERS.map(|args| ([args, &listen].concat(), "ready"));
    for &signal in signals {
        for (args, running) in servers.iter().chain([&(load.clone(), "msg/s")]) {
            let program = start(args);
            program.will_have_logged(running);
            send(&program, signal);
            let ended = program.wait();
            assert_eq!(ended.code, Some(0), "{args:?}, {signal:?}: {ended:?}");
            assert!(!folder.path("socket").exists(), "{args:?}, {signal:?}");
        }
    }
}

/// Regression: a supervisor that had blocked signals for itself started a server that nothing but
/// SIGKILL could stop.
#[test]
fn signals_that_were_blocked_at_the_start_stop_every_command() {
    assert_stops(&STOPS, start_with_blocked_signals, Program::signal);
}

/// A signal that arrives while the process still starts is not lost.
#[test]
fn a_signal_that_waits_while_blocked_stops_the_server() {
    for signal in STOPS {
        let program = start_with_blocked_signals(&["echo", "-l", "127.0.0.1:0"]);
        program.signal(signal);
        let code = program.wait().code;
        // Before the loop runs it ends the process.
        assert!(matches!(code, Some(0 | 130 | 143) | None), "{code:?}");
    }
}

/// A shell without job control starts `program &` with SIGINT ignored.
#[test]
fn signals_that_were_ignored_at_the_start_stop_every_command() {
    let start = |args: &[&str]| Program::start_in_shell(IGNORING, args);
    assert_stops(&[Signal::TERM, Signal::INT], start, Program::signal);
}

/// The kernel keeps from the first process of a container each signal that it does not catch.
#[test]
fn signals_stop_every_command_as_the_first_process() {
    if Program::start_as_first_process(&["--version"]).is_none() {
        return skipped("containers can't be made here");
    }
    let start = |args: &[&str]| Program::start_as_first_process(args).expect("it was possible");
    assert_stops(&STOPS, start, Program::signal_child);
}

/// Regression: results that were not read, as in `resound load | less`, kept the load tester from
/// ending.
#[test]
fn a_load_whose_results_are_not_read_ends_on_a_signal() {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let to = server.address().to_string();
    let mut args = vec!["load", &to, "--json", "--warmup=0s"];
    args.extend(["--interval=10ms", "--duration=50ms"]);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (_reader, mut output) = output_pipe();
        output.write_all(&vec![b' '; CAPACITY]).unwrap();
        let load = Program::spawn_on(&args, Stdio::null(), output);
        load.will_have_logged("msg/s");
        // The first signal may come while it runs, and ends that.
        let ended = load.signal_until_it_ends(signal);
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

/// Regression: the end of a terminal session killed the server, and its socket's file stayed behind.
#[test]
fn a_hangup_stops_the_server_in_order() {
    let folder = Folder::new();
    let program = Program::start(&["echo", "-l", &folder.unix("socket")]);
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    program.signal(Signal::HUP);
    client.receives_end();
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!folder.path("socket").exists(), "the socket's file is left");
}

/// nohup(1) starts a program with SIGHUP ignored, so that it outlives the terminal.
#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let args = ["echo", "-l", "127.0.0.1:0"];
    let program = Program::start_in_shell(r#"trap '' HUP; exec "$0" "$@""#, &args).ready();
    program.signal(Signal::HUP);
    program.signal(Signal::USR1);
    program.will_have_logged("clients: ");
    let client = Client::connect(&program.address());
    client.send("hello");
    client.receives("hello");
    assert_eq!(program.terminate().code, Some(0));
}

/// Starts a client that only receives, and one that is retrying, and stops each by each signal. They
/// end at once: by the signal, or in a container's first process with the code that a shell makes of
/// it.
fn assert_ends_clients(
    signals: &[Signal],
    start: impl Fn(&[&str]) -> Program,
    send: impl Fn(&Program, Signal),
    is_first: bool,
) {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let echo = server.address().to_string();
    let (_reserved, nowhere) = unserved_port();
    for &signal in signals {
        for (args, running) in [
            (&["connect", "-v", "-d", &echo][..], "connected to"),
            (&["connect", "--retry", &nowhere], "retrying"),
        ] {
            let program = start(args);
            program.will_have_logged(running);
            send(&program, signal);
            let ended = program.wait();
            let code = is_first.then_some(128 + signal.as_raw());
            assert_eq!(ended.code, code, "{args:?}, {signal:?}: {ended:?}");
        }
    }
}

/// Regression: a client that was started with signals blocked could only be killed.
#[test]
fn signals_that_were_blocked_at_the_start_end_a_client() {
    let start = |args: &[&str]| start_with_blocked_signals(args);
    assert_ends_clients(&STOPS, start, Program::signal, false);
}

/// Regression: `connect &` of a script survived Ctrl-C.
#[test]
fn signals_that_were_ignored_at_the_start_end_a_client() {
    let start = |args: &[&str]| Program::start_in_shell(IGNORING, args);
    assert_ends_clients(&[Signal::TERM, Signal::INT], start, Program::signal, false);
}

/// Regression: no default action of a signal ends a container's first process.
#[test]
fn client_that_is_the_first_process_of_a_container_ends_on_signals() {
    if Program::start_as_first_process(&["--version"]).is_none() {
        skipped("containers can't be made here");
        return;
    }
    let start = |args: &[&str]| Program::start_as_first_process(args).expect("it was possible");
    assert_ends_clients(&STOPS, start, Program::signal_child, true);
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_does_not_end_a_client() {
    let server = Program::start(&["broadcast", "-l", "127.0.0.1:0"]);
    let address = server.address().to_string();
    let args = ["connect", "-v", "-d", &address];
    let program = Program::start_in_shell(r#"trap '' HUP; exec "$0" "$@""#, &args);
    program.will_have_logged("connected to");
    program.signal(Signal::HUP);
    program.assert_idle();
    let client = Client::connect(&server.address());
    client.send("still there\n");
    drop(client);
    server.terminate();
    let ended = program.wait();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "still there\n")
    );
}
