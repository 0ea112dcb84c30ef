//! The table of systems in the README: each command, run as it stands there except for the
//! ports, with a real peer at the other end.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use crate::common::client::{Client, wait_until_joined};
use crate::common::connecting::{Piped, accept, listener};
use crate::common::operator::Operator;
use crate::common::program::{Ended, Program, run};
use crate::common::stdio::{StdinWriter, StdoutReader, output_pipe};
use crate::common::tagged::{now, untagged};
use crate::common::tool::Tool;
use crate::common::{DEADLINE, Folder, bytes, eventually, random, skipped};
use resound::Address;

/// The commands of a row of the README's table, word by word, without the program's name.
fn commands(row: &str) -> Vec<Vec<String>> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("there is a README");
    let start = format!("| {row} | ");
    let line = readme.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("the README has no row {row}"));
    let spans = line.split('`').skip(1).step_by(2);
    let commands = spans.filter_map(|span| span.strip_prefix("resound "));
    commands.map(words).collect()
}

/// Splits a command as a shell does, as far as it has quotes.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in command.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

/// The command of a row with its ports, and paths, replaced by others: servers get one from the
/// kernel, clients the address of a server.
fn command(row: &str, at: usize, folder: Option<&Folder>, server: Option<&str>) -> Vec<String> {
    let mut words = commands(row).swap_remove(at);
    let mut listens = false;
    for i in 1..words.len() {
        if words[i - 1] == "-l" {
            listens = true;
            words[i] = match (words[i].rsplit_once(':'), folder) {
                (Some((scheme @ ("unix" | "unixgram"), path)), Some(folder)) => {
                    let name = path.rsplit('/').next().expect("a path has a last part");
                    folder.unix(name).replace("unix:", &format!("{scheme}:"))
                }
                (Some((host, port)), _) if port.parse::<u16>().is_ok() => format!("{host}:0"),
                _ => panic!("{} is no address", words[i]),
            };
        }
    }
    match (words[0].as_str(), server) {
        ("connect", Some(server)) => server.clone_into(&mut words[1]),
        ("connect", None) => panic!("a client needs a server"),
        _ if !listens => words.extend(["-l".to_owned(), "127.0.0.1:0".to_owned()]),
        _ => {}
    }
    words
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The server of a row, and the reader of its standard output.
fn serve(row: &str) -> (Program, StdoutReader) {
    let words = command(row, 0, None, None);
    let (stdout, output) = output_pipe();
    (
        Program::start_on(&strs(&words), Stdio::null(), output),
        stdout,
    )
}

/// The first address that it listens on, through loopback.
fn reach(program: &Program) -> Address {
    program.address().reachable()
}

/// The client of a row, run to its end without input.
fn connect(row: &str, at: usize, server: &str) -> Ended {
    run(&strs(&command(row, at, None, Some(server))))
}

/// The client of a row between two pipes.
fn chat(row: &str, server: &str) -> (Program, StdinWriter, StdoutReader) {
    let words = command(row, 0, None, Some(server));
    let Piped {
        program,
        stdin,
        stdout,
    } = Piped::with(&strs(&words)[1..]);
    (program, stdin, stdout)
}

/// A socket for datagrams whose every call ends in time.
fn datagrams(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("there is a port");
    let set = socket.set_read_timeout(Some(DEADLINE));
    set.expect("it isn't zero");
    socket
}

/// The answer to a datagram.
fn ask(server: &Address, datagram: &[u8]) -> Vec<u8> {
    let socket = datagrams("127.0.0.1:0");
    let server = server.socket_addr().expect("it is UDP");
    socket.send_to(datagram, server).expect("it can be sent");
    let mut answer = vec![0; 65536];
    let (n, from) = socket.recv_from(&mut answer).expect("it is answered");
    assert_eq!(from, server);
    answer.truncate(n);
    answer
}

const GBK_HELLO: &[u8] = b"\xc4\xe3\xba\xc3"; // 你好
const GBK_REPLY: &[u8] = b"\xba\xc3\xb5\xc4,\xce\xd2\xca\xc7\xb7\xfe\xce\xf1\xb6\xcb"; // 好的,我是服务端

#[test]
fn the_table_has_every_system() {
    for row in 1..=21 {
        let row = format!("S{row}");
        assert!(!commands(&row).is_empty(), "{row} has no command");
    }
}

#[test]
fn s1_one_reply_and_the_end_and_a_restart_at_once() {
    let (program, mut stdout) = serve("S1");
    let address = reach(&program);
    for (id, text) in [(1, "hello"), (2, "你好")] {
        let client = Client::connect(&address);
        client.send(text);
        client.receives("信息已收到");
        client.receives_end();
        assert_eq!(stdout.line(), format!("{id} {}: {text}", client.name()));
    }
    if let Some(nc) = Tool::find("nc") {
        let answer = nc.netcat(&["-N", "-w", "10"], &address, b"from nc");
        assert_eq!(answer, "信息已收到".as_bytes());
    }
    assert_eq!(program.terminate().code, Some(0));
    let again = Program::start(&["reply", "x", "-l", &address.to_string()]);
    assert_eq!(again.address(), address);
}

#[test]
fn s2_a_datagram_is_sent() {
    let server = datagrams("127.0.0.1:0");
    let address = format!("udp://{}", server.local_addr().unwrap());
    let ended = connect("S2", 0, &address);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    let mut datagram = [0; 100];
    let (n, _) = server.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..n], "消息".as_bytes());
}

#[test]
fn s3_one_text_in_gbk_and_its_answer() {
    let (listener, address) = listener();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = accept(&listener);
        let mut received = Vec::new();
        stream
            .read_to_end(&mut received)
            .expect("it ends its output");
        stream.write_all(GBK_REPLY).expect("it listens");
        received
    });
    let ended = connect("S3", 0, &address);
    assert_eq!(server.join().unwrap(), GBK_HELLO);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "好的,我是服务端")
    );
}

#[test]
fn s4_one_client_then_the_end() {
    let (program, mut stdout) = serve("S4");
    let address = reach(&program);
    let client = Client::connect(&address);
    client.send(GBK_HELLO);
    client.receives(GBK_REPLY);
    program.will_have_logged(&format!("client 1 ({}) connected", client.name()));
    assert_eq!(stdout.line(), format!("1 {}: 你好", client.name()));
    assert!(
        Client::try_connect(&address).is_err(),
        "it takes one client"
    );
    client.finish();
    client.receives_end();
    let ended = program.wait();
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.iter().any(|line| line.contains("peer-closed")));
}

#[test]
fn s5_many_clients_each_message_answered_and_leaving_is_noticed() {
    let (program, mut stdout) = serve("S5");
    let clients: Vec<Client> = (0..20).map(|_| Client::connect(&reach(&program))).collect();
    for _ in 0..3 {
        for (id, client) in (1..).zip(&clients) {
            client.send(GBK_HELLO);
            client.receives(GBK_REPLY);
            assert_eq!(stdout.line(), format!("{id} {}: 你好", client.name()));
        }
    }
    let name = clients[0].name();
    drop(clients);
    program.will_have_logged(&format!("client 1 ({name}) left"));
    if let (Some(nc), Some(iconv)) = (Tool::find("nc"), Tool::find("iconv")) {
        let answer = nc.netcat(&["-N", "-w", "10"], &reach(&program), GBK_HELLO);
        assert_eq!(
            iconv.feed(&["-f", "gbk", "-t", "utf-8"], &answer),
            "好的,我是服务端".as_bytes()
        );
    }
}

#[test]
fn s6_the_date_and_the_time() {
    let (program, _stdout) = serve("S6");
    let like_a_date = |line: &[u8]| {
        let line = String::from_utf8(line.to_vec()).expect("it is ASCII");
        let line = line.strip_suffix("\r\n").expect("it is a line").to_owned();
        let year = line
            .rsplit(' ')
            .next()
            .and_then(|year| year.parse::<u32>().ok());
        assert!(year.is_some_and(|year| year >= 2026), "{line}");
        assert_eq!(line.split_whitespace().count(), 5, "{line}");
    };
    like_a_date(&Client::connect(&reach(&program)).rest());
    let words = command("S6", 1, None, None);
    let udp = Program::start(&strs(&words));
    like_a_date(&ask(&udp.address(), b"what time is it?"));
    if let Some(nc) = Tool::find("nc") {
        like_a_date(&nc.netcat(&["-N", "-w", "10"], &reach(&program), b""));
    }
    assert!(command("S6", 0, None, None).contains(&"512".to_owned()));
}

#[test]
fn s7_a_greeting_and_the_end() {
    let (program, _stdout) = serve("S7");
    for _ in 0..3 {
        assert_eq!(Client::connect(&reach(&program)).rest(), b"connected");
    }
    if let Some(socat) = Tool::find("socat") {
        let address = format!("TCP:{}", reach(&program));
        assert_eq!(socat.run(&["-u", &address, "-"]), b"connected");
    }
}

#[test]
fn s8_an_operator_answers() {
    let words = command("S8", 0, None, None);
    for mut operator in Operator::of_each_kind(&strs(&words)) {
        let connect = |address: &Address| Client::connect(&address.reachable());
        let [one, other] = [operator.admit(connect), operator.admit(connect)];
        one.send("is anybody there?\n");
        operator.sees(&format!("1 {}: is anybody there?", one.name()));
        operator.types("@1 yes");
        one.receives("yes\n");
        operator.types("welcome");
        one.receives("welcome\n");
        other.receives("welcome\n");
        one.reset();
        operator.types("@2 still here");
        other.receives("still here\n");
        assert_eq!(operator.quits().code, Some(0));
        other.receives_end();
    }
}

#[test]
fn s9_echo_with_a_greeting_and_a_prefix() {
    let (program, _stdout) = serve("S9");
    let client = Client::connect(&reach(&program));
    client.receives("Hello, client!");
    for text in ["one", "二"] {
        client.send(text);
        client.receives(format!("Echo: {text}"));
    }
    if let Some(nc) = Tool::find("nc") {
        let answer = nc.netcat(&["-N", "-w", "10"], &reach(&program), b"from nc\n");
        assert_eq!(answer, b"Hello, client!Echo: from nc\n");
    }
}

#[test]
fn s10_each_message_reaches_the_others() {
    let (program, _stdout) = serve("S10");
    let connect = || Client::connect(&reach(&program));
    let room = [connect(), connect(), connect()];
    wait_until_joined(&room);
    for (i, speaker) in room.iter().enumerate() {
        // The tutorial's clients send no newlines.
        let text = format!("{i} says 大家好");
        speaker.send(&text);
        for (_, other) in room.iter().enumerate().filter(|(j, _)| *j != i) {
            other.receives(format!("{text}\n"));
        }
    }
    let [failing, rest @ ..] = room;
    failing.reset();
    rest[0].send("we go on\n");
    rest[1].receives("we go on\n");
}

#[test]
fn s11_each_message_reaches_all_clients_with_a_stamp_and_quit_ends_it() {
    let words = command("S11", 0, None, None);
    let mut operator = Operator::on_terminal(&strs(&words));
    let connect = |address: &Address| Client::connect(&address.reachable());
    let (since, room) = (now(), [operator.admit(connect), operator.admit(connect)]);
    room[0].send("大家好");
    let mut lines = room.each_ref().map(Client::lines);
    for lines in &mut lines {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(
            untagged(line.trim_end(), &since),
            (room[0].name().as_str(), "大家好")
        );
    }
    assert_eq!(operator.quits().code, Some(0));
    room.iter().for_each(Client::receives_end);
}

#[test]
fn s12_a_chat_client() {
    let program = Program::start(&["broadcast", "-v", "-l", "127.0.0.1:0"]);
    let address = program.address();
    let (chatter, stdin, mut stdout) = chat("S12", &address.to_string());
    program.will_have_logged("client 1 (");
    let other = program.admit(Client::connect);
    other.send("大家好\n");
    assert_eq!(stdout.line(), "大家好");
    stdin.send("hello\n");
    other.receives("hello\n");
    drop(stdin);
    assert_eq!(chatter.wait().code, Some(0));
}

#[test]
fn s13_bytes_are_echoed_over_tcp_and_udp() {
    let (program, _stdout) = serve("S13");
    let [tcp, udp] = program.addresses().try_into().expect("there are two");
    let sent = bytes(&mut random(), 1 << 20);
    let client = Client::connect(&tcp);
    let twin = client.twin();
    let copy = sent.clone();
    let sending = std::thread::spawn(move || {
        twin.send(copy);
        twin.finish();
    });
    assert!(client.rest() == sent, "not what was sent");
    sending.join().unwrap();
    for length in [0, 1, 1472, 65_507] {
        assert!(
            ask(&udp, &sent[..length]) == sent[..length],
            "{length} bytes"
        );
    }
    if let Some(nc) = Tool::find("nc") {
        assert_eq!(nc.netcat(&["-N", "-w", "10"], &tcp, b"\0\xff"), b"\0\xff");
    }
    if let Some(socat) = Tool::find("socat") {
        let address = format!("UDP:{}", udp.socket_addr().unwrap());
        assert_eq!(
            socat.feed(&["-t", "1", "-", &address], b"\0\xff"),
            b"\0\xff"
        );
    }
}

#[test]
fn s14_whole_lines() {
    let (program, _stdout) = serve("S14");
    let room = [program.connect(), program.connect()];
    wait_until_joined(&room);
    let (reader, stdin, mut stdout) = chat("S12", &program.address().to_string());
    stdin.send("a whole line\n");
    room[0].receives("a whole line\n"); // and the client is in the room
    room[1].send("in pi");
    room[1].send("eces\r\nand another\n");
    assert_eq!(
        (stdout.line(), stdout.line()),
        ("in pieces".into(), "and another".into())
    );
    drop(stdin);
    assert_eq!(reader.wait().code, Some(0));
}

#[test]
fn s15_several_addresses_at_once() {
    let folder = Folder::new();
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("this system has no ::1");
        return;
    }
    let words = command("S15", 0, Some(&folder), None);
    let program = Program::start(&strs(&words));
    let addresses = program.addresses();
    assert_eq!(addresses.len(), 5);
    for address in addresses.iter().filter(|address| !address.is_datagram()) {
        let client = Client::connect(address);
        client.send("hello");
        client.receives("hello");
    }
    let udp = addresses.iter().find(|a| matches!(a, Address::Udp(_)));
    assert_eq!(ask(udp.expect("there is one"), b"hello"), b"hello");
}

#[test]
fn s16_clients_of_each_family_and_type() {
    let folder = Folder::new();
    let unix = folder.unix("s");
    let gram = folder.unix("d").replace("unix:", "unixgram:");
    let mut args = vec![
        "echo",
        "-l",
        "127.0.0.1:0",
        "-l",
        "udp://127.0.0.1:0",
        "-l",
        &unix,
    ];
    args.extend(["-l", &gram]);
    let ipv6 = TcpListener::bind("[::1]:0").is_ok();
    if ipv6 {
        args.extend(["-l", "[::1]:0", "-l", "udp://[::1]:0"]);
    }
    let program = Program::start(&args);
    let rows = commands("S16").len();
    assert_eq!(rows, 4, "IPv4, IPv6, Unix, and datagrams of it");
    for address in program.addresses() {
        let text = address.to_string();
        let ended = connect("S16", 0, &text);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), "hello"),
            "{text}"
        );
    }
}

#[test]
fn s17_a_broadcast_reaches_a_listener() {
    let words = command("S17", 1, None, None);
    let (mut stdout, output) = output_pipe();
    let program = Program::start_on(&strs(&words), Stdio::null(), output);
    let port = program.address().socket_addr().unwrap().port();
    let ended = connect("S17", 0, &format!("udp://127.255.255.255:{port}"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = stdout.line();
    assert!(
        line.starts_with("0 127.") && line.ends_with(": 大家好"),
        "{line}"
    );
}

#[test]
fn s18_and_s19_every_option_is_set_and_shown() {
    let mut words = command("S18", 0, None, None);
    words.push("-v".to_owned());
    let program = Program::start(&strs(&words));
    let shown = |text: &str| assert!(program.has_logged(text), "{text}: {:#?}", program.log());
    for text in [
        "SO_REUSEADDR off",
        "SO_REUSEPORT on",
        "SO_RCVBUF 131072 (asked for 65536)",
        "SO_SNDBUF 131072 (asked for 65536)",
        "TCP_NODELAY off",
        "SO_KEEPALIVE on, TCP_KEEPIDLE 60s, TCP_KEEPINTVL 10s, TCP_KEEPCNT 3",
        "backlog 128",
        "idle-timeout 10s, write-timeout 5s",
    ] {
        shown(text);
    }
    let words = command("S19", 0, None, None);
    let program = Program::start(&strs(&words));
    let lines = program.log();
    let lines = lines.iter().filter(|line| line.contains("SO_REUSEADDR on"));
    let lines: Vec<_> = lines
        .filter(|line| line.contains("TCP_NODELAY on"))
        .collect();
    assert_eq!(lines.len(), 1, "{:#?}", program.log());
}

#[test]
fn s20_errors_are_one_line_and_end_nothing_but_a_start() {
    for at in 0..2 {
        let words = commands("S20").swap_remove(at);
        let ended = run(&strs(&words));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        let [line] = &ended.log[..] else {
            panic!("not one line: {:#?}", ended.log)
        };
        let address = words.iter().find(|word| word.contains(':')).unwrap();
        assert!(line.starts_with("resound: cannot "), "{line}");
        assert!(line.contains(address.as_str()), "{line}");
    }
    // A client that fails ends nothing.
    let program = Program::start(&["echo", "-v", "-l", "127.0.0.1:0"]);
    let client = program.connect();
    client.send("hello");
    client.reset();
    program.will_have_logged("reset");
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
}

#[test]
fn s21_nothing_is_lost_in_parts() {
    let (program, _stdout) = serve("S21");
    let sent = bytes(&mut random(), 16 << 20);
    let folder = Folder::new();
    fs::write(folder.path("in"), &sent).unwrap();
    let input = fs::File::open(folder.path("in")).unwrap();
    let output = fs::File::create(folder.path("out")).unwrap();
    let words = command("S21", 1, None, Some(&program.address().to_string()));
    let ended = Program::spawn_on(&strs(&words), input, output).wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        fs::read(folder.path("out")).unwrap() == sent,
        "not what was sent"
    );
}

/// A line typed into telnet is echoed.
#[test]
fn telnet_talks_to_the_echo() {
    let Some(telnet) = Tool::find("telnet") else {
        return;
    };
    let (program, _stdout) = serve("S9");
    let address = reach(&program).socket_addr().unwrap();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut talk = telnet.start(&[&host, &port]);
    talk.receives("Hello, client!");
    talk.send("from telnet\r\n");
    talk.receives("Echo: from telnet");
}

/// ncat as a client of the room, and as a server for the client.
#[test]
fn ncat_is_a_peer_like_any_other() {
    let Some(ncat) = Tool::find("ncat") else {
        return;
    };
    let program = Program::start(&["broadcast", "-v", "-l", "127.0.0.1:0"]);
    let address = program.address().socket_addr().unwrap();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut talk = ncat.start(&[&host, &port]);
    program.will_have_logged("client 1 (");
    let other = program.admit(Client::connect);
    other.send("大家好\n");
    talk.receives("大家好\n");
    talk.send("hello\n");
    other.receives("hello\n");
    // A port that was free a moment ago.
    let port = listener().1.rsplit(':').next().unwrap().to_owned();
    let mut server = ncat.start(&["-l", "127.0.0.1", &port]);
    let address = format!("127.0.0.1:{port}");
    eventually("ncat listening", || listens(&port));
    let (chatter, stdin, mut stdout) = chat("S12", &address);
    stdin.send("to ncat\n");
    server.receives("to ncat\n");
    server.send("from ncat\n");
    assert_eq!(stdout.line(), "from ncat");
    drop(stdin);
    server.ends();
    assert_eq!(chatter.wait().code, Some(0));
}

/// True if a port of loopback has a listener, found without a connection that would be the only one.
fn listens(port: &str) -> bool {
    let port: u16 = port.parse().expect("it is a port");
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else {
        return TcpStream::connect(("127.0.0.1", port)).is_ok();
    };
    let entry = format!(":{port:04X} 00000000:0000 0A");
    table.contains(&entry)
}
