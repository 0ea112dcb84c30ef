//! The other ends of a program's standard streams: pipes and terminals, whose every call ends
//! within the deadline.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{DEADLINE, assert_same};

/// Bytes that a pipe polled as writable takes at least (`PIPE_BUF` in pipe(7)).
const ATOMIC: usize = 4096;

/// The writing end of a program's standard input, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct StdinWriter(File);

/// The reading end of a program's standard output; it reads only on request. When it is
/// dropped, there is no reader.
#[derive(Debug)]
pub(crate) struct StdoutReader {
    file: File,
    /// Bytes read beyond those asked for.
    ahead: Vec<u8>,
}

/// A pipe for standard input.
pub(crate) fn input_pipe() -> (PipeReader, StdinWriter) {
    let (reader, writer) = io::pipe().expect("there are descriptors");
    (reader, StdinWriter::new(writer.into()))
}

/// A pipe for standard output.
pub(crate) fn output_pipe() -> (StdoutReader, PipeWriter) {
    let (reader, writer) = io::pipe().expect("there are descriptors");
    (StdoutReader::new(reader.into()), writer)
}

/// Waits for at most `seconds`; true if the file is ready.
fn wait(file: &impl AsFd, wanted: PollFlags, seconds: u64) -> bool {
    let mut fds = [PollFd::new(file, wanted)];
    let time = Timespec {
        tv_sec: seconds.try_into().expect("it is short"),
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&time)).expect("it can be polled") > 0
}

impl StdinWriter {
    pub(crate) fn new(end: OwnedFd) -> Self {
        Self(end.into())
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        for part in bytes.as_ref().chunks(ATOMIC) {
            let taken = wait(&self.0, PollFlags::OUT, DEADLINE.as_secs());
            assert!(taken, "it is not read in time");
            (&self.0).write_all(part).expect("the program takes it");
        }
    }
}

impl StdoutReader {
    pub(crate) fn new(end: OwnedFd) -> Self {
        let (file, ahead) = (end.into(), Vec::new());
        Self { file, ahead }
    }

    /// Waits for more; false at the end.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let some = wait(&self.file, PollFlags::IN, DEADLINE.as_secs());
        let end = &self.ahead[self.ahead.len().saturating_sub(200)..];
        assert!(
            some,
            "nothing more in time after \"{}\"",
            end.escape_ascii()
        );
        let mut buffer = [0; 16 * 1024];
        let n = match self.file.read(&mut buffer) {
            // The end of a terminal that no program has open any more.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => 0,
            read => read.expect("it is readable"),
        };
        self.ahead.extend_from_slice(&buffer[..n]);
        n > 0
    }

    /// Reads exactly this.
    #[track_caller]
    pub(crate) fn receives(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        while self.ahead.len() < expected.len() && self.fill() {}
        let rest = self.ahead.split_off(expected.len().min(self.ahead.len()));
        let got = std::mem::replace(&mut self.ahead, rest);
        assert_same(&got, expected);
    }

    /// Reads up to and including `text`; the bytes before it are passed over.
    #[track_caller]
    pub(crate) fn receives_until(&mut self, text: &str) {
        loop {
            if let Some(at) = memchr::memmem::find(&self.ahead, text.as_bytes()) {
                self.ahead.drain(..at + text.len());
                return;
            }
            assert!(self.fill(), "it ends before \"{text}\"");
        }
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut searched = 0;
        let end = loop {
            let found = self.ahead[searched..].iter().position(|&b| b == b'\n');
            if let Some(at) = found {
                break searched + at + 1;
            }
            searched = self.ahead.len();
            assert!(self.fill(), "it ends in place of a line");
        };
        let rest = self.ahead.split_off(end);
        let line = std::mem::replace(&mut self.ahead, rest);
        let line = String::from_utf8(line).expect("it is text");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// The next line that has this in it; those before it are passed over.
    #[track_caller]
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Reads to the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.ahead)
    }

    #[track_caller]
    pub(crate) fn receives_end(&mut self) {
        assert_same(&self.rest(), b"");
    }
}
