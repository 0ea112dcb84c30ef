//! One client: its stream, latched readiness, outbox and session.
//!
//! Generic over the stream, so that tests can script it; it never sees the poller. Two layers:
//! [`Link`] moves bytes and remembers readiness, [`Connection`] knows what they mean and when
//! the client's time is over.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::close::CloseReason;
use crate::net::{Readiness, Stream};
use crate::service::{Outcome, Peer, Service, Then};

/// A stream, what it is ready for, and the private output that it didn't take yet.
#[derive(Debug)]
struct Link<T> {
    stream: T,
    ready: Readiness,
    /// Private unsent bytes. An empty outbox owns no memory.
    outbox: VecDeque<u8>,
    received: u64,
    sent: u64,
}

impl<T: Stream> Link<T> {
    /// One read; `None` when there is nothing to read now, 0 at the end of input.
    ///
    /// A short read means that the kernel's buffer is empty, which saves the second read that
    /// would say so; unless the end lies behind it ([`Readiness::ending`]): of that the kernel
    /// has already told.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(n) => {
                    self.ready.readable = n == buffer.len() || (self.ready.ending && n > 0);
                    self.received += n as u64;
                    return Ok(Some(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    self.ready.ending = false;
                    return Ok(None);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// One write; how many bytes the kernel took. A short write means that its buffer is full,
    /// and it will tell when there is room again.
    fn write(&mut self, [first, second]: [&[u8]; 2]) -> io::Result<usize> {
        let wanted = first.len() + second.len();
        loop {
            let result = if second.is_empty() {
                self.stream.write(first)
            } else {
                self.stream
                    .write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.ready.writable = n == wanted;
                    self.sent += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable = false;
                    return Ok(0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends private output: straight from where it lies if nothing is before it (`direct`),
    /// and the rest, or all, by way of the outbox.
    fn send(&mut self, reply: [&[u8]; 2], direct: bool) -> io::Result<()> {
        if reply[0].is_empty() && reply[1].is_empty() {
            return Ok(());
        }
        let direct = direct && self.outbox.is_empty() && self.ready.writable;
        let taken = if direct { self.write(reply)? } else { 0 };
        let [first, second] = cut(reply, taken);
        self.outbox.extend(first);
        self.outbox.extend(second);
        Ok(())
    }

    /// One write from the outbox.
    fn send_waiting(&mut self) -> io::Result<()> {
        let outbox = std::mem::take(&mut self.outbox);
        let (first, second) = outbox.as_slices();
        let result = self.write([first, second]);
        self.outbox = outbox;
        self.outbox.drain(..result?);
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
        Ok(())
    }
}

/// What is left of two slices without their first `n` bytes.
fn cut([first, second]: [&[u8]; 2], n: usize) -> [&[u8]; 2] {
    match n.checked_sub(first.len()) {
        None => [&first[n..], second],
        Some(n) => [&second[n..], &[]],
    }
}

/// The first `n` bytes of two slices.
fn limit([first, second]: [&[u8]; 2], n: usize) -> [&[u8]; 2] {
    let in_first = n.min(first.len());
    let in_second = (n - in_first).min(second.len());
    [&first[..in_first], &second[..in_second]]
}

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Input goes to the service.
    Serving,
    /// No more input for the service: all that the client is owed goes out, then it parts.
    Draining(CloseReason),
    /// The service has let go of it: the outbox goes out, then the write side is shut, and
    /// input is discarded until the peer ends too. Closing with unread input would send a
    /// reset, which destroys what is in flight (RFC 2525, 2.17).
    Parting(CloseReason),
    /// To be dropped.
    Closed(CloseReason),
}

/// One client's connection, with the session that a service `S` keeps for it.
#[derive(Debug)]
pub(crate) struct Connection<T, S> {
    link: Link<T>,
    /// The service's memory of this client, until the service lets go of it.
    session: Option<S>,
    state: State,
    /// The peer has ended its input.
    ended: bool,
    /// Our output is shut.
    shut: bool,
}

impl<T: Stream, S> Connection<T, S> {
    /// A connection that was just accepted; `service` may greet it.
    pub(crate) fn open<V>(stream: T, service: &mut V, peer: &Peer<'_>) -> Self
    where
        V: Service<Session = S>,
    {
        let ready = Readiness {
            writable: true,
            ..Readiness::default()
        };
        let mut link = Link {
            stream,
            ready,
            outbox: VecDeque::new(),
            received: 0,
            sent: 0,
        };
        let (session, outcome) = service.open(peer);
        let result = link.send(outcome.reply, true);
        let then = outcome.then;
        let mut connection = Self {
            link,
            session: Some(session),
            state: State::Serving,
            ended: false,
            shut: false,
        };
        connection.follow(service, result.map(|()| then));
        connection
    }

    /// Remembers what the stream has become ready for.
    pub(crate) fn latch(&mut self, ready: Readiness) {
        self.link.ready.readable |= ready.readable;
        self.link.ready.writable |= ready.writable;
        self.link.ready.ending |= ready.ending;
    }

    /// Makes the next turn read, whether or not the kernel has told of input.
    pub(crate) fn expect_input(&mut self) {
        self.link.ready.readable = true;
    }

    /// One turn: reads at most what `buffer` holds, and answers it.
    ///
    /// Nothing is read while more than `high_water` bytes are unsent.
    pub(crate) fn turn<V>(&mut self, service: &mut V, buffer: &mut [u8], high_water: u64)
    where
        V: Service<Session = S>,
    {
        let mut budget = buffer.len();
        while budget > 0 && self.wants_turn(service, high_water) {
            match self.link.read(&mut buffer[..budget]) {
                Ok(None) => {}
                Ok(Some(0)) => self.end_input(service),
                Ok(Some(n)) => {
                    self.receive(service, &buffer[..n]);
                    budget -= n;
                }
                Err(e) => self.fail(&e),
            }
        }
    }

    /// Whether a turn could make progress.
    pub(crate) fn wants_turn<V>(&self, service: &V, high_water: u64) -> bool
    where
        V: Service<Session = S>,
    {
        // The length of what is in memory fits in 64 bits.
        let unsent = |session| self.link.outbox.len() as u64 + service.lag(session);
        self.link.ready.readable
            && !self.ended
            && match self.state {
                State::Serving => self.session.as_ref().map_or(0, unsent) <= high_water,
                State::Draining(_) | State::Parting(_) => true,
                State::Closed(_) => false,
            }
    }

    /// Hands input to the service, if it still wants any, and sends the reply.
    fn receive<V>(&mut self, service: &mut V, input: &[u8])
    where
        V: Service<Session = S>,
    {
        let (State::Serving, Some(session)) = (self.state, self.session.as_mut()) else {
            return;
        };
        let between = service.unfinished(session) == 0;
        let outcome = service.receive(session, input);
        let result = answer(&mut self.link, &outcome, between);
        self.follow(service, result);
    }

    /// The peer has ended its input: what it is owed goes out, then it is closed.
    fn end_input<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        self.ended = true;
        if let (State::Serving, Some(session)) = (self.state, self.session.as_mut()) {
            let between = service.unfinished(session) == 0;
            let outcome = service.end(session);
            let result = answer(&mut self.link, &outcome, between);
            self.follow(service, result);
            self.drain(service, CloseReason::PeerClosed);
        }
        self.settle(service);
    }

    fn follow<V>(&mut self, service: &mut V, result: io::Result<Then>)
    where
        V: Service<Session = S>,
    {
        match result {
            Ok(Then::Continue) => {}
            Ok(Then::Close(reason)) => self.part(service, reason),
            Err(e) => self.fail(&e),
        }
    }

    /// Writes what the client is owed until it is all out or the stream is full.
    pub(crate) fn flush<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        while self.link.ready.writable {
            match self.write_next(service) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return self.fail(&e),
            }
        }
        self.settle(service);
    }

    /// One write: private output first, but never within a message of the shared output.
    /// False when nothing is owed.
    fn write_next<V>(&mut self, service: &mut V) -> io::Result<bool>
    where
        V: Service<Session = S>,
    {
        if matches!(self.state, State::Closed(_)) {
            return Ok(false);
        }
        let waiting = !self.link.outbox.is_empty();
        if let Some(session) = self.session.as_mut() {
            let most = if waiting {
                service.unfinished(session)
            } else {
                usize::MAX
            };
            let shared = limit(service.shared(session), most);
            if !shared[0].is_empty() {
                let written = self.link.write(shared)?;
                service.advance(session, written);
                return Ok(true);
            }
        }
        if waiting {
            self.link.send_waiting()?;
        }
        Ok(waiting)
    }

    /// Takes no more input; once all that it is owed is out, the client is closed.
    pub(crate) fn drain<V>(&mut self, service: &mut V, reason: CloseReason)
    where
        V: Service<Session = S>,
    {
        if self.state == State::Serving {
            self.state = State::Draining(reason);
            self.settle(service);
        }
    }

    /// Lets the service go: only private output, and what finishes a message sent in part,
    /// is still owed. From here on the connection holds nothing of the shared output.
    pub(crate) fn part<V>(&mut self, service: &mut V, reason: CloseReason)
    where
        V: Service<Session = S>,
    {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let waiting = std::mem::take(&mut self.link.outbox);
        let mut rest = service.unfinished(&session);
        while rest > 0 {
            let [first, second] = limit(service.shared(&session), rest);
            self.link.outbox.extend(first);
            self.link.outbox.extend(second);
            let copied = first.len() + second.len();
            service.advance(&mut session, copied);
            rest -= copied;
        }
        self.link.outbox.extend(waiting);
        service.close(session, reason);
        self.state = State::Parting(reason);
        self.settle(service);
    }

    /// Takes the steps of an ending that are due.
    fn settle<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        if let (State::Draining(reason), Some(session)) = (self.state, self.session.as_ref())
            && self.link.outbox.is_empty()
            && service.lag(session) == 0
        {
            return self.part(service, reason);
        }
        let State::Parting(reason) = self.state else {
            return;
        };
        if !self.link.outbox.is_empty() {
            return;
        }
        if self.ended {
            self.state = State::Closed(reason);
        } else if !self.shut {
            self.shut = true;
            if let Err(e) = self.link.stream.shutdown_write() {
                self.fail(&e);
            }
        }
    }

    /// Closes at once.
    pub(crate) fn abort(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
        }
    }

    /// An error ends the connection; on the way out, what it was closed for stays the reason.
    fn fail(&mut self, error: &io::Error) {
        let reason = match self.state {
            State::Parting(reason) | State::Closed(reason) => reason,
            State::Serving | State::Draining(_) => CloseReason::of(error),
        };
        self.state = State::Closed(reason);
    }

    /// Gives the session back to the service, if it still has it, and tells why the connection
    /// was closed; `None` if it isn't.
    pub(crate) fn finish<V>(&mut self, service: &mut V) -> Option<CloseReason>
    where
        V: Service<Session = S>,
    {
        let State::Closed(reason) = self.state else {
            return None;
        };
        if let Some(session) = self.session.take() {
            service.close(session, reason);
        }
        Some(reason)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.state == State::Serving
    }

    /// On its way out by our will: whoever holds it decides how long that may take.
    pub(crate) fn is_parting(&self) -> Option<CloseReason> {
        match self.state {
            State::Parting(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether a flush could make progress.
    pub(crate) fn wants_flush<V>(&self, service: &V) -> bool
    where
        V: Service<Session = S>,
    {
        self.link.ready.writable && (!self.link.outbox.is_empty() || self.lag(service) > 0)
    }

    /// At most how many bytes of shared output the client is owed.
    pub(crate) fn lag<V>(&self, service: &V) -> u64
    where
        V: Service<Session = S>,
    {
        self.session
            .as_ref()
            .map_or(0, |session| service.lag(session))
    }

    /// Private bytes that wait for the stream.
    pub(crate) fn waiting(&self) -> usize {
        self.link.outbox.len()
    }

    /// Bytes read and bytes that the kernel took, so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.link.received, self.link.sent)
    }
}

/// Sends what a service replied.
fn answer<T: Stream>(link: &mut Link<T>, outcome: &Outcome<'_>, between: bool) -> io::Result<Then> {
    link.send(outcome.reply, between)?;
    Ok(outcome.then)
}
