//! A server that polls for a while before it sleeps behaves otherwise as without polling.

use std::time::Duration;

use crate::common::client::Client;
use crate::common::program::Program;
use crate::common::running::{Running, config};
use crate::common::with;
use resound::{CloseReason, Echo};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

#[track_caller]
fn assert_answers(client: &Client) {
    for _ in 0..100 {
        client.send("hello");
        client.receives("hello");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn spinning_server_answers_without_having_slept_and_stops_at_once() {
    for service in [&["echo"][..], &["broadcast", "--include-sender"]] {
        let args = [service, &["-l127.0.0.1:0", "--spin=1h"]].concat();
        let program = Program::start(&args);
        let client = program.connect();
        client.send("hello\n");
        client.receives("hello\n");
        let before = program.sleeps();
        for _ in 0..100 {
            client.send("hello\n");
            client.receives("hello\n");
        }
        let slept = program.sleeps() - before;
        assert!(slept <= 10, "{slept} times"); // where the kernel itself had to wait
        let ended = program.terminate();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn server_sleeps_after_the_spin() {
    let args = ["echo", "-l127.0.0.1:0", "--spin=10ms", "--idle-timeout=1h"];
    let program = Program::start(&args);
    let client = program.connect();
    for _ in 0..2 {
        assert_answers(&client);
        program.assert_idle();
    }
}

#[test]
fn spinning_server_is_woken_by_a_handle() {
    let config = with(config(), |config| config.spin = LONG);
    let server = Running::start(&config, Echo::new());
    let client = server.connect();
    assert_answers(&client);
    assert_eq!(server.stop().closes(CloseReason::Shutdown), 1);
}

#[test]
fn spinning_server_keeps_deadlines() {
    let config = with(config(), |config| {
        config.spin = LONG;
        config.idle_timeout = Some(Duration::from_millis(100));
    });
    let server = Running::start(&config, Echo::new());
    let client = server.connect();
    assert_answers(&client);
    client.receives_end();
    assert_eq!(server.stop().closes(CloseReason::Idle), 1);
}
