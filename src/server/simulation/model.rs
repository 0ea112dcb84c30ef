//! A naive model of the services: the messages that each client should receive.

use std::collections::{HashMap, VecDeque};
use std::mem::take;

use crate::close::CloseReason;
use crate::net::address::Role;
use crate::peer::Peer;
use crate::service::{Balance, Framing, Replay, Room, Traffic};

/// A message as a client is sent it, with its number among all messages.
pub(super) type Message = (usize, Vec<u8>);

/// A room as a naive broadcast would have it: each client has a queue of its own.
#[derive(Debug)]
pub(super) struct Model {
    room: Room,
    messages: Vec<Vec<u8>>,
    /// All clients that there ever were, by the index of their connection.
    pub(super) records: HashMap<usize, Record>,
}

/// The record of one client.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of a client, in any combination"
)]
pub(super) struct Record {
    /// Its number in notices and tags.
    number: u64,
    /// Its name in notices.
    name: String,
    role: Role,
    /// All input that the service was given.
    pub(super) input: Vec<u8>,
    /// The beginning of a message that isn't complete.
    partial: Vec<u8>,
    /// True once a message was too long; input after it doesn't count.
    pub(super) too_long: bool,
    pub(super) greeting: Vec<u8>,
    /// True once it has arrived.
    pub(super) arrived: bool,
    /// The line that it is sent last.
    pub(super) last: Vec<u8>,
    /// Messages that it is owed.
    queue: VecDeque<Message>,
    /// Number of bytes of the first of them that it was sent.
    begun: usize,
    /// Messages that it was sent.
    sent: Vec<Vec<u8>>,
    /// Number of messages that it skipped.
    missed: u64,
    /// Messages that it was still owed when the server closed it.
    undelivered: u64,
    /// True once it has ended its input: it is owed nothing new.
    ended: bool,
    /// True once its output was dropped: it is owed nothing new.
    dropped: bool,
    /// Number of messages of a service without end, and true once no more of them follow.
    endless: (usize, bool),
    /// Messages that it was owed at that time.
    lost: VecDeque<Message>,
    /// Close reason, once it is closed.
    pub(super) reason: Option<CloseReason>,
}

impl Record {
    /// True if the beginning of a message waits for its rest.
    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty() && !self.too_long
    }

    /// True if it is owed new messages.
    fn is_subscribed(&self) -> bool {
        let open = !self.ended && !self.dropped && self.reason.is_none();
        open && self.role != Role::Publish
    }
}

impl Model {
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            messages: Vec::new(),
            records: HashMap::new(),
        }
    }

    fn record(&mut self, id: usize) -> &mut Record {
        self.records.get_mut(&id).unwrap()
    }

    pub(super) fn open(&mut self, id: usize, peer: &Peer<'_>) {
        let name = format!("client {} ({})", peer.id, peer.address);
        let announce = self.room.announce;
        let greeting = match peer.role {
            Role::Both | Role::Subscribe if announce => self.greeting(peer.id),
            _ => Vec::new(),
        };
        let record = Record {
            number: peer.id,
            name,
            role: peer.role,
            queue: self.replay(peer.role),
            greeting,
            ..Record::default()
        };
        assert!(self.records.insert(id, record).is_none(), "opened twice");
    }

    /// Tells the others of a client, once.
    pub(super) fn arrive(&mut self, id: usize) {
        assert!(self.room.announce, "an arrival that the room did not want");
        let record = self.record(id);
        assert!(!record.arrived && record.reason.is_none(), "arrived twice");
        record.arrived = true;
        let name = record.name.clone();
        self.notice(id, &format!("* {name} came"));
    }

    fn greeting(&self, number: u64) -> Vec<u8> {
        let open = self
            .records
            .values()
            .filter(|r| r.reason.is_none() && r.arrived);
        let mut open: Vec<(u64, &str)> = open.map(|r| (r.number, &*r.name)).collect();
        open.sort_unstable();
        let names: Vec<&str> = open.iter().map(|(_, name)| *name).collect();
        let text = match names.len() {
            0 => format!("* you are client {number}; nobody else is here"),
            _ => format!("* you are client {number}; here: {}", names.join(", ")),
        };
        self.framed(text.as_bytes())
    }

    /// The newest messages, as far as the limits of a replay allow.
    fn replay(&self, role: Role) -> VecDeque<Message> {
        let (count, mut bytes) = match self.room.replay {
            _ if role == Role::Publish => (0, 0),
            Replay::None => (0, 0),
            Replay::Messages(n) => (n, self.room.log_size / 4),
            Replay::Bytes(n) => (u64::MAX, n),
        };
        let mut replay = VecDeque::new();
        for (number, message) in self.messages.iter().enumerate().rev() {
            let length = message.len() as u64;
            if replay.len() as u64 >= count || length > bytes {
                break;
            }
            bytes -= length;
            replay.push_front((number, message.clone()));
        }
        replay
    }

    /// A text of one line as a message.
    fn framed(&self, text: &[u8]) -> Vec<u8> {
        match self.room.framing {
            Framing::U32 => with_length(text),
            Framing::Lines | Framing::Raw => [text, b"\n"].concat(),
        }
    }

    /// Publishes a notice about the client `from`, to all others.
    fn notice(&mut self, from: usize, text: &str) {
        let message = self.framed(text.as_bytes());
        self.publish(message, |id| id != from);
    }

    /// Publishes a message of the client `from`.
    fn send(&mut self, from: usize, message: &[u8]) {
        let tag = match self.room.tag {
            Some(_) => format!("{}>", self.records[&from].number),
            None => String::new(),
        };
        let message = match self.room.framing {
            Framing::U32 => with_length(&[tag.as_bytes(), &message[4..]].concat()),
            Framing::Lines | Framing::Raw => [tag.as_bytes(), message].concat(),
        };
        let all = self.room.include_sender;
        self.publish(message, |id| all || id != from);
    }

    fn publish(&mut self, message: Vec<u8>, includes: impl Fn(usize) -> bool) {
        let number = self.messages.len();
        for (id, record) in &mut self.records {
            if record.is_subscribed() && includes(*id) {
                record.queue.push_back((number, message.clone()));
            }
        }
        self.messages.push(message);
    }

    pub(super) fn receive(&mut self, id: usize, input: &[u8]) {
        assert!(!input.is_empty(), "a service is given empty input");
        let (framing, most) = (self.room.framing, self.room.max_message);
        let record = self.record(id);
        assert!(
            !record.ended && record.reason.is_none(),
            "input after the end"
        );
        record.input.extend(input);
        if record.role == Role::Subscribe {
            return;
        }
        if framing == Framing::Raw {
            assert!(input.len() <= most, "more than a message");
            return self.send(id, input);
        }
        for &byte in input {
            let record = self.record(id);
            if record.too_long {
                return;
            }
            record.partial.push(byte);
            match complete(framing, &record.partial, most) {
                Some(true) => {
                    let message = take(&mut record.partial);
                    self.send(id, &message);
                }
                Some(false) => {}
                None => record.too_long = true,
            }
        }
    }

    /// Takes note of input that means nothing.
    pub(super) fn discard(&mut self, id: usize, input: &[u8]) {
        let record = self.record(id);
        assert!(!record.ended && record.reason.is_none());
        record.input.extend(input);
    }

    /// Makes a client be owed `ahead` messages of a service without end.
    pub(super) fn refill(&mut self, id: usize, message: fn(usize) -> Message, ahead: usize) {
        let record = self.record(id);
        while record.queue.len() < ahead && !record.endless.1 && !record.dropped {
            record.queue.push_back(message(record.endless.0));
            record.endless.0 += 1;
        }
    }

    /// Owes a client no more than the rest of a message that was sent in part.
    pub(super) fn finish_message(&mut self, id: usize) {
        let record = self.record(id);
        record.endless.1 = true;
        record.queue.truncate(record.begun.min(1));
    }

    /// Publishes a client's incomplete line, because it has waited for the line timeout.
    pub(super) fn complete_partial(&mut self, id: usize) {
        let lines = self.room.framing == Framing::Lines && self.room.line_timeout.is_some();
        let record = self.record(id);
        if lines && !record.partial.is_empty() {
            let line = [&take(&mut record.partial)[..], b"\n"].concat();
            self.send(id, &line);
        }
    }

    /// Ends a client's input, which means nothing if it only subscribes.
    pub(super) fn end(&mut self, id: usize) {
        if self.record(id).role == Role::Subscribe {
            return;
        }
        let framing = self.room.framing;
        let mut rest = take(&mut self.record(id).partial);
        if !rest.is_empty() && framing == Framing::Lines {
            rest.push(b'\n');
            self.send(id, &rest);
        }
        self.record(id).ended = true;
    }

    pub(super) fn advance(&mut self, id: usize, mut written: usize) {
        let record = self.record(id);
        while written > 0 {
            let (_, message) = &record.queue[0];
            let now = written.min(message.len() - record.begun);
            record.begun += now;
            written -= now;
            if record.begun == message.len() {
                record.begun = 0;
                record
                    .sent
                    .extend(record.queue.pop_front().map(|(_, message)| message));
            }
        }
    }

    pub(super) fn unfinished(&self, id: usize) -> usize {
        let record = &self.records[&id];
        match record.begun {
            0 => 0,
            begun => record.queue[0].1.len() - begun,
        }
    }

    /// Drops the messages that a client is owed.
    pub(super) fn drop_output(&mut self, id: usize) {
        let record = self.record(id);
        record.lost.extend(record.queue.drain(..));
        record.begun = 0;
        record.dropped = true;
    }

    pub(super) fn skip(&mut self, id: usize) {
        let newest = self.messages.len() - 1;
        let record = self.record(id);
        assert_eq!(record.begun, 0, "a message is torn");
        let before = record.queue.len();
        record.queue.retain(|(number, _)| *number >= newest);
        record.missed += (before - record.queue.len()) as u64;
    }

    pub(super) fn close(&mut self, id: usize, reason: CloseReason) {
        let announce = self.room.announce && reason != CloseReason::Shutdown;
        let record = self.record(id);
        assert!(record.reason.is_none(), "closed twice");
        record.reason = Some(reason);
        if reason.cuts_off() {
            record.undelivered = record.queue.len() as u64;
        }
        let (name, arrived) = (record.name.clone(), record.arrived);
        self.record(id).last = self.explain(id, reason);
        if announce && arrived {
            self.notice(id, &format!("* {name} left: {reason}"));
        }
    }

    /// The last line of a client that is closed with this reason.
    fn explain(&self, id: usize, reason: CloseReason) -> Vec<u8> {
        let record = &self.records[&id];
        let listens = record.role != Role::Publish && !record.dropped;
        if !self.room.announce || self.room.framing != Framing::Lines || !listens {
            return Vec::new();
        }
        let lost = record.missed + record.undelivered;
        let s = if lost == 1 { "" } else { "s" };
        let why = match reason {
            CloseReason::SlowConsumer if lost > 0 => {
                format!("you have missed {lost} message{s}")
            }
            CloseReason::MessageTooLong => {
                format!("a line may have {} bytes", self.room.max_message)
            }
            _ => return Vec::new(),
        };
        self.framed(format!("* you are disconnected ({reason}): {why}").as_bytes())
    }

    pub(super) fn last_line(&self, id: usize) -> Vec<u8> {
        self.records[&id].last.clone()
    }

    pub(super) fn balance(&self, id: usize) -> Balance {
        let record = &self.records[&id];
        Balance {
            owed: record.queue.len() as u64,
            missed: record.missed,
        }
    }

    /// All messages that a client was promised, whether it was sent them or not.
    pub(super) fn promised(&self, id: usize) -> Vec<Vec<u8>> {
        let record = &self.records[&id];
        let rest = record.lost.iter().chain(&record.queue);
        let rest = rest.map(|(_, message)| message);
        record.sent.iter().chain(rest).cloned().collect()
    }

    /// Checks counters, except for positions in the log.
    pub(super) fn check(&self, traffic: Traffic) {
        assert_eq!(traffic.messages, self.messages.len() as u64);
        let all = || self.records.values();
        let undelivered = all().map(|record| record.undelivered);
        assert_eq!(traffic.undelivered, undelivered.sum::<u64>());
        let closed = all().filter(|record| record.reason.is_some());
        let incomplete = closed.filter(|record| record.missed + record.undelivered > 0);
        assert_eq!(traffic.incomplete, incomplete.count() as u64);
        assert_eq!(
            traffic.missed,
            all().map(|record| record.missed).sum::<u64>()
        );
        let open = all().filter(|record| record.reason.is_none());
        let owed: usize = open.map(|record| record.queue.len()).sum();
        let sent: usize = all().map(|record| record.sent.len()).sum();
        assert_eq!(traffic.promised, (owed + sent) as u64);
    }
}

fn with_length(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text].concat()
}

/// True if these bytes are a whole message; none if they exceed the limit of `most` bytes.
fn complete(framing: Framing, bytes: &[u8], most: usize) -> Option<bool> {
    if framing == Framing::Lines {
        let whole = bytes.ends_with(b"\n");
        return (whole || bytes.len() <= most).then_some(whole);
    }
    let Some(header) = bytes.first_chunk::<4>() else {
        return Some(false);
    };
    let length = u32::from_be_bytes(*header) as usize;
    (length <= most).then_some(bytes.len() == 4 + length)
}
