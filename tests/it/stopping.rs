//! Stopping a server: pending output is delivered, for as long as the grace allows.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::client::{Client, join};
use crate::common::flood::Flood;
use crate::common::running::{Running, config, listening_on, room_of};
use crate::common::watched::watched;
use crate::common::with;
use crate::common::{Folder, bytes, eventually, random, settled};
use resound::{Address, CloseReason, Echo};

/// More than a kernel keeps for a connection.
const MUCH: usize = 12 << 20;

/// A server that owes a client many bytes, the client, which was sent a part of them, and the bytes.
fn echo_owing_much(grace: Duration) -> (Running, Client, Vec<u8>) {
    let config = with(config(), |config| {
        config.high_water = MUCH as u64;
        config.grace = grace;
    });
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(&config, echo);
    let client = server.connect();
    let sent = bytes(&mut random(), MUCH);
    client.send(&sent);
    eventually("everything being read", || watch.received() == MUCH as u64);
    (server, client, sent)
}

/// Waits without connecting: a connection would be accepted yet.
fn wait_until_stopping(server: &Running) {
    eventually("the listener being closed", || match server.address() {
        Address::Tcp(address) => TcpListener::bind(address).is_ok(),
        Address::Unix(path) => !path.exists(),
        other => panic!("{other} is no stream"),
    });
}

#[test]
fn idle_clients_see_the_end_and_the_server_ends() {
    let server = Running::echo();
    let clients = [server.connect(), server.connect()];
    clients[0].send("served");
    clients[0].receives("served");
    server.handle.stop().unwrap();
    clients.iter().for_each(Client::receives_end);
    let stats = server.end();
    assert_eq!((stats.clients, stats.bytes_in, stats.bytes_out), (2, 6, 6));
    assert_eq!(stats.closes(CloseReason::Shutdown), 2);
}

#[test]
fn a_server_without_clients_ends() {
    let stats = Running::broadcast().stop();
    assert_eq!(stats, resound::Stats::default());
}

#[test]
fn bytes_that_arrived_before_the_stop_are_answered() {
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(&config(), echo);
    let (gatekeeper, client) = (server.connect(), server.connect());
    watch.while_held_up(&gatekeeper, || {
        server.handle.stop().unwrap();
        client.send("just in time");
    });
    client.receives("just in time");
    client.receives_end();
    let stats = server.end();
    assert_eq!((stats.bytes_in, stats.bytes_out), (17, 17));
}

/// The kernel has accepted them, the server has not: closing the listener would reset them.
#[test]
fn clients_in_the_accept_queue_are_served_before_a_stop() {
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(&config(), echo);
    let gatekeeper = server.connect();
    let mut clients = Vec::new();
    watch.while_held_up(&gatekeeper, || {
        for i in 0..30 {
            let client = Client::connect(server.address());
            client.send(format!("client {i}"));
            clients.push(client);
        }
        server.handle.stop().unwrap();
    });
    for (i, client) in clients.iter().enumerate() {
        client.receives(format!("client {i}"));
        client.receives_end();
    }
    let stats = server.end();
    assert_eq!((stats.clients, stats.closes(CloseReason::Reset)), (31, 0));
}

#[test]
fn a_slow_reader_is_sent_all_it_is_owed_within_the_grace() {
    let (server, client, sent) = echo_owing_much(Duration::from_secs(60));
    server.handle.stop().unwrap();
    wait_until_stopping(&server);
    for part in sent.chunks(4099) {
        client.receives(part);
        std::thread::yield_now();
    }
    client.receives_end();
    let stats = server.end();
    assert_eq!(stats.closes(CloseReason::Shutdown), 1, "{stats}");
    assert_eq!((stats.clients, stats.bytes_in), (1, MUCH as u64));
    assert_eq!(stats.bytes_out, MUCH as u64);
}

#[test]
fn client_that_reads_late_gets_messages_published_before_the_stop() {
    let (broadcast, watch) = watched(room_of(64 * 1024));
    let folder = Folder::new();
    // Its kernel keeps a fifth of a megabyte; the rest waits in the log.
    let config = listening_on(&[&folder.unix("socket")]);
    let server = Running::start(&config, broadcast);
    let mut room = join(server.address(), 2);
    let flood = Flood::of_megabytes(1);
    let before = watch.received();
    let publishing = flood.send(room.pop().unwrap());
    eventually("everything being read", || {
        watch.received() == before + flood.bytes()
    });
    server.handle.stop().unwrap();
    wait_until_stopping(&server);
    let reader = flood.check(room.pop().unwrap()).join().unwrap();
    reader.receives_end();
    publishing.join().unwrap().receives_end();
    assert_eq!(server.end().closes(CloseReason::Shutdown), 2);
}

#[test]
fn the_grace_ends() {
    let (server, client, _) = echo_owing_much(Duration::from_millis(200));
    let start = Instant::now();
    let stats = server.stop();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(stats.closes(CloseReason::Shutdown), 1, "{stats}");
    assert!(stats.bytes_out < stats.bytes_in, "{stats}");
    drop(client);
}

#[test]
fn a_second_stop_ends_it_at_once() {
    let (server, client, _) = echo_owing_much(Duration::from_secs(3600));
    server.handle.stop().unwrap();
    wait_until_stopping(&server);
    let alive = settled("the server waiting", || server.is_running());
    assert!(alive, "it didn't wait for a client that reads nothing");
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::Shutdown), 1, "{stats}");
    drop(client);
}

#[test]
fn client_that_never_stops_sending_cannot_prevent_the_end() {
    let server = Running::echo();
    let client = server.connect();
    let flooder = client.twin();
    client.send("first");
    client.receives("first");
    let flooding = std::thread::spawn(move || {
        let reader = client.twin();
        let reading = std::thread::spawn(move || reader.drain());
        while client.try_send(&[7; 4096]).is_ok() {}
        reading.join().unwrap();
    });
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::Shutdown), 1, "{stats}");
    flooding.join().unwrap();
    drop(flooder);
}

#[test]
fn stopping_twice_from_two_threads_is_the_same() {
    let (server, client, _) = echo_owing_much(Duration::from_secs(3600));
    let handles = [server.handle.clone(), server.handle.clone()];
    let stopping = handles.map(|h| std::thread::spawn(move || h.stop().unwrap()));
    for thread in stopping {
        thread.join().unwrap();
    }
    assert_eq!(server.end().clients, 1);
    drop(client);
}
