//! Broadcast: each line of a client goes to every other client, through one shared log.

use std::collections::VecDeque;
use std::ops::Range;

use super::log::Log;
use super::{Outcome, Peer, Service};
use crate::close::CloseReason;

/// Bytes in a segment of the log.
const SEGMENT: usize = 256 * 1024;

/// The broadcast service: what one client sends, line by line, all the others receive, in the
/// same order.
///
/// A message is a line with its `\n`; a `\r` before it is kept. A line is published when it is
/// complete; the last one of a client that ends without a newline is published with one added.
#[derive(Debug)]
pub struct Broadcast {
    log: Log,
    max_message: usize,
}

/// What broadcast remembers about one client.
///
/// Invariants: `cursor` never lies in one of the client's own messages; `own` is in order and
/// lies behind `cursor`; the log up to `until` ends with a whole message.
#[derive(Debug)]
pub struct Session {
    /// Everything before this was sent to the client or is its own.
    cursor: u64,
    /// Where the shared output ends for it; never, until its input has ended.
    until: u64,
    /// Its own messages that are still in front of the cursor.
    own: VecDeque<Range<u64>>,
    /// The start of a line that isn't complete.
    partial: Vec<u8>,
    /// The cursor lies within a message.
    torn: bool,
}

impl Broadcast {
    /// A room whose messages have at most `max_message` bytes, newline not counted; who sends
    /// a longer one is closed ([`CloseReason::MessageTooLong`]).
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self::with_segments(max_message, SEGMENT)
    }

    /// The same with segments of another size.
    pub(crate) fn with_segments(max_message: usize, segment: usize) -> Self {
        let log = Log::new(segment);
        Self { log, max_message }
    }

    /// Bytes that the log holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.log.end() - self.log.start()
    }

    /// How many bytes of `input`, which follows `partial` bytes of a line, are whole lines, and
    /// whether each line in it, the last incomplete one too, is short enough.
    fn lines(&self, partial: usize, input: &[u8]) -> (usize, bool) {
        let mut done = 0;
        let mut room = self.max_message.saturating_sub(partial);
        loop {
            let rest = &input[done..];
            // The last newline within reach: lines before it are shorter than what is allowed.
            let window = &rest[..rest.len().min(room.saturating_add(1))];
            match memchr::memrchr(b'\n', window) {
                Some(at) => done += at + 1,
                None => return (done, rest.len() <= room),
            }
            room = self.max_message;
        }
    }

    /// Publishes the session's partial line and `bytes` after it, which ends with a newline.
    fn publish(&mut self, session: &mut Session, bytes: &[u8]) {
        let start = self.log.end();
        self.log.append(&session.partial);
        self.log.append(bytes);
        session.partial = Vec::new();
        let end = self.log.end();
        if session.cursor == start {
            self.log.forward(&mut session.cursor, end);
            return;
        }
        match session.own.back_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => session.own.push_back(start..end),
        }
    }

    fn end_for(&self, session: &Session) -> u64 {
        session.until.min(self.log.end())
    }

    /// The bytes that the client gets from `from` on, in one piece, and where they end; the end
    /// is past a message of its own that follows. `own` counts the own messages passed.
    fn piece(&self, session: &Session, from: u64, own: &mut usize) -> (&[u8], u64) {
        let end = self.end_for(session);
        let next = session.own.get(*own);
        let piece = self
            .log
            .piece(from, next.map_or(end, |own| own.start.min(end)));
        let mut after = from + piece.len() as u64;
        if let Some(next) = next
            && after == next.start
        {
            after = next.end;
            *own += 1;
        }
        (piece, after)
    }
}

impl Service for Broadcast {
    type Session = Session;

    fn open(&mut self, _: &Peer<'_>) -> (Session, Outcome<'_>) {
        let session = Session {
            cursor: self.log.join(),
            until: u64::MAX,
            own: VecDeque::new(),
            partial: Vec::new(),
            torn: false,
        };
        (session, Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, session: &'a mut Session, input: &'a [u8]) -> Outcome<'a> {
        let (done, short) = self.lines(session.partial.len(), input);
        let (lines, rest) = input.split_at(done);
        if !lines.is_empty() {
            self.publish(session, lines);
        }
        if !short {
            return Outcome::close(CloseReason::MessageTooLong);
        }
        session.partial.extend_from_slice(rest);
        Outcome::NOTHING
    }

    fn end<'a>(&'a mut self, session: &'a mut Session) -> Outcome<'a> {
        if !session.partial.is_empty() {
            self.publish(session, b"\n");
        }
        session.until = self.log.end();
        Outcome::NOTHING
    }

    fn close(&mut self, session: Session, _: CloseReason) {
        self.log.leave(session.cursor);
    }

    fn published(&self) -> u64 {
        self.log.end()
    }

    fn shared<'a>(&'a self, session: &'a Session) -> [&'a [u8]; 2] {
        let end = self.end_for(session);
        let mut own = 0;
        if session.cursor >= end {
            return [&[], &[]];
        }
        let (first, after) = self.piece(session, session.cursor, &mut own);
        if after >= end {
            return [first, &[]];
        }
        [first, self.piece(session, after, &mut own).0]
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        if written == 0 {
            return;
        }
        let mut left = written as u64;
        let mut to = session.cursor;
        let mut own = 0;
        while left > 0 {
            let mut passed = own;
            let (piece, after) = self.piece(session, to, &mut passed);
            let length = piece.len() as u64;
            if left < length {
                to += left;
                break;
            }
            left -= length;
            to = after;
            own = passed;
        }
        session.torn = self.log.byte_before(to) != b'\n';
        session.own.drain(..own);
        if session.own.is_empty() {
            session.own = VecDeque::new();
        }
        self.log.forward(&mut session.cursor, to);
    }

    fn lag(&self, session: &Session) -> u64 {
        // Not just up to `until`: the log keeps everything behind a cursor that has not arrived.
        if session.cursor < self.end_for(session) {
            self.log.end() - session.cursor
        } else {
            0
        }
    }

    fn unfinished(&self, session: &Session) -> usize {
        if !session.torn {
            return 0;
        }
        let (mut from, mut length) = (session.cursor, 0);
        loop {
            let piece = self.log.piece(from, self.log.end());
            if let Some(at) = memchr::memchr(b'\n', piece) {
                return length + at + 1;
            }
            assert!(!piece.is_empty(), "the log ends with a whole message");
            from += piece.len() as u64;
            length += piece.len();
        }
    }
}
