//! Signals, and what a process inherits of them: a mask that blocks them, dispositions that ignore
//! them, the place of a container's first process.

use std::thread;

use crate::common::Folder;
use crate::common::client::Client;
use crate::common::program::{Ended, Program};
use nix::sys::signal::SigSet;
use rustix::process::Signal;

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

/// Waits until its loop runs, sends it a signal and waits for its end.
fn stop(program: Program, running: &str, signal: Signal) -> Ended {
    program.will_have_logged(running);
    program.signal(signal);
    program.wait()
}

/// Starts every command that has a loop and stops it by each signal.
fn assert_stops(signals: &[Signal], start: fn(&[&str]) -> Program) {
    let server = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let load = endless_load(&server);
    let load: Vec<&str> = load.iter().map(String::as_str).collect();
    for &signal in signals {
        for (args, running) in [
            (&["echo", "-l", "127.0.0.1:0"][..], "ready"),
            (&["broadcast", "-l", "127.0.0.1:0"], "ready"),
            (&load, "msg/s"),
        ] {
            let ended = stop(start(args), running, signal);
            assert_eq!(ended.code, Some(0), "{args:?}, {signal:?}: {ended:?}");
        }
    }
}

/// Regression: a supervisor that had blocked signals for itself started a server that nothing but
/// SIGKILL could stop.
#[test]
fn signals_that_were_blocked_at_the_start_stop_every_command() {
    assert_stops(&STOPS, start_with_blocked_signals);
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
    assert_stops(&[Signal::TERM, Signal::INT], |args| {
        Program::start_in_shell(IGNORING, args)
    });
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
