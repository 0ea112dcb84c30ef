//! The client of the real binary that connects again after its server was away.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::connecting::{Piped, accept, connect_at_terminal, listener, receives, rest};
use crate::common::eventually;
use crate::common::program::{Program, complaint};
use crate::common::stdio::output_pipe;
use rustix::process::Signal;
use socket2::SockRef;

/// A client between pipes, and its first connection.
fn connected(args: &[&str]) -> (Piped, TcpListener, TcpStream, String) {
    let (listener, address) = listener();
    let piped = Piped::with(&[args, &[&address]].concat());
    let (server, _) = accept(&listener);
    (piped, listener, server, address)
}

/// The server stops, and listens again when the client has noticed.
fn restart(piped: &Piped, listener: TcpListener, server: TcpStream) -> TcpListener {
    let ends = || {
        let log = piped.program.log();
        log.iter()
            .filter(|line| line.contains("reconnecting"))
            .count()
    };
    let before = ends();
    let address = listener.local_addr().expect("it has one");
    drop((listener, server));
    eventually("the end is noticed", || ends() > before);
    TcpListener::bind(address).expect("it is free")
}

#[test]
fn reader_comes_back_after_each_end_and_ends_with_its_input() {
    let (mut piped, listener, mut server, address) = connected(&["--reconnect"]);
    for (line, resets) in [("one\n", false), ("two\n", true), ("three\n", false)] {
        server.write_all(line.as_bytes()).expect("it listens");
        piped.stdout.receives(line);
        if resets {
            let set = SockRef::from(&server).set_linger(Some(Duration::ZERO));
            set.expect("it can be set");
        }
        drop(server);
        server = accept(&listener).0;
    }
    drop(piped.stdin);
    assert_eq!(rest(&mut server), b"");
    drop(server);
    let ended = piped.program.wait();
    assert_eq!(ended.code, Some(0));
    let ends = format!("the server {address} has ended the connection; reconnecting");
    let lost = format!("the connection to {address} is lost: reset; reconnecting");
    let back = format!("connected to {address} again");
    let texts = [&ends, &back, &lost, &back, &ends, &back];
    assert_eq!(ended.log.len(), texts.len(), "{:?}", ended.log);
    for (line, text) in ended.log.iter().zip(texts) {
        assert!(line.ends_with(text.as_str()), "{line:?} is not {text:?}");
    }
}

#[test]
fn input_waits_for_the_next_server() {
    let (piped, listener, server, _) = connected(&["--reconnect=1m"]);
    let listener = restart(&piped, listener, server);
    piped.stdin.send("while it was away\n");
    let (mut server, _) = accept(&listener);
    receives(&mut server, "while it was away\n");
    piped.stdin.send("and after\n");
    receives(&mut server, "and after\n");
    // All of it is sent, too, if it has ended before.
    let listener = restart(&piped, listener, server);
    piped.stdin.send("the last\n");
    drop(piped.stdin);
    let (mut server, _) = accept(&listener);
    assert_eq!(rest(&mut server), b"the last\n");
    drop(server);
    assert_eq!(piped.program.wait().code, Some(0));
}

#[test]
fn client_without_a_server_ends_with_its_input_or_its_reader() {
    for ends_input in [true, false] {
        let (piped, listener, server, _) = connected(&["--reconnect"]);
        drop(restart(&piped, listener, server));
        let Piped {
            program,
            stdin,
            stdout,
        } = piped;
        let _other: Box<dyn std::any::Any> = if ends_input {
            drop(stdin);
            Box::new(stdout)
        } else {
            drop(stdout);
            Box::new(stdin)
        };
        assert_eq!(program.wait().code, Some(0));
    }
}

#[test]
fn user_may_quit_while_there_is_no_server() {
    let (listener, address) = listener();
    let args = ["connect", "--reconnect", &address];
    let (program, stdin, _stdout) = connect_at_terminal(&args);
    let (server, _) = accept(&listener);
    drop((listener, server));
    program.will_have_logged("reconnecting");
    stdin.send("quit\n");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn server_that_stays_away_is_given_up_in_time() {
    let (piped, listener, server, address) = connected(&["--reconnect=300ms"]);
    drop(restart(&piped, listener, server));
    let ended = piped.program.wait();
    let line = format!("resound: cannot connect to {address}: connection refused");
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));
}

#[test]
fn server_that_closes_at_once_is_not_hammered() {
    let (_piped, listener, server, _) = connected(&["--reconnect"]);
    let begun = Instant::now();
    drop(server);
    for _ in 0..3 {
        accept(&listener);
    }
    // 100, 200 and 400 ms.
    let passed = begun.elapsed();
    assert!(passed >= Duration::from_millis(650), "{passed:?}");
}

#[test]
fn silent_server_is_left_and_input_that_it_did_not_take_is_a_failure() {
    let (piped, listener, server, _) = connected(&["--reconnect", "--timeout=300ms"]);
    let (mut next, _) = accept(&listener);
    drop(server);
    piped.program.will_have_logged("for 300ms; reconnecting");
    piped.stdin.send("hello\n");
    receives(&mut next, "hello\n");
    let Piped { program, stdin, .. } = piped;
    let feeding = std::thread::spawn(move || stdin.send(vec![b'x'; 16 << 20]));
    program.will_have_logged("; unsent input: ");
    drop(next);
    let (mut last, _) = accept(&listener);
    last.set_read_timeout(None).expect("it can be set");
    rest(&mut last);
    drop(last);
    let ended = program.wait();
    feeding.join().expect("all of it was taken");
    assert_eq!(ended.code, Some(1));
    let line = ended.log.last().expect("there is one");
    assert!(
        line.starts_with("resound: ") && line.contains("; unsent input: "),
        "{line}"
    );
}

#[test]
fn texts_are_sent_to_each_server_by_a_client_that_only_receives() {
    let (listener, address) = listener();
    let args = [
        "connect",
        "-d",
        "--send=from here\\n",
        "--reconnect",
        &address,
    ];
    let (mut stdout, output) = output_pipe();
    let program = Program::spawn_on(&args, Stdio::null(), output);
    for line in ["one\n", "two\n"] {
        let (mut server, _) = accept(&listener);
        receives(&mut server, "from here\n");
        server.write_all(line.as_bytes()).expect("it listens");
        stdout.receives(line);
    }
    program.will_have_logged("reconnecting");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code, None);
}

#[test]
fn connecting_again_that_makes_no_sense_is_refused() {
    for (args, text) in [
        (
            &["--reconnect", "udp://127.0.0.1:7"][..],
            "accept connections",
        ),
        (
            &["--reconnect", "--send=x", "127.0.0.1:7"],
            "needs --recv-only",
        ),
    ] {
        let line = complaint(&[&["connect"], args].concat(), 2);
        assert!(line.contains(text), "{line}");
    }
}
