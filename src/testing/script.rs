//! A scripted stream.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use crate::net::Stream;

/// Answer of a [`Script`] to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To a read: these bytes, over several reads if the buffer is smaller.
    Give(Vec<u8>),
    /// To a read: the end of input.
    End,
    /// To a write: at most this many bytes are taken.
    Take(usize),
    /// To either: an error.
    Fail(ErrorKind),
}

/// A byte stream that answers reads and writes from two lists.
///
/// When their list is over, reads fail with [`ErrorKind::WouldBlock`], and writes take everything,
/// unless the script is [stalled](Script::stall): then they fail so, too.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings and facts of a stream, in any combination"
)]
pub struct Script {
    reads: VecDeque<Answer>,
    writes: VecDeque<Answer>,
    stalled: bool,
    /// Bytes taken so far.
    pub(crate) sent: Vec<u8>,
    /// True once the output was shut.
    pub(crate) shut: bool,
    /// Number of calls so far.
    pub(crate) calls: usize,
    /// True if reads may stop before the input is drained, as on Unix sockets.
    pub(crate) cuts_reads: bool,
    /// True once closing was made to reset the connection.
    pub(crate) reset: bool,
}

impl Script {
    /// A script with these answers to reads, and to writes.
    #[must_use]
    pub fn new(reads: &[Answer], writes: &[Answer]) -> Self {
        Self {
            reads: reads.iter().cloned().collect(),
            writes: writes.iter().cloned().collect(),
            ..Self::default()
        }
    }

    /// Adds an answer to a read.
    ///
    /// # Panics
    /// If that is [`Answer::Take`].
    pub fn on_read(&mut self, answer: Answer) {
        assert!(
            !matches!(answer, Answer::Take(_)),
            "not an answer to a read"
        );
        self.reads.push_back(answer);
    }

    /// Adds an answer to a write.
    ///
    /// # Panics
    /// If that is [`Answer::Give`] or [`Answer::End`].
    pub fn on_write(&mut self, answer: Answer) {
        let fits = matches!(answer, Answer::Take(_) | Answer::Fail(_));
        assert!(fits, "not an answer to a write");
        self.writes.push_back(answer);
    }

    /// Makes writes fail with [`ErrorKind::WouldBlock`] once their list is over, or take everything
    /// again.
    pub fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Takes out the bytes that were written so far.
    pub fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// True once the output was shut: the peer reads its end.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.shut
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Answer::Give(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(buffer.len()));
                if !rest.is_empty() {
                    self.reads.push_front(Answer::Give(rest));
                }
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Some(Answer::End) => Ok(0),
            Some(Answer::Fail(kind)) => Err(kind.into()),
            Some(Answer::Take(_)) => panic!("not an answer to a read"),
        }
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.shut, "a write after the output was shut");
        self.calls += 1;
        let most = match self.writes.pop_front() {
            None if self.stalled => return Err(ErrorKind::WouldBlock.into()),
            None => bytes.len(),
            Some(Answer::Take(most)) => most.min(bytes.len()),
            Some(Answer::Fail(kind)) => return Err(kind.into()),
            Some(Answer::Give(_) | Answer::End) => panic!("not an answer to a write"),
        };
        self.sent.extend(&bytes[..most]);
        Ok(most)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Script {
    fn short_read_drains(&self) -> bool {
        !self.cuts_reads
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shut = true;
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.reset = true;
    }
}
