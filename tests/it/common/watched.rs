//! A service under observation: its calls are counted, and it can be held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::SystemTime;

use resound::{
    Balance, CloseReason, Needs, Outcome, Owed, Peer, Release, Service, Slices, Traffic,
};

use super::client::Client;
use super::{DEADLINE, eventually};

/// Input that holds up the service until the test opens the gate.
const WAIT: &[u8] = b"wait\n";

/// The test's view of a watched service.
#[derive(Debug)]
pub(crate) struct Watch {
    counts: Arc<Counts>,
    gate: Sender<()>,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    received: AtomicU64,
    closed: AtomicU64,
    waiting: AtomicBool,
}

/// `service` with unchanged behaviour, and the means to watch it.
pub(crate) fn watched<S: Service>(service: S) -> (Watched<S>, Watch) {
    let (sender, gate) = channel();
    let counts = Arc::new(Counts::default());
    let watch = Watch {
        counts: Arc::clone(&counts),
        gate: sender,
    };
    let watched = Watched {
        service,
        counts,
        gate,
    };
    (watched, watch)
}

impl Watch {
    /// Clients accepted so far.
    pub(crate) fn opened(&self) -> u64 {
        self.counts.opened.load(Ordering::SeqCst)
    }

    /// Bytes given to the service so far.
    pub(crate) fn received(&self) -> u64 {
        self.counts.received.load(Ordering::SeqCst)
    }

    /// Sessions given back to the service so far.
    pub(crate) fn closed(&self) -> u64 {
        self.counts.closed.load(Ordering::SeqCst)
    }

    /// Holds up the server while `meanwhile` runs: the server finds the actions of clients in it done
    /// when it next polls.
    pub(crate) fn while_held_up(&self, gatekeeper: &Client, meanwhile: impl FnOnce()) {
        gatekeeper.send(WAIT);
        eventually("the service being held up", || {
            self.counts.waiting.load(Ordering::SeqCst)
        });
        meanwhile();
        self.gate.send(()).expect("the service waits for it");
    }
}

/// A service that counts its calls, and waits when it is told to.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    service: S,
    counts: Arc<Counts>,
    gate: Receiver<()>,
}

impl<S: Service> Service for Watched<S> {
    type Session = S::Session;

    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>) {
        self.counts.opened.fetch_add(1, Ordering::SeqCst);
        self.service.open(peer)
    }

    fn receive<'a>(&'a mut self, session: &'a mut S::Session, input: &'a [u8]) -> Outcome<'a> {
        let length = input.len() as u64;
        self.counts.received.fetch_add(length, Ordering::SeqCst);
        if input == WAIT {
            self.counts.waiting.store(true, Ordering::SeqCst);
            let opened = self.gate.recv_timeout(DEADLINE);
            opened.expect("the test opens the gate");
            self.counts.waiting.store(false, Ordering::SeqCst);
        }
        self.service.receive(session, input)
    }

    fn arrive(&mut self, session: &mut S::Session) {
        self.service.arrive(session);
    }

    fn has_partial(&self, session: &S::Session) -> bool {
        self.service.has_partial(session)
    }

    fn complete_partial<'a>(&'a mut self, session: &'a mut S::Session) -> Outcome<'a> {
        self.service.complete_partial(session)
    }

    fn end<'a>(&'a mut self, session: &'a mut S::Session) -> Outcome<'a> {
        self.service.end(session)
    }

    fn close(&mut self, session: S::Session, reason: CloseReason) -> Slices<'_> {
        self.counts.closed.fetch_add(1, Ordering::SeqCst);
        self.service.close(session, reason)
    }

    fn published(&self) -> u64 {
        self.service.published()
    }

    fn owed<'a>(&'a self, session: &'a S::Session) -> Owed<'a> {
        self.service.owed(session)
    }

    fn advance(&mut self, session: &mut S::Session, written: usize) {
        self.service.advance(session, written);
    }

    fn release(&mut self, session: &mut S::Session, release: Release) {
        self.service.release(session, release);
    }

    fn needs(&self) -> Needs {
        self.service.needs()
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
        self.service.datagram(peer, input)
    }

    fn publish_line(&mut self, text: &[u8]) -> bool {
        self.service.publish_line(text)
    }

    fn frame_line(&self, text: &[u8]) -> Vec<u8> {
        self.service.frame_line(text)
    }

    fn set_time(&mut self, now: SystemTime) {
        self.service.set_time(now);
    }

    fn traffic(&self) -> Option<Traffic> {
        self.service.traffic()
    }

    fn balance(&self, session: &S::Session) -> Balance {
        self.service.balance(session)
    }
}
