//! Datagrams over UDP and Unix sockets: those that are answered, to which address, and those that are
//! not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::client::Client;
use crate::common::datagram::{LARGEST, Sender};
use crate::common::program::{Program, complaint};
use crate::common::tool::Tool;
use crate::common::watched_room::Flag;
use crate::common::{
    DEADLINE, Folder, assert_same, bytes, eventually, free_port, has_ipv6, random, skipped,
};
use jiff::Zoned;
use jiff::civil::DateTime;
use resound::Address;
use rustix::process::Signal;

const LOOPBACK: &str = "udp://127.0.0.1:0";

/// A program that listens on loopback, and a sender connected to it.
#[track_caller]
fn start(args: &[&str]) -> (Program, Sender) {
    let program = Program::start(&[args, &["-l", LOOPBACK]].concat());
    let sender = Sender::to(&program.address());
    (program, sender)
}

/// The counts of datagrams in the last line of the log.
#[track_caller]
fn summary(program: Program) -> String {
    let ended = program.terminate();
    assert_eq!(ended.code, Some(0));
    ended.summary().to_owned()
}

/// The number in front of a word of it.
#[track_caller]
fn number(summary: &str, word: &str) -> u64 {
    let mut parts = summary.split(", ");
    let number = parts.find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {word}: {summary}"))
}

fn port(address: &Address) -> u16 {
    address.socket_addr().expect("it is UDP").port()
}

#[test]
fn datagrams_of_every_length_are_echoed_whole() {
    let mut rng = random();
    let (program, sender) = start(&["echo"]);
    for length in [0, 1, 1472, 9000, LARGEST, 0] {
        sender.echoes(bytes(&mut rng, length));
    }
    assert_eq!(
        summary(program),
        "0 clients, 75980 bytes in, 75980 bytes out, 6 datagrams, 6 answered"
    );
}

#[test]
fn a_burst_is_echoed_in_the_order_of_its_arrival() {
    let mut rng = random();
    let (program, sender) = start(&["echo"]);
    for _ in 0..20 {
        let lengths = [LARGEST, 0, 9000, 1, 1472, 0, 1];
        let burst = lengths.map(|length| bytes(&mut rng, length));
        for datagram in &burst {
            sender.send(datagram);
        }
        for datagram in &burst {
            sender.receives(datagram);
        }
    }
    assert_eq!(number(&summary(program), "answered"), 140);
}

#[test]
fn each_source_gets_its_own_back() {
    let mut rng = random();
    let (program, _) = start(&["echo"]);
    let senders: Vec<Sender> = (0..5).map(|_| Sender::to(&program.address())).collect();
    for _ in 0..10 {
        let lengths = [0, 1472, 1, 5000];
        let sent: Vec<[Vec<u8>; 4]> = senders
            .iter()
            .map(|_| lengths.map(|length| bytes(&mut rng, length)))
            .collect();
        // By turns, so that a batch has some of each.
        for turn in 0..lengths.len() {
            for (sender, sent) in senders.iter().zip(&sent) {
                sender.send(&sent[turn]);
            }
        }
        for (sender, sent) in senders.iter().zip(&sent) {
            for datagram in sent {
                sender.receives(datagram);
            }
        }
    }
    assert_eq!(number(&summary(program), "datagrams"), 200);
}

#[test]
fn one_port_is_served_over_tcp_and_udp() {
    let ip = "127.0.0.81";
    let port = free_port(ip);
    let (tcp, udp) = (format!("{ip}:{port}"), format!("udp://{ip}:{port}"));
    let program = Program::start(&["echo", "-l", &tcp, "-l", &udp]);
    let addresses = program.addresses();
    let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
    assert_eq!(names, [tcp, udp]);
    let client = Client::connect(&addresses[0]);
    client.send("stream");
    client.receives("stream");
    Sender::to(&addresses[1]).echoes("datagram");
    client.finish();
    client.receives_end();
    assert_eq!(
        summary(program),
        "1 client, 14 bytes in, 14 bytes out, 1 datagram, 1 answered, 1 peer-closed"
    );
}

#[test]
fn ipv6_is_answered() {
    if !has_ipv6() {
        return;
    }
    let program = Program::start(&["reply", "{peer} to {local}", "-l", "udp://[::1]:0"]);
    let address = program.address();
    assert!(address.to_string().starts_with("udp://[::1]:"), "{address}");
    let sender = Sender::to(&address);
    sender.send("");
    let expected = format!("{} to [::1]:{}", sender.name(), port(&address));
    sender.receives(expected);
}

/// The addresses of this machine at which a wildcard listener can be reached.
fn local_addresses(ipv6: bool) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 1, 2, 3]]
        .map(|ip| Ipv4Addr::from(ip).into())
        .to_vec();
    if ipv6 {
        all.push("::1".parse().expect("it is one"));
    }
    all
}

#[test]
fn the_answer_is_sent_from_the_address_that_was_asked() {
    for (listen, ipv6) in [("udp://0.0.0.0:0", false), ("udp://*:0", has_ipv6())] {
        let program = Program::start(&["echo", "-l", listen]);
        let port = port(&program.address());
        // Connected sockets receive only from the address they sent to.
        let senders: Vec<Sender> = local_addresses(ipv6)
            .into_iter()
            .map(|ip| Sender::to(&Address::Udp((ip, port).into())))
            .collect();
        for sender in &senders {
            sender.echoes("one by one");
        }
        // While it is stopped they wait in the socket, and are a batch.
        program.signal(Signal::STOP);
        for turn in 0..5 {
            for sender in &senders {
                sender.send(format!("{turn} of {}", sender.name()));
            }
        }
        program.signal(Signal::CONT);
        for sender in &senders {
            for turn in 0..5 {
                sender.receives(format!("{turn} of {}", sender.name()));
            }
        }
    }
}

#[test]
fn text_of_a_wildcard_listener_has_the_address_that_was_asked() {
    let program = Program::start(&["reply", "{local}", "-l", "udp://0.0.0.0:0"]);
    let port = port(&program.address());
    for ip in local_addresses(false) {
        let sender = Sender::to(&Address::Udp((ip, port).into()));
        sender.send("?");
        sender.receives(format!("{ip}:{port}"));
    }
}

#[test]
fn a_reply_has_the_peer_and_the_address_and_no_number() {
    let text = "{id} {peer} {local} 信息已收到\\n";
    let (program, sender) = start(&["reply", text]);
    let local = program.address().socket_addr().unwrap();
    for datagram in ["", "what is it?"] {
        sender.send(datagram);
        sender.receives(format!("0 {} {local} 信息已收到\n", sender.name()));
    }
}

#[test]
fn daytime_is_a_line_with_the_local_time() {
    let (_program, sender) = start(&["daytime"]);
    let before = Zoned::now().datetime();
    sender.send("anything");
    let line = String::from_utf8(sender.next()).unwrap();
    let after = Zoned::now().datetime();
    let line = line.strip_suffix("\r\n").expect("it ends as a line");
    let told = DateTime::strptime("%a %b %e %H:%M:%S %Y", line).unwrap();
    let whole = before.with().subsec_nanosecond(0).build().unwrap();
    assert!(whole <= told && told <= after, "{before} {told} {after}");
}

#[test]
fn time_is_the_seconds_since_1900() {
    let (_program, sender) = start(&["time"]);
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        (since.unwrap().as_secs() + 2_208_988_800) & u64::from(u32::MAX)
    };
    let before = now();
    sender.send("");
    let told = sender.next().try_into().expect("it is 32 bits");
    let told = u64::from(u32::from_be_bytes(told));
    assert!(before <= told && told <= now(), "{before} {told}");
}

#[test]
fn discard_answers_nothing() {
    let (program, sender) = start(&["discard"]);
    sender.send("hello");
    sender.send("");
    let expected = "0 clients, 5 bytes in, 0 bytes out, 2 datagrams, 0 answered";
    assert_eq!(summary(program), expected);
    sender.receives_nothing();
}

#[test]
fn chargen_answers_with_up_to_512_characters_if_that_is_wanted() {
    let line = complaint(&["chargen", "-l", LOOPBACK], 2);
    assert!(line.contains("needs --udp-amplify"), "{line}");
    let (program, sender) = start(&["chargen", "--udp-amplify"]);
    let mut lengths = Vec::new();
    for _ in 0..50 {
        sender.send("");
        let answer = sender.next();
        let known = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n');
        assert!(answer.iter().all(known), "{}", answer.escape_ascii());
        lengths.push(answer.len());
    }
    assert!(lengths.iter().all(|&length| length <= 512), "{lengths:?}");
    lengths.dedup();
    assert!(lengths.len() > 10, "{lengths:?}");
    assert_eq!(number(&summary(program), "answered"), 50);
}

/// A forged source would be flooded with a multiple of what the server is sent.
#[test]
fn an_answer_much_longer_than_the_question_is_not_sent() {
    let text = "x".repeat(1400);
    let (program, sender) = start(&["reply", &text]);
    program.will_have_logged("short UDP datagrams, of 0 to 466 bytes, are not answered");
    sender.send("");
    sender.send("y".repeat(466));
    sender.send("y".repeat(467));
    sender.receives(&text);
    sender.receives_nothing();
    program.will_have_logged("is not answered: the answer is longer than 64 bytes and 3 times");
    let counts = "3 datagrams, 1 answered, 2 refused";
    let summary = summary(program);
    assert!(summary.ends_with(counts), "{summary}");
    let (program, sender) = start(&["reply", &text, "--udp-amplify"]);
    sender.send("");
    sender.receives(&text);
    assert_eq!(number(&self::summary(program), "answered"), 1);
}

/// The start said nothing of a prefix of 44 to 64 bytes.
#[test]
fn datagrams_too_short_for_their_prefix_are_announced_and_not_answered() {
    let prefix = "x".repeat(64);
    let (program, sender) = start(&["echo", "--prefix", &prefix]);
    program.will_have_logged("short UDP datagrams, of 1 to 31 bytes, are not answered");
    for length in [0, 1, 31, 32] {
        sender.send("y".repeat(length));
    }
    sender.receives(&prefix);
    sender.receives(prefix.clone() + &"y".repeat(32));
    assert!(summary(program).ends_with("4 datagrams, 2 answered, 2 refused"));
}

#[test]
fn short_answers_need_no_permission() {
    let text = "x".repeat(64);
    for args in [&["reply", &text][..], &["daytime"], &["time"], &["echo"]] {
        let (program, sender) = start(args);
        sender.send("");
        sender.next();
        assert!(!program.has_logged("are not answered"), "{args:?}");
    }
}

#[test]
fn each_datagram_gets_the_prefix_in_front() {
    let (_program, sender) = start(&["echo", "--prefix", "{peer}> "]);
    for text in ["hello", ""] {
        sender.send(text);
        sender.receives(format!("{}> {text}", sender.name()));
    }
}

#[test]
fn broadcast_has_no_datagrams() {
    for listen in [LOOPBACK, "unixgram:/nowhere/socket"] {
        let line = complaint(&["broadcast", "-l", listen], 2);
        assert!(line.starts_with("resound: "), "{line}");
        assert!(line.contains("broadcast has no datagrams"), "{line}");
    }
}

#[test]
fn a_datagram_from_the_port_of_another_service_is_not_answered() {
    let (program, sender) = start(&["echo"]);
    let address = program.address();
    let bound = (500..1024).rev().find_map(|port| {
        let from = SocketAddr::from(([127, 0, 0, 82], port));
        UdpSocket::bind(from).ok().map(|_| from)
    });
    let Some(from) = bound else {
        skipped("ports below 1024 may not be bound here");
        return;
    };
    let service = Sender::from(from, &address);
    service.send("are you there?");
    service.send("are you there?");
    sender.echoes("hello");
    service.receives_nothing();
    let warning = format!("datagrams from {from} are not answered: ports below 1024");
    program.will_have_logged(&warning);
    let warnings = program.log();
    let warnings = warnings.iter().filter(|line| line.contains("not answered"));
    assert_eq!(warnings.count(), 1);
    assert_eq!(
        summary(program),
        "0 clients, 33 bytes in, 5 bytes out, 3 datagrams, 1 answered, 2 refused"
    );
}

/// A sender at the server's own second address is not answered, any other is.
#[track_caller]
fn assert_not_answered(program: &Program, own: SocketAddr) {
    let first = &program.addresses()[0];
    let echo = Sender::sharing(own, first);
    echo.send("an answer, or is it?");
    Sender::to(first).echoes("hello");
    echo.receives_nothing();
    let warning = format!("datagrams from {own} are not answered: that is this server itself");
    program.will_have_logged(&warning);
}

#[test]
fn a_datagram_from_the_server_itself_is_not_answered() {
    let args = ["echo", "--reuse-port", "-l", LOOPBACK, "-l"];
    let program = Program::start(&[&args[..], &["udp://127.0.0.2:0"]].concat());
    let own = program.addresses()[1].socket_addr().unwrap();
    assert_not_answered(&program, own);
    assert_eq!(number(&summary(program), "refused"), 1);
    // Every address of the machine is its own if it listens everywhere.
    for listen in ["udp://0.0.0.0:0", "udp://*:0"] {
        let program = Program::start(&[&args[..], &[listen]].concat());
        let port = port(&program.addresses()[1]);
        assert_not_answered(&program, ([127, 0, 0, 5], port).into());
        assert_eq!(number(&summary(program), "refused"), 1);
    }
}

/// Two echo services at the same port of two machines would answer each other for ever.
#[test]
fn a_datagram_from_the_same_port_elsewhere_is_not_answered() {
    let (program, sender) = start(&["echo"]);
    let address = program.address();
    let elsewhere = SocketAddr::from(([127, 0, 0, 84], port(&address)));
    let echo = Sender::from(elsewhere, &address);
    echo.send("an answer, or is it?");
    sender.echoes("hello");
    echo.receives_nothing();
    let warning = format!("datagrams from {elsewhere} are not answered: that is also a port of");
    program.will_have_logged(&warning);
    assert_eq!(number(&summary(program), "refused"), 1);
}

/// An address of this machine that is not on loopback, if it has one; nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.200:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Sends `count` numbers from one source, no more at a time than the kernel has room for; returns the
/// numbers that are echoed.
#[track_caller]
fn flood(program: &Program, sender: &Sender, count: usize) -> Vec<usize> {
    const WINDOW: usize = 50;
    let address = program.address().reachable();
    let other = Sender::from(([127, 0, 0, 83], 0).into(), &address);
    let mut answers = Vec::new();
    for start in (0..count).step_by(WINDOW) {
        (start..start + WINDOW).for_each(|number| sender.send(number.to_string()));
        other.echoes("all of them?");
        answers.extend(sender.available());
    }
    let number = |answer: Vec<u8>| String::from_utf8(answer).ok()?.parse().ok();
    let numbers = answers.into_iter().map(number);
    numbers.map(|number| number.expect("it is one")).collect()
}

#[test]
fn a_source_is_answered_at_the_rate_and_no_more() {
    let Some(ip) = other_address() else {
        skipped("all addresses are on loopback, where there is no rate");
        return;
    };
    let args = ["echo", "--udp-rate", "50", "-l", "udp://0.0.0.0:0"];
    let program = Program::start(&args);
    let server = Address::Udp((ip, port(&program.address())).into());
    let sender = Sender::from((ip, 0).into(), &server);
    let start = Instant::now();
    let numbers = flood(&program, &sender, 500);
    // As many at once as in a second, and those added meanwhile.
    let most = 51.0 + 50.0 * start.elapsed().as_secs_f64();
    let most = usize::try_from(Duration::from_secs_f64(most).as_secs()).unwrap();
    let answers = numbers.len();
    assert!((50..=most).contains(&answers), "{answers} of {most}");
    assert!(numbers.is_sorted() && numbers[..50].iter().copied().eq(0..50));
    let warning = format!("not every datagram from {} is answered", sender.name());
    program.will_have_logged(&warning);
    let summary = summary(program);
    let answers = answers as u64;
    assert_eq!(number(&summary, "datagrams"), 510);
    assert_eq!(number(&summary, "answered"), answers + 10);
    assert_eq!(number(&summary, "refused"), 500 - answers);
}

/// 12,000 quick datagrams of a local client were answered in part.
#[test]
fn every_datagram_from_loopback_is_answered() {
    let (program, sender) = start(&["echo", "--udp-rate", "1"]);
    assert!(flood(&program, &sender, 12_000).into_iter().eq(0..12_000));
    let summary = summary(program);
    assert_eq!(number(&summary, "answered"), 12_240);
    assert!(!summary.contains("refused"), "{summary}");
}

#[test]
fn without_a_limit_every_datagram_is_answered() {
    let (program, sender) = start(&["echo", "--udp-rate", "unlimited"]);
    assert!(flood(&program, &sender, 20_000).into_iter().eq(0..20_000));
    let summary = summary(program);
    assert_eq!(number(&summary, "datagrams"), 20_400);
    assert_eq!(number(&summary, "answered"), 20_400);
    assert!(!summary.contains("refused"), "{summary}");
}

#[test]
fn lines_of_a_datagram_are_shown() {
    let (program, sender) = start(&["echo", "--show"]);
    for text in ["hello", "two\nlines\n", "", "\u{1b}[31mred\r\n"] {
        sender.echoes(text);
    }
    let who = sender.name();
    let shown = ["hello", "two", "lines", "", "\\u{1b}[31mred"];
    let expected = shown.map(|text| format!("0 {who}: {text}\n"));
    assert_eq!(program.terminate().stdout, expected.concat());
}

#[test]
fn datagrams_are_shown_and_answered_in_an_encoding() {
    let args = ["reply", "收到", "--show", "--encoding", "gbk"];
    let (program, sender) = start(&args);
    sender.send(b"\xc4\xe3\xba\xc3"); // 你好
    sender.receives(b"\xca\xd5\xb5\xbd"); // 收到
    sender.send(b"\xc4"); // half of one
    sender.receives(b"\xca\xd5\xb5\xbd");
    let who = sender.name();
    let expected = format!("0 {who}: 你好\n0 {who}: \\xc4\n");
    assert_eq!(program.terminate().stdout, expected);
}

#[test]
fn one_datagram_may_be_all_that_is_served() {
    let (program, sender) = start(&["echo", "--once"]);
    program.signal(Signal::STOP);
    for text in ["first", "second", "third"] {
        sender.send(text);
    }
    program.signal(Signal::CONT);
    sender.receives("first");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0));
    let expected = "0 clients, 5 bytes in, 5 bytes out, 1 datagram, 1 answered";
    assert_eq!(ended.summary(), expected);
    sender.receives_nothing();
}

#[test]
fn either_signal_stops_it_with_code_0_when_received_datagrams_are_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let (program, sender) = start(&["echo"]);
        sender.echoes("before");
        sender.send("as it stops");
        program.signal(signal);
        sender.receives("as it stops");
        let ended = program.wait();
        assert_eq!(ended.code, Some(0));
        assert_eq!(number(ended.summary(), "answered"), 2);
    }
}

#[test]
fn received_datagrams_are_answered_before_it_stops() {
    let (program, sender) = start(&["echo"]);
    program.signal(Signal::STOP);
    for number in 0..200 {
        sender.send(format!("{number}"));
    }
    program.signal(Signal::TERM);
    program.signal(Signal::CONT);
    for number in 0..200 {
        sender.receives(format!("{number}"));
    }
    assert_eq!(number(program.wait().summary(), "answered"), 200);
}

#[test]
fn an_answer_that_is_too_long_is_left_out_and_no_other() {
    let mut rng = random();
    let (program, sender) = start(&["echo", "--prefix", "> "]);
    let large = bytes(&mut rng, LARGEST);
    for datagram in [&b"before"[..], &large, b"after", &large[..LARGEST - 2]] {
        sender.send(datagram);
    }
    sender.receives("> before");
    sender.receives("> after");
    sender.receives([b"> ", &large[..LARGEST - 2]].concat());
    let summary = summary(program);
    assert_eq!(number(&summary, "datagrams"), 4);
    assert_eq!(number(&summary, "answered"), 3);
    assert_eq!(number(&summary, "refused"), 1);
}

#[test]
fn clients_are_served_while_datagrams_flood_in() {
    let args = ["echo", "-l", "127.0.0.1:0", "-l", LOOPBACK];
    let program = Program::start(&[&args[..], &["--udp-rate", "unlimited"]].concat());
    let addresses = program.addresses();
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let sender = Sender::to(&addresses[1]);
        let (over, sent) = (&over, &sent);
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                (0..50).for_each(|_| sender.send([7; 100]));
                let answers = sender.available();
                assert!(answers.iter().all(|answer| answer == &[7; 100]));
                sent.fetch_add(50, Ordering::SeqCst);
            }
        });
        let _end = Flag(over);
        let client = Client::connect(&addresses[0]);
        let mut rounds = 0;
        eventually("many rounds, and a flood", || {
            client.send(format!("round {rounds}"));
            client.receives(format!("round {rounds}"));
            rounds += 1;
            rounds > 300 && sent.load(Ordering::SeqCst) > 10_000
        });
        client.finish();
        client.receives_end();
    });
    let summary = summary(program);
    assert_eq!(number(&summary, "peer-closed"), 1);
    assert!(number(&summary, "datagrams") > 100, "{summary}");
}

#[test]
fn memory_stays_bounded_under_a_flood() {
    let mut rng = random();
    let args = ["echo", "--recv-buffer", "4MiB", "--send-buffer", "4MiB"];
    let (program, sender) = start(&args);
    sender.echoes("hello");
    let before = program.peak_memory();
    let large = bytes(&mut rng, LARGEST);
    for _ in 0..100 {
        // More than there is room for.
        (0..20).for_each(|_| sender.send(&large));
        sender.receives(&large);
        for answer in sender.available() {
            assert_same(&answer, &large);
        }
    }
    sender.echoes_at_last("done");
    // Room for a batch, and for its answers.
    let grown = program.peak_memory() - before;
    assert!(grown < 10 * 1024, "by {grown} KiB");
    assert!(number(&summary(program), "answered") > 100);
}

#[test]
fn datagrams_of_unix_sockets_are_answered() {
    let folder = Folder::new();
    let listen = folder.unixgram("server");
    let program = Program::start(&["echo", "--show", "-l", &listen]);
    let address = program.address();
    assert_eq!(address.to_string(), listen);
    let path = folder.path("client");
    let client = Sender::on_unix(Some(&path), &address);
    for text in ["hello", "", &"x".repeat(60_000)] {
        client.echoes(text);
    }
    let ended = program.terminate();
    assert_eq!(ended.code, Some(0));
    let summary = "0 clients, 60005 bytes in, 60005 bytes out, 3 datagrams, 3 answered";
    assert_eq!(ended.summary(), summary);
    let name = format!("0 unixgram:{}: hello\n", path.display());
    assert!(ended.stdout.starts_with(&name), "{:.200}", ended.stdout);
    assert!(!folder.path("server").exists(), "the socket's file is left");
}

#[test]
fn unnamed_sender_is_not_answered_and_others_are() {
    let folder = Folder::new();
    let listen = folder.unixgram("server");
    let program = Program::start(&["echo", "-l", &listen]);
    let address = program.address();
    let unnamed = Sender::on_unix(None, &address);
    let named = Sender::on_unix(Some(&folder.path("client")), &address);
    for _ in 0..20 {
        unnamed.send("who am I?");
        named.echoes("hello");
    }
    unnamed.receives_nothing();
    // The reason was that of a relative name.
    program.will_have_logged("are not answered: the sender has no address");
    let summary = summary(program);
    assert_eq!(number(&summary, "datagrams"), 40);
    assert_eq!(number(&summary, "answered"), 20);
    assert_eq!(number(&summary, "refused"), 20);
}

#[test]
fn closed_sender_is_not_answered_and_others_are() {
    let folder = Folder::new();
    let program = Program::start(&["echo", "-l", &folder.unixgram("server")]);
    let address = program.address();
    let gone = Sender::on_unix(Some(&folder.path("gone")), &address);
    program.signal(Signal::STOP);
    gone.send("hello");
    drop(gone);
    program.signal(Signal::CONT);
    Sender::on_unix(Some(&folder.path("client")), &address).echoes("hello");
    let summary = summary(program);
    assert_eq!(number(&summary, "answered"), 1);
    assert_eq!(number(&summary, "refused"), 1);
}

#[test]
fn a_killed_one_leaves_a_file_that_the_next_replaces() {
    let folder = Folder::new();
    let listen = folder.unixgram("server");
    let args = ["echo", "-l", &listen];
    let killed = Program::start(&args);
    let line = complaint(&args, 1);
    let expected = format!("resound: cannot listen on {listen}: address already in use");
    assert_eq!(line, expected);
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait().code, None);
    assert!(folder.path("server").exists());
    let program = Program::start(&args);
    Sender::on_unix(Some(&folder.path("client")), &program.address()).echoes("hello");
}

#[cfg(target_os = "linux")]
#[test]
fn stopped_reader_holds_up_no_sender() {
    let folder = Folder::new();
    let program = Program::start(&["echo", "-l", &folder.unixgram("server")]);
    let address = program.address();
    // Not connected: the number of datagrams that wait to be read is limited.
    let silent = UnixDatagram::bind(folder.path("silent")).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let other = Sender::on_unix(Some(&folder.path("other")), &address);
    let most = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    let most: usize = most.trim().parse().unwrap();
    if most > 100 {
        skipped(format_args!(
            "as many as {most} datagrams may wait to be read here"
        ));
        return;
    }
    let count = 2 * most + 10;
    for round in 0..count {
        let text = format!("round {round}");
        silent
            .send_to(text.as_bytes(), folder.path("server"))
            .unwrap();
        other.echoes("hello");
    }
    program.assert_idle();
    let summary = summary(program);
    let received = usize::try_from(number(&summary, "answered")).unwrap() - count;
    assert_eq!(number(&summary, "datagrams"), 2 * count as u64);
    assert_eq!(number(&summary, "refused"), (count - received) as u64);
    assert!((most..count).contains(&received), "{received}");
    let mut buffer = [0; 100];
    for round in 0..received {
        let n = silent.recv(&mut buffer).unwrap();
        assert_same(&buffer[..n], format!("round {round}").as_bytes());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn sender_with_an_abstract_name_is_answered() {
    let folder = Folder::new();
    let args = ["echo", "--show", "-l", &folder.unixgram("server")];
    let program = Program::start(&args);
    let name = format!("@resound-{}-client", std::process::id());
    let client = Sender::on_unix(Some(Path::new(&name)), &program.address());
    client.echoes("hello");
    client.echoes("");
    let ended = program.terminate();
    assert_eq!(number(ended.summary(), "answered"), 2);
    let expected = format!("0 unixgram:{name}: hello\n0 unixgram:{name}: \n");
    assert_eq!(ended.stdout, expected);
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_takes_datagrams_and_leaves_no_file() {
    let folder = Folder::new();
    let name = format!("@resound-{}-datagrams", std::process::id());
    let listen = format!("unixgram:{name}");
    let program = Program::start(&["echo", "-l", &listen]);
    let address = program.address();
    assert_eq!(address.to_string(), listen);
    let client = Sender::on_unix(Some(&folder.path("client")), &address);
    client.echoes("hello");
    let line = complaint(&["echo", "-l", &listen], 1);
    let expected = format!("resound: cannot listen on {listen}: address already in use");
    assert_eq!(line, expected);
    client.echoes("still there?");
    assert_eq!(number(&summary(program), "answered"), 2);
    assert!(!Path::new(&name).exists());
}

/// A name without a folder means another socket where the server runs; here, the server's own.
#[test]
fn unix_client_without_a_folder_in_its_name_is_not_answered() {
    let folder = Folder::new();
    fs::create_dir(folder.path("client")).unwrap();
    let (server, client) = (folder.path("s"), folder.path("client"));
    let script = format!("cd {} && exec \"$0\" \"$@\"", folder.path("").display());
    let address = format!("unixgram:{}", server.display());
    let program = Program::start_in_shell(&script, &["echo", "-l", &address]).ready();
    let script = r#"cd "$1" && exec socat -u STDIN UNIX-SENDTO:"$2",bind=s"#;
    let Some(sh) = Tool::find("socat").and(Tool::find("sh")) else {
        return;
    };
    let (client, server) = (client.display().to_string(), server.display().to_string());
    sh.feed(&["-c", script, "sh", &client, &server], b"who am I?");
    program.will_have_logged("a name without its folder may mean another's");
    program.assert_idle();
    let ended = program.terminate();
    let summary = ended.summary();
    assert!(
        summary.contains("1 datagram, 0 answered, 1 refused"),
        "{summary}"
    );
}

/// Datagrams that may not be answered don't count, and one that is counts alone.
#[test]
fn one_datagram_is_answered_and_no_more() {
    let args = [
        "echo",
        "--once",
        "--udp-rate=unlimited",
        "-ludp://127.0.0.1:0",
    ];
    let program = Program::start(&args);
    let sender = Sender::to(&program.address());
    program.signal(rustix::process::Signal::STOP);
    for _ in 0..20 {
        sender.send("hello");
    }
    program.signal(rustix::process::Signal::CONT);
    sender.receives("hello");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.summary().contains("1 datagram, 1 answered"),
        "{ended:?}"
    );
    sender.receives_nothing();
}
