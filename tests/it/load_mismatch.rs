//! The load tester against servers of another kind than the load is for: each is named.
//!
//! Regression: all that was said was "messages returned changed", beside a table and a histogram of
//! waits for answers that never came.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::common::loading::{SIZE, at_once, failure, load, run, serve};
use crate::common::program::{self, Program};
use crate::common::with;
use resound::load::{Load, LoadMode, Mismatch, MismatchKind};
use serde_json::Value;

/// A server's part of a connection.
type Serve = fn(usize, TcpStream);

/// Bytes of a server's first ones that are kept.
const KEPT: usize = 48;

/// Passes all input on as this function returns it.
fn answer(mut stream: TcpStream, mut change: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&change(&buffer[..n])).is_err() {
            return;
        }
    }
}

fn greet(_: usize, mut stream: TcpStream) {
    if stream.write_all(b"220 hi\x1b\n").is_ok() {
        answer(stream, <[u8]>::to_vec);
    }
}

/// Greets with the first answer.
fn ask(_: usize, stream: TcpStream) {
    let mut asks = true;
    answer(stream, |input| {
        let greeting: &[u8] = if asks { b"name?\n\n" } else { b"" };
        asks = false;
        [greeting, input].concat()
    });
}

fn prefix(_: usize, stream: TcpStream) {
    answer(stream, |input| [b"> ", input].concat());
}

fn lowercase(_: usize, stream: TcpStream) {
    answer(stream, <[u8]>::to_ascii_lowercase);
}

fn refuse(_: usize, stream: TcpStream) {
    answer(stream, |_| b"400\n".to_vec());
}

fn discard(_: usize, stream: TcpStream) {
    answer(stream, |_| Vec::new());
}

/// Two clients, in each mode that is answered, in closed and in open loop, with and without checks.
fn settings(load: Load) -> Vec<Load> {
    let two = with(load, |load| {
        load.clients = 2;
        load.timeout = Duration::from_millis(600);
    });
    let open = with(two.clone(), |load| load.rate = Some(100.into()));
    let churn = with(two.clone(), |load| load.mode = LoadMode::Churn);
    let stream = with(two.clone(), |load| {
        load.mode = LoadMode::Stream;
        load.depth = 4;
    });
    let checked = [two, open, churn, stream];
    let unchecked = checked
        .clone()
        .map(|load| with(load, |load| load.verify = false));
    checked.into_iter().chain(unchecked).collect()
}

#[track_caller]
fn kind_and_first(load: &Load) -> (MismatchKind, String) {
    let outcome = run(load);
    let Some(Mismatch { kind, first, .. }) = outcome.mismatch else {
        panic!("{load:?}: {outcome:?}");
    };
    (kind, String::from_utf8(first).expect("it is text"))
}

#[test]
fn servers_of_another_kind_are_named_in_every_mode() {
    use MismatchKind::{Alters, Greets, Silent};
    let cases: [(Serve, _, _); 6] = [
        (greet, Greets, "220 hi\x1b\n"),
        (ask, Greets, "name?\n\n"),
        (prefix, Alters, "> 0000"),
        (lowercase, Alters, "0000"),
        (refuse, Alters, "400\n"),
        (discard, Silent, ""),
    ];
    for (server, kind, first) in cases {
        let address = serve(server);
        at_once(&settings(load(address)), |load| {
            let found = kind_and_first(load);
            assert_eq!(found.0, kind, "{load:?}: {found:?}");
            assert!(found.1.starts_with(first), "{load:?}: {found:?}");
            assert!(found.1.len() <= KEPT, "{load:?}: {found:?}");
        });
    }
}

#[test]
fn a_broadcast_service_is_named_in_every_mode() {
    for options in [&[][..], &["--include-sender"]] {
        let server = Program::start(&[&["broadcast", "-l", "127.0.0.1:0"], options].concat());
        for load in settings(load(server.address())) {
            if load.mode == LoadMode::Churn && !options.is_empty() {
                continue; // a client may have its own message before others connect
            }
            let found = kind_and_first(&load);
            assert_eq!(found.0, MismatchKind::Broadcasts, "{load:?}: {found:?}");
            assert_eq!(found.1.len(), KEPT, "{load:?}: {found:?}");
        }
    }
}

/// Answers datagrams with this text, or else with those of others.
fn datagrams(text: Option<&'static [u8]>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    let address = format!("udp://{}", socket.local_addr().expect("it is bound"));
    thread::spawn(move || {
        let (mut buffer, mut peers) = ([0; SIZE], Vec::new());
        while let Ok((n, peer)) = socket.recv_from(&mut buffer) {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
            let others = peers.iter().filter(|other| **other != peer);
            match text {
                Some(text) => drop(socket.send_to(text, peer)),
                None => others.for_each(|other| drop(socket.send_to(&buffer[..n], other))),
            }
        }
    });
    address
}

#[test]
fn servers_of_another_kind_are_named_over_datagrams_too() {
    use MismatchKind::{Alters, Broadcasts, Silent};
    let silent = Program::start(&["discard", "-l", "udp://127.0.0.1:0"]);
    let cases = [
        (datagrams(Some(b"what?")), Alters, "what?"),
        (datagrams(None), Broadcasts, "0000"),
        (silent.address().to_string(), Silent, ""),
    ];
    for (address, kind, first) in cases {
        let two = with(load(address), |load| {
            load.clients = 2;
            load.timeout = Duration::from_millis(100);
        });
        let open = with(two.clone(), |load| load.rate = Some(100.into()));
        for load in [two, open] {
            let found = kind_and_first(&load);
            assert_eq!(found.0, kind, "{load:?}: {found:?}");
            assert!(found.1.starts_with(first), "{load:?}: {found:?}");
        }
    }
}

/// The line of a load that cannot begin has them, too.
#[test]
fn first_bytes_of_a_server_that_is_no_room_are_shown() {
    let room = |server| {
        with(load(serve(server)), |load| {
            load.mode = LoadMode::Fanout;
            load.timeout = Duration::from_millis(100);
        })
    };
    for (server, expected) in [
        (
            greet as Serve, // what it echoes may follow
            r"another publishes; the server's first bytes were '220 hi\u{1b}\n",
        ),
        (
            // The first publisher is the last to connect.
            // The first publisher is the last to connect. A reset could take the text with it.
            |number, mut stream| {
                if number > 0 && stream.write_all(b"busy\n").is_ok() {
                    drop(stream.shutdown(Shutdown::Write));
                }
                discard(number, stream);
            },
            r"; the server's first bytes were 'busy\n'",
        ),
    ] {
        let error = failure(&room(server));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn people_see_the_kind_of_the_server_and_no_latencies_of_unanswered_messages() {
    let server = Program::start(&["discard", "-l", "127.0.0.1:0"]);
    let address = server.address().to_string();
    let args = [
        "load",
        &address,
        "--clients=2",
        "--warmup=0s",
        "--duration=200ms",
        "--timeout=100ms",
        "--interval=50ms",
    ];
    let ended = program::run(&args);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let reason = "resound: the server sent nothing back: is it an echo service?";
    assert!(ended.log.iter().any(|line| line == reason), "{ended:?}");
    for text in ["p99", "latency", "#"] {
        assert!(!ended.stdout.contains(text), "{text}: {}", ended.stdout);
        let lines = ended.log.iter().filter(|line| line.contains(text));
        assert_eq!(lines.count(), 0, "{text}: {ended:?}");
    }
    // Programs get the waits.
    let ended = program::run(&[&args[..], &["--json"]].concat());
    let object: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let waited = object["latency_us"]["p50"].as_f64();
    assert!(waited >= Some(100e3), "{object:#}");
}
