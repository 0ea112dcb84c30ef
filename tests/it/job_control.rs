//! Job control: a server with a console or a feed in the background of a terminal goes on serving.
//!
//! A shell with job control starts it at a terminal, and is in front.

use crate::common::client::Client;
use crate::common::program::Program;
use crate::common::pty::{END, terminal};
use crate::common::stdio::{StdinWriter, StdoutReader};
use crate::common::{Folder, skipped};

/// Starts the program in the background. The shell is in front, and reads nothing until it is
/// continued; after two lines it brings the program to the front.
const IN_BACKGROUND: &str = r#"
    timeout --foreground 60 "$0" "$@" &
    echo "shell is in front"; kill -STOP $$
    read line && echo "shell got $line" && read line && fg"#;

/// The same after the program was in front, and was suspended.
const SUSPENDED: &str = r#"
    timeout --foreground 60 "$0" "$@"
    bg; echo "shell is in front"; kill -STOP $$
    read line && echo "shell got $line" && read line && fg"#;

/// The key that suspends the job in front (`VSUSP` in termios(3)).
const CTRL_Z: &str = "\x1a";

/// A program that a shell has started, and the user at the terminal.
struct Job {
    program: Program,
    stdin: StdinWriter,
    stdout: StdoutReader,
    /// What the user types to end the program.
    end: &'static str,
}

impl Job {
    /// Starts a room with one use of standard input; none if this system can't.
    fn start(script: &str, option: &str) -> Option<Self> {
        let (theirs, stdin, stdout) = terminal();
        let args = ["broadcast", option, "--greeting=hi\n", "-l", "127.0.0.1:0"];
        let Some(program) = Program::start_at_terminal(script, &args, theirs) else {
            skipped("this system has no setsid");
            return None;
        };
        Some(Self {
            program,
            stdin,
            stdout,
            end: if option == "--console" {
                "/quit\n"
            } else {
                END
            },
        })
    }

    /// A client that is served.
    fn client(&self) -> Client {
        let client = self.program.connect();
        client.receives("hi\n");
        client
    }

    /// The user types for the shell, which is in front. The terminal then has input that is not the
    /// program's.
    fn types_for_the_shell(&mut self) {
        self.stdout.receives_until("shell is in front");
        self.stdin.send("mine\n");
    }

    /// The shell reads its line, and brings the program to the front.
    fn bring_to_front(&mut self) {
        self.program.continue_once_stopped();
        self.stdout.receives_until("shell got mine");
        self.stdin.send("fg\n");
    }

    /// Ends the program, which is in front, with its input.
    fn end(self) {
        self.stdin.send(self.end);
        let ended = self.program.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// The uses of standard input.
const OPTIONS: [&str; 2] = ["--console", "--stdin=exit"];

/// Regression: job control (SIGTTIN) stopped the server for all of its clients when the terminal had
/// input for another job.
#[test]
fn a_server_in_the_background_goes_on_and_reads_the_terminal_once_in_front() {
    for option in OPTIONS {
        let Some(mut job) = Job::start(IN_BACKGROUND, option) else {
            return;
        };
        job.types_for_the_shell();
        let client = job.client();
        job.bring_to_front();
        job.stdin.send("for the room\n");
        client.receives("for the room\n");
        job.end();
    }
}

/// Regression: the same after Ctrl-Z and `bg`.
#[test]
fn a_suspended_server_goes_on_in_the_background() {
    for option in OPTIONS {
        let Some(mut job) = Job::start(SUSPENDED, option) else {
            return;
        };
        let first = job.client();
        job.stdin.send("before\n");
        first.receives("before\n");
        // Now it sleeps, and doesn't just read again.
        let second = job.client();
        job.stdin.send(CTRL_Z);
        job.types_for_the_shell();
        let third = job.client();
        job.bring_to_front();
        job.stdin.send("for the room\n");
        for client in [first, second, third] {
            client.receives("for the room\n");
        }
        job.end();
    }
}

/// No event tells that the terminal has come back.
#[test]
fn input_that_was_typed_ahead_is_read_once_the_server_is_in_front() {
    for option in OPTIONS {
        let Some(mut job) = Job::start(IN_BACKGROUND, option) else {
            return;
        };
        job.stdout.receives_until("shell is in front");
        job.stdin.send("mine\nfg\nfor the room\n");
        let client = job.client();
        job.program.continue_once_stopped();
        client.receives("for the room\n");
        job.end();
    }
}

/// The log's thread, which starts with a warning of the time zone, didn't have the signals blocked: the
/// terminal stopped the server.
#[test]
fn the_log_is_written_in_the_background_of_any_terminal() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    // The test waits for the word on another standard error.
    let script =
        format!("stty tostop; export TZ=no/where; echo ready >&2; exec 2>&1; {IN_BACKGROUND}");
    let (theirs, stdin, mut stdout) = terminal();
    let args = ["daytime", "--console", "-l", &path];
    let Some(program) = Program::start_at_terminal(&script, &args, theirs) else {
        return skipped("this system has no setsid");
    };
    stdout.receives_until("no/where");
    folder.wait_for_listener("socket");
    let client = Client::connect(&folder.address("socket"));
    assert!(!client.rest().is_empty());
    program.continue_once_stopped();
    stdin.send("mine\nfg\n/quit\n");
    assert_eq!(program.wait().code, Some(0));
}

/// A terminal may stop each job in the background that writes to it (`tostop` in termios(3)).
#[test]
fn the_console_is_written_in_the_background_of_any_terminal() {
    let script = format!("stty tostop; {IN_BACKGROUND}");
    let Some(mut job) = Job::start(&script, "--console") else {
        return;
    };
    job.stdout.receives_until("shell is in front");
    let client = job.client();
    client.send("from afar\n");
    job.stdout.receives_until("from afar");
    job.stdin.send("mine\n");
    job.bring_to_front();
    job.stdin.send("for the room\n");
    client.receives("for the room\n");
    job.end();
}
