//! A service whose calls are checked against the model.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;

use super::model::{Message, Model};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::service::{
    Balance, Broadcast, Echo, Needs, Outcome, Owed, Release, Room, Service, Traffic,
};

/// A service whose calls are checked against a model.
#[derive(Debug)]
pub(super) struct Checked<S> {
    pub(super) inner: S,
    pub(super) model: RefCell<Model>,
    /// [`Owed::unfinished`] in the last reply.
    unfinished: Cell<usize>,
    /// The message with this number, for a service that sends them without end.
    pub(super) endless: Option<fn(usize) -> Message>,
    /// Messages of such a service that the model has ready for each client.
    pub(super) ahead: usize,
}

impl<S> Checked<S> {
    pub(super) fn new(inner: S, room: Room) -> Self {
        Self {
            inner,
            model: RefCell::new(Model::new(room)),
            unfinished: Cell::new(0),
            endless: None,
            ahead: 0,
        }
    }

    /// Makes the model owe a client the next messages of a service without end.
    fn refill(&self, id: usize) {
        if let Some(message) = self.endless {
            self.model.borrow_mut().refill(id, message, self.ahead);
        }
    }
}

impl<S: Service> Service for Checked<S> {
    type Session = (usize, S::Session);

    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>) {
        // Standard input is the first connection.
        let port = peer
            .address
            .socket_addr()
            .map_or(0, |address| address.port());
        let id = usize::from(port);
        self.model.borrow_mut().open(id, peer);
        self.refill(id);
        let (session, outcome) = self.inner.open(peer);
        ((id, session), outcome)
    }

    fn arrive(&mut self, session: &mut Self::Session) {
        self.model.borrow_mut().arrive(session.0);
        self.inner.arrive(&mut session.1);
    }

    fn receive<'a>(&'a mut self, session: &'a mut Self::Session, input: &'a [u8]) -> Outcome<'a> {
        let mut model = self.model.borrow_mut();
        match self.endless {
            Some(_) => model.discard(session.0, input),
            None => model.receive(session.0, input),
        }
        drop(model);
        self.inner.receive(&mut session.1, input)
    }

    fn has_partial(&self, session: &Self::Session) -> bool {
        let partial = self.inner.has_partial(&session.1);
        let model = self.model.borrow();
        assert_eq!(partial, model.records[&session.0].has_partial());
        partial
    }

    fn complete_partial<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        self.model.borrow_mut().complete_partial(session.0);
        self.inner.complete_partial(&mut session.1)
    }

    fn end<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        self.model.borrow_mut().end(session.0);
        self.inner.end(&mut session.1)
    }

    fn close(&mut self, session: Self::Session, reason: CloseReason) -> Slices<'_> {
        if reason == CloseReason::SlowConsumer {
            let behind = self.inner.owed(&session.1).lag > 0 || self.unfinished.get() > 0;
            assert!(behind, "a client that had caught up is closed");
        }
        self.model.borrow_mut().close(session.0, reason);
        let last = self.inner.close(session.1, reason);
        assert_eq!(last.to_vec(), self.model.borrow().last_line(session.0));
        last
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
        self.refill(session.0);
        self.inner.advance(&mut session.1, written);
    }

    fn release(&mut self, session: &mut Self::Session, release: Release) {
        let mut model = self.model.borrow_mut();
        match release {
            Release::Endless if self.endless.is_some() => model.finish_message(session.0),
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

    /// Without bounds on output: the simulation sets the limits.
    fn needs(&self) -> Needs {
        let needs = self.inner.needs();
        Needs {
            time: needs.time,
            partial_timeout: needs.partial_timeout,
            arrivals: needs.arrivals,
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

/// A service with its model.
pub(super) trait CheckedService: Service<Session: Debug> {
    fn model(&self) -> &RefCell<Model>;

    /// The messages that a client should have been sent until it was closed.
    fn expected(&self, id: usize) -> Vec<Vec<u8>>;

    /// Bytes of shared output in memory.
    fn held(&self) -> u64;
}

impl CheckedService for Checked<Echo> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    /// Each byte is a message.
    fn expected(&self, id: usize) -> Vec<Vec<u8>> {
        let model = self.model.borrow();
        let input = model.records[&id].input.iter();
        input.map(|&byte| vec![byte]).collect()
    }

    fn held(&self) -> u64 {
        0
    }
}

impl CheckedService for Checked<Broadcast> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    fn expected(&self, id: usize) -> Vec<Vec<u8>> {
        self.model.borrow().promised(id)
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }
}
