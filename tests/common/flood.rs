//! A flood of numbered lines, and who checks that it has every one, whole and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::client::Client;
use super::stdio::{Feed, Tap};
use super::{assert_same, settled};

/// Bytes of a line: no divisor of a segment of the log, so that lines lie across its edges.
const LINE: usize = 1000;
/// Lines sent and checked at a time.
const BLOCK: usize = 64;

/// So many blocks of lines.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    blocks: usize,
    /// Blocks sent so far.
    sent: Arc<AtomicUsize>,
}

impl Flood {
    pub(crate) fn of_megabytes(megabytes: usize) -> Self {
        Self {
            blocks: megabytes * 1_000_000 / (LINE * BLOCK),
            sent: Arc::default(),
        }
    }

    /// Bytes of all lines.
    pub(crate) fn bytes(&self) -> u64 {
        (self.blocks * BLOCK * LINE) as u64
    }

    /// Sends it on a thread, then returns the client.
    pub(crate) fn send(&self, client: Client) -> JoinHandle<Client> {
        self.send_by(client, |client, block| client.say(block))
    }

    /// The same by way of standard input.
    pub(crate) fn feed(&self, feed: Feed) -> JoinHandle<Feed> {
        self.send_by(feed, |feed, block| feed.say(block))
    }

    fn send_by<T: Send + 'static>(&self, by: T, say: fn(&T, Vec<u8>)) -> JoinHandle<T> {
        let flood = self.clone();
        thread::spawn(move || {
            for number in 0..flood.blocks {
                say(&by, block(number));
                flood.sent.fetch_add(1, Ordering::SeqCst);
            }
            by
        })
    }

    /// Reads all of it on a thread, comparing, then returns the client.
    pub(crate) fn check(&self, client: Client) -> JoinHandle<Client> {
        self.check_by(client, |client, block| client.hears(block))
    }

    /// The same from standard output.
    pub(crate) fn check_output(&self, tap: Tap) -> JoinHandle<Tap> {
        self.check_by(tap, |tap, block| tap.hears(block))
    }

    fn check_by<T: Send + 'static>(&self, mut by: T, hears: fn(&mut T, Vec<u8>)) -> JoinHandle<T> {
        let flood = self.clone();
        thread::spawn(move || {
            for number in 0..flood.blocks {
                hears(&mut by, block(number));
            }
            by
        })
    }

    /// How many lines it has.
    pub(crate) fn lines(&self) -> u64 {
        (self.blocks * BLOCK) as u64
    }

    /// The number of a line, which is whole.
    #[track_caller]
    pub(crate) fn number(line: &[u8]) -> u64 {
        assert_eq!((line.len(), line.last()), (LINE, Some(&b'\n')));
        let digits = std::str::from_utf8(&line[..12]).expect("it is text");
        digits.parse().expect("it begins with its number")
    }

    /// Waits until nothing more is taken; returns whether all was sent by then.
    pub(crate) fn wait_until_stuck(&self) -> bool {
        let sent = settled("the flood being stuck", || self.sent.load(Ordering::SeqCst));
        sent == self.blocks
    }

    /// That what somebody got, in which there are no newlines, is the start of the flood.
    #[track_caller]
    pub(crate) fn assert_is_start_without_newlines(&self, got: &[u8]) {
        let lines = got.chunks(LINE - 1).map(|line| [line, b"\n"].concat());
        let mut got = lines.collect::<Vec<_>>().concat();
        got.pop(); // the last line may be in part
        self.assert_is_start(&got);
    }

    /// That what somebody got is the start of the flood.
    #[track_caller]
    pub(crate) fn assert_is_start(&self, got: &[u8]) {
        assert!(got.len() as u64 <= self.bytes());
        for (number, part) in got.chunks(BLOCK * LINE).enumerate() {
            assert_same(part, &block(number)[..part.len()]);
        }
    }
}

fn block(number: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK * LINE);
    for line in number * BLOCK..(number + 1) * BLOCK {
        let end = block.len() + LINE - 1;
        block.extend_from_slice(format!("{line:012} ").as_bytes());
        let filler = b"abcdefghijklmnopqrstuvwxyz"[line % 26];
        block.resize(end, filler);
        block.push(b'\n');
    }
    block
}
