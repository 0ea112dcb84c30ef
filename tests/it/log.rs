//! The log: warnings that clients cause are limited, and a standard error that is not read costs
//! lines and no time.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::client::{Client, wait_for_room};
use crate::common::program::{Program, command};
use crate::common::{Folder, eventually, frame};
use resound::Address;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

/// A server whose standard error is a pipe that is read only at the end. It is killed when dropped.
struct Unread {
    child: Child,
    /// Both ends of the pipe: the program shares the first.
    writer: OwnedFd,
    reader: OwnedFd,
    address: Address,
    _folder: Folder,
}

impl Unread {
    /// Starts it, with a pipe that is `full` from the beginning.
    fn start(args: &[&str], full: bool) -> Self {
        let folder = Folder::new();
        let (reader, writer) = std::io::pipe().expect("there are descriptors");
        let writer = OwnedFd::from(writer);
        if full {
            fill(&writer);
        }
        let path = folder.unix("socket");
        let mut command = command(&[args, &["-l", &path]].concat());
        let stderr = writer.try_clone().expect("there are descriptors");
        let child = command.stderr(Stdio::from(stderr)).spawn();
        eventually("the socket", || folder.path("socket").exists());
        Self {
            child: child.expect("it starts"),
            writer,
            reader: reader.into(),
            address: folder.address("socket"),
            _folder: folder,
        }
    }

    /// The flags of the pipe.
    fn flags(&self) -> OFlags {
        fcntl_getfl(&self.writer).expect("it is open")
    }

    fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it hasn't been waited for");
    }

    /// Reads the log to its end, and returns it with the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let (reader, unused) = std::io::pipe().expect("there are descriptors");
        drop((reader, std::mem::replace(&mut self.writer, unused.into())));
        let mut reader = std::fs::File::from(self.reader.try_clone().expect("it is open"));
        let mut log = Vec::new();
        self.terminate();
        reader.read_to_end(&mut log).expect("it can be read");
        let code = self.child.wait().expect("it is a child").code();
        (String::from_utf8_lossy(&log).into_owned(), code)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fills a pipe. Its flags are as before.
fn fill(writer: &OwnedFd) {
    let flags = fcntl_getfl(writer).expect("it is open");
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).expect("it is ours");
    let mut file = std::fs::File::from(writer.try_clone().expect("there are descriptors"));
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
    let server = Unread::start(&args, false);
    let flags = server.flags();
    send_long_frames(&server.address, 1500);
    assert_served(&server);
    assert_eq!(server.flags(), flags, "the pipe is the reader's, too");
    let (log, code) = server.end();
    assert_eq!(code, Some(0));
    let lost = log
        .lines()
        .filter_map(|line| line.split_once(" log lines were lost"));
    let lost: Vec<usize> = lost
        .map(|(before, _)| before.rsplit(' ').next().unwrap().replace(',', ""))
        .map(|count| count.parse().unwrap())
        .collect();
    assert!(lost.iter().sum::<usize>() > 0, "nothing is said");
    let mangled = log.lines().find(|line| !line.starts_with("[20"));
    assert_eq!(mangled, None, "a line that is cut");
    // What is logged after the loss.
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
            server.child.try_wait().is_ok_and(|end| end.is_some())
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[track_caller]
fn assert_served(server: &Unread) {
    let clients = [(); 2].map(|()| Client::connect(&server.address));
    wait_for_room(&clients, &frame("all here"));
}

/// A closed standard error is no reason to fail, nor to be busy.
#[test]
fn server_runs_without_a_standard_error() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    let script = r#"exec "$0" "$@" 2>&-"#;
    let program = Program::start_in_shell(script, &["echo", "-v", "-l", &path]);
    eventually("the socket", || Path::new(&folder.path("socket")).exists());
    let client = Client::connect(&folder.address("socket"));
    client.send("hello");
    client.receives("hello");
    program.assert_idle();
    assert_eq!(program.terminate().code, Some(0));
}
