//! The console, through pipes and at a terminal, and the report on SIGUSR1.

use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::process::Stdio;
use std::thread;

use crate::common::client::Client;
use crate::common::flood::Flood;
use crate::common::operator::Operator;
use crate::common::program::Program;
use crate::common::pty::END;
use crate::common::{Folder, assert_same, settled};
use rustix::process::Signal;

const SERVICES: [&str; 3] = ["echo", "discard", "broadcast"];

/// A service with a console and these options.
fn console<'a>(service: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let args = [service, "--console", "-v", "-l", "127.0.0.1:0"];
    [&args, options].concat()
}

/// One operator of each kind for each service.
#[track_caller]
fn for_each(mut test: impl FnMut(&str, Operator)) {
    for service in SERVICES {
        for operator in Operator::of_each_kind(&console(service, &[])) {
            test(service, operator);
        }
    }
}

#[track_caller]
fn admit<const N: usize>(operator: &mut Operator) -> [Client; N] {
    std::array::from_fn(|_| operator.admit(Client::connect))
}

/// The answer of a service to the sender of a text.
fn answer<'a>(service: &str, text: &'a str) -> &'a str {
    if service == "echo" { text } else { "" }
}

#[test]
fn input_of_clients_is_shown_with_their_names() {
    for_each(|_, mut operator| {
        let clients: [Client; 2] = admit(&mut operator);
        let shows = |id: usize, text: &str| format!("{id} {}: {text}", clients[id - 1].name());
        clients[0].send("hello\n");
        operator.sees(&shows(1, "hello"));
        clients[1].send("two lines\r\n\nand none\n");
        for text in ["two lines", "", "and none"] {
            operator.sees(&shows(2, text));
        }
        assert_eq!(operator.quits().code, Some(0));
    });
}

#[test]
fn control_characters_reach_no_terminal() {
    for mut operator in Operator::of_each_kind(&console("discard", &[])) {
        let [client] = admit(&mut operator);
        let shown = |text: &str| format!("1 {}: {text}", client.name());
        client.send("\x1b[2J\x1b]0;title\x07a\rb\tc\0\x7f\n");
        operator.sees(&shown(
            "\\u{1b}[2J\\u{1b}]0;title\\u{7}a\\rb\tc\\u{0}\\u{7f}",
        ));
        client.send("\u{9b}2J \u{202e}desrever\n");
        operator.sees(&shown(r"\u{9b}2J \u{202e}desrever"));
    }
}

#[test]
fn text_that_is_not_utf8_is_shown_in_hexadecimal() {
    for mut operator in Operator::of_each_kind(&console("discard", &[])) {
        let [client] = admit(&mut operator);
        client.send(b"caf\xe9 \xc4\xe3 \xff \xe4\xbd\n");
        operator.sees(&format!(
            r"1 {}: caf\xe9 \xc4\xe3 \xff \xe4\xbd",
            client.name()
        ));
        client.send("café 你\n");
        operator.sees(&format!("1 {}: café 你", client.name()));
    }
}

#[test]
fn text_without_a_newline_is_shown_after_a_pause() {
    for_each(|service, mut operator| {
        let [client] = admit(&mut operator);
        client.send("no end");
        operator.sees(&format!("1 {}: no end", client.name()));
        client.send(" but now\n");
        operator.sees(&format!("1 {}:  but now", client.name()));
        client.receives(answer(service, "no end but now\n"));
    });
}

#[test]
fn text_without_a_newline_is_shown_when_its_client_leaves() {
    for_each(|service, mut operator| {
        let [client] = admit(&mut operator);
        let name = client.name();
        client.send("last words");
        client.finish();
        client.receives(answer(service, "last words"));
        client.receives_end();
        operator.sees(&format!("1 {name}: last words"));
    });
}

#[test]
fn a_line_without_end_is_shown_in_parts_and_not_kept() {
    let mut operator = Operator::on_pipes(&console("discard", &[]));
    let [client] = admit(&mut operator);
    let name = client.name();
    let text = "x".repeat(1_000_000);
    client.send(&text);
    let shown = shown_text(&mut operator, &format!("1 {name}: "), text.len());
    assert_same(shown.as_bytes(), text.as_bytes());
    client.send("end\n");
    operator.stdout.line_with("end");
}

/// Reads `length` shown bytes of one client, in any number of parts.
#[track_caller]
fn shown_text(operator: &mut Operator, who: &str, length: usize) -> String {
    let mut shown = String::new();
    while shown.len() < length {
        let line = operator.stdout.line();
        shown += line.strip_prefix(who).expect("it is of this client");
    }
    shown
}

/// A client that sends without pause always has an unfinished line with the server.
#[test]
fn lines_sent_without_a_pause_are_shown_whole() {
    let folder = Folder::new();
    let output = File::create(folder.path("shown")).unwrap();
    let program = Program::start_on(&console("discard", &[]), Stdio::null(), output);
    let client = program.admit(Client::connect);
    let flood = Flood::of_megabytes(128);
    let who = format!("1 {}: ", client.name());
    let client = flood.send(client).join().unwrap();
    client.finish();
    client.receives_end();
    assert_eq!(program.terminate().code, Some(0));
    let shown = fs::read_to_string(folder.path("shown")).unwrap();
    for line in shown.lines() {
        let line = line.strip_prefix(&who).unwrap();
        flood.numbers_in(format!("{line}\n").as_bytes());
    }
}

#[test]
fn plain_text_is_sent_to_all_clients() {
    for_each(|_, mut operator| {
        let clients: [Client; 3] = admit(&mut operator);
        operator.types("hello, all of you");
        operator.types("//not a command");
        operator.types("你好");
        for client in &clients {
            client.receives("hello, all of you\n/not a command\n你好\n");
        }
    });
}

#[test]
fn private_text_is_sent_to_one_client() {
    for_each(|service, mut operator| {
        let clients: [Client; 3] = admit(&mut operator);
        operator.types("@2 only you");
        clients[1].receives("only you\n");
        operator.types("all");
        clients[0].receives("all\n");
        clients[1].receives("all\n");
        clients[2].receives("all\n");
        clients[1].send("thanks\n");
        operator.sees(&format!("2 {}: thanks", clients[1].name()));
        clients[1].receives(answer(service, "thanks\n"));
        operator.asks("@4 hello?", "there is no client 4");
        operator.asks("@you hello?", "expected a client's id after '@'");
        operator.asks("@1", "expected @ID TEXT");
    });
}

#[test]
fn with_frames_a_text_of_the_operator_is_a_frame() {
    let mut operator = Operator::on_pipes(&console("broadcast", &["--framing=u32"]));
    let [client] = admit(&mut operator);
    operator.types("@1 you");
    client.receives(b"\0\0\0\x03you");
    operator.types("everybody");
    client.receives(b"\0\0\0\x09everybody");
}

/// Bytes of a line that is likely to be sent in part.
const LENGTH: usize = 60_001;

#[test]
fn private_text_is_sent_between_whole_messages() {
    let mut operator = Operator::on_pipes(&console("broadcast", &[]));
    let torn = operator.admit(Client::with_small_buffers);
    let [publisher, reader] = admit(&mut operator);
    let mut lines = Vec::new();
    // Until its kernel takes no more, and has taken the last line in part.
    let waiting = loop {
        let letter = b'a' + u8::try_from(lines.len() % 26).unwrap();
        let line = [vec![letter; LENGTH - 1], b"\n".to_vec()].concat();
        publisher.send(&line);
        reader.receives(&line); // received: it has been offered to all clients
        let who = format!("2 {}: ", publisher.name());
        shown_text(&mut operator, &who, LENGTH - 1);
        lines.push(line);
        let waiting = usize::try_from(operator.row_of(&torn).counts[2]).unwrap();
        if waiting > 3 * LENGTH && waiting % LENGTH > 0 {
            break waiting;
        }
        assert!(lines.len() < 1000, "it is never sent a line in part");
    };
    operator.types("@1 private");
    let told = operator.row_of(&torn).counts[2];
    torn.finish();
    let got = torn.rest();
    let (before, after) = lines.split_at(lines.len() - waiting / LENGTH);
    let expected = [&before.concat()[..], b"private\n", &after.concat()].concat();
    assert_same(&got, &expected);
    assert_eq!(told, waiting as u64 + 8);
}

#[test]
fn list_shows_connected_clients() {
    for_each(|service, mut operator| {
        let clients: [Client; 3] = admit(&mut operator);
        clients[1].send("hello\n");
        operator.sees(&format!("2 {}: hello", clients[1].name()));
        clients[0].receives(if service == "broadcast" {
            "hello\n"
        } else {
            ""
        });
        clients[1].receives(answer(service, "hello\n"));
        clients[2].receives(if service == "broadcast" {
            "hello\n"
        } else {
            ""
        });
        operator.types("/list");
        let header = operator.stdout.line();
        let words: Vec<&str> = header.split_whitespace().collect();
        assert_eq!(words.join(" "), "id peer age in out waiting missed");
        let rows = operator.list();
        let out = |id| match (service, id) {
            ("echo", 2) | ("broadcast", 1 | 3) => 6,
            _ => 0,
        };
        assert_eq!(rows.len(), 3);
        for (row, (id, client)) in rows.iter().zip((1..).zip(&clients)) {
            let input = if id == 2 { 6 } else { 0 };
            assert_eq!((row.id, &row.peer), (id, &client.name()));
            assert_eq!(row.counts, [input, out(id), 0, 0], "{service}: {row:?}");
        }
    });
}

#[test]
fn kicked_client_sees_an_orderly_end_and_the_others_stay() {
    for_each(|service, mut operator| {
        let clients: [Client; 3] = admit(&mut operator);
        operator.asks("/kick 4", "there is no client 4");
        operator.asks("/kick", "expected /kick ID");
        operator.asks("/kick me", "'me' is not a client's id");
        operator.types("/kick 2");
        clients[1].receives_end();
        clients[0].send("still there?\n");
        clients[0].receives(answer(service, "still there?\n"));
        operator.sees(&format!("1 {}: still there?", clients[0].name()));
        let who = format!("client 2 ({})", clients[1].name());
        operator
            .program
            .will_have_logged(&format!("{who} is kicked"));
        operator
            .program
            .will_have_logged(&format!("{who} left after "));
        let left: Vec<u64> = operator.list().iter().map(|row| row.id).collect();
        assert_eq!(left, [1, 3]);
        let ended = operator.quits();
        assert!(ended.log.last().unwrap().ends_with("1 kicked, 2 shutdown"));
    });
}

#[test]
fn statistics_are_shown_on_request() {
    for_each(|service, mut operator| {
        let clients: [Client; 2] = admit(&mut operator);
        clients[0].send("hello\n");
        operator.sees(&format!("1 {}: hello", clients[0].name()));
        clients[0].receives(answer(service, "hello\n"));
        operator.types("/kick 2");
        clients[1].rest();
        let gone = format!("({}) left", clients[1].name());
        operator.program.will_have_logged(&gone);
        operator.types("/stats");
        for line in statistics(service, 1) {
            operator.sees(&line);
        }
        operator.sees("closed: 1 kicked");
    });
}

/// The statistics of two clients of which the first has sent `hello`.
fn statistics(service: &str, now: usize) -> Vec<String> {
    let clients = format!("clients: {now} now, 2 in all");
    let lines = match service {
        "echo" => &["in: 6 bytes", "out: 6 bytes"][..],
        "discard" => &["in: 6 bytes", "out: 0 bytes"],
        _ => &[
            "in: 1 message, 6 bytes",
            "out: 1 delivery, 6 bytes; 0 missed",
            "log: position 6, 6 bytes held",
        ],
    };
    let all = [&[&clients[..]], lines, &["furthest behind: none"]].concat();
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn help_lists_the_commands_and_others_are_refused() {
    for_each(|_, mut operator| {
        operator.types("/help");
        let mut help = Vec::new();
        operator.types("/nonsense 7");
        loop {
            let line = operator.stdout.line();
            if line == "'/nonsense 7' is not a command; /help lists them" {
                break;
            }
            help.push(line);
        }
        for command in [
            "TEXT ",
            "@ID TEXT ",
            "/list ",
            "/kick ID ",
            "/stats ",
            "/help ",
        ] {
            assert_eq!(help.iter().filter(|l| l.starts_with(command)).count(), 1);
        }
        assert!(help.iter().any(|line| line.starts_with("/quit, quit ")));
        operator.asks(
            "/list all",
            "'/list all' is not a command; /help lists them",
        );
        operator.asks(
            "/\x1b[2J",
            r"'/\u{1b}[2J' is not a command; /help lists them",
        );
    });
}

#[test]
fn quit_closes_every_client_and_ends_the_server_well() {
    for command in ["/quit", "quit", " quit\r"] {
        for_each(|_, mut operator| {
            let clients: [Client; 3] = admit(&mut operator);
            operator.types(command);
            clients.iter().for_each(Client::receives_end);
            let ended = operator.program.wait();
            assert_eq!(ended.code, Some(0), "{ended:#?}");
            assert!(ended.log.last().unwrap().ends_with("3 shutdown"));
        });
    }
}

#[test]
fn the_end_of_the_consoles_input_leaves_the_server_running() {
    for service in SERVICES {
        let [pipes, terminal] = Operator::of_each_kind(&console(service, &[]));
        terminal.stdin.send(END);
        let Operator {
            program,
            stdin,
            stdout,
        } = pipes;
        drop(stdin);
        for (program, mut stdout) in [(program, stdout), (terminal.program, terminal.stdout)] {
            let client = program.admit(Client::connect);
            client.send("hello\n");
            assert_eq!(stdout.line(), format!("1 {}: hello", client.name()));
            #[cfg(target_os = "linux")]
            program.assert_idle();
            assert_eq!(program.terminate().code, Some(0));
        }
    }
}

#[test]
fn longest_typed_line_is_sent() {
    let mut operator = Operator::on_pipes(&console("echo", &[]));
    let [client] = admit(&mut operator);
    let text = "x".repeat(60_000);
    operator.types(&text);
    client.receives(format!("{text}\n"));
}

#[test]
fn a_typed_line_that_is_too_long_is_left_out_to_its_end() {
    let mut operator = Operator::on_pipes(&console("echo", &[]));
    let [client] = admit(&mut operator);
    operator.types(&"x".repeat(200_000));
    operator.sees("a line has at most 65536 bytes: left out");
    operator.types("next");
    client.receives("next\n");
    operator.asks("/kick 0", "there is no client 0");
}

#[test]
fn a_last_line_without_newline_is_obeyed() {
    let operator = Operator::on_pipes(&console("echo", &[]));
    let Operator {
        program,
        stdin,
        stdout,
    } = operator;
    stdin.send("/quit");
    drop(stdin);
    assert_eq!(program.wait().code, Some(0));
    drop(stdout);
}

#[test]
fn closed_console_leaves_the_server_running() {
    for Operator {
        program,
        stdin,
        stdout,
    } in Operator::of_each_kind(&console("echo", &[]))
    {
        drop((stdin, stdout));
        assert_echoes_and_sleeps(program);
    }
}

/// Asserts that an echo serves its clients and costs nothing between them, and ends it.
#[track_caller]
fn assert_echoes_and_sleeps(program: Program) {
    for _ in 0..3 {
        let client = program.admit(Client::connect);
        client.send("hello\n");
        client.receives("hello\n");
    }
    #[cfg(target_os = "linux")]
    program.assert_idle();
    assert_eq!(program.terminate().code, Some(0));
}

#[test]
fn a_file_of_commands_is_obeyed_and_the_answers_go_to_a_file() {
    let folder = Folder::new();
    fs::write(folder.path("commands"), "/kick 7\n/shout\nquit\n").unwrap();
    let mut output = File::create(folder.path("answers")).unwrap();
    output.write_all(b"before\n").unwrap();
    let input = File::open(folder.path("commands")).unwrap();
    let ended = Program::spawn_on(&console("echo", &[]), input, output).wait();
    assert_eq!(ended.code, Some(0));
    let answers = fs::read_to_string(folder.path("answers")).unwrap();
    let expected = "before\nthere is no client 7\n'/shout' is not a command; /help lists them\n";
    assert_eq!(answers, expected);
}

#[test]
fn a_console_on_dev_null_costs_nothing() {
    let program = Program::start_on(&console("echo", &[]), Stdio::null(), Stdio::null());
    assert_echoes_and_sleeps(program);
}

#[test]
fn clients_are_served_while_the_console_is_not_read() {
    let mut operator = Operator::on_pipes(&console("echo", &[]));
    let [client, other] = admit(&mut operator);
    let name = client.name();
    let flood = Flood::of_megabytes(32);
    let (sending, checking) = (flood.send(client.twin()), flood.check(client));
    sending.join().unwrap();
    checking.join().unwrap();
    other.send("still there?\n");
    other.receives("still there?\n");
    #[cfg(target_os = "linux")]
    assert!(operator.program.peak_memory() < 24 * 1024);
    let (mut shown, mut text) = (0, Vec::new());
    let lost: u64 = loop {
        let line = operator.stdout.line();
        if let Some(lost) = line.strip_prefix('(') {
            let lost = lost.strip_suffix(" lines could not be shown)");
            break lost.unwrap().parse().unwrap();
        }
        let line = line.strip_prefix(&format!("1 {name}: ")).unwrap();
        text.extend_from_slice(line.as_bytes());
        shown += 1;
    };
    flood.assert_is_start_without_newlines(&text);
    // The line of the other client is lost too, and a line shown in two parts counts twice.
    assert!(shown + lost > flood.lines(), "{shown} shown, {lost} lost");
    assert!(shown > 1000, "{shown}");
    operator.asks("/kick 0", "there is no client 0");
}

#[test]
fn console_output_for_a_stopped_reader_is_bounded() {
    let mut operator = Operator::on_pipes(&console("discard", &[]));
    let stopped = operator.admit(Client::with_small_buffers);
    let text = "x".repeat(60_000);
    let mut told = 0;
    loop {
        operator.types(&format!("@1 {text}"));
        operator.types("/kick 0");
        if operator.stdout.line() != "there is no client 0" {
            break;
        }
        told += 1;
        assert!(told < 1000, "it is told everything");
    }
    operator.sees("there is no client 0");
    operator.asks("all", "not said to 1 client, not reading");
    for _ in 0..told {
        stopped.receives(format!("{text}\n"));
    }
    let waiting = || operator.row_of(&stopped).counts[2];
    assert_eq!(settled("what waits for it", waiting), 0);
    stopped.receives_nothing();
    operator.types("all");
    stopped.receives("all\n");
}

#[test]
fn kicking_the_client_that_holds_up_the_room_lets_the_others_go_on() {
    for mut operator in Operator::of_each_kind(&console("broadcast", &["--patience=unlimited"])) {
        let stopped = operator.admit(Client::with_small_buffers);
        let [publisher, reader] = admit(&mut operator);
        let flood = Flood::of_megabytes(40);
        let (sending, checking) = (flood.send(publisher), flood.check(reader));
        assert!(!flood.wait_until_stuck(), "all was taken");
        operator.stdout.line_with(" could not be shown)");
        let behind = operator.row_of(&stopped).counts[2];
        assert!(behind > 2 << 20, "only {behind} bytes behind");
        operator.types("/kick 1");
        for thread in [sending, checking] {
            thread.join().unwrap();
        }
        operator.program.will_have_logged("is kicked");
        flood.assert_is_start(&stopped.rest_or_cut().0);
    }
}

#[test]
fn text_for_a_held_up_room_is_sent_when_it_goes_on() {
    let mut operator = Operator::on_pipes(&console("broadcast", &["--patience=unlimited"]));
    let stopped = operator.admit(Client::with_small_buffers);
    let [publisher, reader] = admit(&mut operator);
    let flood = Flood::of_megabytes(40);
    let sending = flood.send(publisher);
    let all = usize::try_from(flood.lines()).expect("it is in memory") + 2;
    let reading = thread::spawn(move || {
        let lines = reader.lines().split(b'\n').take(all);
        let received = lines.map(|line| line.expect("it goes on"));
        received
            .filter(|line| !line.starts_with(b"0"))
            .collect::<Vec<_>>()
    });
    assert!(!flood.wait_until_stuck(), "all was taken");
    operator.types("hello?");
    operator
        .stdout
        .line_with("client 1 holds up the room: said when it lets go");
    operator.types("anybody?");
    stopped.reset();
    // It stays until the end: leaving with unread input would be a reset.
    let _publisher = sending.join().unwrap();
    let received = reading.join().unwrap();
    assert_eq!(received, [&b"hello?"[..], b"anybody?"]);
}

#[test]
fn messages_missed_by_slow_consumers_are_counted() {
    let options = ["--patience=300ms", "--slow-consumer=skip"];
    let mut operator = Operator::on_pipes(&console("broadcast", &options));
    let stopped = operator.admit(Client::with_small_buffers);
    let [publisher, reader] = admit(&mut operator);
    let flood = Flood::of_megabytes(40);
    for thread in [flood.send(publisher), flood.check(reader)] {
        thread.join().unwrap();
    }
    operator.stdout.line_with(" could not be shown)");
    let missed = operator.row_of(&stopped).counts[3];
    assert!(missed > 0 && missed < flood.lines(), "{missed}");
    operator.types("/stats");
    let line = operator.stdout.line_with("out: ");
    assert!(line.ends_with(&format!("; {missed} missed")), "{line}");
}

#[test]
fn sigusr1_writes_the_statistics_to_the_log_of_any_service() {
    for service in SERVICES {
        let program = Program::start(&[service, "-v", "-l", "127.0.0.1:0"]);
        let [one, other] = [Client::connect; 2].map(|connect| program.admit(connect));
        one.send("hello\n");
        one.receives(answer(service, "hello\n"));
        one.finish();
        one.receives_end();
        if service == "broadcast" {
            other.receives("hello\n");
        }
        program.will_have_logged("peer-closed");
        let mut expected = statistics(service, 1);
        expected.push("closed: 1 peer-closed".to_owned());
        assert_eq!(program.report(), expected);
        program.signal(Signal::USR1); // it is no reason to end
        assert_eq!(program.terminate().code, Some(0));
    }
}

#[test]
fn sigusr1_names_the_client_furthest_behind() {
    let program = Program::start(&["broadcast", "-v", "-l0", "--patience=unlimited"]);
    let stopped = program.admit(Client::with_small_buffers);
    let [publisher, reader] = [Client::connect; 2].map(|connect| program.admit(connect));
    let flood = Flood::of_megabytes(40);
    let (sending, checking) = (flood.send(publisher), flood.check(reader));
    assert!(!flood.wait_until_stuck(), "all was taken");
    let report = program.report();
    let behind = format!("furthest behind: client 1 ({}), ", stopped.name());
    let line = report.iter().find_map(|line| line.strip_prefix(&behind));
    let bytes = line.unwrap().strip_suffix(" bytes").unwrap();
    let bytes: u64 = bytes.parse().unwrap();
    assert!((2 << 20..4 << 20).contains(&bytes), "{report:#?}");
    let held = report.iter().find_map(|line| line.strip_prefix("log: "));
    let (position, held) = held.unwrap().split_once(", ").unwrap();
    let position: u64 = position.strip_prefix("position ").unwrap().parse().unwrap();
    let held: u64 = held.strip_suffix(" bytes held").unwrap().parse().unwrap();
    assert!(position > bytes && held >= bytes, "{report:#?}");
    assert!(report.contains(&"clients: 3 now, 3 in all".to_owned()));
    assert!(report.contains(&"closed: none".to_owned()));
    drop(stopped);
    for thread in [sending, checking] {
        thread.join().unwrap();
    }
}

#[test]
fn the_operator_and_the_clients_may_have_different_encodings() {
    let args = ["discard", "--console", "--encoding=gbk", "-l127.0.0.1:0"];
    for mut operator in Operator::of_each_kind(&args) {
        let client = operator.admit(Client::connect);
        client.send(b"\xc4\xe3\xba\xc3\n");
        operator.sees(&format!("1 {}: 你好", client.name()));
        operator.types("@1 好的");
        client.receives(b"\xba\xc3\xb5\xc4\n");
        operator.types("你好👍");
        client.receives(b"\xc4\xe3\xba\xc3?\n");
    }
}

/// Regression: the end of a console that can't be read was not said. It is no end of the server.
#[test]
fn input_that_can_not_be_read_is_said_and_clients_are_served() {
    let folder = File::open("/").expect("it is there");
    let program = Program::start_on(&console("echo", &[]), folder, Stdio::piped());
    program.will_have_logged("standard input has failed (is a directory)");
    let client = program.connect();
    client.send("hello\n");
    client.receives("hello\n");
    let ended = program.terminate();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains(": hello\n"), "{ended:?}");
}
