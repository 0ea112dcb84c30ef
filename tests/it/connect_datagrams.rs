//! The client over UDP and Unix datagrams.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

use crate::common::connecting::{
    Piped, connect_at_terminal, connect_without_input, datagram, udp_socket,
};
use crate::common::program::{Program, run};
use crate::common::running::{Running, listening_on};
use crate::common::stdio::output_pipe;
use crate::common::with;
use crate::common::{DEADLINE, Folder, assert_same, eventually};
use resound::Echo;
use rustix::process::Signal;

/// The next datagram of a UDP socket, as text.
#[track_caller]
fn arrives(socket: &UdpSocket) -> String {
    let (bytes, _) = datagram(|buffer| socket.recv_from(buffer));
    String::from_utf8(bytes).expect("it is text")
}

/// The address of a socket that takes datagrams of one other peer only and refuses all others.
fn refusing() -> (UdpSocket, String) {
    let (socket, address) = udp_socket("127.0.0.1");
    socket.connect("127.0.0.1:9").expect("it is only a name");
    (socket, address)
}

#[track_caller]
fn bind_unix(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("it can be made");
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    socket
}

fn unixgram(folder: &Folder, name: &str) -> String {
    folder.unix(name).replace("unix:", "unixgram:")
}

#[test]
fn each_line_is_a_datagram_and_a_second_of_silence_after_the_last_is_the_end() {
    let (server, address) = udp_socket("127.0.0.1");
    let mut piped = Piped::to(&address);
    piped.stdin.send("one\ntwo\nthr");
    let (first, client) = datagram(|buffer| server.recv_from(buffer));
    assert_same(&first, b"one\n");
    assert_eq!(arrives(&server), "two\n");
    piped.stdin.send("ee");
    server.send_to(b"an answer", client).expect("it is there");
    piped.stdout.receives("an answer");
    let Piped {
        program,
        stdin,
        mut stdout,
    } = piped;
    drop(stdin);
    assert_eq!(arrives(&server), "three");
    server.send_to(b", and more", client).expect("it is there");
    stdout.receives(", and more");
    stdout.receives_end();
    let ended = program.wait();
    assert_eq!((ended.code, ended.log), (Some(0), vec![]));
}

#[test]
fn texts_are_datagrams_of_their_own_and_one_may_be_empty() {
    let (server, address) = udp_socket("127.0.0.1");
    let args = ["--send=好", r"--send=a\nb\n", "--send=", "--send={peer}"];
    let args = [
        &[address.as_str(), "--encoding=gbk", "--timeout=2s"],
        &args[..],
    ]
    .concat();
    let program = connect_without_input(&args);
    let expected: [&[u8]; 4] = [b"\xba\xc3", b"a\nb\n", b"", &address.as_bytes()[6..]];
    let mut client = None;
    for expected in expected {
        let (got, from) = datagram(|buffer| server.recv_from(buffer));
        assert_same(&got, expected);
        client = Some(from);
    }
    // One without anything in it is no end; and each is decoded by itself.
    let client = client.expect("they have come from somewhere");
    for answer in [&b""[..], b"\xba", b"\xba\xc3"] {
        server.send_to(answer, client).expect("it is there");
    }
    let ended = program.wait();
    let expected = (Some(0), "\\xba好", 0);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.log.len()),
        expected
    );
}

#[test]
fn missing_answer_is_no_failure_unless_a_timeout_is_given() {
    let (server, address) = udp_socket("127.0.0.1");
    let ended = connect_without_input(&[&address, "--send=hello"]).wait();
    assert_eq!((ended.code, ended.log), (Some(0), vec![]));
    let ended = connect_without_input(&[&address, "--send=hello", "--timeout=100ms"]).wait();
    let line = format!("resound: received nothing from {address} for 100ms");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
    assert_eq!(
        (arrives(&server), arrives(&server)),
        ("hello".into(), "hello".into())
    );

    let program = connect_without_input(&[&address, "--send=hello", "--timeout=2s"]);
    let (_, client) = datagram(|buffer| server.recv_from(buffer));
    server.send_to(b"", client).expect("it is there");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn while_there_may_be_input_silence_is_no_end() {
    let (server, address) = udp_socket("127.0.0.1");
    let mut piped = Piped::to(&address);
    piped.stdin.send("one\n");
    let (_, client) = datagram(|buffer| server.recv_from(buffer));
    for _ in 0..3 {
        piped.program.assert_idle();
    }
    server.send_to(b"late", client).expect("it is there");
    piped.stdout.receives("late");
    assert_eq!(piped.end().code, Some(0));
}

#[test]
fn unused_port_is_reported() {
    let (_port, address) = refusing();
    let line = format!("resound: cannot reach {address}: no server listens there");
    let ended = run(&["connect", &address, "--send=hello"]);
    assert_eq!((ended.code, ended.log), (Some(1), vec![line.clone()]));
    // Even if no answer is waited for.
    let piped = Piped::to(&address);
    piped.stdin.send("hello\n");
    let warning = &line["resound: ".len()..];
    let warning = format!("{warning}; going on with the rest");
    piped.program.will_have_logged(&warning);
    let ended = piped.end();
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));
    // At a terminal it ends at once.
    let (program, stdin, _stdout) = connect_at_terminal(&["connect", &address]);
    stdin.send("hello\n");
    let ended = program.wait();
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));
}

/// Regression: one refused datagram swallowed the rest.
#[test]
fn refused_datagrams_do_not_swallow_the_rest() {
    let (server, address) = refusing();
    let Piped {
        program,
        stdin,
        mut stdout,
    } = Piped::to(&address);
    stdin.send("one\n");
    program.will_have_logged("no server listens there; going on");
    stdin.send("two\n");
    let port = server.local_addr().expect("it has one");
    drop(server);
    let server = UdpSocket::bind(port).expect("it is free");
    server.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stdin.send("three\nfour\n");
    let (got, client) = datagram(|buffer| server.recv_from(buffer));
    let got = String::from_utf8(got).expect("it is text");
    assert!(matches!(got.as_str(), "two\n" | "three\n"), "{got:?}");
    server.send_to(b"an answer", client).expect("it is there");
    stdout.receives("an answer");
    while arrives(&server) != "four\n" {}
    drop(stdin);
    let ended = program.wait();
    let line = format!("resound: cannot reach {address}: no server listens there");
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));
    assert_eq!(ended.log.len(), 2, "{:?}", ended.log);
}

#[test]
fn a_line_longer_than_a_datagram_is_a_failure() {
    let (server, address) = udp_socket("127.0.0.1");
    let piped = Piped::to(&address);
    let longest = "a".repeat(65_506) + "\n";
    piped.stdin.send(&longest);
    assert_eq!(arrives(&server), longest);
    piped.stdin.send("short\n");
    assert_eq!(arrives(&server), "short\n");
    piped.stdin.send("a".to_owned() + &longest);
    // It does not swallow the rest.
    piped.stdin.send("next\n");
    assert_eq!(arrives(&server), "next\n");
    let ended = piped.end();
    let line =
        format!("resound: cannot send a datagram of 65508 bytes to {address}: the limit is 65507");
    assert_eq!(
        (ended.code, ended.log.len()),
        (Some(1), 2),
        "{:?}",
        ended.log
    );
    assert_eq!(ended.log.last(), Some(&line));
    let text = format!("--send={}", "a".repeat(65_508));
    let ended = run(&["connect", &address, &text]);
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn echo_over_datagrams_is_received() {
    let folder = Folder::new();
    for address in ["udp://127.0.0.1:0".to_owned(), unixgram(&folder, "s")] {
        let server = Running::start(&listening_on(&[&address]), Echo::new());
        let mut piped = Piped::with(&[&server.address().to_string(), "--crlf"]);
        piped.stdin.send("你好\n");
        piped.stdout.receives("你好\r\n");
        let ended = piped.end();
        assert_eq!((ended.code, ended.log), (Some(0), vec![]));
    }
}

#[test]
fn a_word_typed_at_a_terminal_leaves_at_once() {
    let (server, address) = udp_socket("127.0.0.1");
    let (program, stdin, mut stdout) = connect_at_terminal(&["connect", &address, "--timeout=1h"]);
    program.will_have_logged(&format!(
        "connected to {address}; type quit or press Ctrl-D to leave"
    ));
    stdin.send("hello\n");
    let (_, client) = datagram(|buffer| server.recv_from(buffer));
    // The letter that isn't whole, and the end of a line, don't wait for another datagram.
    server
        .send_to(b"\x1b\xe4\xbd\r", client)
        .expect("it is there");
    server.send_to(b"\n", client).expect("it is there");
    assert_eq!(stdout.line(), "\\u{1b}\\xe4\\xbd\\r");
    stdin.send("last\nquit\n");
    assert_eq!(arrives(&server), "last\n");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn a_broadcast_takes_its_option_and_anybody_may_answer() {
    let (server, address) = udp_socket("0.0.0.0");
    let address = address.replace("127.0.0.1", "127.255.255.255");
    let ended = run(&["connect", &address, "--send=hello"]);
    let cause = "permission denied; a broadcast address needs --broadcast";
    let line = format!("resound: cannot connect to {address}: {cause}");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));

    for more in [&[][..], &["--source=127.0.0.1"]] {
        let args = [
            &[
                address.as_str(),
                "--broadcast",
                "--send=hello",
                "--timeout=2s",
            ],
            more,
        ]
        .concat();
        let program = connect_without_input(&args);
        let (got, client) = datagram(|buffer| server.recv_from(buffer));
        assert_same(&got, b"hello");
        server.send_to(b"here; ", client).expect("it is there");
        let (other, _) = udp_socket("127.0.0.1");
        other.send_to(b"here, too", client).expect("it is there");
        let ended = program.wait();
        let expected = (Some(0), "here; here, too", 0);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.log.len()),
            expected
        );
    }
}

#[test]
fn the_server_sees_the_source_that_was_asked_for() {
    let (server, address) = udp_socket("127.0.0.1");
    let program = connect_without_input(&[&address, "--source=127.0.0.9", "--send={local}"]);
    let (local, client) = datagram(|buffer| server.recv_from(buffer));
    assert_same(&local, client.to_string().as_bytes());
    assert_eq!(client.ip().to_string(), "127.0.0.9");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn unix_datagrams_are_relayed_both_ways() {
    let folder = Folder::new();
    let server = bind_unix(&folder.path("s"));
    let mut piped = Piped::to(&unixgram(&folder, "s"));
    piped.stdin.send("hello\n");
    let (got, client) = datagram(|buffer| server.recv_from(buffer));
    assert_same(&got, b"hello\n");
    server.send_to_addr(b"hi", &client).expect("it has a name");
    piped.stdout.receives("hi");
    drop(server);
    piped.stdin.send("and now?\n");
    let failure = format!(
        "cannot reach {}: no server listens there",
        unixgram(&folder, "s")
    );
    piped.program.will_have_logged(&failure);
    // A server that takes its place gets the rest.
    std::fs::remove_file(folder.path("s")).expect("it was left behind");
    let server = bind_unix(&folder.path("s"));
    piped.stdin.send("and now?\n");
    assert_same(
        &datagram(|buffer| server.recv_from(buffer)).0,
        b"and now?\n",
    );
    let ended = piped.end();
    let line = format!("resound: {failure}");
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));
}

#[test]
fn client_that_only_receives_waits_for_datagrams_without_an_end() {
    let (server, address) = udp_socket("127.0.0.1");
    let (mut stdout, output) = output_pipe();
    let args = ["connect", &address, "-d", "--send=hello"];
    let program = Program::spawn_on(&args, Stdio::null(), output);
    let (_, client) = datagram(|buffer| server.recv_from(buffer));
    for _ in 0..3 {
        program.assert_idle();
    }
    server.send_to(b"late", client).expect("it is there");
    stdout.receives("late");
}

#[test]
fn a_unix_socket_that_is_not_there_is_named_or_waited_for() {
    let folder = Folder::new();
    let address = unixgram(&folder, "s");
    let failed = |cause: &str| vec![format!("resound: cannot connect to {address}: {cause}")];
    let ended = run(&["connect", &address]);
    assert_eq!(
        (ended.code, ended.log),
        (Some(1), failed("no such file or directory"))
    );

    let program = connect_without_input(&[&address, "--retry", "--send=hello"]);
    program.will_have_logged("no such file or directory; retrying");
    let server = bind_unix(&folder.path("s"));
    assert_same(&datagram(|buffer| server.recv_from(buffer)).0, b"hello");
    assert_eq!(program.wait().code, Some(0));
    drop(server);

    let ended = run(&["connect", &address]);
    assert_eq!(
        (ended.code, ended.log),
        (Some(1), failed("connection refused"))
    );
}

#[test]
fn a_source_in_the_file_system_lasts_as_long_as_the_client() {
    let folder = Folder::new();
    let server = bind_unix(&folder.path("s"));
    let source = format!("--source={}", unixgram(&folder, "c"));
    for interrupted in [false, true] {
        let piped = Piped::with(&[&unixgram(&folder, "s"), &source]);
        piped.stdin.send("hello\n");
        let (_, client) = datagram(|buffer| server.recv_from(buffer));
        assert_eq!(client.as_pathname(), Some(&*folder.path("c")));
        assert!(folder.path("c").exists());
        let ended = if interrupted {
            piped.program.signal(Signal::INT);
            piped.program.wait()
        } else {
            piped.end()
        };
        assert_eq!(ended.code, Some(0));
        assert!(!folder.path("c").exists());
    }
    std::fs::write(folder.path("c"), "precious").expect("it can be made");
    let ended = run(&["connect", &unixgram(&folder, "s"), &source]);
    let cause = "a file that is not a socket is in the way";
    let line = format!(
        "resound: cannot connect to {}: the source {}: {cause}",
        unixgram(&folder, "s"),
        unixgram(&folder, "c")
    );
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn input_that_the_server_does_not_take_yet_waits_in_order_and_bounded() {
    let folder = Folder::new();
    let server = bind_unix(&folder.path("s"));
    let piped = Piped::to(&unixgram(&folder, "s"));
    let Piped {
        program,
        stdin,
        stdout,
    } = piped;
    let line = |i: usize| format!("{i:0999}\n");
    let feeding = std::thread::spawn(move || (0..2000).for_each(|i| stdin.send(line(i))));
    let mut first = None;
    eventually("a first datagram", || {
        first = Some(datagram(|buffer| server.recv_from(buffer)).0);
        true
    });
    program.assert_idle();
    assert!(!feeding.is_finished(), "all 2 MB are somewhere");
    assert_same(&first.expect("it has come"), line(0).as_bytes());
    for i in 1..2000 {
        let (got, _) = datagram(|buffer| server.recv_from(buffer));
        assert_same(&got, line(i).as_bytes());
    }
    feeding.join().expect("all of it is taken");
    assert_eq!(program.wait().code, Some(0));
    drop(stdout);
}

/// Thousands of lines at once: their answers are received before there are too many.
#[test]
fn burst_of_lines_is_echoed() {
    let server = Running::start(
        &with(listening_on(&["udp://127.0.0.1:0"]), |config| {
            config.udp_rate = None;
        }),
        Echo::new(),
    );
    let address = server.address().to_string();
    let lines = "a line\n".repeat(5000);
    let folder = Folder::new();
    std::fs::write(folder.path("in"), &lines).unwrap();
    let input = std::fs::File::open(folder.path("in")).unwrap();
    let output = std::fs::File::create(folder.path("out")).unwrap();
    let ended = Program::spawn_on(&["connect", &address], input, output).wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let got = std::fs::read_to_string(folder.path("out")).unwrap();
    // Datagrams may be lost, but a few hundred are received.
    let count = got.lines().count();
    assert!(count > 1000, "{count} of 5000");
}
