//! Operators at the console of a program.

use resound::Address;

use super::client::Client;
use super::eventually;
use super::program::{Ended, Program};
use super::pty::terminal;
use super::stdio::{StdinWriter, StdoutReader, input_pipe, output_pipe};

/// An operator at the console of a program, which was started with `--console`.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) program: Program,
    pub(crate) stdin: StdinWriter,
    pub(crate) stdout: StdoutReader,
}

/// A row of `/list`, as far as it doesn't depend on the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) peer: String,
    /// Bytes in, bytes out, bytes waiting, messages missed.
    pub(crate) counts: [u64; 4],
}

impl Operator {
    /// One with a pipe to the program and one from it.
    #[track_caller]
    pub(crate) fn on_pipes(args: &[&str]) -> Self {
        let (input, stdin) = input_pipe();
        let (stdout, output) = output_pipe();
        let program = Program::start_on(args, input, output);
        Self {
            program,
            stdin,
            stdout,
        }
    }

    /// One at a terminal.
    #[track_caller]
    pub(crate) fn on_terminal(args: &[&str]) -> Self {
        let (theirs, stdin, stdout) = terminal();
        let twin = theirs.try_clone().expect("there are descriptors");
        let program = Program::start_on(args, theirs, twin);
        Self {
            program,
            stdin,
            stdout,
        }
    }

    /// One of each kind, each with a program of its own.
    #[track_caller]
    pub(crate) fn of_each_kind(args: &[&str]) -> [Self; 2] {
        [Self::on_pipes(args), Self::on_terminal(args)]
    }

    #[track_caller]
    pub(crate) fn types(&self, line: &str) {
        self.stdin.send(format!("{line}\n"));
    }

    /// The next line is this.
    #[track_caller]
    pub(crate) fn sees(&mut self, expected: &str) {
        assert_eq!(self.stdout.line(), expected);
    }

    /// Types a line and sees the answer.
    #[track_caller]
    pub(crate) fn asks(&mut self, line: &str, answer: &str) {
        self.types(line);
        self.sees(answer);
    }

    /// The rows of `/list`; earlier output is passed over.
    #[track_caller]
    pub(crate) fn list(&mut self) -> Vec<Row> {
        self.types("/list");
        self.types("/kick 0"); // no client has this number: the answer is the list's end
        self.stdout.line_with(" peer ");
        let mut rows = Vec::new();
        loop {
            let line = self.stdout.line();
            if line == "there is no client 0" {
                return rows;
            }
            rows.push(row(&line));
        }
    }

    /// The row of one client.
    #[track_caller]
    pub(crate) fn row_of(&mut self, client: &Client) -> Row {
        let name = client.name();
        let mut rows = self.list().into_iter();
        rows.find(|row| row.peer == name).expect("it is here")
    }

    /// Connects a client and returns when it is served.
    #[track_caller]
    pub(crate) fn admit(&mut self, connect: fn(&Address) -> Client) -> Client {
        let client = connect(&self.program.address());
        let name = client.name();
        eventually("a client being served", || {
            self.list().iter().any(|row| row.peer == name)
        });
        client
    }

    /// Stops the program by command.
    #[track_caller]
    pub(crate) fn quits(self) -> Ended {
        self.types("quit");
        self.program.wait()
    }
}

#[track_caller]
fn row(line: &str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse().expect("it is a number");
    // An age may have several words.
    let counts = words.last_chunk().expect("the row is whole");
    assert!(words.len() >= 7 && words[2].ends_with('s'), "{line}");
    Row {
        id: number(words[0]),
        peer: words[1].to_owned(),
        counts: counts.map(number),
    }
}
