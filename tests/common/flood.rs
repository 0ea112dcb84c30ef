//! A flood of numbered lines, and who checks that it has every one, whole and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::client::Client;
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
        let flood = self.clone();
        thread::spawn(move || {
            for number in 0..flood.blocks {
                client.say(block(number));
                flood.sent.fetch_add(1, Ordering::SeqCst);
            }
            client
        })
    }

    /// Reads all of it on a thread, comparing, then returns the client.
    pub(crate) fn check(&self, client: Client) -> JoinHandle<Client> {
        let flood = self.clone();
        thread::spawn(move || {
            for number in 0..flood.blocks {
                client.hears(block(number));
            }
            client
        })
    }

    /// Waits until nothing more is taken; returns whether all was sent by then.
    pub(crate) fn wait_until_stuck(&self) -> bool {
        let sent = settled("the flood being stuck", || self.sent.load(Ordering::SeqCst));
        sent == self.blocks
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
