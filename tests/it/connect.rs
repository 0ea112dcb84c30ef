//! The client of the real binary, on pipes and at a terminal, against servers of this project and
//! against others that misbehave.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use crate::common::connecting::{
    Piped, accept, connect_at_terminal, listener, receives, rest, unserved_port,
};
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
    piped.stdout.receives_end();
    assert_eq!(piped.end().code, Some(0));
}

/// Regression: the end of one direction dropped the other, and was called success.
#[test]
fn input_is_delivered_to_a_server_that_has_ended_its_output() {
    let sent = bytes(&mut random(), 4 << 20);
    let texts = format!("--send={}", "x".repeat(100_000));
    for args in [&[][..], &[texts.as_str()]] {
        let (listener, address) = listener();
        let mut piped = Piped::with(&[&[address.as_str()], args].concat());
        let (mut server, _) = accept(&listener);
        server.shutdown(Shutdown::Write).expect("it is connected");
        piped.stdout.receives_end();
        let Piped { program, stdin, .. } = piped;
        let expected = if args.is_empty() {
            let copy = sent.clone();
            std::thread::spawn(move || stdin.send(copy));
            sent.clone()
        } else {
            vec![b'x'; 100_000]
        };
        assert_same(&rest(&mut server), &expected);
        let ended = program.wait();
        assert_eq!((ended.code, ended.log), (Some(0), vec![]));
    }
}

/// The kernel takes bytes for a server that has closed; the server's kernel answers with a reset.
#[test]
fn input_for_a_server_that_has_closed_is_a_failure() {
    let (listener, address) = listener();
    let mut piped = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    server.write_all(b"bye").expect("it listens");
    drop(server);
    piped.stdout.receives("bye");
    piped.stdout.receives_end();
    piped.stdin.send("and another thing\n");
    let ended = piped.end();
    let lost = format!("resound: the connection to {address} is lost: reset");
    assert_eq!((ended.code, ended.log), (Some(1), vec![lost]));
}

/// The kernel tells of it, though nothing is sent.
#[test]
fn client_whose_input_is_open_ends_when_the_server_is_known_to_be_gone() {
    let folder = Folder::new();
    let unix = UnixListener::bind(folder.path("s")).expect("the folder is new");
    let piped = Piped::to(&folder.unix("s"));
    let (server, _) = unix.accept().expect("it connects");
    drop(server);
    assert_eq!(piped.program.wait().code, Some(0));
    // A reset, after an end of the output.
    let (listener, address) = listener();
    let mut piped = Piped::to(&address);
    let (server, _) = accept(&listener);
    server.shutdown(Shutdown::Write).expect("it is connected");
    piped.stdout.receives_end();
    SockRef::from(&server)
        .set_linger(Some(Duration::ZERO))
        .expect("it can be set");
    drop(server);
    let ended = piped.program.wait();
    let lost = format!("resound: the connection to {address} is lost: reset");
    assert_eq!((ended.code, ended.log), (Some(1), vec![lost]));
}

#[test]
fn an_end_that_the_server_makes_ends_a_client_at_a_terminal() {
    let (listener, address) = listener();
    let (program, _stdin, mut stdout) = connect_at_terminal(&["connect", &address]);
    let (mut server, _) = accept(&listener);
    server.write_all(b"bye\n").expect("it listens");
    server.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stdout.line(), "bye");
    assert_eq!(program.wait().code, Some(0));
}

/// Regression: an error of reading counted as the end of input, which is success.
#[test]
fn input_that_can_not_be_read_is_a_failure_and_output_is_still_printed() {
    let (listener, address) = listener();
    let folder = File::open("/").expect("it is there");
    let program = Program::spawn_on(&["connect", &address], folder, Stdio::piped());
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"");
    server.write_all(b"an answer").expect("it listens");
    drop(server);
    let ended = program.wait();
    let line = "resound: cannot read standard input: is a directory".to_owned();
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
    assert_eq!(ended.stdout, "an answer");
}

/// Regression: the end of the output's reader dropped input, and was called success.
#[test]
fn reader_that_has_read_enough_before_all_is_sent_is_a_failure() {
    let (listener, address) = listener();
    let Piped {
        program,
        stdin,
        mut stdout,
    } = Piped::to(&address);
    let (mut server, _) = accept(&listener);
    let feeding = std::thread::spawn(move || {
        let rest = vec![b'x'; 64 << 20];
        std::panic::catch_unwind(|| stdin.send(rest)).is_err()
    });
    server.write_all(b"enough").expect("it listens");
    stdout.receives("enough");
    program.assert_idle();
    drop(stdout);
    let ended = program.wait();
    let line = "resound: standard output was closed before all of standard input was sent";
    assert_eq!((ended.code, ended.log), (Some(1), vec![line.to_owned()]));
    assert!(
        feeding.join().expect("it catches"),
        "all of it is somewhere"
    );
}

/// Regression: readers whose input is /dev/null half-close at once, which means "gone" to many servers.
#[test]
fn client_that_only_receives_neither_reads_nor_ends_its_input() {
    let (listener, address) = listener();
    for args in [&["-d"][..], &["--recv-only", "--send=from the start\\n"]] {
        for input in [
            Stdio::null(),
            Stdio::from(File::open("/").expect("it is there")),
        ] {
            let args = [&["connect", &address], args].concat();
            let (mut stdout, output) = output_pipe();
            let program = Program::spawn_on(&args, input, output);
            let (mut server, _) = accept(&listener);
            if args.len() > 3 {
                receives(&mut server, "from the start\n");
            }
            for line in ["one\n", "two\n"] {
                server.write_all(line.as_bytes()).expect("it listens");
                stdout.receives(line);
            }
            program.assert_idle();
            server.set_nonblocking(true).expect("it can be set");
            let error = server.read(&mut [0; 9]).expect_err("it has not ended");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            drop(server);
            stdout.receives_end();
            let ended = program.wait();
            assert_eq!((ended.code, ended.log), (Some(0), vec![]));
        }
    }
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
