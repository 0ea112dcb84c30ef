//! The link: one stream, with its readiness and its outbox.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::stream::{Readiness, Stream};
use crate::bytes::Slices;
use crate::close::CloseReason;

/// A stream, its readiness, and the private output that the kernel did not take yet.
#[derive(Debug)]
pub(crate) struct Link<T> {
    pub(crate) stream: T,
    pub(crate) ready: Readiness,
    /// Private unsent bytes. An empty outbox owns no memory.
    pub(crate) outbox: VecDeque<u8>,
    /// The close reason after a failed write. Input that had arrived before is still read; output
    /// is dropped.
    pub(crate) broken: Option<CloseReason>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// True if bytes were written since the last heartbeat check; the checker clears it.
    pub(crate) written_since_heartbeat: bool,
    /// True if bytes were written since the last check of timeouts; the checker clears it.
    pub(crate) written_since_check: bool,
    /// True if bytes were read since the last check of timeouts; the checker clears it.
    pub(crate) read_since_check: bool,
}

impl<T: Stream> Link<T> {
    /// A link over a stream that was just opened: it takes output until it says otherwise.
    pub(crate) fn new(stream: T) -> Self {
        Self {
            stream,
            ready: Readiness {
                writable: true,
                ..Readiness::default()
            },
            outbox: VecDeque::new(),
            broken: None,
            received: 0,
            sent: 0,
            written_since_heartbeat: false,
            written_since_check: false,
            read_since_check: false,
        }
    }

    /// Remembers the stream's readiness.
    pub(crate) fn latch(&mut self, ready: Readiness) {
        self.ready.readable |= ready.readable;
        self.ready.writable |= ready.writable;
        self.ready.ending |= ready.ending;
        self.ready.hung_up |= ready.hung_up;
    }

    /// One read: `None` if there is nothing to read now, 0 at the end of input.
    ///
    /// After a short read the kernel's buffer is empty: no second read is needed to find that out.
    /// There are two exceptions. The end of input may follow, of which the kernel has already told
    /// ([`Readiness::ending`]); and some streams cut reads short ([`Stream::short_read_drains`]).
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(n) => {
                    let more = self.ready.ending || !self.stream.short_read_drains();
                    self.ready.readable = n == buffer.len() || (n > 0 && more);
                    self.received += n as u64;
                    self.read_since_check |= n > 0;
                    return Ok(Some(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    self.ready.ending = false;
                    return Ok(None);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// One write; returns the number of bytes that the kernel took. After a short write its buffer
    /// is full, and it will tell when there is room again. A link that is broken takes all bytes,
    /// and drops them.
    pub(crate) fn write(&mut self, bytes: Slices<'_>) -> usize {
        let wanted = bytes.len();
        let [first, second] = bytes.parts();
        while self.broken.is_none() {
            let result = if second.is_empty() {
                self.stream.write(first)
            } else {
                self.stream
                    .write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match result {
                Ok(0) => self.break_off(&io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.ready.writable = n == wanted;
                    self.sent += n as u64;
                    self.written_since_heartbeat = true;
                    self.written_since_check = true;
                    return n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable = false;
                    return 0;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.break_off(&e),
            }
        }
        wanted
    }

    /// Gives up writing after an error; input is read to its end.
    fn break_off(&mut self, error: &io::Error) {
        self.broken = Some(CloseReason::of(error));
        self.ready = Readiness {
            readable: true,
            writable: true,
            ending: true,
            hung_up: false,
        };
    }

    /// Sends private output. If it may go out now (`direct`) and nothing waits before it, it is
    /// written from where it lies. Bytes that the kernel did not take go into the outbox.
    pub(crate) fn send(&mut self, reply: Slices<'_>, direct: bool) {
        if reply.is_empty() {
            return;
        }
        let direct = direct && self.outbox.is_empty() && self.ready.writable;
        let taken = if direct { self.write(reply) } else { 0 };
        if taken == reply.len() {
            return; // the usual case
        }
        let [first, second] = reply.skip(taken).parts();
        self.outbox.extend(first);
        self.outbox.extend(second);
    }

    /// Writes from the outbox until it is empty or the stream is full.
    pub(crate) fn flush(&mut self) {
        while self.ready.writable && !self.outbox.is_empty() {
            self.send_waiting();
        }
    }

    /// One write from the outbox.
    pub(crate) fn send_waiting(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        let (first, second) = outbox.as_slices();
        let taken = self.write(Slices::new(first, second));
        outbox.drain(..taken);
        if !outbox.is_empty() {
            self.outbox = outbox;
        }
    }
}
