//! What clients should have seen: services under watch, and naive copies of what they do.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::mem::take;

use crate::close::CloseReason;
use crate::net::address::Role;
use crate::peer::Peer;
use crate::service::{
    Balance, Broadcast, Echo, Framing, Needs, Outcome, Owed, Release, Replay, Room, Service,
    Traffic,
};

/// One message as a client is to be sent it, with its place among all of them.
type Message = (usize, Vec<u8>);

/// What became of one connection, by its number.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The service's name for it, and what the room is told about it.
    name: u64,
    title: String,
    role: Role,
    /// All that the service was given.
    pub(super) input: Vec<u8>,
    /// What has come of a message that isn't complete.
    partial: Vec<u8>,
    /// A message was too long: nothing after that counts.
    pub(super) too_long: bool,
    /// What it is told first.
    pub(super) greeting: Vec<u8>,
    /// Messages that it is owed, and how much of the first it was sent.
    queue: VecDeque<Message>,
    begun: usize,
    /// Messages that it was sent, and how many it was made to skip.
    got: Vec<Vec<u8>>,
    missed: u64,
    /// It has ended its input, and is owed nothing new.
    ended: bool,
    /// Nothing can be sent to it, and what it was owed when that became known.
    deaf: bool,
    lost: VecDeque<Message>,
    pub(super) reason: Option<CloseReason>,
}

/// A room as a naive broadcast would have it: a queue a client.
#[derive(Debug)]
pub(super) struct Model {
    room: Room,
    messages: Vec<Vec<u8>>,
    pub(super) seen: HashMap<usize, Seen>,
}

impl Model {
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            messages: Vec::new(),
            seen: HashMap::new(),
        }
    }

    fn seen(&mut self, id: usize) -> &mut Seen {
        self.seen.get_mut(&id).unwrap()
    }

    fn open(&mut self, id: usize, peer: &Peer<'_>) {
        let title = format!("client {} ({})", peer.id, peer.address);
        let announce = self.room.announce;
        let greeting = match peer.role {
            Role::Both | Role::Subscribe if announce => self.greeting(peer.id),
            _ => Vec::new(),
        };
        let seen = Seen {
            name: peer.id,
            title: title.clone(),
            role: peer.role,
            queue: self.replay(peer.role),
            greeting,
            ..Seen::default()
        };
        assert!(self.seen.insert(id, seen).is_none(), "opened twice");
        if announce {
            self.notice(id, &format!("* {title} came"));
        }
    }

    fn greeting(&self, name: u64) -> Vec<u8> {
        let here = self.seen.values().filter(|seen| seen.reason.is_none());
        let mut here: Vec<(u64, &str)> = here.map(|seen| (seen.name, &*seen.title)).collect();
        here.sort_unstable();
        let titles: Vec<&str> = here.iter().map(|(_, title)| *title).collect();
        let text = match titles.len() {
            0 => format!("* you are client {name}; nobody else is here"),
            _ => format!("* you are client {name}; here: {}", titles.join(", ")),
        };
        self.framed(text.as_bytes())
    }

    /// The newest messages, as far as they fit.
    fn replay(&self, role: Role) -> VecDeque<Message> {
        let (count, mut bytes) = match self.room.replay {
            _ if role == Role::Publish => (0, 0),
            Replay::None => (0, 0),
            Replay::Messages(n) => (n, self.room.log_size / 4),
            Replay::Bytes(n) => (u64::MAX, n),
        };
        let mut kept = VecDeque::new();
        for (at, message) in self.messages.iter().enumerate().rev() {
            let length = message.len() as u64;
            if kept.len() as u64 >= count || length > bytes {
                break;
            }
            bytes -= length;
            kept.push_front((at, message.clone()));
        }
        kept
    }

    /// A text of one line as a message.
    fn framed(&self, text: &[u8]) -> Vec<u8> {
        match self.room.framing {
            Framing::U32 => with_length(text),
            Framing::Lines | Framing::Raw => [text, b"\n"].concat(),
        }
    }

    /// A message for everybody but `from`, whatever else is so.
    fn notice(&mut self, from: usize, text: &str) {
        let message = self.framed(text.as_bytes());
        self.publish(message, |id| id != from);
    }

    /// A message that `from` has sent.
    fn send(&mut self, from: usize, message: &[u8]) {
        let tag = match self.room.tag {
            Some(_) => format!("{}>", self.seen[&from].name),
            None => String::new(),
        };
        let message = match self.room.framing {
            Framing::U32 => with_length(&[tag.as_bytes(), &message[4..]].concat()),
            Framing::Lines | Framing::Raw => [tag.as_bytes(), message].concat(),
        };
        let all = self.room.include_sender;
        self.publish(message, |id| all || id != from);
    }

    fn publish(&mut self, message: Vec<u8>, hears: impl Fn(usize) -> bool) {
        let at = self.messages.len();
        for (id, seen) in &mut self.seen {
            let here =
                !seen.ended && !seen.deaf && seen.reason.is_none() && seen.role != Role::Publish;
            if here && hears(*id) {
                seen.queue.push_back((at, message.clone()));
            }
        }
        self.messages.push(message);
    }

    fn receive(&mut self, id: usize, input: &[u8]) {
        assert!(!input.is_empty(), "a service is never given nothing");
        let (framing, most) = (self.room.framing, self.room.max_message);
        let seen = self.seen(id);
        assert!(!seen.ended && seen.reason.is_none(), "input after the end");
        seen.input.extend(input);
        if seen.role == Role::Subscribe {
            return;
        }
        if framing == Framing::Raw {
            assert!(input.len() <= most, "more than a message");
            return self.send(id, input);
        }
        for &byte in input {
            let seen = self.seen(id);
            if seen.too_long {
                return;
            }
            seen.partial.push(byte);
            match complete(framing, &seen.partial, most) {
                Some(true) => {
                    let message = take(&mut seen.partial);
                    self.send(id, &message);
                }
                Some(false) => {}
                None => seen.too_long = true,
            }
        }
    }

    fn end(&mut self, id: usize) {
        let framing = self.room.framing;
        let mut rest = take(&mut self.seen(id).partial);
        if !rest.is_empty() && framing == Framing::Lines {
            rest.push(b'\n');
            self.send(id, &rest);
        }
        self.seen(id).ended = true;
    }

    fn advance(&mut self, id: usize, mut written: usize) {
        let seen = self.seen(id);
        while written > 0 {
            let (_, message) = &seen.queue[0];
            let now = written.min(message.len() - seen.begun);
            seen.begun += now;
            written -= now;
            if seen.begun == message.len() {
                seen.begun = 0;
                seen.got
                    .extend(seen.queue.pop_front().map(|(_, message)| message));
            }
        }
    }

    fn unfinished(&self, id: usize) -> usize {
        let seen = &self.seen[&id];
        match seen.begun {
            0 => 0,
            begun => seen.queue[0].1.len() - begun,
        }
    }

    /// Its messages are lost with the connection.
    fn drop_output(&mut self, id: usize) {
        let seen = self.seen(id);
        seen.lost.extend(seen.queue.drain(..));
        seen.begun = 0;
        seen.deaf = true;
    }

    fn skip(&mut self, id: usize) {
        let newest = self.messages.len() - 1;
        let seen = self.seen(id);
        assert_eq!(seen.begun, 0, "a message is torn");
        let before = seen.queue.len();
        seen.queue.retain(|(at, _)| *at >= newest);
        seen.missed += (before - seen.queue.len()) as u64;
    }

    fn close(&mut self, id: usize, reason: CloseReason) {
        let announce = self.room.announce && reason != CloseReason::Shutdown;
        let seen = self.seen(id);
        assert!(seen.reason.is_none(), "closed twice");
        seen.reason = Some(reason);
        let title = seen.title.clone();
        if announce {
            self.notice(id, &format!("* {title} left: {reason}"));
        }
    }

    fn balance(&self, id: usize) -> Balance {
        let seen = &self.seen[&id];
        Balance {
            owed: seen.queue.len() as u64,
            missed: seen.missed,
        }
    }

    /// What became of all messages, but for where they lie.
    fn check(&self, traffic: Traffic) {
        assert_eq!(traffic.messages, self.messages.len() as u64);
        let all = || self.seen.values();
        assert_eq!(traffic.missed, all().map(|seen| seen.missed).sum::<u64>());
        let here = all().filter(|seen| seen.reason.is_none());
        let owed: usize = here.map(|seen| seen.queue.len()).sum();
        let got: usize = all().map(|seen| seen.got.len()).sum();
        assert_eq!(traffic.promised, (owed + got) as u64);
    }
}

fn with_length(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text].concat()
}

/// Whether these bytes are a whole message; none if they are too many.
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

/// A service under watch.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) inner: S,
    pub(super) model: RefCell<Model>,
    /// What the last call of `unfinished` said.
    unfinished: Cell<usize>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, room: Room) -> Self {
        Self {
            inner,
            model: RefCell::new(Model::new(room)),
            unfinished: Cell::new(0),
        }
    }
}

impl<S: Service> Service for Watched<S> {
    type Session = (usize, S::Session);

    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>) {
        let id = usize::from(peer.address.socket_addr().unwrap().port());
        self.model.borrow_mut().open(id, peer);
        let (session, outcome) = self.inner.open(peer);
        ((id, session), outcome)
    }

    fn receive<'a>(&'a mut self, session: &'a mut Self::Session, input: &'a [u8]) -> Outcome<'a> {
        self.model.borrow_mut().receive(session.0, input);
        self.inner.receive(&mut session.1, input)
    }

    fn end<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        self.model.borrow_mut().end(session.0);
        self.inner.end(&mut session.1)
    }

    fn close(&mut self, session: Self::Session, reason: CloseReason) {
        if reason == CloseReason::SlowConsumer {
            let behind = self.inner.owed(&session.1).lag > 0 || self.unfinished.get() > 0;
            assert!(behind, "a client that had caught up is closed");
        }
        self.model.borrow_mut().close(session.0, reason);
        self.inner.close(session.1, reason);
    }

    fn published(&self) -> u64 {
        self.inner.published()
    }

    fn owed<'a>(&'a self, session: &'a Self::Session) -> Owed<'a> {
        let owed = self.inner.owed(&session.1);
        assert_eq!(owed.unfinished, self.model.borrow().unfinished(session.0));
        assert!(owed.next.len() >= owed.unfinished.min(1));
        assert_eq!(owed.lag == 0, owed.next.is_empty());
        self.unfinished.set(owed.unfinished);
        owed
    }

    fn advance(&mut self, session: &mut Self::Session, written: usize) {
        self.model.borrow_mut().advance(session.0, written);
        self.inner.advance(&mut session.1, written);
    }

    fn release(&mut self, session: &mut Self::Session, release: Release) {
        let mut model = self.model.borrow_mut();
        match release {
            Release::Endless => {}
            Release::Backlog => {
                assert!(self.inner.owed(&session.1).lag > 0 || self.unfinished.get() > 0);
                model.skip(session.0);
            }
            Release::All => model.drop_output(session.0),
        }
        self.inner.release(&mut session.1, release);
    }

    fn frame_line(&self, text: &[u8]) -> Vec<u8> {
        self.inner.frame_line(text)
    }

    /// Without a capacity: the simulation sets the limits.
    fn needs(&self) -> Needs {
        let needs = self.inner.needs();
        Needs {
            time: needs.time,
            most_input: needs.most_input,
            ..Needs::default()
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        let traffic = self.inner.traffic()?;
        self.model.borrow().check(traffic);
        Some(traffic)
    }

    fn balance(&self, session: &Self::Session) -> Balance {
        let balance = self.inner.balance(&session.1);
        assert_eq!(balance, self.model.borrow().balance(session.0));
        balance
    }
}

/// What the simulation asks of a service beside serving.
pub(super) trait Subject: Service<Session: Debug> {
    fn model(&self) -> &RefCell<Model>;

    /// The messages that a connection was to be sent before it was closed.
    fn expected(&self, id: usize) -> Vec<Vec<u8>>;

    /// Bytes of shared output that are held.
    fn held(&self) -> u64;
}

impl Subject for Watched<Echo> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    /// Each byte is a message.
    fn expected(&self, id: usize) -> Vec<Vec<u8>> {
        let model = self.model.borrow();
        let input = model.seen[&id].input.iter();
        input.map(|&byte| vec![byte]).collect()
    }

    fn held(&self) -> u64 {
        0
    }
}

impl Subject for Watched<Broadcast> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    fn expected(&self, id: usize) -> Vec<Vec<u8>> {
        let model = self.model.borrow();
        let seen = &model.seen[&id];
        let rest = seen.lost.iter().chain(&seen.queue);
        let rest = rest.map(|(_, message)| message);
        seen.got.iter().chain(rest).cloned().collect()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }
}
