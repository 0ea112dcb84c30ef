//! The client of the real binary, on pipes and at a terminal, against servers of this project and
//! against others that misbehave.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;

use crate::common::connecting::{Piped, accept, connect_at_terminal, listener, unserved_port};
use crate::common::program::{Program, run};
use crate::common::pty::END;
use crate::common::running::{Running, listening_on};
use crate::common::stdio::output_pipe;
use crate::common::{Folder, assert_same, bytes, eventually, random};
use resound::Echo;
use socket2::SockRef;

#[test]
fn lines_are_relayed_both_ways_as_they_arrive() {
    let program = Program::start(&["broadcast", "-v", "-l", "127.0.0.1:0"]);
    let address = program.address().to_string();
    let [mut one, mut other] = [(); 2].map(|()| Piped::to(&address));
    program.will_have_logged("client 2 (");
    one.stdin.send("你好\n");
    other.stdout.receives("你好\n");
    other.stdin.send("a\nb\n");
    one.stdout.receives("a\nb\n");
    drop(one.stdin);
    assert_eq!(one.program.wait().code, Some(0));
}

#[test]
fn output_of_the_server_after_the_end_of_input_is_printed() {
    let server = Running::echo();
    let address = server.address().to_string();
    let mut rng = random();
    let sent = bytes(&mut rng, 32 << 20);
    let folder = Folder::new();
    fs::write(folder.path("in"), &sent).expect("it can be written");
    let (input, output) = (folder.path("in"), folder.path("out"));
    let input = File::open(input).expect("it is there");
    let output = File::create(output).expect("it can be made");
    let ended = Program::spawn_on(&["connect", &address], input, output).wait();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    let got = fs::read(folder.path("out")).expect("it was made");
    assert_same(&got, &sent);
}

#[test]
fn a_unix_socket_is_a_server_too() {
    let folder = Folder::new();
    let server = Running::start(&listening_on(&[&folder.unix("s")]), Echo::new());
    let mut piped = Piped::to(&server.address().to_string());
    piped.stdin.send("hello");
    piped.stdout.receives("hello");
    drop(piped.stdin);
    piped.stdout.receives_end();
    assert_eq!(piped.program.wait().code, Some(0));
}

#[test]
fn a_word_typed_at_a_terminal_leaves() {
    for word in ["quit", "exit"] {
        let server = Running::echo();
        let address = server.address().to_string();
        let (program, stdin, mut stdout) = connect_at_terminal(&["connect", &address]);
        stdin.send("hello\n");
        assert_eq!(stdout.line(), "hello");
        stdin.send(format!("{word}\n"));
        assert_eq!(program.wait().code, Some(0));
    }
    // Through a pipe it is a line like any other.
    let server = Running::echo();
    let mut piped = Piped::to(&server.address().to_string());
    piped.stdin.send("quit\nno\n");
    piped.stdout.receives("quit\nno\n");
}

#[test]
fn ctrl_d_ends_the_input_and_later_output_is_still_shown() {
    let (listener, address) = listener();
    let (program, stdin, mut stdout) = connect_at_terminal(&["connect", &address]);
    let (mut server, _) = accept(&listener);
    program.will_have_logged(&format!(
        "connected to {address}; type quit or press Ctrl-D to leave"
    ));
    stdin.send("last words\n");
    stdin.send(END);
    let mut received = String::new();
    server.read_to_string(&mut received).expect("it ends");
    assert_eq!(received, "last words\n");
    server.write_all(b"and mine\n").expect("it listens");
    assert_eq!(stdout.line(), "and mine");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn a_server_does_not_drive_the_terminal_unless_it_may() {
    let evil = b"\x1b[2Jboo\r\n\xe4\xbd";
    for (args, shown) in [(&[][..], "\\u{1b}[2Jboo"), (&["--raw"], "\x1b[2Jboo")] {
        let (listener, address) = listener();
        let args = [&["connect", &address], args].concat();
        let (program, _stdin, mut stdout) = connect_at_terminal(&args);
        let (mut server, _) = accept(&listener);
        server.write_all(evil).expect("it listens");
        assert_eq!(stdout.line().trim_end(), shown);
        // The rest of a letter may arrive later.
        server.write_all(b"\xa0!\n").expect("it listens");
        assert_eq!(stdout.line().trim_end(), "你!");
        drop(server);
        assert_eq!(program.wait().code, Some(0));
    }
}

#[test]
fn output_to_a_pipe_is_not_changed() {
    let (listener, address) = listener();
    let mut piped = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    server.write_all(b"\x1b[2J\0\r\n").expect("it listens");
    piped.stdout.receives(b"\x1b[2J\0\r\n");
}

#[test]
fn an_end_that_the_server_makes_ends_the_client() {
    let (listener, address) = listener();
    let mut piped = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    server.write_all(b"bye").expect("it listens");
    server.shutdown(Shutdown::Write).expect("it is connected");
    piped.stdout.receives("bye");
    assert_eq!(piped.program.wait().code, Some(0));
}

#[test]
fn each_failure_is_one_line_and_a_code() {
    let (_port, address) = unserved_port();
    let ended = run(&["connect", &address]);
    let refused = format!("resound: cannot connect to {address}: connection refused");
    assert_eq!((ended.code, ended.log), (Some(1), vec![refused]));

    let (listener, address) = listener();
    let mut piped = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    server.write_all(b"what came before\n").expect("it listens");
    piped.stdout.receives("what came before\n");
    let linger = SockRef::from(&server).set_linger(Some(std::time::Duration::ZERO));
    linger.expect("it can be set");
    drop(server);
    let ended = piped.program.wait();
    let lost = format!("resound: the connection to {address} is lost: reset");
    assert_eq!((ended.code, ended.log), (Some(1), vec![lost]));

    assert_eq!(run(&["connect"]).code, Some(2));
    let ended = run(&["connect", "nowhere"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.log[0].contains("expected HOST:PORT"),
        "{:?}",
        ended.log
    );
}

#[test]
fn reader_that_has_read_enough_ends_the_client_with_code_0() {
    let (listener, address) = listener();
    let (stdout, output) = output_pipe();
    let program = Program::spawn_on(&["connect", &address], Stdio::null(), output);
    let (mut server, _) = accept(&listener);
    drop(stdout);
    let ended = || server.write_all(b"more\n").is_err();
    eventually("the client being gone", ended);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn an_output_that_can_not_be_written_is_a_failure() {
    let (listener, address) = listener();
    let full = File::options().write(true).open("/dev/full");
    let full = full.expect("Linux has it");
    let program = Program::spawn_on(&["connect", &address], Stdio::null(), full);
    let (mut server, _) = accept(&listener);
    server.write_all(b"much\n").expect("it listens");
    let ended = program.wait();
    let line = "resound: cannot write to standard output: no storage space".to_owned();
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn a_slow_reader_gets_every_byte_and_costs_little_memory() {
    let (listener, address) = listener();
    let piped = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    let mut rng = random();
    let sent = bytes(&mut rng, 32 << 20);
    let copy = sent.clone();
    let Piped {
        program,
        stdin,
        stdout,
    } = piped;
    let feeding = std::thread::spawn(move || stdin.send(copy));
    program.assert_idle();
    assert!(!feeding.is_finished(), "all of it is somewhere");
    let (mut got, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        // Sometimes little is taken.
        let most = rng.usize(1..=part.len());
        match server.read(&mut part[..most]).expect("it comes in time") {
            0 => break,
            n => got.extend_from_slice(&part[..n]),
        }
    }
    feeding.join().expect("all of it is taken");
    assert_same(&got, &sent);
    let memory = program.peak_memory();
    assert!(memory < 24 * 1024, "{memory} KiB");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
    drop(stdout);
}
