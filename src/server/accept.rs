//! Accepting: the phase of the tick in which new clients come in.

use std::io;
use std::time::{Duration, Instant};

use log::warn;

use super::report::Seldom;
use super::tick::Tick;
use crate::net::Net;
use crate::net::accept_error::AcceptError;
use crate::net::address::{Address, Role};
use crate::net::error::cause;
use crate::service::Service;
use crate::text::plural;

/// Clients accepted from one listener in a tick, so that a crowd at the door doesn't keep those
/// inside waiting.
const BATCH: usize = 256;
/// How long accepting rests when the system has run out of something.
const REST: Duration = Duration::from_millis(100);

/// What is remembered between ticks about accepting.
#[derive(Debug)]
pub(super) struct Acceptor {
    /// For each listener, whether its backlog may hold somebody, and for whom it is.
    latched: Vec<bool>,
    doors: Vec<Door>,
    resting_until: Option<Instant>,
    warned: Seldom,
}

/// What a listener is for, and its address.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) role: Role,
    pub(super) address: Address,
}

impl Acceptor {
    pub(super) fn new(doors: Vec<Door>) -> Self {
        Self {
            latched: vec![false; doors.len()],
            doors,
            resting_until: None,
            warned: Seldom::default(),
        }
    }

    pub(super) fn latch(&mut self, listener: usize) {
        if let Some(latched) = self.latched.get_mut(listener) {
            *latched = true;
        }
    }

    /// A client has left: there may be room again.
    pub(super) fn wake(&mut self) {
        self.resting_until = None;
    }

    /// There are no listeners any more.
    pub(super) fn close(&mut self) {
        self.latched.clear();
        self.resting_until = None;
    }

    pub(super) fn resting_until(&self) -> Option<Instant> {
        self.resting_until
    }

    /// Whether some backlog may hold somebody.
    pub(super) fn is_latched(&self) -> bool {
        self.latched.contains(&true)
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Whether accepting could go on without another event.
    pub(super) fn can_accept(&self) -> bool {
        self.acceptor.is_latched()
            && self.acceptor.resting_until.is_none()
            && self.holding.is_empty()
            && self.clients.len() < self.limits.max_clients
    }

    /// Takes clients from the backlogs that are not empty.
    pub(super) fn accept(&mut self) {
        // While the room is held up nothing is published, and no newcomer announced.
        if !self.acceptor.is_latched() || !self.holding.is_empty() {
            return;
        }
        if let Some(until) = self.acceptor.resting_until {
            if self.net.now() < until {
                return;
            }
            self.acceptor.resting_until = None;
        }
        for listener in 0..self.acceptor.latched.len() {
            // There may be none any more: one client was enough.
            if self.acceptor.latched.get(listener) == Some(&true) {
                self.accept_from(listener);
            }
        }
    }

    fn accept_from(&mut self, listener: usize) {
        for _ in 0..BATCH {
            if self.clients.len() >= self.limits.max_clients {
                let limit = plural(self.limits.max_clients as u64, "client");
                self.warn_now_and_then(|| {
                    format!("the limit of {limit} is reached: newcomers wait until one leaves")
                });
                return;
            }
            match self.net.accept(listener) {
                Ok((stream, address)) => {
                    self.admit(listener, stream, address);
                    if self.acceptor.latched.is_empty() {
                        return;
                    }
                }
                Err(e) => match AcceptError::of(&e) {
                    AcceptError::Retry => {}
                    AcceptError::Drained => {
                        self.acceptor.latched[listener] = false;
                        return;
                    }
                    AcceptError::Exhausted => return self.rest(&e),
                },
            }
        }
    }

    /// Takes in who has come to a listener; with `once` nobody else will be.
    fn admit(&mut self, listener: usize, stream: N::Stream, address: Address) {
        let Door {
            role,
            address: local,
        } = self.acceptor.doors[listener].clone();
        let local = if self.wants_local() {
            self.net.local_address(listener, &stream)
        } else {
            local
        };
        match self.open(stream, address, role, &local) {
            Ok(key) if self.limits.once => {
                self.clients[key].last = true;
                self.close_doors();
            }
            Ok(_) => {}
            Err((address, e)) => {
                self.warn_now_and_then(|| format!("cannot serve {address}: {}", cause(&e)));
            }
        }
    }

    /// Nobody comes any more.
    pub(super) fn close_doors(&mut self) {
        self.net.close_listeners();
        self.acceptor.close();
        self.mail.close();
    }

    /// Whether it matters at which of many addresses somebody has come in.
    fn wants_local(&self) -> bool {
        let greeting = self.greeting.as_ref();
        self.service.needs().local_address || greeting.is_some_and(|g| g.template().wants_local())
    }

    /// The backlog stays latched; nobody is accepted until a client leaves or a while has passed.
    fn rest(&mut self, error: &io::Error) {
        self.acceptor.resting_until = Some(self.net.now() + REST);
        let clients = plural(self.clients.len() as u64, "client");
        let cause = cause(error);
        self.warn_now_and_then(|| {
            format!("cannot accept more than {clients}: {cause}; newcomers wait until one leaves")
        });
    }

    /// At most once in a while: what is wrong stays so for long, and is met often.
    pub(super) fn warn_now_and_then(&mut self, text: impl FnOnce() -> String) {
        let now = self.net.now();
        if self.acceptor.warned.is_due(now) {
            warn!("{}", text());
        }
    }
}
