//! The options of the client, over streams.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use crate::common::connecting::{
    Piped, accept, connect_at_terminal, connect_without_input, listener, receives, rest,
    unserved_port,
};
use crate::common::program::run;
use crate::common::stdio::input_pipe;
use crate::common::{Folder, assert_same, program::Program, skipped};
use socket2::{Domain, SockAddr, Socket, Type};

#[test]
fn texts_are_sent_as_given_and_input_is_printed_to_its_end() {
    let (listener, address) = listener();
    let args = [&address, "--send", r"a\tb", "--send", r"{{x}}\xff\n"];
    let (input, stdin) = input_pipe();
    let args = [&["connect"], &args[..]].concat();
    let program = Program::spawn_on(&args, input, Stdio::piped());
    stdin.send("nobody reads this\n");
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"a\tb{x}\xff\n");
    server.write_all(b"an ").expect("it listens");
    server.write_all(b"answer").expect("it listens");
    drop(server);
    let ended = program.wait();
    let expected = (Some(0), "an answer", 0);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.log.len()),
        expected
    );
}

#[test]
fn text_may_name_both_ends() {
    let (listener, address) = listener();
    let program = connect_without_input(&[&address, "--send", "{peer} {local} {id}"]);
    let (mut server, peer) = accept(&listener);
    let expected = format!("{address} {peer} 0");
    assert_same(&rest(&mut server), expected.as_bytes());
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn silence_ends_a_wait_and_is_a_failure_if_nothing_was_received() {
    let (listener, address) = listener();
    for args in [&["--timeout=200ms"][..], &["--timeout=200ms", "--send=hi"]] {
        let program = connect_without_input(&[&[address.as_str()], args].concat());
        let (_server, _) = accept(&listener);
        let ended = program.wait();
        let line = format!("resound: received nothing from {address} for 200ms");
        assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
    }
    let program = connect_without_input(&[&address, "--timeout=2s"]);
    let (mut server, _) = accept(&listener);
    server.write_all(b"something").expect("it listens");
    let ended = program.wait();
    let expected = (Some(0), "something", 0);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.log.len()),
        expected
    );
}

#[test]
fn connecting_takes_no_longer_than_the_timeout() {
    let folder = Folder::new();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("there are descriptors");
    let name = SockAddr::unix(folder.path("s")).expect("it is short");
    socket.bind(&name).expect("it can be made");
    socket.listen(0).expect("it is bound");
    // One may wait to be accepted, and the next isn't let in.
    let _first = UnixStream::connect(folder.path("s")).expect("it listens");
    let address = folder.unix("s");
    let ended = run(&["connect", &address, "--timeout=200ms"]);
    let line = format!("resound: cannot connect to {address}: timed out");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn server_that_takes_nothing_for_too_long_is_given_up() {
    let (listener, address) = listener();
    let folder = Folder::new();
    let input = File::create_new(folder.path("in")).expect("it can be made");
    input.set_len(64 << 20).expect("it has holes only");
    let input = File::open(folder.path("in")).expect("it is there");
    let args = ["connect", &address, "--timeout=300ms"];
    let program = Program::spawn_on(&args, input, Stdio::piped());
    let (mut server, _) = accept(&listener);
    // Output of its own makes no difference.
    server.write_all(b"hello").expect("it listens");
    let ended = program.wait();
    let line = format!("resound: {address} accepted nothing for 300ms");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn output_not_yet_read_is_no_silence_of_the_server() {
    let (listener, address) = listener();
    let sent = vec![b'x'; 4 << 20];
    // All that there is lies in the client, or some is still on the way.
    for length in [300_000, sent.len()] {
        let mut piped = Piped::with(&[&address, "--timeout=2s"]);
        let (mut server, _) = accept(&listener);
        let copy = sent[..length].to_vec();
        let sending = std::thread::spawn(move || server.write_all(&copy).map(|()| server));
        for _ in 0..5 {
            piped.program.assert_idle();
        }
        piped.stdout.receives(&sent[..length]);
        let server = sending.join().expect("it doesn't panic");
        let mut server = server.expect("it is read");
        server.write_all(b"more").expect("it is read");
        piped.stdout.receives("more");
    }
}

#[test]
fn retrying_client_waits_for_a_server_and_logs_it_once() {
    let (socket, address) = unserved_port();
    let program = connect_without_input(&[&address, "--retry", "--send=hello"]);
    program.will_have_logged("connection refused; retrying");
    socket.listen(1).expect("it is bound");
    let (mut server, _) = accept(&TcpListener::from(socket));
    assert_same(&rest(&mut server), b"hello");
    drop(server);
    let ended = program.wait();
    assert_eq!(
        (ended.code, ended.log.len()),
        (Some(0), 1),
        "{:#?}",
        ended.log
    );

    let folder = Folder::new();
    let program = connect_without_input(&[&folder.unix("s"), "--retry=1h"]);
    program.will_have_logged("no such file or directory; retrying");
    let listener = UnixListener::bind(folder.path("s")).expect("it can be made");
    drop(listener.accept().expect("it comes"));
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn retrying_client_gives_up_in_time_and_at_once_where_nothing_helps() {
    let (_socket, address) = unserved_port();
    let ended = run(&["connect", &address, "--retry=300ms"]);
    let line = format!("resound: cannot connect to {address}: connection refused");
    assert_eq!((ended.code, ended.log.last()), (Some(1), Some(&line)));

    let ended = run(&["connect", &address, "--retry", "--source=203.0.113.1"]);
    let cause = "the source 203.0.113.1: cannot assign requested address";
    let line = format!("resound: cannot connect to {address}: {cause}");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn another_encoding_is_spoken_both_ways_wherever_letters_are_cut() {
    let (listener, address) = listener();
    let mut piped = Piped::with(&[&address, "--encoding=gbk"]);
    let (mut server, _) = accept(&listener);
    piped.stdin.send(b"a\xe5\xa5");
    receives(&mut server, b"a");
    piped.stdin.send(b"\xbd\n");
    receives(&mut server, b"\xba\xc3\n");
    server.write_all(b"b\xba").expect("it listens");
    piped.stdout.receives("b");
    server.write_all(b"\xc3\n\xff").expect("it listens");
    piped.stdout.receives("好\n");
    piped.stdin.send("👍👍");
    receives(&mut server, b"??");
    server.shutdown(Shutdown::Write).expect("it is connected");
    piped.stdout.receives("\\xff");
    let ended = piped.end();
    assert_eq!(ended.code, Some(0));
    let [warning] = &ended.log[..] else {
        panic!("{:#?}", ended.log);
    };
    let words = "GBK has no '👍': characters that cannot be encoded are sent as '?'";
    assert!(warning.ends_with(words), "{warning}");

    let program = connect_without_input(&[&address, "--encoding=gbk", "--send=好的"]);
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"\xba\xc3\xb5\xc4");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn a_terminal_is_not_driven_in_another_encoding_either() {
    let (listener, address) = listener();
    let (program, _stdin, mut stdout) =
        connect_at_terminal(&["connect", &address, "--encoding=utf-16le"]);
    let (mut server, _) = accept(&listener);
    let utf16: Vec<u8> = "\x1b好\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    server.write_all(&utf16).expect("it listens");
    assert_eq!(stdout.line(), "\\u{1b}好");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn newlines_of_the_input_may_go_out_as_two_characters() {
    let (listener, address) = listener();
    let piped = Piped::with(&[&address, "--crlf"]);
    let (mut server, _) = accept(&listener);
    piped.stdin.send("a\n\nb\r");
    receives(&mut server, "a\r\n\r\nb\r");
    piped.stdin.send("\nc\n");
    receives(&mut server, "\nc\r\n");
    drop(server);
    assert_eq!(piped.end().code, Some(0));

    let program = connect_without_input(&[&address, "--crlf", r"--send=a\n"]);
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"a\n");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn the_server_sees_the_source_that_was_asked_for() {
    let (listener, address) = listener();
    let (port, _) = unserved_port();
    let free = port.local_addr().expect("it has one").as_socket();
    drop(port);
    let source = format!("127.0.0.9:{}", free.expect("it is IP").port());
    for (asked, port) in [("127.0.0.9", None), (source.as_str(), free)] {
        let program = connect_without_input(&[&address, "--source", asked]);
        let (server, peer) = accept(&listener);
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
        assert!(port.is_none_or(|free| free.port() == peer.port()));
        drop(server);
        assert_eq!(program.wait().code, Some(0));
    }
    let ended = run(&["connect", &address, "--source=::1"]);
    let cause = "the source [::1]:0 is of another address family";
    let line = format!("resound: cannot connect to {address}: {cause}");
    assert_eq!((ended.code, ended.log), (Some(1), vec![line]));
}

#[test]
fn of_the_addresses_of_a_name_the_first_that_answers_is_taken() {
    let (listener, address) = listener();
    let address = address.replace("127.0.0.1", "localhost");
    let program = connect_without_input(&[&address, "--send=hello"]);
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"hello");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

/// A link-local address of this machine, and the number and name of its interface.
fn link_local() -> Option<(Ipv6Addr, u32, String)> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let line = table.lines().find(|line| line.starts_with("fe80"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let address = u128::from_str_radix(words.first()?, 16).ok()?;
    let number = u32::from_str_radix(words.get(1)?, 16).ok()?;
    Some((address.into(), number, (*words.last()?).to_owned()))
}

#[test]
fn an_address_may_have_a_zone() {
    let Some((address, number, name)) = link_local() else {
        skipped("no interface has a link-local address");
        return;
    };
    let listener = TcpListener::bind(SocketAddrV6::new(address, 0, 0, number));
    let listener = listener.expect("there is a port");
    let port = listener.local_addr().expect("it has one").port();
    let (to, source) = (
        format!("[{address}%{name}]:{port}"),
        format!("{address}%{name}"),
    );
    let program = connect_without_input(&[&to, "--source", &source, "--send=hello"]);
    let (mut server, _) = accept(&listener);
    assert_same(&rest(&mut server), b"hello");
    drop(server);
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn bad_usage_is_one_line_that_names_the_mistake() {
    for (args, cause) in [
        (&["*:80"][..], "'*:80' is not a single address"),
        (&["1.2.3.4:0"], "no server listens on port 0: '1.2.3.4:0'"),
        (&["udp://1.2.3.4:0"], "no server listens on port 0"),
        (&["80", "--broadcast"], "--broadcast is for UDP"),
        (&["unixgram:/s", "--broadcast"], "--broadcast is for UDP"),
        (
            &["80", "--source=unixgram:/s"],
            "--source 'unixgram:/s' is not for '127.0.0.1:80'",
        ),
        (
            &["unix:/s", "--source=::1"],
            "--source '[::1]:0' is not for",
        ),
        (&["80", "--source=localhost"], "expected IP, IP:PORT"),
        (&["80", r"--send=\q"], "after '\\' expected"),
        (&["80", "--send={who}"], "{who} is not one of"),
        (
            &["80", "--send=好", "--encoding=latin1"],
            "--send: windows-1252 has no '好'",
        ),
        (&["80", "--encoding=klingon"], "expected an encoding"),
        (&["80", "--timeout=1ms"], "expected 10ms or more"),
        (&["80", "--timeout=5"], "expected a duration"),
        (&["80", "--retry=often"], "expected a duration"),
    ] {
        let ended = run(&[&["connect"], args].concat());
        assert_eq!((ended.code, ended.log.len()), (Some(2), 1), "{args:?}");
        let line = &ended.log[0];
        assert!(
            line.starts_with("resound: ") && line.contains(cause),
            "{line}"
        );
    }
}

/// Another program; it is killed when dropped.
struct Other(Child);

impl Other {
    fn start(name: &str, args: &[&str]) -> Option<Self> {
        let mut command = Command::new(name);
        let streams = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = streams.stderr(Stdio::null()).args(args).spawn().ok();
        if child.is_none() {
            skipped(format_args!("there is no {name}"));
        }
        child.map(Self)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn servers_of_others_are_understood() {
    let folder = Folder::new();
    let listen = format!("UNIX-LISTEN:{}", folder.path("socat").display());
    if let Some(_socat) = Other::start("socat", &[&listen, "EXEC:cat"]) {
        let ended =
            connect_without_input(&[&folder.unix("socat"), "--retry=20s", "--send=hello"]).wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello"));
    }
    let path = folder.path("nc").display().to_string();
    if let Some(_nc) = Other::start("nc", &["-lNU", &path]) {
        let ended =
            connect_without_input(&[&folder.unix("nc"), "--retry=20s", "--send=hello"]).wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    }
}
