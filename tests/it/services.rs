//! The small services and their common options, over real sockets and with the real binary.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::client::Client;
use crate::common::program::{Program, run};
use crate::common::running::{Running, config};
use crate::common::stdio::{StdoutReader, output_pipe};
use crate::common::{Folder, eventually};
use resound::{Chargen, CloseReason, Reply, Time};

const LISTEN: &str = "-l127.0.0.1:0";

/// A server whose standard output is read.
fn shown(args: &[&str]) -> (Program, StdoutReader) {
    let (stdout, output) = output_pipe();
    let args = [args, &[LISTEN]].concat();
    (Program::start_on(&args, Stdio::null(), output), stdout)
}

#[test]
fn every_service_greets() {
    let folder = Folder::new();
    let unix = folder.unix("s");
    for (service, after) in [
        (&["echo"][..], ""),
        (&["echo", "--prefix=> "], ""),
        (&["discard"], ""),
        (&["broadcast"], ""),
        (&["reply", "now", "--on=connect"], "now"),
        (&["chargen"], " !\"#"),
    ] {
        let args = [service, &["--greeting=hi {id}\\n", LISTEN, "-l", &unix]].concat();
        let program = Program::start(&args);
        for (id, address) in (1..).zip(program.addresses()) {
            Client::connect(&address).receives(format!("hi {id}\n{after}"));
        }
    }
    let program = Program::start(&["time", "--greeting=hi", LISTEN]);
    assert_eq!(program.connect().rest().len(), 2 + 4);
}

#[test]
fn client_that_only_publishes_is_sent_nothing() {
    let args = [
        "broadcast",
        "--greeting=hi",
        "-l127.0.0.1:0?role=publish",
        LISTEN,
    ];
    let program = Program::start(&args);
    let [publish, both] = program.addresses().try_into().unwrap();
    let listener = Client::connect(&both);
    listener.receives("hi");
    let publisher = Client::connect(&publish);
    publisher.send("hello\n");
    listener.receives("hello\n");
    publisher.finish();
    publisher.receives_end();
}

#[test]
fn text_names_server_and_client() {
    let text = r"{id}|{peer}|{local}|{hostname}|{env:CARGO_PKG_NAME}|\x41\t{{}}|你好\n";
    let program = Program::start(&["reply", text, "-l0.0.0.0:0"]);
    let address = program.address().reachable();
    let client = Client::connect(&address);
    client.send("who are you?");
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let peer = client.name();
    client.receives(format!("1|{peer}|{address}|{name}|resound|A\t{{}}|你好\n"));
}

#[test]
fn one_client_is_served_and_the_others_are_not() {
    let program = Program::start(&["echo", "--once", "-v", LISTEN]);
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    eventually("the listener being closed", || {
        Client::try_connect(&program.address()).is_err()
    });
    client.send("again");
    client.receives("again");
    client.finish();
    client.receives_end();
    let ended = program.wait();
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.last().unwrap().contains("1 client, 10 bytes in"));
}

/// A health probe, which connects and leaves without a byte, is not the one client.
#[test]
fn client_that_leaves_without_a_byte_is_not_the_only_one() {
    for options in [&["echo"][..], &["broadcast", "--announce"]] {
        let program = Program::start(&[options, &["--once", LISTEN]].concat());
        for i in 0..4 {
            let probe = program.connect();
            if i > 1 {
                probe.reset();
            }
        }
        let client = program.connect();
        client.send("x\n");
        client.finish();
        client.rest();
        let ended = program.wait();
        assert_eq!(ended.code, Some(0), "{options:?}");
        let last = ended.log.last().unwrap();
        assert!(last.contains("5 clients, 2 bytes in"), "{last}");
        assert!(last.contains("4 without a byte"), "{last}");
    }
}

#[test]
fn one_client_is_enough_however_it_ends() {
    for service in [
        &["daytime"][..],
        &["echo"],
        &["broadcast"],
        &["reply", "x", "--close"],
    ] {
        let program = Program::start(&[service, &["--once", LISTEN]].concat());
        let client = program.connect();
        client.send("x");
        if service[0] == "echo" {
            client.receives("x"); // it is served
            client.reset();
        } else {
            drop(client);
        }
        assert_eq!(program.wait().code, Some(0), "{service:?}");
    }
}

#[test]
fn input_of_clients_is_shown_line_by_line() {
    let (program, mut stdout) = shown(&["discard", "--show"]);
    let client = program.connect();
    let name = client.name();
    client.send("one\r\ntwo\n\x1b[2Jthree");
    for line in ["one", "two", "\\u{1b}[2Jthree"] {
        assert_eq!(stdout.line(), format!("1 {name}: {line}"));
    }
    client.send(b"without an end, and a half letter: \xe4\xbd");
    drop(client);
    let last = "without an end, and a half letter: \\xe4\\xbd";
    assert_eq!(stdout.line(), format!("1 {name}: {last}"));
    assert_eq!(program.terminate().code, Some(0));
    stdout.receives_end();
}

#[test]
fn shown_input_is_decoded() {
    for (encoding, parts) in [
        (
            "gbk",
            [&b"\xc4"[..], b"\xe3\xba\xc3\n\xba", b"\xc3\xff\xff\n"],
        ),
        (
            "utf-16le",
            [b"\x60", b"\x4f\x7d\x59\n\0\x7d", b"\x59\x00\xdc\n\0"],
        ),
        (
            "utf-8",
            [b"\xe4\xbd", b"\xa0\xe5\xa5\xbd\n\xe5\xa5", b"\xbd\xff\n"],
        ),
    ] {
        let (program, mut stdout) = shown(&["echo", "--show", "--encoding", encoding]);
        let client = program.connect();
        for part in parts {
            client.send(part);
            client.receives(part);
        }
        let name = client.name();
        assert_eq!(stdout.line(), format!("1 {name}: 你好"), "{encoding}");
        let second = stdout.line();
        let shown = second.strip_prefix(&format!("1 {name}: 好\\x"));
        assert!(shown.is_some(), "{encoding}: {second}");
    }
}

/// The reader of standard output delays no client; the bytes that it missed are counted and logged.
#[test]
fn stopped_reader_of_standard_output_delays_no_client() {
    let (program, mut stdout) = shown(&["echo", "--show"]);
    let client = program.connect();
    let block = "a line of a client that is shown to no other\n".repeat(100);
    for _ in 0..2000 {
        client.send(&block);
        client.receives(&block);
    }
    let peak = program.peak_memory();
    assert!(peak < 20 * 1024, "{peak} KiB for 9 MB that are not read");
    stdout.line();
    drop(client);
    let lost = stdout.line_with("could not be shown");
    let count = lost.trim_start_matches('(').split(' ').next();
    let count: u64 = count.unwrap().parse().expect("it is a number");
    assert!((100_000..200_000).contains(&count), "{lost}");
    assert_eq!(program.terminate().code, Some(0));
}

/// All that can be shown is shown before the program ends.
#[test]
fn slow_reader_still_sees_everything() {
    let (program, mut stdout) = shown(&["discard", "--show", "--once"]);
    let client = program.connect();
    let name = client.name();
    for i in 0..10_000 {
        client.send(format!("line {i}\n"));
    }
    client.finish();
    client.receives_end();
    for i in 0..10_000 {
        assert_eq!(stdout.line(), format!("1 {name}: line {i}"));
    }
    stdout.receives_end();
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn a_reader_that_never_reads_does_not_keep_the_program() {
    let (program, stdout) = shown(&["discard", "--show", "--once"]);
    let client = program.connect();
    client.send("a line\n".repeat(200_000));
    client.finish();
    client.receives_end();
    assert_eq!(program.wait().code, Some(0));
    drop(stdout);
}

#[test]
fn the_time_is_32_bits_since_1900() {
    let server = Running::start(&config(), Time::new());
    let told = server.connect().rest();
    let told = u32::from_be_bytes(told.try_into().expect("it is 4 bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expected = (now.as_secs() + 2_208_988_800) & u64::from(u32::MAX);
    assert!(expected - u64::from(told) < 20, "{told}, not {expected}");
    assert_eq!(server.stop().closes(CloseReason::Done), 1);
}

#[test]
fn the_date_in_a_format_of_ones_own() {
    let program = Program::start(&["daytime", "--format=year %Y", LISTEN]);
    let line = String::from_utf8(program.connect().rest()).unwrap();
    let year = line
        .strip_prefix("year ")
        .and_then(|rest| rest.strip_suffix("\r\n"));
    let year: u32 = year.expect("it is that format").parse().unwrap();
    assert!((2026..3000).contains(&year));
    let ended = run(&["daytime", "--format=%!"]);
    assert_eq!((ended.code, ended.log.len()), (Some(2), 1), "{ended:?}");
}

/// The first bytes of the pattern of RFC 864.
fn pattern(length: usize) -> Vec<u8> {
    let line =
        |i: usize| (0..72).map(move |j| b' ' + u8::try_from((i + j) % 95).expect("it is less"));
    let lines = (0..).flat_map(|i| line(i).chain(*b"\r\n"));
    lines.take(length).collect()
}

#[test]
fn characters_are_sent_as_they_are_taken_and_a_stopped_reader_delays_no_client() {
    let program = Program::start(&["chargen", LISTEN]);
    let stopped: Vec<Client> = (0..20).map(|_| program.connect()).collect();
    let expected = pattern(16 << 20);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (client, expected) = (program.connect(), expected.clone());
            std::thread::spawn(move || client.receives(expected))
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    let peak = program.peak_memory();
    assert!(peak < 12 * 1024, "{peak} KiB");
    for client in stopped {
        client.receives(&expected[..1000]);
    }
}

#[test]
fn input_is_thrown_away_and_its_end_changes_nothing() {
    let server = Running::start(&config(), Chargen::new(false));
    let client = server.connect();
    client.send(vec![b'x'; 1 << 20]);
    client.finish();
    client.receives(pattern(8 << 20));
    client.reset();
    let other = server.connect();
    other.receives(pattern(1000));
    drop(other);
    eventually("their end", || server.is_running());
    let stats = server.stop();
    assert_eq!(stats.clients, 2);
}

/// A reader that reads when the server stops gets whole lines, and soon.
#[test]
fn a_stop_ends_the_characters_with_a_line() {
    let server = Running::start(&config(), Chargen::new(false));
    let client = server.connect();
    client.receives(pattern(10_000));
    server.handle.stop().unwrap();
    let rest = client.rest();
    assert!(rest.ends_with(b"\r\n"));
    assert_eq!((10_000 + rest.len()) % 74, 0);
    let stats = server.end();
    assert_eq!(stats.closes(CloseReason::Shutdown), 1);
}

#[test]
fn one_reply_is_sent_for_each_message() {
    let text = "ok\\n".parse().unwrap();
    let server = Running::start(
        &config(),
        Reply::new(text, resound::ReplyOn::Message, false),
    );
    let client = server.connect();
    for i in 0..100 {
        client.send(format!("message {i}"));
        client.receives("ok\n");
    }
    client.finish();
    client.receives_end();
    let stats = server.stop();
    assert_eq!(stats.bytes_out, 300);
}

#[test]
fn a_client_that_the_server_closes_gets_a_moment_unless_it_is_not_to() {
    let program = Program::start(&["reply", "bye", "--close", "--linger=0s", LISTEN]);
    let client = program.connect();
    client.send("x");
    let (_, _) = client.rest_or_cut();
    drop(client);
    let ended = program.terminate();
    assert!(ended.log.last().unwrap().contains("1 done"), "{ended:?}");
    // Longer than the usual second: the client still sends, and is not reset.
    let program = Program::start(&["reply", "bye", "--close", "--linger=5s", LISTEN]);
    let client = program.connect();
    client.send("x");
    client.receives("bye");
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        client.send("more"); // panics after a reset
        std::thread::sleep(Duration::from_millis(50));
    }
    client.finish();
    client.receives_end();
}

/// A zone file without transitions, whose rule is 8 hours ahead (RFC 8536).
fn zone_file() -> Vec<u8> {
    let header = [&b"TZif2"[..], &[0; 15], &[0; 16]].concat();
    let sizes = [1_u32, 4].map(u32::to_be_bytes).concat();
    let kind = [&28_800_i32.to_be_bytes()[..], &[0; 2], b"CST\0"].concat();
    let block = [header, sizes, kind].concat();
    [&block[..], &block, b"\nCST-8\n"].concat()
}

/// Regression: names of zones were silently UTC.
#[test]
fn times_are_those_of_the_zone_that_is_named() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("Asia")).unwrap();
    std::fs::write(folder.path("Asia/Shanghai"), zone_file()).unwrap();
    let zones = folder.path("").display().to_string();
    for zone in ["Asia/Shanghai", ":Asia/Shanghai", "CST-8"] {
        let start = |args: &[&str]| {
            let variables = [("TZ", zone), ("TZDIR", &zones)];
            Program::start_with(&variables, &[args, &[LISTEN]].concat()).ready()
        };
        let daytime = start(&["daytime", "--format=%z"]);
        daytime.connect().receives("+0800\r\n");
        let room = start(&[
            "broadcast",
            "--greeting={iso}\n",
            "--tag-format={iso} ",
            "--include-sender",
        ]);
        let client = room.connect();
        client.send("x\n");
        client.finish();
        let text = String::from_utf8(client.rest()).unwrap();
        assert_eq!(text.matches("+08:00").count(), 2, "{zone}: {text}");
        assert!(!room.has_logged("zone"), "{:#?}", room.log());
    }
}

/// Regression: the time was UTC without a word.
#[test]
fn zone_that_cannot_be_had_is_said_once() {
    for args in [
        &["daytime", "--format=%z"][..],
        &["reply", "{time}", "--greeting={iso}", "--close"],
        &["echo", "--prefix={time}"],
        &["broadcast", "--tag", "--greeting={iso}"],
    ] {
        let args = [args, &[LISTEN]].concat();
        let program = Program::start_with(&[("TZ", "Asia/Nowhere")], &args).ready();
        let ended = program.terminate();
        let told = |line: &&String| line.contains("TZ=Asia/Nowhere is neither a time zone in");
        let lines: Vec<_> = ended.log.iter().filter(told).collect();
        assert_eq!(lines.len(), 1, "{ended:#?}");
        assert!(lines[0].ends_with("times are in UTC"), "{ended:#?}");
    }
    // It sends no time.
    let args = ["echo", "--greeting=hi", LISTEN];
    let program = Program::start_with(&[("TZ", "Asia/Nowhere")], &args).ready();
    assert!(!program.has_logged("zone"), "{:#?}", program.log());
}
