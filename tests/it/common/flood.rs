//! A flood of numbered lines, and a check that every one arrives, whole and in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::client::Client;
use super::stdio::{StdinWriter, StdoutReader};
use super::{assert_same, frame, settled};

/// Bytes of a line: no divisor of a segment of the log, so that lines lie across its edges.
const LINE: usize = 1000;
/// Lines sent and checked at a time.
const BLOCK: usize = 64;
/// Digits of a line's number, with which it begins and ends.
const DIGITS: usize = 12;

/// Numbered blocks of lines.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    blocks: Range<usize>,
    /// The lines have their length in front in place of a newline.
    framed: bool,
    /// Blocks sent so far.
    sent: Arc<AtomicUsize>,
}

impl Flood {
    pub(crate) fn of_megabytes(megabytes: usize) -> Self {
        Self {
            blocks: 0..blocks_of(megabytes),
            framed: false,
            sent: Arc::default(),
        }
    }

    /// The same, each line with its length in front, 32 bits, in place of a newline.
    pub(crate) fn framed(self) -> Self {
        Self {
            framed: true,
            ..self
        }
    }

    /// Another one of the same kind, whose numbers follow.
    pub(crate) fn next(&self, megabytes: usize) -> Self {
        let start = self.blocks.end;
        Self {
            blocks: start..start + blocks_of(megabytes),
            framed: self.framed,
            sent: Arc::default(),
        }
    }

    /// Bytes of all lines.
    pub(crate) fn bytes(&self) -> u64 {
        (self.blocks.len() * BLOCK * LINE) as u64
    }

    /// The numbers of its lines.
    pub(crate) fn numbers(&self) -> Range<usize> {
        self.blocks.start * BLOCK..self.blocks.end * BLOCK
    }

    /// Its lines, some at a time.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let framed = self.framed;
        self.blocks.clone().map(move |number| {
            let lines = number * BLOCK..(number + 1) * BLOCK;
            lines.flat_map(|number| line(number, framed)).collect()
        })
    }

    /// One of them.
    pub(crate) fn line(&self, number: usize) -> Vec<u8> {
        line(number, self.framed)
    }

    /// Sends it on a thread, then returns the client.
    pub(crate) fn send(&self, client: Client) -> JoinHandle<Client> {
        self.send_by(client, |client, block| client.send(block))
    }

    /// The same by way of standard input.
    pub(crate) fn feed(&self, stdin: StdinWriter) -> JoinHandle<StdinWriter> {
        self.send_by(stdin, |stdin, block| stdin.send(block))
    }

    fn send_by<T: Send + 'static>(&self, by: T, send: fn(&T, Vec<u8>)) -> JoinHandle<T> {
        let flood = self.clone();
        thread::spawn(move || {
            for block in flood.blocks() {
                send(&by, block);
                flood.sent.fetch_add(1, Ordering::SeqCst);
            }
            by
        })
    }

    /// Reads all of it on a thread, comparing, then returns the client.
    pub(crate) fn check(&self, client: Client) -> JoinHandle<Client> {
        self.check_by(client, |client, block| client.receives(block))
    }

    /// The same from standard output.
    pub(crate) fn check_output(&self, stdout: StdoutReader) -> JoinHandle<StdoutReader> {
        self.check_by(stdout, |stdout, block| stdout.receives(block))
    }

    fn check_by<T: Send + 'static>(
        &self,
        mut by: T,
        receives: fn(&mut T, Vec<u8>),
    ) -> JoinHandle<T> {
        let flood = self.clone();
        thread::spawn(move || {
            for block in flood.blocks() {
                receives(&mut by, block);
            }
            by
        })
    }

    /// The number of its lines.
    pub(crate) fn lines(&self) -> u64 {
        (self.blocks.len() * BLOCK) as u64
    }

    /// Waits until nothing more is taken; returns whether all was sent by then.
    pub(crate) fn wait_until_stuck(&self) -> bool {
        let sent = settled("the flood being stuck", || self.sent.load(Ordering::SeqCst));
        sent == self.blocks.len()
    }

    /// Bytes sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst) * BLOCK * LINE
    }

    /// Asserts that `got`, which has no newlines, is the start of the flood.
    #[track_caller]
    pub(crate) fn assert_is_start_without_newlines(&self, got: &[u8]) {
        let lines = got.chunks(LINE - 1).map(|line| [line, b"\n"].concat());
        let mut got = lines.collect::<Vec<_>>().concat();
        got.pop(); // the last line may be in part
        self.assert_is_start(&got);
    }

    /// Asserts that `got` is the start of the flood.
    #[track_caller]
    pub(crate) fn assert_is_start(&self, got: &[u8]) {
        assert!(got.len() as u64 <= self.bytes());
        for (block, part) in self.blocks().zip(got.chunks(BLOCK * LINE)) {
            assert_same(part, &block[..part.len()]);
        }
    }

    /// The part of a byte count that is whole lines.
    pub(crate) fn whole_lines(bytes: usize) -> usize {
        bytes / LINE * LINE
    }

    /// The numbers of the lines in `got`, each of them whole.
    #[track_caller]
    pub(crate) fn numbers_in(&self, got: &[u8]) -> Vec<usize> {
        let start = if self.framed { frame("").len() } else { 0 };
        let mut numbers = Vec::new();
        for part in got.chunks(LINE) {
            let digits = part.get(start..start + DIGITS).unwrap_or_default();
            let number = str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
            assert_same(part, &self.line(number.unwrap_or_default()));
            numbers.extend(number);
        }
        numbers
    }
}

fn blocks_of(megabytes: usize) -> usize {
    megabytes * 1_000_000 / (LINE * BLOCK)
}

fn line(number: usize, framed: bool) -> Vec<u8> {
    let name = format!("{number:0DIGITS$}");
    let length = LINE - if framed { frame("").len() } else { 1 };
    let mut line = Vec::with_capacity(LINE);
    line.extend_from_slice(name.as_bytes());
    let filler = b"abcdefghijklmnopqrstuvwxyz"[number % 26];
    line.resize(length - DIGITS, filler);
    line.extend_from_slice(name.as_bytes());
    if framed {
        return frame(line);
    }
    line.push(b'\n');
    line
}
