//! Tools of others as peers, where they are installed.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use resound::Address;

use super::skipped;
use super::stdio::{StdinWriter, StdoutReader, input_pipe, output_pipe};

/// A program of the system.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    path: PathBuf,
}

impl Tool {
    /// The tool; none, and a line on standard error, if it is not installed.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
        let found = paths.find(|path| path.is_file());
        if found.is_none() {
            skipped(format_args!("{name} is not installed"));
        }
        found.map(|path| Self { path })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).stderr(Stdio::null());
        command
    }

    /// Its output without input, until it ends.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Vec<u8> {
        self.feed(args, b"")
    }

    /// Its output for this input, until it ends.
    #[track_caller]
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = self.command(args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may end before it has read all.
        let _ = stdin.write_all(input);
        drop(stdin);
        let mut output = Vec::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        stdout.read_to_end(&mut output).expect("it can be read");
        child.wait().expect("it is a child");
        output
    }

    /// The answer of a server to a netcat with this input.
    #[track_caller]
    pub(crate) fn netcat(&self, options: &[&str], server: &Address, input: &[u8]) -> Vec<u8> {
        let address = server.socket_addr().expect("it is TCP");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let args = [options, &[host.as_str(), port.as_str()]].concat();
        self.feed(&args, input)
    }

    /// Starts it between two pipes.
    #[track_caller]
    pub(crate) fn start(&self, args: &[&str]) -> RunningTool {
        let (input, stdin) = input_pipe();
        let (stdout, output) = output_pipe();
        let mut command = self.command(args);
        let child = command.stdin(input).stdout(output).spawn();
        RunningTool {
            child: child.expect("it starts"),
            stdin: Some(stdin),
            stdout,
        }
    }
}

/// A tool that runs; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct RunningTool {
    child: Child,
    stdin: Option<StdinWriter>,
    stdout: StdoutReader,
}

impl RunningTool {
    #[track_caller]
    pub(crate) fn send(&self, text: &str) {
        self.stdin.as_ref().expect("it hasn't ended").send(text);
    }

    /// Reads until `text` was printed.
    #[track_caller]
    pub(crate) fn receives(&mut self, text: &str) {
        self.stdout.receives_until(text);
    }

    /// Ends its input.
    pub(crate) fn ends(&mut self) {
        self.stdin = None;
    }
}

impl Drop for RunningTool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
