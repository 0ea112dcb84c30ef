//! Broadcast: what one client sends goes to every other client, through one shared log.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use log::warn;

use super::framing::{Found, Framing, Pieces};
use super::log::{Ends, Log};
use super::room::{MOST_TAGS, Room, RoomError};
use super::tag::{LONGEST_PEER, OPERATOR, Tagger};
use super::{MOST_INPUT, Outcome, Service, Traffic};
use crate::close::CloseReason;
use crate::net::address::{Address, Role};
use crate::peer::Peer;
use crate::text::plural;

/// Bytes in a segment of the log: more than one turn brings, so that what a client is owed is in
/// one piece as a rule.
const SEGMENT: usize = 512 * 1024;
/// How many of those who are there a newcomer is told.
const MOST_NAMES: usize = 100;

/// The broadcast service: what one client sends, message by message, all the others receive, in
/// the same order.
///
/// A message is published when it is complete. With [`Framing::Lines`] the last one of a client
/// that ends without a newline is published with one added; with [`Framing::U32`] one that is
/// incomplete at the end isn't. What comes in by standard input is lines in any framing.
#[derive(Debug)]
pub struct Broadcast {
    room: Room,
    log: Log,
    tagger: Option<Tagger>,
    /// Own messages of clients that are behind, in the order of the log.
    own: VecDeque<Own>,
    /// Who is there, if anybody is to be told.
    members: BTreeMap<u64, Address>,
    /// What the client that came last is told.
    greeting: Vec<u8>,
    /// How many clients hear what is published.
    listeners: u64,
    promised: u64,
    missed: u64,
}

/// The cursor of who isn't owed anything any more: behind everything that there will be.
const NOWHERE: u64 = u64::MAX;

/// What broadcast remembers about one client.
///
/// Invariants: `cursor` never lies in one of the client's own messages, and is [`NOWHERE`] if it
/// hears nothing (any more); the log up to `until` ends with a whole message.
#[derive(Debug)]
pub struct Session {
    id: u64,
    /// Everything before this was sent to the client or is its own.
    cursor: u64,
    /// Where the shared output ends for it; never, until its input has ended.
    until: u64,
    /// Where the last of its own messages ends that were published while it was behind.
    own_until: u64,
    /// How many messages it was made to skip.
    missed: u64,
    /// The start of a message that isn't complete.
    partial: Vec<u8>,
    role: Role,
    /// It is standard input: lines, and those that are too long are left out.
    lenient: bool,
    /// The rest of a line is left out.
    skipping: bool,
    /// The cursor lies within a message.
    torn: bool,
}

/// A stretch of the log that its sender doesn't get.
#[derive(Clone, Copy, Debug)]
struct Own {
    start: u64,
    end: u64,
    sender: u64,
}

/// Where the log ended at some time, and how many messages there had been.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    messages: u64,
}

impl Broadcast {
    /// A room.
    ///
    /// # Errors
    /// When the settings don't go together.
    pub fn new(room: Room) -> Result<Self, RoomError> {
        room.check()?;
        Ok(Self::with_segments(room, SEGMENT))
    }

    /// The same with segments of another size, a power of two, and any settings.
    pub(crate) fn with_segments(room: Room, segment: usize) -> Self {
        Self {
            log: Log::new(segment, room.keep()),
            tagger: room.tag.clone().map(Tagger::new),
            own: VecDeque::new(),
            members: BTreeMap::new(),
            greeting: Vec::new(),
            listeners: 0,
            promised: 0,
            missed: 0,
            room,
        }
    }

    /// Bytes that the log holds.
    pub(crate) fn held(&self) -> u64 {
        self.log.end() - self.log.start()
    }

    /// Publishes the session's partial message and `bytes` after it, which end with a whole
    /// message.
    fn publish(&mut self, session: &mut Session, mut bytes: &[u8]) {
        let mark = self.mark();
        let kept = std::mem::take(&mut session.partial);
        let mut kept = &kept[..];
        let framing = session.framing(&self.room);
        if framing == Framing::Lines && self.room.framing == framing && self.tagger.is_none() {
            self.log.append(kept, Ends::None);
            self.log.append(bytes, Ends::Newlines);
            bytes = &[];
        }
        while !bytes.is_empty() {
            let (message, rest) = bytes.split_at(framing.first(kept, bytes));
            let mut payload = framing.payload([kept, message]);
            if session.lenient {
                payload = self.room.framing.payload_of_line(payload);
            }
            self.append(session.id, None, payload);
            (kept, bytes) = (&[], rest);
        }
        let except = (!self.room.include_sender).then_some(session);
        self.promise(mark, except);
    }

    /// Appends one message with its frame and its tag.
    fn append(&mut self, id: u64, name: Option<&str>, payload: Pieces<'_>) {
        let tag = match (&mut self.tagger, name) {
            (None, _) => "",
            (Some(tagger), Some(name)) => tagger.tag(id, &name),
            (Some(tagger), None) => tagger.tag(id, &self.members[&id]),
        };
        let length = tag.len() + payload[0].len() + payload[1].len();
        let header = self.room.framing.header(length);
        let header = header.as_ref().map_or(&[][..], |header| &header[..]);
        let parts = [header, tag.as_bytes(), payload[0], payload[1]];
        let last = parts.iter().rposition(|part| !part.is_empty());
        for (i, part) in parts.into_iter().enumerate() {
            let ends = if last == Some(i) {
                Ends::Last
            } else {
                Ends::None
            };
            self.log.append(part, ends);
        }
    }

    /// Publishes a text of one line about a client, for all the others.
    fn announce(&mut self, text: &str, about: Option<&mut Session>) {
        let mark = self.mark();
        let message = self.message(text.as_bytes());
        self.log.append(&message, Ends::Last);
        self.promise(mark, about);
    }

    /// The state of the log, for [`Broadcast::promise`].
    fn mark(&self) -> Mark {
        Mark {
            end: self.log.end(),
            messages: self.log.messages(),
        }
    }

    /// Promises what was published since then to everybody `except` one.
    fn promise(&mut self, since: Mark, except: Option<&mut Session>) {
        let except = except.filter(|session| session.hears());
        let published = self.log.messages() - since.messages;
        self.promised += published * (self.listeners - u64::from(except.is_some()));
        if let Some(session) = except {
            self.pass(session, since.end);
        }
    }

    /// What was published from `start` on is the session's own: it is passed over.
    fn pass(&mut self, session: &mut Session, start: u64) {
        let end = self.log.end();
        if session.cursor == start {
            self.log.forward(&mut session.cursor, end);
            return;
        }
        session.own_until = end;
        match self.own.back_mut() {
            Some(last) if last.sender == session.id && last.end == start => last.end = end,
            _ => {
                let sender = session.id;
                self.own.push_back(Own { start, end, sender });
                self.forget_own();
            }
        }
    }

    /// Drops what is known of messages that are no more.
    fn forget_own(&mut self) {
        if self.own.is_empty() {
            return; // as nearly always
        }
        let start = self.log.start();
        let gone = self.own.partition_point(|own| own.end <= start);
        self.own.drain(..gone);
        if self.log.is_read() {
            self.own = VecDeque::new();
        }
    }

    /// The client's own messages from `from` on.
    fn next_own(&self, session: &Session, from: u64) -> Option<Own> {
        if session.own_until <= from {
            return None; // as nearly always
        }
        let first = self.own.partition_point(|own| own.end <= from);
        let mut later = self.own.iter().skip(first);
        later.find(|own| own.sender == session.id).copied()
    }

    fn end_for(&self, session: &Session) -> u64 {
        session.until.min(self.log.end())
    }

    /// The bytes that the client gets from `from` on, in one piece, and where they end; the end
    /// is past a message of its own that follows.
    fn piece(&self, session: &Session, from: u64) -> (&[u8], u64) {
        let end = self.end_for(session);
        let next = self.next_own(session, from);
        let piece = self
            .log
            .piece(from, next.map_or(end, |own| own.start.min(end)));
        let after = from + piece.len() as u64;
        match next {
            Some(own) if own.start == after => (piece, own.end),
            _ => (piece, after),
        }
    }

    /// The cursor of the client after the next `bytes` of what it is owed.
    fn behind(&self, session: &Session, mut bytes: u64) -> u64 {
        let mut to = session.cursor;
        if session.own_until <= to {
            return to + bytes; // as nearly always
        }
        while bytes > 0 {
            let (piece, after) = self.piece(session, to);
            let length = piece.len() as u64;
            if bytes < length {
                return to + bytes;
            }
            bytes -= length;
            to = after;
        }
        to
    }

    /// How many messages the client is owed that end after `from` and not after `to`.
    fn count(&self, session: &Session, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let mut count = self.log.ended(to) - self.log.ended(from);
        let mut from = from;
        while let Some(own) = self.next_own(session, from).filter(|own| own.end <= to) {
            count -= self.log.ended(own.end) - self.log.ended(own.start);
            from = own.end;
        }
        count
    }

    /// The client gets nothing more of what it is owed.
    fn let_go(&mut self, session: &mut Session) {
        if !session.hears() {
            return;
        }
        self.promised -= self.count(session, session.cursor, self.end_for(session));
        self.listeners -= u64::from(session.until == u64::MAX);
        self.log.leave(session.cursor);
        session.cursor = NOWHERE;
        self.forget_own();
    }

    /// Moves the client's cursor. Who arrives at the end of what it is owed keeps nothing of the
    /// log from there on.
    fn forward(&mut self, session: &mut Session, to: u64) {
        self.log.forward(&mut session.cursor, to);
        if session.cursor == session.until {
            self.let_go(session);
        } else {
            self.forget_own();
        }
    }

    /// What the client `id`, which comes, is told of who is there.
    fn greet(&mut self, id: u64) {
        let others = || {
            let others = self.members.iter();
            others.filter(|(other, peer)| **other != id && !peer.is_stdio())
        };
        let named: Vec<String> = others()
            .take(MOST_NAMES)
            .map(|(id, peer)| format!("client {id} ({peer})"))
            .collect();
        let here = match (named.len(), others().skip(MOST_NAMES).count()) {
            (0, _) => "nobody else is here".to_owned(),
            (_, 0) => format!("here: {}", named.join(", ")),
            (_, n) => format!("here: {} and {n} more", named.join(", ")),
        };
        self.greeting = self.message(format!("* you are client {id}; {here}").as_bytes());
    }

    /// Whether the room is told of this client.
    fn is_announced(&self, address: &Address) -> bool {
        self.room.announce && !address.is_stdio()
    }
}

impl Session {
    /// Whether it gets what is published.
    fn hears(&self) -> bool {
        self.cursor != NOWHERE
    }

    /// How messages are found in what it sends.
    fn framing(&self, room: &Room) -> Framing {
        if self.lenient {
            Framing::Lines
        } else {
            room.framing
        }
    }
}

impl Service for Broadcast {
    type Session = Session;

    fn open(&mut self, peer: &Peer<'_>) -> (Session, Outcome<'_>) {
        let mut session = Session {
            id: peer.id,
            cursor: NOWHERE,
            until: u64::MAX,
            own_until: 0,
            missed: 0,
            partial: Vec::new(),
            role: peer.role,
            lenient: *peer.address == Address::Stdin,
            skipping: false,
            torn: false,
        };
        self.greeting.clear();
        if peer.role != Role::Publish {
            session.cursor = self.log.join();
            self.listeners += 1;
            self.promised += self.count(&session, session.cursor, self.log.end());
        }
        if self.room.announce || self.tagger.is_some() {
            self.members.insert(peer.id, peer.address.clone());
        }
        if self.is_announced(peer.address) {
            let Peer { id, address, .. } = peer;
            if session.hears() {
                self.greet(*id);
            }
            self.announce(
                &format!("* client {id} ({address}) came"),
                Some(&mut session),
            );
        }
        (session, Outcome::reply(&self.greeting))
    }

    fn receive<'a>(&'a mut self, session: &'a mut Session, mut input: &'a [u8]) -> Outcome<'a> {
        if session.role == Role::Subscribe {
            return Outcome::NOTHING;
        }
        loop {
            if session.skipping {
                let Some(end) = memchr::memchr(b'\n', input) else {
                    return Outcome::NOTHING;
                };
                session.skipping = false;
                input = &input[end + 1..];
            }
            let framing = session.framing(&self.room);
            let Found { whole, fits } =
                framing.find(&session.partial, input, self.room.max_message);
            let (whole, rest) = input.split_at(whole);
            if !whole.is_empty() {
                self.publish(session, whole);
            }
            if fits {
                session.partial.extend_from_slice(rest);
                return Outcome::NOTHING;
            }
            if !session.lenient {
                return Outcome::close(CloseReason::MessageTooLong);
            }
            let most = self.room.max_message;
            warn!("a line of standard input is longer than {most} bytes: left out");
            session.partial = Vec::new();
            session.skipping = true;
            input = rest;
        }
    }

    fn end<'a>(&'a mut self, session: &'a mut Session) -> Outcome<'a> {
        if !session.partial.is_empty() && session.framing(&self.room) == Framing::Lines {
            self.publish(session, b"\n");
        }
        if session.hears() {
            session.until = self.log.end();
            self.listeners -= 1;
            let cursor = session.cursor;
            self.forward(session, cursor);
        }
        Outcome::NOTHING
    }

    fn close(&mut self, mut session: Session, reason: CloseReason) {
        self.let_go(&mut session);
        let Session { id, missed, .. } = session;
        if missed > 0 {
            warn!("client {id} has missed {}", plural(missed, "message"));
        }
        let Some(address) = self.members.remove(&id) else {
            return;
        };
        if self.is_announced(&address) && reason != CloseReason::Shutdown {
            self.announce(&format!("* client {id} ({address}) left: {reason}"), None);
        }
    }

    fn published(&self) -> u64 {
        self.log.end()
    }

    fn shared<'a>(&'a self, session: &'a Session) -> [&'a [u8]; 2] {
        let end = self.end_for(session);
        if session.cursor >= end {
            return [&[], &[]];
        }
        let (first, after) = self.piece(session, session.cursor);
        if after >= end {
            return [first, &[]];
        }
        [first, self.piece(session, after).0]
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        if written == 0 {
            return;
        }
        let to = self.behind(session, written as u64);
        session.torn = to != self.log.end() && !self.log.is_boundary(to);
        self.forward(session, to);
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
        let rest = self.log.next_end(session.cursor) - session.cursor;
        usize::try_from(rest).expect("a message fits in memory")
    }

    fn deafen(&mut self, session: &mut Session) {
        self.let_go(session);
        session.torn = false;
    }

    fn skip(&mut self, session: &mut Session) {
        assert!(!session.torn, "the rest of a message goes first");
        let mut to = self.log.newest().min(self.end_for(session));
        if to <= session.cursor {
            return;
        }
        if let Some(own) = self.next_own(session, to)
            && own.start <= to
        {
            to = own.end;
        }
        let missed = self.count(session, session.cursor, to);
        session.missed += missed;
        self.missed += missed;
        self.promised -= missed;
        self.forward(session, to);
    }

    fn say(&mut self, text: &[u8]) -> bool {
        let (id, name) = OPERATOR;
        let mark = self.mark();
        let line = self.room.framing.line(text);
        self.append(id, Some(name), [&line, &[]]);
        self.promise(mark, None);
        true
    }

    fn message(&self, text: &[u8]) -> Vec<u8> {
        self.room.framing.message(text)
    }

    fn most_input(&self) -> usize {
        let tags = match &self.tagger {
            Some(tagger) => MOST_TAGS / (tagger.longest(LONGEST_PEER) + 1),
            None => MOST_INPUT,
        };
        let message = match self.room.framing {
            Framing::Raw => self.room.max_message,
            Framing::Lines | Framing::U32 => MOST_INPUT,
        };
        tags.min(message).clamp(1, MOST_INPUT)
    }

    fn capacity(&self) -> u64 {
        self.room.log_size
    }

    fn wants_time(&self) -> bool {
        self.tagger.is_some()
    }

    fn set_time(&mut self, now: SystemTime) {
        if let Some(tagger) = &mut self.tagger {
            tagger.set_time(now);
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(Traffic {
            messages: self.log.messages(),
            promised: self.promised,
            missed: self.missed,
            position: self.log.end(),
            held: self.held(),
        })
    }

    fn owed(&self, session: &Session) -> (u64, u64) {
        let owed = self.count(session, session.cursor, self.end_for(session));
        (owed, session.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::service::Action;
    use crate::service::TagFormat;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn small(max_message: usize) -> Broadcast {
        with_segments(max_message, 1 << 10)
    }

    fn with_segments(max_message: usize, segment: usize) -> Broadcast {
        let room = Room {
            max_message,
            ..Room::default()
        };
        Broadcast::with_segments(room, segment)
    }

    fn join(room: &mut Broadcast) -> Session {
        join_as(room, Role::Both)
    }

    fn join_as(room: &mut Broadcast, role: Role) -> Session {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let peer = Peer {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            address: &address,
            local: &address,
            role,
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

    /// What tags make of the shortest messages stays within what the log has room for.
    #[test]
    fn a_piece_of_input_never_becomes_more_than_is_allowed_for() {
        let mut room = Broadcast::new(Room {
            tag: Some(TagFormat::default()),
            ..Room::default()
        })
        .unwrap();
        let mut session = join(&mut room);
        let before = room.published();
        let input = vec![b'\n'; room.most_input()];
        room.receive(&mut session, &input);
        let made = usize::try_from(room.published() - before).unwrap();
        assert!(input.len() * 20 < made && made <= MOST_TAGS + input.len());
    }

    #[test]
    fn what_came_before_a_line_that_is_too_long_is_published() {
        let mut room = small(3);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        let outcome = room.receive(&mut a, b"one\nthree\n");
        assert_eq!(outcome.then, Action::Close(CloseReason::MessageTooLong));
        assert_eq!(take(&mut room, &mut b, 100), b"one\n");
    }

    #[test]
    fn a_last_line_gets_its_newline_and_a_partial_one_is_not_shown() {
        let mut room = small(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut a, b"x");
        assert_eq!(take(&mut room, &mut b, 100), b"");
        room.end(&mut a);
        assert_eq!(take(&mut room, &mut b, 100), b"x\n");
        assert_eq!(take(&mut room, &mut a, 100), b"");
    }

    #[test]
    fn after_its_end_a_client_is_owed_what_there_was_by_then() {
        let mut room = small(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut b, b"1\n");
        room.end(&mut a);
        room.receive(&mut b, b"2\n");
        assert_eq!(take(&mut room, &mut a, 1), b"1\n");
    }

    /// Its cursor keeps the log from there on, so it must count as behind, however little is left.
    #[test]
    fn who_has_ended_and_takes_nothing_lags_behind_all_that_is_kept() {
        let mut room = small(10);
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
        let mut room = with_segments(100, 4);
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
        let mut room = small(100);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        for _ in 0..10 {
            room.receive(&mut a, b"a\n");
            room.receive(&mut b, b"b\n");
        }
        assert_eq!(take(&mut room, &mut a, 1), b"b\n".repeat(10));
        assert_eq!(take(&mut room, &mut b, 3), b"a\n".repeat(10));
        assert_eq!((room.own.capacity(), a.partial.capacity()), (0, 0));
    }
}
