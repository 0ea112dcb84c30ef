//! The log: warnings that clients cause are limited, and a standard error that is not read costs
//! lines and no time.

use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::client::{Client, wait_for_room};
use crate::common::program::{Program, command};
use crate::common::pty::terminal;
use crate::common::stdio::{StdoutReader, input_pipe, output_pipe};
use crate::common::{Folder, eventually, frame, free_port};
use resound::Address;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose standard error is a pipe that is read only at the end.
struct Unread {
    child: Killed,
    /// Both ends of the pipe: the program shares the first.
    writer: OwnedFd,
    reader: StdoutReader,
    address: Address,
    _folder: Folder,
}

impl Unread {
    /// Starts it, with a pipe that is `full` from the beginning.
    fn start(args: &[&str], full: bool) -> Self {
        let folder = Folder::new();
        let (reader, writer) = pipe().expect("there are descriptors");
        let writer = OwnedFd::from(writer);
        if full {
            fill(&writer);
        }
        let path = folder.unix("socket");
        let mut command = command(&[args, &["-l", &path]].concat());
        let stderr = writer.try_clone().expect("there are descriptors");
        let child = command.stderr(Stdio::from(stderr)).spawn();
        folder.wait_for_listener("socket");
        Self {
            child: Killed(child.expect("it starts")),
            writer,
            reader: StdoutReader::new(reader.into()),
            address: folder.address("socket"),
            _folder: folder,
        }
    }

    /// The flags of the pipe.
    fn flags(&self) -> OFlags {
        fcntl_getfl(&self.writer).expect("it is open")
    }

    fn terminate(&self) {
        let pid = Pid::from_child(&self.child.0);
        kill_process(pid, Signal::TERM).expect("it hasn't been waited for");
    }

    /// Reads the log to its end, and returns it with the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let (reader, unused) = pipe().expect("there are descriptors");
        drop((reader, std::mem::replace(&mut self.writer, unused.into())));
        self.terminate();
        let log = self.reader.rest();
        let code = self.child.0.wait().expect("it is a child").code();
        (String::from_utf8_lossy(&log).into_owned(), code)
    }
}

/// Fills a pipe. Its flags are as before.
fn fill(writer: &OwnedFd) {
    let flags = fcntl_getfl(writer).expect("it is open");
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).expect("it is ours");
    let mut file = File::from(writer.try_clone().expect("there are descriptors"));
    while file.write(&[b' '; 4096]).is_ok() {}
    while file.write(b" ").is_ok() {}
    fcntl_setfl(writer, flags).expect("it is ours");
}

/// Sends frames that are too long, on a connection for each, and waits until all are closed.
fn send_long_frames(address: &Address, count: usize) {
    for _ in 0..count / 10 {
        let clients = [(); 10].map(|()| Client::connect(address));
        for client in &clients {
            client.send(frame("x".repeat(200)));
        }
        for client in &clients {
            client.drain();
        }
    }
}

/// 560 warnings filled the pipe, and no client was served until they were read.
#[test]
fn warnings_that_clients_cause_are_limited_and_counted() {
    const CLIENTS: usize = 560;
    let program = Program::start(&["broadcast", "-l0", "--framing=u32", "--max-message=100"]);
    send_long_frames(&program.address(), CLIENTS);
    let ended = program.terminate();
    let warning = "sent a message longer than max-message allows";
    let lines: Vec<_> = ended
        .log
        .iter()
        .filter(|line| line.contains(warning))
        .collect();
    let (last, logged) = lines.split_last().unwrap();
    assert_eq!(logged.len(), 10, "{lines:#?}");
    let expected = format!("{} more like: client ", CLIENTS - logged.len());
    assert!(last.contains(&expected), "{last}");
    let count = format!("{CLIENTS} message-too-long");
    assert!(
        ended.log.iter().any(|line| line.contains(&count)),
        "{ended:#?}"
    );
}

/// With `-v` each client is logged: more than the pipe and the queue hold.
#[test]
fn log_that_is_not_read_costs_lines_and_no_time() {
    let args = ["broadcast", "-vv", "--framing=u32", "--max-message=100"];
    let mut server = Unread::start(&args, false);
    let flags = server.flags();
    send_long_frames(&server.address, 1500);
    assert_served(&server);
    assert_eq!(server.flags(), flags, "the pipe is the reader's, too");
    let mut lines = vec![server.reader.line()];
    while lost(&lines[lines.len() - 1]).is_empty() {
        lines.push(server.reader.line());
    }
    // What is logged after the loss.
    let (log, code) = server.end();
    assert_eq!(code, Some(0));
    let mut lines = lines.iter().map(String::as_str).chain(log.lines());
    let mangled = lines.find(|line| !line.starts_with("[20"));
    assert_eq!(mangled, None, "a line that is cut");
    assert!(log.lines().last().unwrap().contains("stopped: "), "{log}");
}

#[test]
fn server_starts_serves_and_stops_with_a_full_log() {
    for level in ["-q", "-v", "-vv"] {
        let mut server = Unread::start(&["broadcast", level, "--framing=u32"], true);
        let flags = server.flags();
        assert_served(&server);
        assert_eq!(server.flags(), flags);
        let start = Instant::now();
        server.terminate();
        eventually("its end", || {
            server.child.0.try_wait().is_ok_and(|end| end.is_some())
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[track_caller]
fn assert_served(server: &Unread) {
    let clients = [(); 2].map(|()| Client::connect(&server.address));
    wait_for_room(&clients, &frame("all here"));
}

/// The numbers of lines that were lost, by what the log says.
fn lost(log: &str) -> Vec<usize> {
    let lines = log.lines();
    let said = lines.filter_map(|line| line.split_once(" log lines were lost"));
    let number = |(before, _): (&str, &str)| {
        let word = before.rsplit(' ').next().unwrap_or_default();
        word.replace(',', "").parse().expect("it is a number")
    };
    said.map(number).collect()
}

/// The lines that are read and those that are lost are as many as there are when all is read.
#[test]
fn each_line_of_the_log_is_read_or_counted_as_lost() {
    const CLIENTS: usize = 2000;
    let args = ["broadcast", "-v", "--framing=u32", "--max-message=100"];
    let folder = Folder::new();
    let path = folder.unix("socket");
    let program = Program::start(&[&args[..], &["-l", &path]].concat());
    send_long_frames(&folder.address("socket"), CLIENTS);
    let all = program.terminate().log.len();
    let server = Unread::start(&args, false);
    send_long_frames(&server.address, CLIENTS);
    let (log, _) = server.end();
    let lost = lost(&log);
    assert!(!lost.is_empty(), "the pipe holds all");
    let read = log.lines().count() - lost.len();
    assert_eq!(read + lost.iter().sum::<usize>(), all);
}

/// The warnings of 560 clients filled the pipe: then no client was served.
#[test]
fn clients_are_served_after_many_warnings_that_are_not_read() {
    let args = ["broadcast", "--framing=u32", "--max-message=100"];
    let server = Unread::start(&args, true);
    send_long_frames(&server.address, 560);
    assert_served(&server);
    let (log, code) = server.end();
    assert_eq!(code, Some(0));
    assert!(log.contains(" 550 more like: client "), "{log}");
    assert_eq!(lost(&log), [] as [usize; 0]);
}

/// A pipe that is full and is not read.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = pipe().expect("there are descriptors");
    let writer = OwnedFd::from(writer);
    fill(&writer);
    (reader, writer)
}

/// Runs a command with a full standard error; returns its exit code and its standard output.
#[track_caller]
fn run_with_full_log(mut command: Command) -> (Option<i32>, String) {
    let (_unread, stderr) = full_pipe();
    let mut child = Killed(command.stderr(stderr).spawn().expect("it starts"));
    let mut code = None;
    eventually("its end", || {
        code = child.0.try_wait().expect("it is a child");
        code.is_some()
    });
    let mut text = String::new();
    let stdout = child.0.stdout.as_mut().expect("it is piped");
    stdout.read_to_string(&mut text).expect("it is text");
    (code.and_then(|status| status.code()), text)
}

/// The last lines were written to standard error itself, for ever.
#[test]
fn commands_that_fail_end_with_a_full_log() {
    let port = free_port("127.0.0.1").to_string();
    for (args, code) in [
        (&["echo", "--nonsense"][..], 2),
        (&["echo", "-v", "-q"], 2),
        (&[], 2),
        (&["echo", "-lunix:/nowhere/at/all"], 1),
        (&["connect", &port], 1),
        (&["load", &port], 1),
    ] {
        let ended = run_with_full_log(command(args));
        assert_eq!(ended, (Some(code), String::new()), "{args:?}");
    }
}

#[test]
fn client_and_load_tester_run_with_a_full_log() {
    let server = Program::start(&["echo", "-l0"]);
    let address = server.address().to_string();
    let mut client = command(&["connect", "-vv", &address]);
    let (stdin, input) = input_pipe();
    client.stdin(stdin);
    input.send("hello\n");
    drop(input);
    assert_eq!(run_with_full_log(client), (Some(0), "hello\n".to_owned()));
    let times = ["--warmup=50ms", "--duration=300ms", "--interval=10ms"];
    let load = command(&[&["load", "-vv", &address], &times[..]].concat());
    let (code, text) = run_with_full_log(load);
    assert_eq!(code, Some(0));
    assert!(text.contains("latency"), "{text}");
}

/// The first line of a log that goes to a terminal or to a pipe.
#[track_caller]
fn first_line(variables: &[(&str, &str)], at_terminal: bool) -> String {
    let (mut log, stderr, _typist) = if at_terminal {
        let (theirs, typist, log) = terminal();
        (log, OwnedFd::from(theirs), Some(typist))
    } else {
        let (log, writer) = output_pipe();
        (log, OwnedFd::from(writer), None)
    };
    let mut command = command(&["echo", "-l0"]);
    for variable in ["CI", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM"] {
        command.env_remove(variable); // each has a say in colours
    }
    command.env("TERM", "xterm").stderr(stderr);
    let child = command.envs(variables.iter().copied()).spawn();
    let _child = Killed(child.expect("it starts"));
    log.line()
}

/// The log's target is no standard error to `env_logger`, which would choose no colours.
#[test]
fn log_has_the_colours_of_its_standard_error() {
    for (variables, at_terminal, colours) in [
        (&[][..], true, true),
        (&[], false, false),
        (&[("NO_COLOR", "1")], true, false),
        (&[("TERM", "dumb")], true, false),
        (&[("RUST_LOG_STYLE", "never")], true, false),
        (&[("RUST_LOG_STYLE", "always")], false, true),
        (
            &[("RUST_LOG_STYLE", "always"), ("NO_COLOR", "1")],
            false,
            true,
        ),
    ] {
        let line = first_line(variables, at_terminal);
        let case = (variables, at_terminal, &line);
        assert!(line.contains("listening on"), "{case:?}");
        assert_eq!(line.contains("\x1b["), colours, "{case:?}");
    }
}

/// A closed standard error is no reason to fail, nor to be busy.
#[test]
fn server_runs_without_a_standard_error() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    let script = r#"exec "$0" "$@" 2>&-"#;
    let program = Program::start_in_shell(script, &["echo", "-v", "-l", &path]);
    folder.wait_for_listener("socket");
    let client = Client::connect(&folder.address("socket"));
    client.send("hello");
    client.receives("hello");
    program.assert_idle();
    assert_eq!(program.terminate().code, Some(0));
}
