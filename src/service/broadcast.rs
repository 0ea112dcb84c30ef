//! Broadcast: each line of a client goes to every other client, through one shared log.

use std::collections::VecDeque;
use std::ops::Range;

use super::log::Log;
use super::{Outcome, Peer, Service};
use crate::close::CloseReason;

/// Bytes in a segment of the log: more than one turn brings, so that what a client is owed is in
/// one piece as a rule.
const SEGMENT: usize = 512 * 1024;

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

    /// The same with segments of another size, a power of two.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::service::Then;
    use proptest::prelude::*;

    fn join(room: &mut Broadcast) -> Session {
        let address = Address::Unix(std::path::Path::new("s").into());
        let peer = Peer {
            id: 1,
            address: &address,
        };
        room.open(&peer).0
    }

    /// Takes everything a client is owed, `step` bytes at a time.
    fn take(room: &mut Broadcast, session: &mut Session, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let [first, second] = room.shared(session);
            if first.is_empty() {
                assert_eq!((second.len(), room.lag(session)), (0, 0));
                return all;
            }
            let next: Vec<u8> = first.iter().chain(second).copied().take(step).collect();
            room.advance(session, next.len());
            all.extend(next);
        }
    }

    fn lines_of(room: &Broadcast, partial: usize, input: &str) -> (usize, bool) {
        room.lines(partial, input.as_bytes())
    }

    #[test]
    fn a_line_of_the_longest_kind_passes_and_one_byte_more_does_not() {
        let room = Broadcast::new(3);
        assert_eq!(lines_of(&room, 0, "abc\nabc\nabc"), (8, true));
        assert_eq!(lines_of(&room, 0, "abc\nabcd\n"), (4, false));
        assert_eq!(lines_of(&room, 0, "abcd"), (0, false));
        assert_eq!(lines_of(&room, 3, "\n"), (1, true));
        assert_eq!(lines_of(&room, 2, "bc\n"), (0, false));
        assert_eq!(lines_of(&room, 3, ""), (0, true));
        assert_eq!(lines_of(&room, 1, "\n\n\n"), (3, true));
    }

    #[test]
    fn what_came_before_a_line_that_is_too_long_is_published() {
        let mut room = Broadcast::new(3);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        let outcome = room.receive(&mut a, b"one\nthree\n");
        assert_eq!(outcome.then, Then::Close(CloseReason::MessageTooLong));
        assert_eq!(take(&mut room, &mut b, 100), b"one\n");
    }

    #[test]
    fn a_last_line_gets_its_newline_and_a_partial_one_is_not_shown() {
        let mut room = Broadcast::new(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut a, b"x");
        assert_eq!(take(&mut room, &mut b, 100), b"");
        room.end(&mut a);
        assert_eq!(take(&mut room, &mut b, 100), b"x\n");
        assert_eq!(take(&mut room, &mut a, 100), b"");
    }

    #[test]
    fn after_its_end_a_client_is_owed_what_there_was_by_then() {
        let mut room = Broadcast::new(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut b, b"1\n");
        room.end(&mut a);
        room.receive(&mut b, b"2\n");
        assert_eq!(take(&mut room, &mut a, 1), b"1\n");
    }

    /// Its cursor keeps the log from there on, so it must count as behind, however little is left.
    #[test]
    fn who_has_ended_and_takes_nothing_lags_behind_all_that_is_kept() {
        let mut room = Broadcast::new(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut b, b"1\n");
        room.end(&mut a);
        for _ in 0..100 {
            room.receive(&mut b, b"2\n");
        }
        assert_eq!((room.lag(&a), room.held()), (202, 202));
        assert_eq!(take(&mut room, &mut a, 1), b"1\n");
        assert_eq!(room.lag(&a), 0);
    }

    #[test]
    fn the_rest_of_a_message_is_known_wherever_it_was_cut() {
        let mut room = Broadcast::with_segments(100, 4);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut a, b"0123456\n89\n");
        for written in 1..8 {
            assert_eq!(room.shared(&b)[0].first(), Some(&(b'0' + written - 1)));
            room.advance(&mut b, 1);
            assert_eq!(room.unfinished(&b), 8 - usize::from(written));
        }
        room.advance(&mut b, 1);
        assert_eq!(room.unfinished(&b), 0);
    }

    #[test]
    fn who_is_caught_up_remembers_nothing_of_its_own() {
        let mut room = Broadcast::new(100);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        for _ in 0..10 {
            room.receive(&mut a, b"a\n");
            room.receive(&mut b, b"b\n");
        }
        assert_eq!(take(&mut room, &mut a, 1), b"b\n".repeat(10));
        assert_eq!((a.own.capacity(), a.partial.capacity()), (0, 0));
    }

    /// What happens in a room.
    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Send(usize, Vec<u8>),
        Take(usize, usize),
        End(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let byte = prop_oneof![2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(0), 5 => any::<u8>()];
        let bytes = prop::collection::vec(byte, 1..30);
        let who = any::<usize>();
        prop_oneof![
            2 => Just(Step::Join),
            6 => (who, bytes).prop_map(|(who, bytes)| Step::Send(who, bytes)),
            6 => (who, 0..40usize).prop_map(|(who, n)| Step::Take(who, n)),
            1 => who.prop_map(Step::End),
            1 => who.prop_map(Step::Leave),
        ]
    }

    /// A client as a naive broadcast would have it: a queue of its own.
    struct Naive {
        session: Session,
        partial: Vec<u8>,
        owed: Vec<u8>,
        ended: bool,
        taken: Vec<u8>,
    }

    fn send_naively(clients: &mut [Naive], from: usize, bytes: &[u8]) {
        for &byte in bytes {
            clients[from].partial.push(byte);
            if byte == b'\n' {
                let line = std::mem::take(&mut clients[from].partial);
                for (i, client) in clients.iter_mut().enumerate() {
                    if i != from && !client.ended {
                        client.owed.extend(&line);
                    }
                }
            }
        }
    }

    fn apply(room: &mut Broadcast, clients: &mut Vec<Naive>, step: Step) {
        let count = clients.len().max(1);
        let one = |who: usize| who % count;
        match step {
            Step::Join => clients.push(Naive {
                session: join(room),
                partial: Vec::new(),
                owed: Vec::new(),
                ended: false,
                taken: Vec::new(),
            }),
            _ if clients.is_empty() => {}
            Step::Send(who, bytes) if !clients[one(who)].ended => {
                let who = one(who);
                let outcome = room.receive(&mut clients[who].session, &bytes);
                assert_eq!(outcome.then, Then::Continue);
                send_naively(clients, who, &bytes);
            }
            Step::Take(who, n) => {
                let client = &mut clients[one(who)];
                let [first, second] = room.shared(&client.session);
                let next: Vec<u8> = first.iter().chain(second).copied().take(n).collect();
                room.advance(&mut client.session, next.len());
                client.taken.extend(next);
            }
            Step::End(who) if !clients[one(who)].ended => {
                let who = one(who);
                room.end(&mut clients[who].session);
                if !clients[who].partial.is_empty() {
                    send_naively(clients, who, b"\n");
                }
                clients[who].ended = true;
            }
            Step::Leave(who) => {
                let client = clients.swap_remove(one(who));
                room.close(client.session, CloseReason::Reset);
            }
            Step::Send(..) | Step::End(_) => {}
        }
    }

    proptest! {
        /// Any interleaving, against a queue a client: every line of the others exactly once,
        /// whole, in one order.
        #[test]
        fn everybody_gets_what_a_queue_of_its_own_would_hold(
            power in 0..6u32,
            steps in prop::collection::vec(step(), 1..150),
        ) {
            let mut room = Broadcast::with_segments(usize::MAX, 1 << power);
            let mut clients: Vec<Naive> = Vec::new();
            for step in steps {
                apply(&mut room, &mut clients, step);
                for client in &clients {
                    prop_assert!(client.owed.starts_with(&client.taken));
                    let mid = client.taken.last().is_some_and(|&byte| byte != b'\n');
                    prop_assert_eq!(room.unfinished(&client.session) > 0, mid);
                }
            }
            for mut client in clients {
                let rest = take(&mut room, &mut client.session, 7);
                client.taken.extend(rest);
                prop_assert_eq!(&client.taken, &client.owed);
                room.close(client.session, CloseReason::PeerClosed);
            }
            prop_assert!(room.held() <= 1 << power);
        }

        /// However a text is cut, its lines are found, and those too long are told.
        #[test]
        fn lines_are_found_under_any_fragmentation(
            text in prop::collection::vec(prop_oneof![1 => Just(b'\n'), 4 => Just(b'x')], 0..200),
            cuts in prop::collection::vec(1..20usize, 1..20),
            max in 1..20usize,
        ) {
            let mut room = Broadcast::with_segments(max, 16);
            let (mut from, mut to) = (join(&mut room), join(&mut room));
            let (mut rest, mut cuts) = (&text[..], cuts.iter().cycle());
            let mut open = true;
            while open && !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                open = room.receive(&mut from, now).then == Then::Continue;
                rest = later;
            }
            let short = text.split_inclusive(|&b| b == b'\n').take_while(|line| {
                line.strip_suffix(b"\n").unwrap_or(line).len() <= max
            });
            let expected: Vec<u8> = short.filter(|line| line.ends_with(b"\n")).flatten().copied().collect();
            prop_assert_eq!(take(&mut room, &mut to, 9), expected);
            let too_long = text.split(|&b| b == b'\n').any(|line| line.len() > max);
            prop_assert_eq!(open, !too_long);
        }
    }
}
