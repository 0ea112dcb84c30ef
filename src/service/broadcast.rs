//! Broadcast: each message of one client goes to every other client, through one shared log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use log::warn;

use super::framing::{Found, Framing};
use super::log::{Ends, Log};
use super::own::{Chain, Own, OwnMessages};
use super::room::{MOST_TAGS, Room, RoomError};
use super::tag::{LONGEST_PEER, OPERATOR, Tagger};
use super::{Balance, MOST_INPUT, Needs, Outcome, Owed, Release, Service, Traffic};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::net::address::Address;
use crate::peer::Peer;
use crate::text::plural;

/// Bytes in a segment of the log: more than one turn brings, so that the bytes owed to a client are
/// usually in one piece.
const SEGMENT: usize = 512 * 1024;
/// Time for which a text waits for its newline until the log says so.
const HINT_AFTER: Duration = Duration::from_secs(2);
/// The most clients that a newcomer is told of by name.
const MOST_NAMES: usize = 100;

/// The broadcast service: each message of one client goes to all the other clients, in one order
/// for all.
///
/// A message is published when it is complete. With [`Framing::Lines`] the last message of a client
/// that ends without a newline is published with one added; with [`Framing::U32`] an incomplete one
/// is dropped. Standard input is read as lines in any framing.
#[derive(Debug)]
pub struct Broadcast {
    room: Room,
    log: Log,
    tagger: Option<Tagger>,
    own: OwnMessages,
    /// The clients, if messages are tagged or arrivals announced; else empty.
    members: BTreeMap<u64, Member>,
    /// Those of them that the room was told of. A newcomer is told of the first, and of the number:
    /// a walk over all would cost each newcomer as much as there are clients.
    arrived: BTreeSet<u64>,
    /// The last text for one client: its greeting, or the reason of its close.
    notice: Vec<u8>,
    /// Number of clients that receive what is published.
    listeners: u64,
    /// The counter [`Traffic::promised`].
    promised: u64,
    /// The counter [`Traffic::missed`].
    missed: u64,
    /// The counters [`Traffic::undelivered`] and [`Traffic::incomplete`].
    undelivered: u64,
    incomplete: u64,
    /// True once the log has said that a text waits for its newline.
    hinted: bool,
}

/// A client, as the others are told of it.
#[derive(Debug)]
struct Member {
    address: Address,
    /// True if the room is told of it when it arrives. A standard stream is no visitor.
    visitor: bool,
}

/// The cursor of a client that is owed nothing any more: a position that no byte reaches.
const NOWHERE: u64 = u64::MAX;

/// The room's memory of one client.
///
/// Invariants: `cursor` never lies in one of the client's own messages, and is [`NOWHERE`] if the
/// client does not listen (any more); the log up to `until` ends with a whole message.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "two facts of the client, and two of its stream, in any combination"
)]
pub struct Session {
    id: u64,
    /// Everything before this was sent to the client or is its own.
    cursor: u64,
    /// End of the shared output for this client: [`u64::MAX`] until its input has ended.
    until: u64,
    /// Its own messages that were published while it was behind.
    own: Chain,
    /// Messages that it skipped.
    missed: u64,
    /// The beginning of a message that is incomplete.
    partial: Vec<u8>,
    /// True if its input is published.
    publishes: bool,
    /// True if it stays when its input ends: its input means nothing. A pipe does not: its end is
    /// that of its reader.
    stays: bool,
    /// True for standard input: it is read as lines, and a line that is too long is left out.
    lenient: bool,
    /// True while the rest of a line is left out.
    skipping: bool,
    /// True if the cursor lies within a message.
    torn: bool,
}

/// End of the log and number of its messages at one moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    messages: u64,
}

impl Broadcast {
    /// A room.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn new(room: Room) -> Result<Self, RoomError> {
        room.check()?;
        Ok(Self::with_segments(room, SEGMENT))
    }

    /// The same with segments of another size, a power of two, and unchecked settings.
    pub(crate) fn with_segments(room: Room, segment: usize) -> Self {
        Self {
            log: Log::new(segment, room.retention()),
            tagger: room.tag.clone().map(Tagger::new),
            own: OwnMessages::default(),
            members: BTreeMap::new(),
            arrived: BTreeSet::new(),
            notice: Vec::new(),
            listeners: 0,
            promised: 0,
            missed: 0,
            undelivered: 0,
            incomplete: 0,
            hinted: false,
            room,
        }
    }

    /// Bytes in the log.
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
            let mut payload = framing.payload(Slices::new(kept, message));
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
    fn append(&mut self, id: u64, name: Option<&str>, payload: Slices<'_>) {
        let tag = match (&mut self.tagger, name) {
            (None, _) => "",
            (Some(tagger), Some(name)) => tagger.tag(id, &name),
            (Some(tagger), None) => tagger.tag(id, &self.members[&id].address),
        };
        let header = self.room.framing.header(tag.len() + payload.len());
        let header = header.as_ref().map_or(&[][..], |header| &header[..]);
        let [first, second] = payload.parts();
        let parts = [header, tag.as_bytes(), first, second];
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
        let message = self.frame_line(text.as_bytes());
        self.log.append(&message, Ends::Last);
        self.promise(mark, about);
    }

    /// The present state of the log, for [`Broadcast::promise`].
    fn mark(&self) -> Mark {
        Mark {
            end: self.log.end(),
            messages: self.log.messages(),
        }
    }

    /// Promises the messages published since `mark` to every listener `except` one.
    fn promise(&mut self, since: Mark, except: Option<&mut Session>) {
        let except = except.filter(|session| session.listens() && session.until == u64::MAX);
        let published = self.log.messages() - since.messages;
        self.promised += published * (self.listeners - u64::from(except.is_some()));
        if let Some(session) = except {
            self.keep_from_sender(session, since.end);
        }
    }

    /// Marks the log from `start` on as the session's own messages, which it does not get.
    fn keep_from_sender(&mut self, session: &mut Session, start: u64) {
        let end = self.log.end();
        if session.cursor == start {
            self.log.forward(&mut session.cursor, end);
            return;
        }
        self.own.push(&mut session.own, start, end);
        self.forget_own();
    }

    /// Forgets own messages that the log no longer holds.
    fn forget_own(&mut self) {
        self.own.forget(self.log.start(), self.log.is_read());
    }

    /// The client's first own message that ends after `from`.
    #[inline]
    fn next_own(&self, session: &Session, from: u64) -> Option<Own> {
        if session.own.is_empty() {
            return None; // the usual case
        }
        self.own.next(session.own, from)
    }

    /// End of the published bytes that the client may get.
    fn end_for(&self, session: &Session) -> u64 {
        session.until.min(self.log.end())
    }

    /// The bytes that the client gets from `from` on, in one piece, and the position after them. An
    /// own message that follows is passed over.
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

    /// The bytes that the client gets next, in at most two pieces.
    fn next_for(&self, session: &Session) -> Slices<'_> {
        let end = self.end_for(session);
        let (first, after) = self.piece(session, session.cursor);
        if after >= end {
            return first.into();
        }
        Slices::new(first, self.piece(session, after).0)
    }

    /// The client's cursor after the next `bytes` of what it is owed.
    fn cursor_after(&self, session: &Session, mut bytes: u64) -> u64 {
        let mut to = session.cursor;
        if session.own.is_empty() {
            return to + bytes; // the usual case
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

    /// Number of messages that the client is owed and that end after `from` and not after `to`.
    fn count(&self, session: &Session, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let all = self.log.ended(to) - self.log.ended(from);
        let own = self.own.of(session.own).take_while(|own| own.end <= to);
        let own = own.filter(|own| own.end > from);
        all - own
            .map(|own| self.log.ended(own.end) - self.log.ended(own.start))
            .sum::<u64>()
    }

    /// Detaches the client from the log: it gets nothing more of what it is owed.
    fn detach(&mut self, session: &mut Session) {
        if !session.listens() {
            return;
        }
        self.promised -= self.count(session, session.cursor, self.end_for(session));
        self.listeners -= u64::from(session.until == u64::MAX);
        self.log.leave(session.cursor);
        session.cursor = NOWHERE;
        session.own = Chain::EMPTY;
        self.forget_own();
    }

    /// Moves the client's cursor. At the end of all that it will ever be owed the client is
    /// detached: the log keeps nothing for it.
    #[inline]
    fn forward(&mut self, session: &mut Session, to: u64) {
        self.log.forward(&mut session.cursor, to);
        if !session.own.is_empty() {
            self.own.pass(&mut session.own, to);
        }
        if session.cursor == session.until {
            self.detach(session);
        } else {
            self.forget_own();
        }
    }

    /// Makes the client go on with the newest message.
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

    /// Tells the new client `id` its number, and which clients are in the room.
    fn greet(&mut self, id: u64) {
        let name = |other| {
            #[cfg(test)]
            crate::testing::work::step();
            format!("client {other} ({})", self.members[other].address)
        };
        // It has not arrived itself.
        let named: Vec<String> = self.arrived.iter().take(MOST_NAMES).map(name).collect();
        let here = match (named.len(), self.arrived.len() - named.len()) {
            (0, _) => "nobody else is here".to_owned(),
            (_, 0) => format!("here: {}", named.join(", ")),
            (_, n) => format!("here: {} and {n} more", named.join(", ")),
        };
        self.notice = self.frame_line(format!("* you are client {id}; {here}").as_bytes());
    }

    /// Begins the membership of a client, and greets it. The others are told when it arrives.
    fn welcome(&mut self, peer: &Peer<'_>, session: &Session) {
        if !self.room.announce && self.tagger.is_none() {
            return;
        }
        let member = Member {
            address: peer.address.clone(),
            visitor: self.room.announce && peer.is_announced(),
        };
        if member.visitor && session.listens() {
            self.greet(peer.id);
        }
        self.members.insert(peer.id, member);
    }

    /// The last line for a client that is closed for a fault of its own: why, and what it has lost.
    fn explain(&self, session: &Session, reason: CloseReason, undelivered: u64) -> Vec<u8> {
        let visitor = |member: &Member| member.visitor;
        let told = self.members.get(&session.id).is_some_and(visitor)
            && self.room.framing == Framing::Lines;
        let lost = session.missed + undelivered;
        let why = match reason {
            CloseReason::SlowConsumer if lost > 0 => {
                format!("you have missed {}", plural(lost, "message"))
            }
            CloseReason::MessageTooLong if session.listens() => {
                format!("a line may have {} bytes", self.room.max_message)
            }
            _ => return Vec::new(),
        };
        if told {
            self.frame_line(format!("* you are disconnected ({reason}): {why}").as_bytes())
        } else {
            Vec::new()
        }
    }
}

impl Session {
    /// True if it gets what is published.
    fn listens(&self) -> bool {
        self.cursor != NOWHERE
    }

    /// The framing of its input.
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

    fn needs(&self) -> Needs {
        let tags = match &self.tagger {
            Some(tagger) => MOST_TAGS / (tagger.longest(LONGEST_PEER) + 1),
            None => MOST_INPUT,
        };
        let message = match self.room.framing {
            Framing::Raw => self.room.max_message,
            Framing::Lines | Framing::U32 => MOST_INPUT,
        };
        let lines = self.room.framing == Framing::Lines;
        Needs {
            time: self.tagger.is_some(),
            partial_timeout: lines.then(|| self.room.line_timeout.unwrap_or(HINT_AFTER)),
            most_input: tags.min(message).clamp(1, MOST_INPUT),
            capacity: self.room.log_size,
            arrivals: self.room.announce,
            ..Needs::default()
        }
    }

    fn open(&mut self, peer: &Peer<'_>) -> (Session, Outcome<'_>) {
        let mut session = Session {
            id: peer.id,
            cursor: NOWHERE,
            until: u64::MAX,
            own: Chain::EMPTY,
            missed: 0,
            partial: Vec::new(),
            publishes: peer.publishes(),
            stays: !peer.publishes() && peer.is_remote(),
            lenient: *peer.address == Address::Stdin,
            skipping: false,
            torn: false,
        };
        self.notice.clear();
        if peer.listens() {
            session.cursor = self.log.join();
            self.listeners += 1;
            self.promised += self.count(&session, session.cursor, self.log.end());
        }
        self.welcome(peer, &session);
        (session, Outcome::reply(&self.notice))
    }

    fn arrive(&mut self, session: &mut Session) {
        let Some(member) = self.members.get(&session.id) else {
            return;
        };
        if member.visitor && self.arrived.insert(session.id) {
            let text = format!("* client {} ({}) came", session.id, member.address);
            self.announce(&text, Some(session));
        }
    }

    fn receive<'a>(&'a mut self, session: &'a mut Session, mut input: &'a [u8]) -> Outcome<'a> {
        if !session.publishes {
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
                return Outcome::NOTHING.then_close(CloseReason::MessageTooLong);
            }
            let most = self.room.max_message;
            warn!("a line of standard input is longer than {most} bytes: left out");
            session.partial = Vec::new();
            session.skipping = true;
            input = rest;
        }
    }

    fn has_partial(&self, session: &Session) -> bool {
        !session.partial.is_empty()
    }

    fn complete_partial<'a>(&'a mut self, session: &'a mut Session) -> Outcome<'a> {
        if session.partial.is_empty() {
            return Outcome::NOTHING;
        }
        if self.room.line_timeout.is_some() {
            self.publish(session, b"\n");
        } else if !std::mem::replace(&mut self.hinted, true) {
            let (id, bytes) = (session.id, plural(session.partial.len() as u64, "byte"));
            warn!(
                "client {id} has sent {bytes} without a newline: they are published when it sends one; for clients that send none there is --line-timeout"
            );
        }
        Outcome::NOTHING
    }

    fn end<'a>(&'a mut self, session: &'a mut Session) -> Outcome<'a> {
        if session.stays {
            return Outcome::NOTHING.then_stay();
        }
        if !session.partial.is_empty() && session.framing(&self.room) == Framing::Lines {
            self.publish(session, b"\n");
        }
        if session.listens() {
            session.until = self.log.end();
            self.listeners -= 1;
            // Detaches a client that is owed nothing.
            let cursor = session.cursor;
            self.forward(session, cursor);
        }
        Outcome::NOTHING
    }

    fn close(&mut self, mut session: Session, reason: CloseReason) -> Slices<'_> {
        let owed = self.count(&session, session.cursor, self.end_for(&session));
        let undelivered = if reason.cuts_off() { owed } else { 0 };
        self.notice = self.explain(&session, reason, undelivered);
        self.detach(&mut session);
        let Session { id, missed, .. } = session;
        if missed > 0 {
            warn!("client {id} has missed {}", plural(missed, "message"));
        }
        if undelivered > 0 {
            let messages = plural(undelivered, "message");
            warn!("client {id} was closed without {messages} ({reason})");
        }
        self.undelivered += undelivered;
        self.incomplete += u64::from(missed + undelivered > 0);
        let member = self.members.remove(&id);
        let member = member.filter(|_| self.arrived.remove(&id));
        if let Some(member) = member
            && reason != CloseReason::Shutdown
        {
            let text = format!("* client {id} ({}) left: {reason}", member.address);
            self.announce(&text, None);
        }
        self.notice.as_slice().into()
    }

    fn published(&self) -> u64 {
        self.log.end()
    }

    fn owed<'a>(&'a self, session: &'a Session) -> Owed<'a> {
        if session.cursor >= self.end_for(session) {
            return Owed::NOTHING;
        }
        let unfinished = if session.torn {
            self.log.next_end(session.cursor) - session.cursor
        } else {
            0
        };
        Owed {
            next: self.next_for(session),
            // Not just up to `until`: the log keeps everything from a cursor on.
            lag: self.log.end() - session.cursor,
            unfinished: usize::try_from(unfinished).expect("a message fits in memory"),
        }
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        if written == 0 {
            return;
        }
        let to = self.cursor_after(session, written as u64);
        session.torn = to != self.log.end() && !self.log.is_boundary(to);
        self.forward(session, to);
    }

    fn release(&mut self, session: &mut Session, release: Release) {
        match release {
            // Nothing is promised without an end.
            Release::Endless => {}
            Release::Backlog => self.skip(session),
            Release::All => {
                self.detach(session);
                session.torn = false;
            }
        }
    }

    fn publish_line(&mut self, text: &[u8]) -> bool {
        let (id, name) = OPERATOR;
        let mark = self.mark();
        let line = self.room.framing.line(text);
        self.append(id, Some(name), line.as_slice().into());
        self.promise(mark, None);
        true
    }

    fn frame_line(&self, text: &[u8]) -> Vec<u8> {
        self.room.framing.message(text)
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
            undelivered: self.undelivered,
            incomplete: self.incomplete,
            position: self.log.end(),
            held: self.held(),
        })
    }

    fn balance(&self, session: &Session) -> Balance {
        Balance {
            owed: self.count(session, session.cursor, self.end_for(session)),
            missed: session.missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Role;
    use crate::service::{Action, TagFormat};
    use crate::testing::work::steps;
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

    fn announcing(framing: Framing) -> Broadcast {
        let room = Room {
            announce: true,
            framing,
            max_message: 10,
            ..Room::default()
        };
        Broadcast::with_segments(room, 1 << 10)
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
            let owed = room.owed(session);
            if owed.next.parts()[0].is_empty() {
                assert_eq!(owed, Owed::NOTHING);
                return all;
            }
            let next = owed.next.take(step).to_vec();
            room.advance(session, next.len());
            all.extend(next);
        }
    }

    /// Tags in front of the shortest messages stay within the room that the log has for them.
    #[test]
    fn a_piece_of_input_never_becomes_more_than_is_allowed_for() {
        let mut room = Broadcast::new(Room {
            tag: Some(TagFormat::default()),
            ..Room::default()
        })
        .unwrap();
        let mut session = join(&mut room);
        let before = room.published();
        let input = vec![b'\n'; room.needs().most_input];
        room.receive(&mut session, &input);
        let made = usize::try_from(room.published() - before).unwrap();
        assert!(input.len() * 20 < made && made <= MOST_TAGS + input.len());
    }

    /// A health probe connects and leaves without a byte.
    #[test]
    fn client_is_announced_when_it_arrives_and_only_then_when_it_leaves() {
        let mut room = announcing(Framing::Lines);
        let mut listener = join_as(&mut room, Role::Subscribe);
        let probe = join(&mut room);
        assert!(room.close(probe, CloseReason::PeerClosed).is_empty());
        let mut visitor = join(&mut room);
        assert_eq!(take(&mut room, &mut listener, 100), b"");
        room.arrive(&mut visitor);
        let (name, address) = (visitor.id, "127.0.0.1:5000");
        let came = format!("* client {name} ({address}) came\n");
        assert_eq!(take(&mut room, &mut listener, 100), came.as_bytes());
        assert_eq!(take(&mut room, &mut visitor, 100), b"");
        assert!(room.close(visitor, CloseReason::Reset).is_empty());
        let left = format!("* client {name} ({address}) left: reset\n");
        assert_eq!(take(&mut room, &mut listener, 100), left.as_bytes());
        assert_eq!(room.traffic().unwrap().promised, 2);
    }

    #[test]
    fn arrival_of_a_client_whose_input_has_ended_is_owed_to_the_others_only() {
        let mut room = announcing(Framing::Lines);
        let (mut speaker, mut ended) = (join(&mut room), join(&mut room));
        room.receive(&mut speaker, b"one\n");
        room.end(&mut ended); // it is owed a line still
        room.arrive(&mut ended);
        assert_eq!(room.traffic().unwrap().promised, 2);
        assert_eq!(take(&mut room, &mut ended, 100), b"one\n");
        assert!(take(&mut room, &mut speaker, 100).ends_with(b"came\n"));
    }

    #[test]
    fn last_line_says_why_a_client_of_a_room_of_lines_is_closed() {
        let last = |framing, role, reason| {
            let mut room = announcing(framing);
            let (mut speaker, client) = (join(&mut room), join_as(&mut room, role));
            for _ in 0..3 {
                room.receive(&mut speaker, &framing.message(b"x"));
            }
            String::from_utf8(room.close(client, reason).to_vec()).unwrap()
        };
        let slow = CloseReason::SlowConsumer;
        assert_eq!(
            last(Framing::Lines, Role::Both, slow),
            "* you are disconnected (slow-consumer): you have missed 3 messages\n"
        );
        let too_long = CloseReason::MessageTooLong;
        assert_eq!(
            last(Framing::Lines, Role::Both, too_long),
            "* you are disconnected (message-too-long): a line may have 10 bytes\n"
        );
        assert_eq!(last(Framing::Lines, Role::Both, CloseReason::Idle), "");
        assert_eq!(last(Framing::Lines, Role::Publish, too_long), "");
        assert_eq!(last(Framing::U32, Role::Both, slow), "");
    }

    #[test]
    fn lines_before_one_that_is_too_long_are_published() {
        let mut room = small(3);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        let outcome = room.receive(&mut a, b"one\nthree\n");
        assert_eq!(outcome.action, Action::Close(CloseReason::MessageTooLong));
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
    fn client_that_ended_its_input_is_owed_only_the_messages_before() {
        let mut room = small(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut b, b"1\n");
        room.end(&mut a);
        room.receive(&mut b, b"2\n");
        assert_eq!(take(&mut room, &mut a, 1), b"1\n");
    }

    /// Its cursor keeps the log from there on, so it must count as behind, however little is left.
    #[test]
    fn ended_client_that_takes_nothing_lags_behind_all_that_is_kept() {
        let mut room = small(10);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut b, b"1\n");
        room.end(&mut a);
        for _ in 0..100 {
            room.receive(&mut b, b"2\n");
        }
        assert_eq!((room.owed(&a).lag, room.held()), (202, 202));
        assert_eq!(take(&mut room, &mut a, 1), b"1\n");
        assert_eq!(room.owed(&a).lag, 0);
    }

    #[test]
    fn the_rest_of_a_message_is_known_wherever_it_was_cut() {
        let mut room = with_segments(100, 4);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        room.receive(&mut a, b"0123456\n89\n");
        for written in 1..8 {
            assert_eq!(
                room.owed(&b).next.parts()[0].first(),
                Some(&(b'0' + written - 1))
            );
            room.advance(&mut b, 1);
            assert_eq!(room.owed(&b).unfinished, 8 - usize::from(written));
        }
        room.advance(&mut b, 1);
        assert_eq!(room.owed(&b).unfinished, 0);
    }

    /// Stretches of own messages looked at for each of `count` clients that have one, while `act`
    /// does something to every client.
    fn own_visits(count: u64, mut act: impl FnMut(&mut Broadcast, Session)) -> u64 {
        let mut room = small(100);
        let mut clients: Vec<Session> = (0..count).map(|_| join(&mut room)).collect();
        let visits = steps(|| {
            for client in &mut clients {
                room.receive(client, b"x\n");
            }
            for client in clients {
                act(&mut room, client);
            }
        });
        visits / count
    }

    /// Each looked for its own message among those of all: 8,000 that left at once stopped the loop
    /// for three quarters of a second.
    #[test]
    fn client_with_own_messages_costs_the_same_however_many_others_have_some() {
        let leave = |room: &mut Broadcast, client| {
            assert!(room.balance(&client).owed > 0);
            room.close(client, CloseReason::Reset);
        };
        let catch_up = |room: &mut Broadcast, mut client| {
            let owed = room.balance(&client).owed;
            assert_eq!(take(room, &mut client, 1 << 20).len() as u64, 2 * owed);
        };
        for count in [100, 1000] {
            let visits = [own_visits(count, leave), own_visits(count, catch_up)];
            assert!(
                visits.iter().all(|visits| (1..20).contains(visits)),
                "{visits:?}"
            );
        }
    }

    /// For each newcomer every client was looked at, so that a crowd of them cost its square.
    #[test]
    fn greeting_costs_the_same_however_many_clients_are_in_the_room() {
        let mut room = announcing(Framing::Lines);
        let mut clients: Vec<Session> = (0..1000).map(|_| join(&mut room)).collect();
        assert_eq!(steps(|| drop(join(&mut room))), 0, "none has arrived");
        for client in &mut clients {
            room.arrive(client);
        }
        assert_eq!(steps(|| drop(join(&mut room))), MOST_NAMES as u64);
        assert!(room.notice.ends_with(b" and 900 more\n"));
    }

    #[test]
    fn caught_up_clients_have_no_own_messages_in_memory() {
        let mut room = small(100);
        let (mut a, mut b) = (join(&mut room), join(&mut room));
        for _ in 0..10 {
            room.receive(&mut a, b"a\n");
            room.receive(&mut b, b"b\n");
        }
        assert_eq!(take(&mut room, &mut a, 1), b"b\n".repeat(10));
        assert_eq!(take(&mut room, &mut b, 3), b"a\n".repeat(10));
        assert_eq!((room.own.is_unallocated(), a.partial.capacity()), (true, 0));
    }
}
