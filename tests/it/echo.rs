//! Echo over real sockets: every byte is returned to its sender, in order.

use std::thread;
use std::time::Duration;

use crate::common::client::Client;
use crate::common::running::{Running, config, listening_on};
use crate::common::vanishing::connect_and_vanish;
use crate::common::watched::watched;
use crate::common::{
    Folder, allow_many_descriptors, assert_same, bytes, eventually, random, skipped, some_bytes,
};
use resound::{CloseReason, Config, Echo, Outcome, Peer, Service};
use socket2::{Domain, Type};

/// Sends `length` random bytes on a thread and half-closes, while this thread compares the echo, up
/// to the end.
fn echo_a_stream(client: &Client, length: usize) {
    const CHUNK: usize = 64 * 1024;
    let rng = random();
    let (writer, mut same) = (client.twin(), rng.clone());
    let writing = thread::spawn(move || {
        let mut rng = rng;
        for _ in 0..length / CHUNK {
            writer.send(bytes(&mut rng, CHUNK));
        }
        writer.finish();
    });
    for _ in 0..length / CHUNK {
        client.receives(bytes(&mut same, CHUNK));
    }
    client.receives_end();
    writing.join().expect("it only writes");
}

#[test]
fn half_closed_stream_of_64_mib_is_echoed_in_full() {
    let server = Running::echo();
    echo_a_stream(&server.connect(), 64 << 20);
    let stats = server.stop();
    assert_eq!((stats.bytes_in, stats.bytes_out), (64 << 20, 64 << 20));
    assert_eq!(stats.closes(CloseReason::PeerClosed), 1);
}

#[test]
fn half_closed_stream_of_64_mib_is_echoed_in_full_over_a_unix_socket() {
    let folder = Folder::new();
    let config = listening_on(&[&folder.unix("socket")]);
    let server = Running::start(&config, Echo::new());
    echo_a_stream(&server.connect(), 64 << 20);
    assert_eq!(server.stop().closes(CloseReason::PeerClosed), 1);
}

#[test]
fn client_that_half_closes_first_and_reads_late_gets_everything() {
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(&config(), echo);
    let sent = bytes(&mut random(), 256 * 1024);
    let client = Client::with_small_buffers(server.address());
    let writer = client.twin();
    writer.send(&sent);
    writer.finish();
    eventually("everything being read", || {
        watch.received() == sent.len() as u64
    });
    server.connect().send("another"); // the end of input has been met by now
    eventually("another being served", || {
        watch.received() > sent.len() as u64
    });
    assert_same(&client.rest(), &sent);
}

/// Sends until nothing more is taken, without reading. Asserts that less than `most` was taken and
/// less than `most_read` was read by the server, and that all of it is echoed.
fn send_without_reading(listen: &str, most: usize, most_read: u64) {
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(&listening_on(&[listen]), echo);
    let client = Client::with_small_buffers(server.address());
    let sent = client.send_until_full(Duration::from_millis(300), &mut random());
    let read = watch.received();
    assert!(read < most_read, "{read} bytes were read");
    assert!(sent.len() < most, "{} bytes were taken", sent.len());
    client.finish();
    assert_same(&client.rest(), &sent);
}

#[test]
fn client_that_never_reads_is_not_read_beyond_a_bound_and_loses_nothing() {
    // The kernel may keep some megabytes for either direction.
    send_without_reading("127.0.0.1:0", 32 << 20, 16 << 20);
}

#[test]
fn over_a_unix_socket_the_bound_is_little_more_than_the_high_water_mark() {
    let folder = Folder::new();
    // A turn beyond the mark, and the buffers of the kernel.
    send_without_reading(&folder.unix("socket"), 2 << 20, 1 << 20);
}

#[test]
fn urgent_bytes_are_echoed_in_their_place() {
    send_urgently_to(&config());
}

/// Linux has urgent data on Unix sockets too, unless it was built without.
#[test]
fn urgent_bytes_are_echoed_over_a_unix_socket_too() {
    let (one, _other) = socket2::Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    if let Err(e) = one.send_out_of_band(b"?") {
        return skipped(format_args!(
            "this system has no urgent data on Unix sockets: {e}"
        ));
    }
    let folder = Folder::new();
    send_urgently_to(&listening_on(&[&folder.unix("socket")]));
}

fn send_urgently_to(config: &Config) {
    let (echo, watch) = watched(Echo::new());
    let server = Running::start(config, echo);
    let (gatekeeper, client) = (server.connect(), server.connect());
    let mut rng = random();
    for _ in 0..50 {
        let mut sent = Vec::new();
        watch.while_held_up(&gatekeeper, || {
            for _ in 0..rng.usize(1..6) {
                let part = some_bytes(&mut rng, 1..2000);
                if rng.bool() {
                    client.send_urgently(&part);
                } else {
                    client.send(&part);
                }
                sent.extend_from_slice(&part);
            }
        });
        client.receives(&sent);
        gatekeeper.receives("wait\n");
    }
    client.send_urgently(b"the last byte is urgent");
    client.finish();
    assert_same(&client.rest(), b"the last byte is urgent");
}

#[test]
fn five_hundred_clients_at_once_each_get_their_own() {
    allow_many_descriptors();
    let server = Running::echo();
    let clients: Vec<Client> = (0..500).map(|_| server.connect()).collect();
    let mut rng = random();
    for _ in 0..4 {
        let sent: Vec<Vec<u8>> = (0..clients.len())
            .map(|_| some_bytes(&mut rng, 1..5000))
            .collect();
        for (client, sent) in clients.iter().zip(&sent) {
            client.send(sent);
        }
        for (client, sent) in clients.iter().zip(&sent) {
            client.receives(sent);
        }
    }
    drop(clients);
    let stats = server.stop();
    assert_eq!((stats.clients, stats.bytes_in), (500, stats.bytes_out));
}

#[test]
fn client_in_the_slot_of_a_closed_one_gets_none_of_its_bytes() {
    let server = Running::echo();
    let mut rng = random();
    let mut inside: Vec<(Client, Vec<u8>)> = Vec::new();
    for _ in 0..1500 {
        let sent = some_bytes(&mut rng, 1..3000);
        let client = server.connect();
        client.send(&sent);
        inside.push((client, sent));
        if inside.len() < 20 {
            continue;
        }
        let (client, sent) = inside.swap_remove(rng.usize(..inside.len()));
        match rng.u8(..3) {
            0 => client.reset(),
            1 => drop(client), // with its input unread
            _ => {
                client.finish();
                assert_same(&client.rest(), &sent);
            }
        }
    }
    for (client, sent) in inside {
        client.finish();
        assert_same(&client.rest(), &sent);
    }
    assert_eq!(server.stop().clients, 1500);
}

#[test]
fn resets_at_any_moment_leave_the_server_serving() {
    let server = Running::echo();
    connect_and_vanish(server.address(), 400, &mut random());
    let client = server.connect();
    client.send("still there?");
    client.receives("still there?");
    drop(client);
    let stats = server.stop();
    let closed = [
        CloseReason::PeerClosed,
        CloseReason::Reset,
        CloseReason::Shutdown,
    ];
    let closed: u64 = closed.into_iter().map(|reason| stats.closes(reason)).sum();
    assert_eq!((stats.clients, closed), (401, 401), "{stats}");
    assert!(stats.closes(CloseReason::Reset) > 50, "{stats}");
}

/// Greets with many bytes, then closes.
struct Farewell(Vec<u8>);

impl Service for Farewell {
    type Session = ();

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        let outcome = Outcome::reply_both(&self.0, b"!");
        ((), outcome.then_close(CloseReason::Done))
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
        unreachable!("the action is not Continue")
    }
}

#[test]
fn a_long_reply_before_a_close_is_sent_at_the_readers_pace() {
    const PART: usize = 1 << 20;
    let sent = bytes(&mut random(), 12 * PART);
    let server = Running::start(&config(), Farewell(sent.clone()));
    let client = Client::with_small_buffers(server.address());
    for part in sent.chunks(PART) {
        // In all longer than the server waits for a client that takes nothing.
        thread::sleep(Duration::from_millis(120));
        client.receives(part);
    }
    client.receives("!");
    client.receives_end();
    drop(client);
    assert_eq!(server.stop().closes(CloseReason::Done), 1);
}
