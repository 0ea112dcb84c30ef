//! What clients should have seen: services under watch, and naive copies of what they do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Debug;

use crate::close::CloseReason;
use crate::service::{Broadcast, Echo, Outcome, Peer, Service};

/// One message of the room.
#[derive(Debug)]
pub(super) struct Message {
    from: usize,
    bytes: Vec<u8>,
}

/// What became of one connection, by its number.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// All that the service was given.
    pub(super) input: Vec<u8>,
    /// Where in the room's messages it came in, and where its input ended.
    joined: usize,
    until: Option<usize>,
    partial: Vec<u8>,
    /// A line was too long: nothing after that counts.
    pub(super) too_long: bool,
    pub(super) reason: Option<CloseReason>,
}

/// A plain list of messages, and for each connection what it did.
#[derive(Debug)]
pub(super) struct Model {
    messages: Vec<Message>,
    pub(super) seen: HashMap<usize, Seen>,
    max_message: usize,
}

impl Model {
    /// Messages of at most so many bytes, newline not counted.
    pub(super) fn new(max_message: usize) -> Self {
        let (messages, seen) = (Vec::new(), HashMap::new());
        Self {
            messages,
            seen,
            max_message,
        }
    }

    fn open(&mut self, id: usize) {
        let joined = self.messages.len();
        let seen = Seen {
            joined,
            ..Seen::default()
        };
        assert!(self.seen.insert(id, seen).is_none(), "opened twice");
    }

    fn receive(&mut self, id: usize, input: &[u8]) {
        assert!(!input.is_empty(), "a service is never given nothing");
        let seen = self.seen.get_mut(&id).unwrap();
        assert!(
            seen.until.is_none() && seen.reason.is_none(),
            "input after the end"
        );
        seen.input.extend(input);
        for &byte in input {
            if seen.too_long {
                return;
            }
            seen.partial.push(byte);
            if byte == b'\n' {
                let bytes = std::mem::take(&mut seen.partial);
                self.messages.push(Message { from: id, bytes });
            } else if seen.partial.len() > self.max_message {
                seen.too_long = true;
            }
        }
    }

    fn end(&mut self, id: usize) {
        let seen = self.seen.get_mut(&id).unwrap();
        if !seen.partial.is_empty() {
            let mut bytes = std::mem::take(&mut seen.partial);
            bytes.push(b'\n');
            self.messages.push(Message { from: id, bytes });
        }
        seen.until = Some(self.messages.len());
    }

    fn close(&mut self, id: usize, reason: CloseReason) {
        let count = self.messages.len();
        let seen = self.seen.get_mut(&id).unwrap();
        assert!(seen.reason.is_none(), "closed twice");
        seen.reason = Some(reason);
        seen.until.get_or_insert(count);
    }

    /// The messages that a connection should have been sent, up to where it was closed.
    fn owed(&self, id: usize) -> Vec<Vec<u8>> {
        let seen = &self.seen[&id];
        let until = seen.until.unwrap_or(self.messages.len());
        let messages = &self.messages[seen.joined..until];
        let others = messages.iter().filter(|m| m.from != id);
        others.map(|m| m.bytes.clone()).collect()
    }
}

/// A service under watch.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) inner: S,
    pub(super) model: RefCell<Model>,
    /// What the last call of `unfinished` said.
    pub(super) unfinished: Cell<usize>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, max_message: usize) -> Self {
        Self {
            inner,
            model: RefCell::new(Model::new(max_message)),
            unfinished: Cell::new(0),
        }
    }
}

impl<S: Service> Service for Watched<S> {
    type Session = (usize, S::Session);

    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>) {
        let id = usize::from(peer.address.socket_addr().unwrap().port());
        self.model.borrow_mut().open(id);
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
            let behind = self.inner.lag(&session.1) > 0 || self.unfinished.get() > 0;
            assert!(behind, "a client that had caught up is closed");
        }
        self.model.borrow_mut().close(session.0, reason);
        self.inner.close(session.1, reason);
    }

    fn published(&self) -> u64 {
        self.inner.published()
    }

    fn shared<'a>(&'a self, session: &'a Self::Session) -> [&'a [u8]; 2] {
        self.inner.shared(&session.1)
    }

    fn advance(&mut self, session: &mut Self::Session, written: usize) {
        self.inner.advance(&mut session.1, written);
    }

    fn lag(&self, session: &Self::Session) -> u64 {
        self.inner.lag(&session.1)
    }

    fn unfinished(&self, session: &Self::Session) -> usize {
        self.unfinished.set(self.inner.unfinished(&session.1));
        self.unfinished.get()
    }
}

/// What the simulation asks of a service beside serving.
pub(super) trait Subject: Service<Session: Debug> {
    fn model(&self) -> &RefCell<Model>;

    /// The messages that a connection is owed, as the naive copy has it.
    fn owed(&self, id: usize) -> Vec<Vec<u8>>;

    /// Bytes of shared output that are held.
    fn held(&self) -> u64;
}

impl Subject for Watched<Echo> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    /// Each byte is a message.
    fn owed(&self, id: usize) -> Vec<Vec<u8>> {
        let model = self.model.borrow();
        model.seen[&id]
            .input
            .iter()
            .map(|&byte| vec![byte])
            .collect()
    }

    fn held(&self) -> u64 {
        0
    }
}

impl Subject for Watched<Broadcast> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    fn owed(&self, id: usize) -> Vec<Vec<u8>> {
        self.model.borrow().owed(id)
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }
}
