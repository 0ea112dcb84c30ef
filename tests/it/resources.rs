//! Bounds of the binary's memory, descriptors and time under any load.

#![cfg(target_os = "linux")] // the usage of a process is read from /proc

use std::time::Duration;

use crate::common::client::{Client, join};
use crate::common::flood::Flood;
use crate::common::program::Program;
use crate::common::vanishing::connect_and_vanish;
use crate::common::{allow_many_descriptors, eventually, random};

/// In KiB. It is the bound of all that clients can make the server keep, not of one test.
const MOST_MEMORY: u64 = 16 * 1024;

#[track_caller]
fn assert_small(program: &Program) {
    let peak = program.peak_memory();
    assert!(peak < MOST_MEMORY, "{peak} KiB of memory at the most");
}

#[test]
fn a_flood_past_a_stopped_reader_reaches_all_others_in_little_memory() {
    let args = ["broadcast", "-v", "-l", "127.0.0.1:0"];
    let program = Program::start(&args);
    let mut room = join(&program.address(), 3);
    let flood = Flood::of_megabytes(200);
    let publishing = flood.send(room.pop().unwrap());
    let reading = flood.check(room.pop().unwrap());
    let stopped = room.pop().unwrap();
    let publisher = publishing.join().unwrap();
    let reader = reading.join().unwrap();
    assert_small(&program);
    flood.assert_is_start(&stopped.rest_or_cut().0);
    eventually("the slow consumer's end", || {
        program.has_logged(", slow-consumer")
    });
    publisher.send("that was it\n");
    reader.receives("that was it\n");
    drop((publisher, reader));
    let ended = program.terminate();
    let last = ended.log.last().unwrap();
    assert!(last.contains("1 slow-consumer"), "{last}");
}

#[test]
fn client_that_sends_and_never_reads_costs_little_memory() {
    for args in [
        &["echo", "-l", "127.0.0.1:0"][..],
        &["broadcast", "-l", "127.0.0.1:0", "--patience=unlimited"],
    ] {
        let program = Program::start(args);
        let clients: Vec<Client> = (0..8).map(|_| program.connect()).collect();
        let mut rng = random();
        for client in &clients {
            client.send_until_full(Duration::from_millis(100), &mut rng);
        }
        assert_small(&program);
        program.assert_idle();
    }
}

#[test]
fn two_hundred_clients_under_a_limit_of_64_descriptors_are_all_served() {
    allow_many_descriptors();
    let script = r#"ulimit -n 64; exec "$0" "$@""#;
    let args = ["echo", "-l", "127.0.0.1:0", "--max-clients", "unlimited"];
    let program = Program::start_in_shell(script, &args).ready();
    let clients: Vec<Client> = (0..200).map(|_| program.connect()).collect();
    for (i, client) in clients.iter().enumerate() {
        client.send(format!("client {i}"));
    }
    clients[0].receives("client 0");
    eventually("its running out of descriptors", || {
        program.descriptors() >= 63
    });
    program.assert_idle();
    for (i, client) in clients.into_iter().enumerate() {
        let received = if i == 0 { "" } else { &format!("client {i}") };
        client.finish();
        client.receives(received);
        client.receives_end();
    }
    program.will_have_logged("too many open files");
    let warnings = program.log().into_iter().filter(|l| l.contains("WARN"));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = "clients: too many open files; newcomers wait until one leaves";
    assert!(warnings[0].ends_with(text), "{warnings:?}");
    assert_eq!(program.terminate().code, Some(0));
}

#[test]
fn by_default_there_are_no_more_clients_than_descriptors() {
    let script = r#"ulimit -n 64; exec "$0" "$@""#;
    let program = Program::start_in_shell(script, &["echo", "-l", "127.0.0.1:0"]).ready();
    assert!(program.has_logged("max-clients 32;"), "{:?}", program.log());
    let clients: Vec<Client> = (0..60).map(|_| program.connect()).collect();
    eventually("the limit in the log", || {
        program.has_logged("the limit of 32 clients is reached")
    });
    program.assert_idle();
    for (i, client) in clients.into_iter().enumerate() {
        client.send(format!("client {i}"));
        client.receives(format!("client {i}"));
    }
}

#[test]
fn after_resets_at_any_moment_nothing_is_left() {
    let program = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let before = program.descriptors();
    connect_and_vanish(&program.address(), 300, &mut random());
    eventually("their descriptors being closed", || {
        program.descriptors() == before
    });
    program.assert_idle();
    assert_small(&program);
    let client = program.connect();
    client.send("still there?");
    client.receives("still there?");
}

#[test]
fn a_thousand_idle_clients_cost_no_time_and_little_memory() {
    allow_many_descriptors();
    let program = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let clients: Vec<Client> = (0..1000).map(|_| program.connect()).collect();
    for client in &clients {
        client.send("hello");
        client.receives("hello");
    }
    program.assert_idle();
    assert_small(&program);
}
