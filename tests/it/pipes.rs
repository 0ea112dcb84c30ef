//! Standard input as a publisher and standard output as a listener, on all kinds of files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;

use crate::common::client::Client;
use crate::common::flood::Flood;
use crate::common::program::{Ended, Program};
use crate::common::pty::{END, terminal};
use crate::common::stdio::{StdinWriter, StdoutReader, input_pipe, output_pipe};
use crate::common::tagged::{now, untagged};
use crate::common::{Folder, assert_same, eventually};
use rustix::fs::{OFlags, fcntl_getfl};

/// A broadcast with these options.
fn broadcast<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["broadcast", "-v", "-l", "127.0.0.1:0?role=both"], options].concat()
}

/// A broadcast whose standard input is a pipe.
#[track_caller]
fn start_with_stdin(options: &[&str]) -> (Program, StdinWriter) {
    let (input, stdin) = input_pipe();
    let program = Program::start_on(&broadcast(options), input, Stdio::null());
    (program, stdin)
}

/// A broadcast whose standard output is a pipe.
#[track_caller]
fn start_with_stdout(options: &[&str]) -> (Program, StdoutReader) {
    let (stdout, output) = output_pipe();
    let options = [&["--stdout"], options].concat();
    let program = Program::start_on(&broadcast(&options), Stdio::null(), output);
    (program, stdout)
}

/// A broadcast between two pipes.
#[track_caller]
fn filter(options: &[&str]) -> (Program, StdinWriter, StdoutReader) {
    let (input, stdin) = input_pipe();
    let (stdout, output) = output_pipe();
    let options = [&["--stdin=exit", "--stdout"], options].concat();
    let program = Program::spawn_on(&broadcast(&options), input, output);
    (program, stdin, stdout)
}

#[track_caller]
fn two_clients(program: &Program) -> [Client; 2] {
    [Client::connect; 2].map(|connect| program.admit(connect))
}

#[track_caller]
fn assert_chat_goes_on([one, other]: &[Client; 2]) {
    one.send("still there?\n");
    other.receives("still there?\n");
    other.send("of course\n");
    one.receives("of course\n");
}

/// Waits until a stream is dropped, and asserts that the clients are still served.
#[track_caller]
fn assert_goes_on_without(stream: &str, program: Program, clients: &[Client; 2]) {
    let left = format!(" ({stream}) left after ");
    program.will_have_logged(&left);
    assert_chat_goes_on(clients);
    #[cfg(target_os = "linux")]
    program.assert_idle();
    assert_ended_well(&program.terminate());
}

#[track_caller]
fn assert_ended_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

/// Many lines, all of them different.
fn many_lines() -> Vec<u8> {
    let line = |number| format!("line {number} of standard input\n").into_bytes();
    (0..50_000).flat_map(line).collect()
}

#[test]
fn lines_of_a_pipe_are_sent_to_all_clients() {
    let (program, stdin) = start_with_stdin(&["--stdin"]);
    let clients = two_clients(&program);
    stdin.send("one\n\nthree\r\n");
    for client in &clients {
        client.receives("one\n\nthree\r\n");
    }
    assert_chat_goes_on(&clients);
    stdin.send("four\n");
    clients[0].receives("four\n");
}

/// Kind of fault: whoever can read a feed can also write into it.
#[test]
fn readers_of_standard_input_cannot_write_into_it() {
    let (stdin, input) = input_pipe();
    let args = [
        "broadcast",
        "-v",
        "--stdin",
        "--replay=9",
        "-l",
        "127.0.0.1:0",
    ];
    let program = Program::start_on(&args, stdin, Stdio::null());
    program.will_have_logged(" (subscribe only)");
    let clients = two_clients(&program);
    clients[0].send("GET / HTTP/1.1\r\n\r\n");
    input.send("one\n");
    for client in &clients {
        client.receives("one\n");
    }
    program.admit(Client::connect).receives("one\n");
}

#[test]
fn line_written_to_a_pipe_in_parts_is_published_whole() {
    let (program, stdin) = start_with_stdin(&["--stdin"]);
    let [one, other] = two_clients(&program);
    for part in ["in", " ", "parts"] {
        stdin.send(part);
        one.send("between\n"); // when it is received, the part has been read
        other.receives("between\n");
    }
    stdin.send("\n");
    other.receives("in parts\n");
}

#[test]
fn server_goes_on_after_the_end_of_the_pipe() {
    let (program, stdin) = start_with_stdin(&["--stdin"]);
    let clients = two_clients(&program);
    drop(stdin);
    assert_goes_on_without("stdin", program, &clients);
}

/// The clients read nothing before the server is already stopping.
#[test]
fn with_exit_all_that_is_pending_is_delivered_before_the_end() {
    let (program, stdin) = start_with_stdin(&["--stdin=exit", "--grace=1m"]);
    let clients = [Client::with_small_buffers; 3].map(|connect| program.admit(connect));
    let lines = many_lines();
    stdin.send(&lines);
    drop(stdin);
    program.will_have_logged("stopping");
    for client in clients {
        assert_same(&client.rest(), &lines);
    }
    assert_ended_well(&program.wait());
}

#[test]
fn a_last_line_of_stdin_without_newline_is_published_with_one() {
    for at_end in ["--stdin", "--stdin=exit"] {
        let (program, stdin) = start_with_stdin(&[at_end]);
        let client = program.admit(Client::connect);
        stdin.send("whole\nin part");
        drop(stdin);
        client.receives("whole\nin part\n");
        let ended = match at_end {
            "--stdin" => program.terminate(),
            _ => program.wait(),
        };
        client.receives_end();
        assert_ended_well(&ended);
    }
}

#[test]
fn a_regular_file_is_published_to_its_end_and_the_server_goes_on() {
    let folder = Folder::new();
    let lines = many_lines();
    fs::write(folder.path("lines"), &lines).unwrap();
    let input = File::open(folder.path("lines")).unwrap();
    let options = ["--stdin", "--replay=4MiB", "--log-size=16MiB"];
    let program = Program::start_on(&broadcast(&options), input, Stdio::null());
    program.will_have_logged("(stdin) left");
    let clients = two_clients(&program);
    for client in &clients {
        client.receives(&lines);
    }
    assert_goes_on_without("stdin", program, &clients);
}

#[test]
fn regular_file_is_read_from_its_offset_to_its_end() {
    let folder = Folder::new();
    fs::write(folder.path("lines"), "one\ntwo\nthree\n").unwrap();
    let mut input = File::open(folder.path("lines")).unwrap();
    input.read_exact(&mut [0; 4]).unwrap();
    let (mut stdout, output) = output_pipe();
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let program = Program::spawn_on(&options, input.try_clone().unwrap(), output);
    assert_same(&stdout.rest(), b"two\nthree\n");
    assert_ended_well(&program.wait());
    assert_eq!(input.stream_position().unwrap(), 14);
}

#[test]
fn an_input_of_nothing_ends_at_once() {
    let program = Program::start_on(&broadcast(&["--stdin"]), Stdio::null(), Stdio::null());
    let clients = two_clients(&program);
    assert_goes_on_without("stdin", program, &clients);
    let options = broadcast(&["--stdin=exit"]);
    let ended = Program::spawn_on(&options, Stdio::null(), Stdio::null()).wait();
    assert_ended_well(&ended);
}

#[test]
fn streams_that_are_closed_from_the_start_do_not_matter() {
    let script = r#"exec "$0" "$@" <&- >&-"#;
    let program = Program::start_in_shell(script, &broadcast(&["--stdin", "--stdout"])).ready();
    let clients = two_clients(&program);
    assert_goes_on_without("stdin", program, &clients);
}

#[test]
fn lines_typed_at_a_terminal_are_published_until_ctrl_d() {
    let (theirs, stdin, _stdout) = terminal();
    let program = Program::start_on(&broadcast(&["--stdin"]), theirs, Stdio::null());
    let clients = two_clients(&program);
    stdin.send("你好\n");
    stdin.send("next\n");
    clients[0].receives("你好\nnext\n");
    clients[1].receives("你好\nnext\n");
    stdin.send(END);
    assert_goes_on_without("stdin", program, &clients);
}

#[test]
fn ctrl_d_at_a_terminal_ends_the_server_with_exit() {
    let (theirs, stdin, _stdout) = terminal();
    let program = Program::start_on(&broadcast(&["--stdin=exit"]), theirs, Stdio::null());
    let client = program.admit(Client::connect);
    stdin.send("last words\n");
    stdin.send(END);
    client.receives("last words\n");
    client.receives_end();
    assert_ended_well(&program.wait());
}

#[test]
fn a_terminal_that_hangs_up_is_the_end_of_input() {
    let (theirs, stdin, stdout) = terminal();
    let program = Program::start_on(&broadcast(&["--stdin"]), theirs, Stdio::null());
    let clients = two_clients(&program);
    drop((stdin, stdout));
    assert_goes_on_without("stdin", program, &clients);
}

#[test]
fn a_line_of_stdin_that_is_too_long_is_left_out_and_the_rest_goes_on() {
    let (program, stdin) = start_with_stdin(&["--stdin=exit", "--max-message=1KiB"]);
    let client = program.admit(Client::connect);
    let longest = "x".repeat(1024);
    let too_long = "y".repeat(1025);
    let very_long = "z".repeat(300_000);
    stdin.send(format!("{longest}\n{too_long}\nnext\n{very_long}\nlast\n"));
    client.receives(format!("{longest}\nnext\nlast\n"));
    drop(stdin);
    client.receives_end();
    let ended = program.wait();
    assert_ended_well(&ended);
    let warning = "a line of standard input is longer than 1024 bytes: left out";
    let warned = ended.log.iter().filter(|l| l.ends_with(warning)).count();
    assert_eq!(warned, 2, "{ended:#?}");
}

#[test]
fn without_a_limit_to_patience_a_stopped_reader_stops_the_writer_of_the_pipe() {
    let (program, stdin) = start_with_stdin(&["--stdin=exit", "--patience=unlimited"]);
    let [stopped, reader] = [Client::with_small_buffers, Client::connect];
    let [stopped, reader] = [program.admit(stopped), program.admit(reader)];
    let flood = Flood::of_megabytes(32);
    let (feeding, checking) = (flood.feed(stdin), flood.check(reader));
    assert!(!flood.wait_until_stuck(), "all was taken");
    let checking_it_too = flood.check(stopped);
    drop(feeding.join().unwrap());
    for checking in [checking, checking_it_too] {
        checking.join().unwrap().receives_end();
    }
    assert_ended_well(&program.wait());
}

/// A fault of the kind "lost without a word": the reader is cut off, and the run was a success.
#[test]
fn feed_that_ends_fails_if_a_reader_has_missed_messages() {
    for action in ["close", "skip"] {
        let slow = format!("--slow-consumer={action}");
        let (program, stdin) = start_with_stdin(&["--stdin=exit", "--patience=0s", &slow]);
        let stopped = program.admit(Client::with_small_buffers);
        let flood = Flood::of_megabytes(16);
        drop(flood.feed(stdin).join().unwrap());
        // Skipping may leave it the last line, which it takes.
        thread::spawn(move || stopped.drain());
        let ended = program.wait();
        assert_eq!(ended.code, Some(1), "{action}: {ended:#?}");
        let reason = ended.log.last().expect("it gives a reason");
        let missed = reason.strip_prefix("resound: 1 slow reader missed ");
        let missed = missed.and_then(|rest| rest.strip_suffix(" messages"));
        assert!(missed.is_some(), "{action}: {reason}");
    }
}

/// Asserts that the program keeps the modes of its open files, which `twins` share.
#[track_caller]
fn assert_modes_are_kept(
    input: OwnedFd,
    output: OwnedFd,
    stdin: &StdinWriter,
    mut stdout: StdoutReader,
) {
    let twins = [&input, &output].map(|end| end.try_clone().expect("there are descriptors"));
    let modes = || {
        twins
            .each_ref()
            .map(|end| fcntl_getfl(end.as_fd()).expect("it is open"))
    };
    let before = modes();
    assert!(before.iter().all(|mode| !mode.contains(OFlags::NONBLOCK)));
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let program = Program::start_on(&options, input, output);
    stdin.send("hello\n");
    assert_eq!(stdout.line(), "hello");
    assert_eq!(modes(), before);
    program.terminate();
    assert_eq!(modes(), before);
}

#[test]
fn the_blocking_mode_of_shared_streams_is_not_changed() {
    let (input, stdin) = input_pipe();
    let (stdout, output) = output_pipe();
    assert_modes_are_kept(input.into(), output.into(), &stdin, stdout);
    let (theirs, stdin, stdout) = terminal();
    let twin = theirs.try_clone().unwrap();
    assert_modes_are_kept(theirs.into(), twin.into(), &stdin, stdout);
}

#[test]
fn with_frames_a_line_of_stdin_is_a_frame_without_its_newline() {
    let (program, stdin, mut stdout) = filter(&["--framing=u32"]);
    let program = program.ready();
    let client = program.admit(Client::connect);
    stdin.send("one\n\nlast");
    drop(stdin);
    let frames = b"\0\0\0\x03one\0\0\0\0\0\0\0\x04last";
    client.receives(frames);
    client.receives_end();
    assert_same(&stdout.rest(), frames);
    assert_ended_well(&program.wait());
}

#[test]
fn tag_names_stdin_as_the_sender() {
    let since = now();
    let (program, stdin, mut stdout) = filter(&["--tag"]);
    stdin.send("one\ntwo\n");
    for text in ["one", "two"] {
        assert_eq!(untagged(&stdout.line(), &since), ("stdin", text));
    }
    drop(stdin);
    assert_ended_well(&program.wait());
}

#[test]
fn the_standard_streams_take_no_places_of_clients() {
    let (program, stdin, mut stdout) = filter(&["--max-clients=1"]);
    let program = program.ready();
    let client = program.admit(Client::connect);
    stdin.send("hello\n");
    client.receives("hello\n");
    stdout.receives("hello\n");
}

#[test]
fn stdout_has_every_published_message_and_nothing_else() {
    let (program, mut stdout) = start_with_stdout(&[]);
    let clients = two_clients(&program);
    clients[0].send(b"hello\n\x1b[2J \xff\n");
    stdout.receives(b"hello\n\x1b[2J \xff\n");
    clients[1].send("in part");
    clients[1].finish();
    stdout.receives("in part\n");
    drop(clients);
    let ended = program.terminate();
    assert_ended_well(&ended);
    stdout.receives_end();
    let logged = |text| ended.log.iter().any(|line| line.contains(text));
    assert!(logged("ready") && logged("stopped"), "{ended:#?}");
}

#[test]
fn stdout_to_a_file_is_appended_where_the_shell_says_so() {
    let folder = Folder::new();
    let path = folder.path("output");
    fs::write(&path, "before\n").unwrap();
    let output = OpenOptions::new().append(true).open(&path).unwrap();
    let program = Program::start_on(&broadcast(&["--stdout"]), Stdio::null(), output);
    let client = program.admit(Client::connect);
    client.send("one\n");
    let holds = |text: &str| fs::read_to_string(&path).unwrap() == text;
    eventually("one line", || holds("before\none\n"));
    // Another process writes to the same file.
    let mut other = OpenOptions::new().append(true).open(&path).unwrap();
    other.write_all(b"between\n").unwrap();
    client.send("two\n");
    eventually("two lines", || holds("before\none\nbetween\ntwo\n"));
    assert_ended_well(&program.terminate());
}

#[test]
fn stdout_to_a_file_goes_on_at_its_offset() {
    let folder = Folder::new();
    let path = folder.path("output");
    let mut output = File::create(&path).unwrap();
    output.write_all(b"before\n").unwrap();
    let (input, stdin) = input_pipe();
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let program = Program::spawn_on(&options, input, output.try_clone().unwrap());
    stdin.send("one\ntwo\n");
    drop(stdin);
    assert_ended_well(&program.wait());
    output.write_all(b"after\n").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "before\none\ntwo\nafter\n");
}

#[test]
fn output_to_nowhere_holds_up_no_client() {
    let program = Program::start_on(&broadcast(&["--stdout"]), Stdio::null(), Stdio::null());
    let [publisher, reader] = two_clients(&program);
    let flood = Flood::of_megabytes(16);
    let (sending, checking) = (flood.send(publisher), flood.check(reader));
    let clients = [sending.join().unwrap(), checking.join().unwrap()];
    assert_chat_goes_on(&clients);
    #[cfg(target_os = "linux")]
    program.assert_idle();
    assert_ended_well(&program.terminate());
}

#[test]
#[cfg(target_os = "linux")] // has /dev/full
fn cause_of_a_failed_filter_is_named_and_a_server_goes_on() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let full = || Stdio::from(full().expect("Linux has it"));
    let args = broadcast(&["--stdin=exit", "--stdout"]);
    let input = Folder::new();
    let lines = input.path("lines");
    std::fs::write(&lines, "one\n").expect("it can be written");
    let lines = File::open(&lines).expect("it is there");
    let ended = Program::spawn_on(&args, lines, full()).wait();
    assert_eq!(ended.code, Some(1));
    let last = ended.log.last().expect("it says why");
    assert!(
        last.starts_with("resound: cannot write to standard output: "),
        "{last}"
    );

    // Nor can a folder be read.
    let folder = File::open("/").expect("it is there");
    let args = broadcast(&["--stdin=exit"]);
    let ended = Program::spawn_on(&args, folder, Stdio::null()).wait();
    let last = ended.log.last().expect("it says why");
    assert_eq!(
        (ended.code, &last[..]),
        (
            Some(1),
            "resound: cannot read standard input: is a directory"
        )
    );

    let program = Program::start_on(&broadcast(&["--stdout"]), Stdio::null(), full());
    let clients = two_clients(&program);
    assert_chat_goes_on(&clients);
    program.will_have_logged("stdout has failed");
    assert_eq!(program.terminate().code, Some(0));
}

#[test]
fn stdout_may_be_a_terminal() {
    let (theirs, _stdin, mut stdout) = terminal();
    let program = Program::start_on(&broadcast(&["--stdout"]), Stdio::null(), theirs);
    let client = program.admit(Client::connect);
    client.send("one\n你好\n");
    stdout.receives("one\r\n你好\r\n");
    assert_ended_well(&program.terminate());
    stdout.receives_end();
}

#[test]
fn one_terminal_may_be_both() {
    let (theirs, stdin, mut stdout) = terminal();
    let twin = theirs.try_clone().unwrap();
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let program = Program::start_on(&options, theirs, twin);
    let client = program.admit(Client::connect);
    stdin.send("typed\n");
    client.receives("typed\n");
    client.send("answered\n");
    stdout.receives("typed\r\nanswered\r\n");
    stdin.send(END);
    assert_ended_well(&program.wait());
}

/// Floods a room whose standard output is not read; returns when all clients have all of it.
#[track_caller]
fn flood_past(program: &Program, flood: &Flood) -> [Client; 2] {
    let [publisher, reader] = two_clients(program);
    let (sending, checking) = (flood.send(publisher), flood.check(reader));
    [sending, checking].map(|thread| thread.join().expect("it has all of it"))
}

#[test]
fn a_reader_of_stdout_that_stops_is_a_slow_consumer_and_sees_the_end() {
    let (program, mut stdout) = start_with_stdout(&["--patience=500ms"]);
    let flood = Flood::of_megabytes(16);
    let clients = flood_past(&program, &flood);
    program.will_have_logged("client 1 (stdout) is a slow consumer: closing it");
    program.will_have_logged(" (stdout) left after ");
    let got = stdout.rest();
    assert!(!got.is_empty());
    flood.assert_is_start(&got);
    assert_goes_on_without("stdout", program, &clients);
}

#[test]
fn a_reader_of_stdout_that_stops_may_skip_and_goes_on_with_whole_messages() {
    let (program, mut stdout) = start_with_stdout(&["--patience=500ms", "--slow-consumer=skip"]);
    let flood = Flood::of_megabytes(16);
    let clients = flood_past(&program, &flood);
    program.will_have_logged("client 1 (stdout) is a slow consumer: it misses messages");
    clients[0].send("end\n");
    let mut numbers = Vec::new();
    loop {
        let line = stdout.line() + "\n";
        if line == "end\n" {
            break;
        }
        numbers.extend(flood.numbers_in(line.as_bytes()));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let missed = flood.lines() - numbers.len() as u64;
    assert!(missed > 0 && !numbers.is_empty());
    clients[1].receives("end\n");
    assert_chat_goes_on(&clients);
    stdout.receives("still there?\nof course\n");
    let ended = program.terminate();
    assert_ended_well(&ended);
    let count = format!("client 1 has missed {missed} messages");
    let logged = ended.log.iter().any(|line| line.ends_with(&count));
    assert!(logged, "{count}: {ended:#?}");
}

#[test]
fn pipe_that_its_reader_closes_is_noticed_and_dropped() {
    let (program, stdout) = start_with_stdout(&[]);
    let clients = two_clients(&program);
    drop(stdout);
    clients[0].send("to no other client\n");
    clients[1].receives("to no other client\n");
    assert_goes_on_without("stdout", program, &clients);
}

#[test]
fn a_terminal_that_hangs_up_is_noticed_and_dropped() {
    let (theirs, stdin, stdout) = terminal();
    let program = Program::start_on(&broadcast(&["--stdout"]), Stdio::null(), theirs);
    let clients = two_clients(&program);
    drop((stdin, stdout));
    clients[0].send("to no other client\n");
    clients[1].receives("to no other client\n");
    assert_goes_on_without("stdout", program, &clients);
}

#[test]
fn pipe_that_its_reader_closes_in_the_middle_of_a_flood_is_dropped() {
    let (program, mut stdout) = start_with_stdout(&["--patience=unlimited"]);
    let [publisher, reader] = two_clients(&program);
    let flood = Flood::of_megabytes(40);
    let (sending, checking) = (flood.send(publisher), flood.check(reader));
    assert!(!flood.wait_until_stuck(), "all was taken");
    stdout.line();
    drop(stdout);
    let clients = [sending.join().unwrap(), checking.join().unwrap()];
    assert_goes_on_without("stdout", program, &clients);
}

/// Sockets can't be opened a second time, as pipes and terminals can.
#[test]
fn sockets_may_be_the_standard_streams() {
    let pair = || UnixStream::pair().unwrap();
    let ((input, stdin), (output, stdout)) = (pair(), pair());
    let twins = [&input, &output].map(|end| end.try_clone().unwrap());
    let options = broadcast(&["--stdin=exit", "--stdout", "--patience=unlimited"]);
    let [input, output] = [input, output].map(OwnedFd::from);
    let program = Program::start_on(&options, input, output);
    let flood = Flood::of_megabytes(40);
    let feeding = flood.feed(StdinWriter::new(stdin.into()));
    assert!(!flood.wait_until_stuck(), "all was taken");
    for twin in twins {
        let mode = fcntl_getfl(&twin).unwrap();
        assert!(!mode.contains(OFlags::NONBLOCK));
    }
    let checking = flood.check_output(StdoutReader::new(stdout.into()));
    drop(feeding.join().unwrap());
    checking.join().unwrap().receives_end();
    assert_ended_well(&program.wait());
}

/// In a pipeline it isn't ours to kill, should the test fail: hence timeout(1), here and below.
#[test]
fn as_a_filter_it_gives_its_input_back() {
    let script = r#"printf 'one\n\ntwo\r\nthree' | timeout 30 "$0" "$@""#;
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let ended = Program::start_in_shell(script, &options).wait();
    assert_ended_well(&ended);
    assert_eq!(ended.stdout, "one\n\ntwo\r\nthree\n");
}

#[test]
fn filter_ends_well_after_its_reader_closes_the_pipe() {
    let script = r#"{ seq 100000 | timeout 30 "$0" "$@"; echo "code $?" >&2; } | head -n 1"#;
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    let ended = Program::start_in_shell(script, &options).wait();
    assert_ended_well(&ended);
    assert_eq!(ended.stdout, "1\n");
    assert_eq!(ended.log.last().unwrap(), "code 0", "{ended:#?}");
}

#[test]
fn a_filter_between_files_copies_all() {
    let folder = Folder::new();
    let lines = many_lines();
    fs::write(folder.path("input"), &lines).unwrap();
    let input = File::open(folder.path("input")).unwrap();
    let output = File::create(folder.path("output")).unwrap();
    let options = broadcast(&["--stdin=exit", "--stdout"]);
    assert_ended_well(&Program::spawn_on(&options, input, output).wait());
    assert_same(&fs::read(folder.path("output")).unwrap(), &lines);
}

#[test]
fn a_filter_between_pipes_loses_nothing_when_its_reader_stops_for_a_while() {
    let (program, stdin, stdout) = filter(&["--patience=unlimited"]);
    let flood = Flood::of_megabytes(32);
    let feeding = flood.feed(stdin);
    assert!(!flood.wait_until_stuck(), "all was taken");
    let checking = flood.check_output(stdout);
    let ending = thread::spawn(move || drop(feeding.join().unwrap()));
    checking.join().unwrap().receives_end();
    ending.join().unwrap();
    assert_ended_well(&program.wait());
}
