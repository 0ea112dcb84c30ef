//! Timeouts over real sockets: idle clients are closed, stuck ones are reset, and no others.

use std::time::{Duration, Instant};

use crate::common::client::{Client, join};
use crate::common::flood::Flood;
use crate::common::program::Program;
use crate::common::running::{Running, config, room};
use crate::common::watched::watched;
use crate::common::with;
use crate::common::{DEADLINE, eventually};
use rustix::process::Signal;

use resound::{Chargen, CloseReason, Config, Echo, Room};

const SHORT: Duration = Duration::from_millis(400);

fn idle() -> Config {
    with(config(), |config| config.idle_timeout = Some(SHORT))
}

fn write() -> Config {
    with(config(), |config| config.write_timeout = Some(SHORT))
}

#[test]
fn idle_client_is_closed_and_a_busy_one_stays() {
    let server = Running::start(&idle(), Echo::new());
    let start = Instant::now();
    let silent = server.connect();
    let lively = server.connect();
    while start.elapsed() < 3 * SHORT {
        lively.send("still here");
        lively.receives("still here");
        std::thread::sleep(SHORT / 10);
    }
    silent.receives_end();
    lively.finish();
    lively.receives_end();
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::Idle), 1);
    assert_eq!(stats.closes(CloseReason::PeerClosed), 1);
}

/// The process is stopped, as by Ctrl-Z or a suspended machine, while the clients send: their bytes
/// wait in their sockets when the server goes on, and all timeouts are over.
#[test]
fn clients_that_send_while_the_process_is_stopped_are_not_idle() {
    let server = Program::start(&["echo", "-l127.0.0.1:0", "--idle-timeout=500ms", "-v"]);
    let clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    for client in &clients {
        client.send("a");
        client.receives("a");
    }
    server.signal(Signal::STOP);
    for client in &clients {
        client.send("b");
    }
    std::thread::sleep(Duration::from_millis(1200));
    server.signal(Signal::CONT);
    for client in &clients {
        client.receives("b");
    }
}

/// Time in which the process was stopped is not that of the reader, who could not be sent anything.
#[test]
fn patience_does_not_pass_while_the_process_is_stopped() {
    let server = Program::start(&["broadcast", "-l127.0.0.1:0", "--patience=8s", "-vv"]);
    let reader = server.admit(Client::with_small_buffers);
    let publisher = server.connect();
    let flood = Flood::of_megabytes(16);
    let publishing = flood.send(publisher);
    assert!(!flood.wait_until_stuck(), "the reader holds up the room");
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(8500));
    server.signal(Signal::CONT);
    server.will_have_logged("held up for ");
    drop(flood.check(reader).join().expect("it gets everything"));
    drop(publishing.join());
    let ended = server.terminate();
    assert!(!ended.summary().contains("slow-consumer"), "{ended:?}");
}

#[test]
fn client_that_only_receives_is_not_idle() {
    let server = Running::start(&idle(), room(&Room::default()));
    let clients = join(server.address(), 2);
    let start = Instant::now();
    while start.elapsed() < 3 * SHORT {
        clients[0].send("tick\n");
        clients[1].receives("tick\n");
        std::thread::sleep(SHORT / 10);
    }
    clients.iter().for_each(Client::finish);
    clients.iter().for_each(Client::receives_end);
    assert_eq!(server.stop().closes(CloseReason::Idle), 0);
}

/// A part of its echo is still unsent when it is reset: it must not take the end for a complete one.
#[test]
fn client_that_does_not_take_its_echo_is_reset() {
    let server = Running::start(&write(), Echo::new());
    let client = Client::with_small_buffers(server.address());
    send_until_reset(&client);
    let other = server.connect();
    other.send("hello");
    other.receives("hello");
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::Stalled), 1);
}

/// A client that has ended its input and never reads would otherwise stay for ever.
#[test]
fn client_that_has_ended_its_input_and_does_not_read_is_reset() {
    let mut config = write();
    config.sockets.send_buffer = Some(16 * 1024);
    let (service, watch) = watched(Echo::new());
    let server = Running::start(&config, service);
    let client = Client::with_small_buffers(server.address());
    client.send(vec![7; 400 * 1024]);
    client.finish();
    eventually("its being closed", || watch.closed() == 1);
    let (_, ended) = client.rest_or_cut();
    assert!(!ended, "it takes what it has for all");
    assert_eq!(server.stop().closes(CloseReason::Stalled), 1);
}

/// The timeout counts only against a stuck client.
#[test]
fn client_that_has_caught_up_may_be_silent() {
    let mut config = write();
    config.sockets.send_buffer = Some(16 * 1024);
    let server = Running::start(&config, Echo::new());
    let client = Client::with_small_buffers(server.address());
    client.send(vec![7; 400 * 1024]); // more than is returned before it is read
    client.receives(vec![7; 400 * 1024]);
    std::thread::sleep(2 * SHORT);
    client.send("still here");
    client.receives("still here");
    drop(client);
    assert_eq!(server.stop().closes(CloseReason::Stalled), 0);
}

#[test]
fn client_that_takes_a_little_is_not_stuck() {
    let server = Running::start(&write(), Chargen::new(false));
    let slow = Client::with_small_buffers(server.address());
    let stopped = Client::with_small_buffers(server.address());
    let start = Instant::now();
    while start.elapsed() < 3 * SHORT {
        slow.next(64 * 1024);
        std::thread::sleep(SHORT / 20);
    }
    slow.next(64 * 1024);
    let (_, ended) = stopped.rest_or_cut();
    assert!(!ended, "it was stuck");
    drop(slow);
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::Stalled), 1);
}

#[test]
fn log_names_the_timeout_of_a_closed_client() {
    let args = [
        "echo",
        "-v",
        "-l127.0.0.1:0",
        "--idle-timeout=600ms",
        "--write-timeout=300ms",
    ];
    let program = Program::start(&args);
    let client = program.connect();
    client.receives_end();
    program.will_have_logged(", idle");
    let stuck = Client::with_small_buffers(&program.address());
    send_until_reset(&stuck);
    program.will_have_logged("doesn't take what it is sent: closing it");
    let ended = program.terminate();
    let last = ended.log.last().unwrap();
    assert!(last.contains("1 idle, 1 stalled"), "{last}");
}

/// Sends and never reads, until the server resets the connection.
#[track_caller]
fn send_until_reset(client: &Client) {
    let deadline = Instant::now() + DEADLINE;
    let chunk = [7; 16 * 1024];
    while client.try_send(&chunk).is_ok() {
        assert!(Instant::now() < deadline, "it isn't reset");
    }
}

/// Idle clients cause no work.
#[cfg(target_os = "linux")]
#[test]
fn many_idle_clients_cost_nothing() {
    let args = [
        "echo",
        "-l127.0.0.1:0",
        "--idle-timeout=1h",
        "--write-timeout=1h",
    ];
    let program = Program::start(&args);
    let clients: Vec<Client> = (0..500).map(|_| program.connect()).collect();
    for client in &clients {
        client.send("hello");
        client.receives("hello");
    }
    program.assert_idle();
}
