//! Workload: connections that are opened, have one message echoed, and are closed.

use std::ops::Range;

use super::Load;
use super::clients::Clients;
use super::dialer::Connection;
use super::faults::Fault;
use super::message::Messages;
use super::mismatch::{Beginning, First, FirstBytes};
use super::moment::Moment;
use super::run::{ConnectRequest, Input, Run};
use super::workload::Workload;
use crate::net::link::Link;
use crate::net::{Dial, Readiness};

/// Clients that connect again and again.
pub(super) struct Churn<N: Dial> {
    clients: Clients<Attempt<N>>,
    messages: Messages,
    verify: bool,
    /// Clients without a connection that have not asked for one.
    idle: Vec<usize>,
    /// Indices in the schedule of connections that were due and that no client has asked for.
    due: Range<u64>,
    /// Number of connections that were asked for and are not open yet.
    requested: usize,
    finished: bool,
    /// The number of the next message.
    next: u64,
}

/// An open connection, which waits for the answer to its message.
struct Attempt<N: Dial> {
    link: Link<N::Stream>,
    /// The time at which it was due, or asked for.
    since: Moment,
    opened: Moment,
    number: u64,
    received: Vec<u8>,
}

/// The end of an attempt.
enum Ended {
    Answered,
    Lost,
}

impl<N: Dial> Churn<N> {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: Clients::new(load.clients),
            messages: Messages::new(load.size, 1),
            verify: load.verify,
            idle: (0..load.clients).collect(),
            due: 0..0,
            requested: 0,
            finished: false,
            next: 0,
        }
    }

    /// Makes a client idle, so that it can connect again.
    fn release(&mut self, key: usize, run: &mut Run<N>) {
        self.idle.push(key);
        self.request(run);
    }

    /// Asks for connections for as many idle clients as there are connections due.
    fn request(&mut self, run: &mut Run<N>) {
        while !self.idle.is_empty() {
            let since = match &run.schedule {
                Some(schedule) => self.due.next().map(|index| schedule.time(index)),
                None => (!self.finished).then(|| run.clock()),
            };
            // In this order: without a connection due the client stays idle.
            let Some(since) = since else {
                return;
            };
            let Some(key) = self.idle.pop() else {
                return;
            };
            run.requests.push(ConnectRequest { key, since });
            self.requested += 1;
        }
    }

    /// Reads the answer; returns how the attempt has ended, if it has.
    fn receive(&mut self, key: usize, run: &mut Run<N>) -> Option<Ended> {
        let (attempt, _) = self.clients.get_mut(key)?;
        while attempt.link.ready.readable {
            match run.read(&mut attempt.link) {
                Input::Bytes(n) => attempt.received.extend_from_slice(&run.buffer[..n]),
                Input::Nothing => return None,
                Input::End => return Some(Ended::Lost),
            }
            if attempt.received.len() >= self.messages.size() {
                return Some(Ended::Answered);
            }
        }
        None
    }

    /// Tells a server of another kind by an answer.
    fn check_first(&self, attempt: &Attempt<N>, run: &mut Run<N>) {
        let message = First {
            messages: &self.messages,
            sender: 0,
            number: attempt.number,
            is_sent: true,
            is_only: true,
        };
        let beginning = FirstBytes::default().compare(&attempt.received, message);
        if let Some(beginning) = beginning {
            run.tally.begins(beginning);
        }
    }

    fn judge(&self, attempt: &Attempt<N>, run: &mut Run<N>) {
        self.check_first(attempt, run);
        let (now, size) = (run.clock(), self.messages.size());
        let (answer, more) = attempt.received.split_at(size);
        if !more.is_empty() {
            run.tally.faults().add(Fault::Stray, 1);
        }
        let is_first = attempt.number < self.clients.len() as u64;
        if self.verify || is_first {
            if self.messages.is_intact(answer, 0, attempt.number) {
                run.tally.begins(Beginning::Right);
            } else {
                run.tally.faults().add(Fault::Corrupt, 1);
            }
        }
        run.tally.answered(attempt.since, now);
    }
}

impl<N: Dial> Workload<N> for Churn<N> {
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, run: &mut Run<N>) {
        self.requested -= 1;
        let Connection::Stream(stream) = connection else {
            return;
        };
        let mut link = Link::new(stream);
        let number = self.next;
        self.next += 1;
        link.send(self.messages.numbered(0, number, 1).into(), true);
        let attempt = Attempt {
            link,
            since: request.since,
            opened: run.now,
            number,
            received: Vec::new(),
        };
        self.clients.insert(request.key, attempt);
    }

    fn refused(&mut self, key: usize, run: &mut Run<N>) {
        self.requested -= 1;
        self.release(key, run);
    }

    fn ready(&mut self, key: usize, ready: Readiness, run: &mut Run<N>) {
        let Some((attempt, _)) = self.clients.get_mut(key) else {
            return;
        };
        attempt.link.latch(ready);
        attempt.link.flush();
        let Some(ended) = self.receive(key, run) else {
            return;
        };
        if let Some(attempt) = self.clients.remove(key) {
            match ended {
                Ended::Answered => self.judge(&attempt, run),
                Ended::Lost => {
                    self.check_first(&attempt, run);
                    let now = run.clock();
                    run.tally.missed(Fault::Unanswered, attempt.since, now);
                }
            }
        }
        self.release(key, run);
    }

    fn begin(&mut self, run: &mut Run<N>) {
        self.request(run);
    }

    fn advance(&mut self, run: &mut Run<N>) {
        let before = self.due.end;
        while let Some(index) = run.next_due() {
            self.due.end = index + 1;
        }
        if self.due.end > before {
            self.request(run);
        }
    }

    /// Closes connections that have had no answer for a whole timeout.
    fn expire(&mut self, sent_before: Moment, run: &mut Run<N>) {
        for key in 0..self.clients.len() {
            let is_late = |attempt: &Attempt<N>| attempt.opened < sent_before;
            if let Some(attempt) = self.clients.remove_if(key, is_late) {
                self.check_first(&attempt, run);
                let now = run.clock();
                run.tally.missed(Fault::Unanswered, attempt.since, now);
                self.release(key, run);
            }
        }
    }

    fn finish(&mut self, run: &mut Run<N>) {
        self.finished = true;
        if run.schedule.is_none() {
            self.requested = 0; // the dialer has dropped them
        }
    }

    fn is_settled(&self) -> bool {
        self.clients.connected() == 0 && self.requested == 0 && self.due.is_empty()
    }

    fn give_up(&mut self, run: &mut Run<N>) {
        let now = run.clock();
        let requested = self.requested as u64;
        run.tally.faults().add(Fault::Unanswered, requested);
        for key in 0..self.clients.len() {
            let attempt = self.clients.remove(key);
            if let Some(attempt) = attempt {
                self.check_first(&attempt, run);
                run.tally.missed(Fault::Unanswered, attempt.since, now);
            }
        }
        while let (Some(index), Some(schedule)) = (self.due.next(), &run.schedule) {
            let since = schedule.time(index);
            run.tally.missed(Fault::Unanswered, since, now);
        }
    }

    fn connected(&self) -> usize {
        self.clients.connected()
    }

    /// Clients connect again at any time.
    fn can_continue(&self) -> bool {
        true
    }
}
