//! One client: its stream, latched readiness, outbox and session.
//!
//! Generic over the stream, so that tests can script it; it never sees the poller. Two layers:
//! [`Link`] moves bytes and remembers readiness, [`Connection`] knows what they mean and in which
//! stage of its life the client is.

use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::net::link::Link;
use crate::net::{Readiness, Stream};
use crate::peer::Peer;
use crate::service::{Action, Outcome, Owed, Release, Service};

/// The most bytes written to a client before the others have their turn: output may be endless.
const MOST_OUTPUT: u64 = 1024 * 1024;

/// The most bytes written to a client in one flush.
fn most_output() -> u64 {
    #[cfg(test)]
    if let Some(most) = OUTPUT_LIMIT.get() {
        return most;
    }
    MOST_OUTPUT
}

#[cfg(test)]
thread_local! {
    /// Another limit than [`MOST_OUTPUT`], which the small buffers of a simulation reach.
    static OUTPUT_LIMIT: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// Sets the share of a client in this test.
#[cfg(test)]
pub(crate) fn limit_output(most: u64) {
    OUTPUT_LIMIT.set(Some(most));
}

/// Stage of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Input goes to the service.
    Serving,
    /// Input is discarded. All that the client is owed goes out, then it is closed.
    Draining(CloseReason),
    /// The service has forgotten the client. The outbox goes out, then the write side is shut, and
    /// input is discarded until the peer ends too: closing with unread input would send a reset,
    /// which destroys bytes in flight (RFC 2525, 2.17).
    Closing(CloseReason),
    /// To be dropped.
    Closed(CloseReason),
}

/// State of a peer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
    /// Ended, but the service keeps the client. The stream is still read where the poller tells of
    /// something: that may be an error.
    EndIgnored,
}

/// One client's connection over a stream `T`, with the session that the service `S` keeps for it.
pub(crate) struct Connection<T, S: Service> {
    link: Link<T>,
    /// The service's memory of this client, until the service has forgotten it.
    session: Option<S::Session>,
    state: State,
    input: Input,
    /// True once our output is shut.
    output_shut: bool,
    /// True if the last flush stopped because the client had had its share.
    has_more: bool,
    /// True while the client has not arrived: it may be a mere probe.
    newcomer: bool,
}

#[cfg(test)]
impl<T: std::fmt::Debug, S: Service<Session: std::fmt::Debug>> std::fmt::Debug
    for Connection<T, S>
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (link, session, state) = (&self.link, &self.session, self.state);
        write!(f, "{link:?}, {session:?}, {state:?}")
    }
}

/// Activity since the last check: true if bytes were read, or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    pub(crate) read: bool,
    pub(crate) written: bool,
}

impl<T: Stream, S: Service> Connection<T, S> {
    /// Begins the session of a client that was just accepted: it is sent `greeting`, then the
    /// service's own reply.
    pub(crate) fn open(stream: T, service: &mut S, peer: &Peer<'_>, greeting: &[u8]) -> Self {
        let mut link = Link::new(stream);
        link.send(greeting.into(), true);
        let (session, outcome) = service.open(peer);
        link.send(outcome.reply, true);
        let action = outcome.action;
        let mut connection = Self {
            link,
            session: Some(session),
            state: State::Serving,
            input: Input::Open,
            output_shut: false,
            has_more: false,
            newcomer: false,
        };
        connection.follow(service, action);
        connection
    }

    /// Remembers the stream's readiness.
    pub(crate) fn latch(&mut self, ready: Readiness) {
        self.link.latch(ready);
    }

    /// Makes the next turn read even if the kernel has not told of input.
    pub(crate) fn expect_input(&mut self) {
        self.link.ready.readable = true;
    }

    /// Makes the next flush write even if the kernel has not told of room.
    pub(crate) fn expect_room(&mut self) {
        self.link.ready.writable = true;
    }

    /// One turn: reads and answers input until `budget` bytes were read, or published by the
    /// service. `on_input` gets the input before the service does.
    ///
    /// Returns true if it read input. One read takes at most `buffer.len()` bytes. With more than `high_water` bytes unsent
    /// nothing is read.
    pub(crate) fn turn(
        &mut self,
        service: &mut S,
        buffer: &mut [u8],
        mut budget: usize,
        high_water: u64,
        mut on_input: impl FnMut(&[u8]),
    ) -> bool {
        let mut any = false;
        while budget > 0 && self.wants_turn(service, high_water) {
            let before = service.published();
            let most = budget.min(buffer.len());
            let mut read = 0;
            match self.link.read(&mut buffer[..most]) {
                Ok(None) => self.run_dry(),
                Ok(Some(0)) => self.end_input(service),
                Ok(Some(n)) => {
                    read = n;
                    any = true;
                    if self.is_serving() {
                        on_input(&buffer[..n]);
                    }
                    self.receive(service, &buffer[..n]);
                }
                Err(e) => self.fail(CloseReason::of(&e)),
            }
            // Some services publish much output for little input.
            let published = service.published() - before;
            let published = usize::try_from(published).unwrap_or(usize::MAX);
            budget = budget.saturating_sub(read.max(published));
        }
        any
    }

    /// Makes the client a newcomer, which arrives with its first input, or when it is told to.
    pub(crate) fn await_arrival(&mut self) {
        self.newcomer = self.state == State::Serving;
    }

    /// True while the client has not arrived.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.newcomer
    }

    /// Tells the service that the client has arrived, unless it knows, or is served no more.
    pub(crate) fn arrive(&mut self, service: &mut S) {
        if self.newcomer
            && let (State::Serving, Some(session)) = (self.state, self.session.as_mut())
        {
            self.newcomer = false;
            service.arrive(session);
        }
    }

    /// True if there may be input that was not read.
    pub(crate) fn may_have_input(&self) -> bool {
        self.link.ready.readable
    }

    /// Tells the service that the beginning of a message has waited for too long.
    pub(crate) fn complete_partial(&mut self, service: &mut S) {
        if let (State::Serving, Some(session)) = (self.state, self.session.as_mut()) {
            let between = service.owed(session).unfinished == 0;
            let Outcome { reply, action } = service.complete_partial(session);
            self.link.send(reply, between);
            self.follow(service, action);
        }
    }

    /// True if a turn could make progress.
    pub(crate) fn wants_turn(&self, service: &S, high_water: u64) -> bool {
        // Lengths in memory fit in 64 bits.
        let unsent = |session| self.link.outbox.len() as u64 + service.owed(session).lag;
        self.link.ready.readable
            && self.input != Input::Ended
            && match self.state {
                State::Serving => self.session.as_ref().map_or(0, unsent) <= high_water,
                State::Draining(_) | State::Closing(_) => true,
                State::Closed(_) => false,
            }
    }

    /// Hands input to the service, if it still wants any, and sends the reply.
    fn receive(&mut self, service: &mut S, input: &[u8]) {
        self.arrive(service);
        if let (State::Serving, Some(session)) = (self.state, self.session.as_mut()) {
            let between = service.owed(session).unfinished == 0;
            let Outcome { reply, action } = service.receive(session, input);
            self.link.send(reply, between);
            self.follow(service, action);
        }
    }

    /// Handles a read that found no input. After a failed write there will never be more: the
    /// connection fails.
    fn run_dry(&mut self) {
        if let Some(reason) = self.link.broken {
            self.fail(reason);
        }
    }

    /// The end of the peer's input: what it is owed goes out, then it is closed, unless the service
    /// keeps it. A client that stays is closed once the peer has ended both directions.
    fn end_input(&mut self, service: &mut S) {
        let first = self.input == Input::Open;
        if first {
            self.input = Input::Ended;
        }
        self.run_dry();
        if let (true, State::Serving, Some(session)) = (first, self.state, self.session.as_mut()) {
            let between = service.owed(session).unfinished == 0;
            let Outcome { reply, action } = service.end(session);
            self.link.send(reply, between);
            if action == Action::Stay {
                self.input = Input::EndIgnored;
            }
            self.follow(service, action);
        }
        if self.input == Input::Ended || self.link.ready.hung_up {
            self.drain(service, CloseReason::PeerClosed);
        }
        self.settle(service);
    }

    fn follow(&mut self, service: &mut S, action: Action) {
        match action {
            Action::Continue | Action::Stay => {}
            Action::Close(reason) => self.close(service, reason),
        }
    }

    /// Writes what the client is owed until it is all out, the stream is full, or the client has
    /// had its share; in the last case it [`has_more`](Self::has_more).
    pub(crate) fn flush(&mut self, service: &mut S) {
        let share = self.link.sent + most_output();
        while self.link.ready.writable && self.link.sent < share {
            if !self.write_next(service) {
                break;
            }
        }
        self.settle(service);
        self.has_more = self.link.sent >= share && self.wants_flush(service);
    }

    /// True if the last flush stopped because the client had had its share: it goes on in the next
    /// pass.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// One write: private output first, but never within a message of the shared output. False if
    /// nothing was owed.
    fn write_next(&mut self, service: &mut S) -> bool {
        if self.is_closed() {
            return false;
        }
        let waiting = !self.link.outbox.is_empty();
        if let Some(session) = self.session.as_mut() {
            let shared = next_shared(&service.owed(session), waiting);
            if !shared.is_empty() {
                let written = self.link.write(shared);
                if self.link.broken.is_some() {
                    service.release(session, Release::All);
                    return waiting;
                }
                service.advance(session, written);
                return true;
            }
        }
        if waiting {
            self.link.send_waiting();
        }
        waiting
    }

    /// Makes endless shared output end with the message that is being sent.
    pub(crate) fn finish_message(&mut self, service: &mut S) {
        if let Some(session) = &mut self.session {
            service.release(session, Release::Endless);
        }
        self.settle(service);
    }

    /// Takes no more input. Once all that it is owed is out, the client is closed.
    pub(crate) fn drain(&mut self, service: &mut S, reason: CloseReason) {
        if self.state == State::Serving {
            self.state = State::Draining(reason);
            self.settle(service);
        }
    }

    /// Begins to close: the service forgets the client, which is still sent its private output and
    /// the rest of a message sent in part. From here on the connection holds no shared output.
    pub(crate) fn close(&mut self, service: &mut S, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        let Some(mut session) = self.session.take() else {
            return;
        };
        self.copy_unfinished(service, &mut session);
        let last = service.close(session, reason);
        self.link.send(last, true);
        self.state = State::Closing(reason);
        self.settle(service);
    }

    /// Makes a client that is too far behind go on with the newest message, after the rest of a
    /// message sent in part.
    pub(crate) fn skip(&mut self, service: &mut S) {
        if self.is_closed() {
            return;
        }
        if let Some(mut session) = self.session.take() {
            self.copy_unfinished(service, &mut session);
            service.release(&mut session, Release::Backlog);
            self.session = Some(session);
            self.settle(service);
        }
    }

    /// Copies the rest of a message sent in part to the front of the outbox: from here on the
    /// shared output may go on elsewhere, or not at all.
    fn copy_unfinished(&mut self, service: &mut S, session: &mut S::Session) {
        let mut rest = service.owed(session).unfinished;
        if rest == 0 {
            return;
        }
        let waiting = std::mem::take(&mut self.link.outbox);
        while rest > 0 {
            let next = service.owed(session).next.take(rest);
            let copied = next.len();
            for part in next.parts() {
                self.link.outbox.extend(part);
            }
            assert!(copied > 0, "a service gives what it says is unfinished");
            service.advance(session, copied);
            rest -= copied;
        }
        self.link.outbox.extend(waiting);
    }

    /// Sends a private message, between two messages of the service.
    pub(crate) fn tell(&mut self, service: &S, message: &[u8]) {
        if let (State::Serving, Some(session)) = (self.state, self.session.as_ref()) {
            let between = service.owed(session).unfinished == 0;
            self.link.send(message.into(), between);
        }
    }

    /// True if nothing was sent since the last call, though it could have been.
    pub(crate) fn was_silent(&mut self, service: &S) -> bool {
        let written = std::mem::take(&mut self.link.written_since_heartbeat);
        let idle = self.link.outbox.is_empty() && self.lag(service) == 0;
        !written && idle && self.link.ready.writable && self.is_serving()
    }

    /// Reads and writes since the last call.
    pub(crate) fn take_activity(&mut self) -> Activity {
        Activity {
            read: std::mem::take(&mut self.link.read_since_check),
            written: std::mem::take(&mut self.link.written_since_check),
        }
    }

    /// True if the client is owed something that its stream does not take.
    pub(crate) fn is_stuck(&self, service: &S) -> bool {
        !self.link.ready.writable && self.is_owed(service)
    }

    /// True if the stream takes output, as far as is known.
    pub(crate) fn is_writable(&self) -> bool {
        self.link.ready.writable
    }

    /// The service's memory of the client, as long as it has one.
    pub(crate) fn session(&self) -> Option<&S::Session> {
        self.session.as_ref()
    }

    /// Takes the steps towards the end that are due.
    fn settle(&mut self, service: &mut S) {
        if let State::Draining(reason) = self.state
            && !self.is_owed(service)
        {
            return self.close(service, self.link.broken.unwrap_or(reason));
        }
        let State::Closing(reason) = self.state else {
            return;
        };
        if !self.link.outbox.is_empty() {
            return;
        }
        if self.input != Input::Open {
            self.state = State::Closed(reason);
        } else if !self.output_shut {
            self.output_shut = true;
            if let Err(e) = self.link.stream.shutdown_write() {
                self.fail(CloseReason::of(&e));
            } else if self.link.stream.is_one_way() {
                self.state = State::Closed(reason);
            }
        }
    }

    /// Closes at once. A client that is still owed something is reset, so that it does not take
    /// the end for that of a message.
    pub(crate) fn abort(&mut self, service: &S, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        if self.is_owed(service) {
            self.link.stream.reset_on_close();
        }
        self.state = State::Closed(reason);
    }

    /// Closes after an error. A close that had begun keeps its reason.
    fn fail(&mut self, error: CloseReason) {
        let reason = match self.state {
            State::Closing(reason) | State::Closed(reason) => reason,
            State::Serving | State::Draining(_) => error,
        };
        self.state = State::Closed(reason);
    }

    /// Gives the session of a closed connection back to the service, if it has one. Returns the
    /// reason of the close, `None` if the connection is not closed.
    pub(crate) fn finish(&mut self, service: &mut S) -> Option<CloseReason> {
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

    /// The reason of a close that has begun and depends on the peer. The caller decides how long
    /// it may take.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        match self.state {
            State::Closing(reason) => Some(reason),
            _ => None,
        }
    }

    /// True if a flush could make progress.
    pub(crate) fn wants_flush(&self, service: &S) -> bool {
        self.link.ready.writable && self.is_owed(service)
    }

    fn is_owed(&self, service: &S) -> bool {
        !self.link.outbox.is_empty() || self.lag(service) > 0
    }

    /// Bytes of shared output kept for the client: at least those that it is owed.
    pub(crate) fn lag(&self, service: &S) -> u64 {
        let session = self.session.as_ref();
        session.map_or(0, |session| service.owed(session).lag)
    }

    /// Private bytes that wait for the stream.
    pub(crate) fn waiting(&self) -> usize {
        self.link.outbox.len()
    }

    #[cfg(test)]
    pub(crate) fn stream(&self) -> &T {
        &self.link.stream
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn stream_mut(&mut self) -> &mut T {
        &mut self.link.stream
    }

    /// Bytes read, and bytes that the kernel took, so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.link.received, self.link.sent)
    }
}

/// The shared output for the next write: only the rest of a message if private output waits.
fn next_shared<'a>(owed: &Owed<'a>, waiting: bool) -> Slices<'a> {
    if waiting {
        owed.next.take(owed.unfinished)
    } else {
        owed.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::{Address, Role};
    use crate::service::{Broadcast, Chargen, Echo, Room};
    use crate::testing::{Answer, Script};
    use std::io::ErrorKind;

    use Answer::{End, Fail, Take};
    use ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, WouldBlock};

    /// An answer to a read: these bytes.
    fn give(bytes: &[u8]) -> Answer {
        Answer::Give(bytes.to_vec())
    }

    const READABLE: Readiness = Readiness {
        readable: true,
        writable: false,
        ending: false,
        hung_up: false,
    };
    const WRITABLE: Readiness = Readiness {
        readable: false,
        writable: true,
        ending: false,
        hung_up: false,
    };
    const ENDING: Readiness = Readiness {
        readable: true,
        writable: false,
        ending: true,
        hung_up: false,
    };

    /// A connection, the service that it belongs to, and a read buffer.
    struct Bench<S: Service> {
        connection: Connection<Script, S>,
        service: S,
        buffer: [u8; 8],
        high_water: u64,
    }

    impl<S: Service> Bench<S> {
        fn new(mut service: S, reads: &[Answer], writes: &[Answer]) -> Self {
            let stream = Script::new(reads, writes);
            let address = Address::Tcp(([127, 0, 0, 1], 1).into());
            let local = Address::Stdin;
            let peer = Peer {
                id: 1,
                address: &address,
                local: &local,
                role: Role::Both,
            };
            let connection = Connection::open(stream, &mut service, &peer, b"");
            Self {
                connection,
                service,
                buffer: [0; 8],
                high_water: 100,
            }
        }

        fn turn(&mut self, ready: Readiness) -> &mut Self {
            self.connection.latch(ready);
            let (service, buffer) = (&mut self.service, &mut self.buffer);
            let budget = buffer.len();
            self.connection
                .turn(service, buffer, budget, self.high_water, |_| {});
            self
        }

        fn flush(&mut self) -> &mut Self {
            self.connection.latch(WRITABLE);
            self.connection.flush(&mut self.service);
            self
        }

        fn wants_turn(&self) -> bool {
            self.connection.wants_turn(&self.service, self.high_water)
        }

        fn sent(&self) -> &str {
            std::str::from_utf8(&self.connection.link.stream.sent).unwrap()
        }
    }

    fn echo(reads: &[Answer], writes: &[Answer]) -> Bench<Echo> {
        Bench::new(Echo::new(), reads, writes)
    }

    #[test]
    fn an_echo_is_one_read_and_one_write() {
        let mut bench = echo(&[give(b"hello")], &[]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "hello");
        assert_eq!(bench.connection.link.stream.calls, 2);
        assert!(!bench.wants_turn());
        assert_eq!(bench.connection.link.outbox.capacity(), 0);
    }

    #[test]
    fn a_full_read_leaves_the_latch_and_a_turn_reads_one_buffer() {
        let mut bench = echo(&[give(b"12345678"), give(b"9")], &[]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "12345678");
        assert!(bench.wants_turn());
        bench.turn(Readiness::default());
        assert_eq!(bench.sent(), "123456789");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn after_a_hint_of_the_end_a_short_read_is_not_the_last() {
        let mut bench = echo(&[give(b"a"), give(b"b"), End], &[]);
        bench.turn(ENDING);
        assert_eq!(bench.sent(), "ab");
        assert_eq!(
            bench.connection.state,
            State::Closed(CloseReason::PeerClosed)
        );
    }

    #[test]
    fn a_hint_is_forgotten_when_a_read_would_block() {
        let mut bench = echo(&[give(b"a"), Fail(WouldBlock), give(b"b"), give(b"c")], &[]);
        bench.turn(ENDING).turn(READABLE);
        assert_eq!(bench.sent(), "ab");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn a_write_that_stops_at_any_byte_is_taken_up_there() {
        for n in 0..5 {
            let first = if n == 0 { Fail(WouldBlock) } else { Take(n) };
            let mut bench = echo(&[give(b"hello")], &[first, Take(1), Fail(WouldBlock)]);
            bench.turn(READABLE);
            assert_eq!(bench.connection.waiting(), 5 - n);
            bench.flush().flush();
            while bench.connection.waiting() > 0 {
                bench.flush();
            }
            assert_eq!(bench.sent(), "hello");
            assert_eq!(bench.connection.link.outbox.capacity(), 0);
        }
    }

    #[test]
    fn later_output_waits_behind_earlier_output() {
        let reads = [give(b"one"), give(b"two")];
        let mut bench = echo(&reads, &[Take(1), Take(1)]);
        bench.turn(READABLE).turn(READABLE);
        assert_eq!((bench.sent(), bench.connection.waiting()), ("o", 5));
        bench.flush().flush();
        assert_eq!(bench.sent(), "onetwo");
    }

    #[test]
    fn interrupted_calls_are_made_again() {
        let mut bench = echo(&[Fail(Interrupted), give(b"x")], &[Fail(Interrupted)]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "x");
    }

    #[test]
    fn nothing_is_read_above_the_high_water_mark() {
        let mut bench = echo(&[give(b"abcd"), give(b"e")], &[Fail(WouldBlock)]);
        bench.high_water = 3;
        bench.turn(READABLE).connection.latch(READABLE);
        assert!(!bench.wants_turn());
        bench.turn(READABLE);
        assert_eq!((bench.connection.waiting(), bench.sent()), (4, ""));
        bench.flush();
        assert!(bench.wants_turn());
        assert_eq!(bench.turn(READABLE).sent(), "abcde");
    }

    #[test]
    fn a_half_close_is_answered_in_full_before_the_end() {
        let mut bench = echo(&[give(b"abc"), End], &[Take(1), Take(1)]);
        bench.turn(ENDING);
        let draining = State::Draining(CloseReason::PeerClosed);
        assert_eq!((bench.connection.state, bench.sent()), (draining, "a"));
        bench.flush();
        assert_eq!((bench.connection.state, bench.sent()), (draining, "ab"));
        bench.flush();
        let closed = State::Closed(CloseReason::PeerClosed);
        assert_eq!((bench.connection.state, bench.sent()), (closed, "abc"));
    }

    /// A service that keeps clients whose input has ended.
    struct Feed;

    impl Service for Feed {
        type Session = ();

        fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
            ((), Outcome::NOTHING)
        }

        fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
            Outcome::NOTHING
        }

        fn end<'a>(&'a mut self, (): &'a mut ()) -> Outcome<'a> {
            Outcome::NOTHING.then_stay()
        }
    }

    /// A fault of the kind "half-close means closed where input means nothing".
    #[test]
    fn client_that_stays_is_served_until_both_directions_end_or_it_is_reset() {
        let hung_up = Readiness {
            hung_up: true,
            ..ENDING
        };
        let cases = [
            (End, hung_up, CloseReason::PeerClosed),
            (Fail(ConnectionReset), ENDING, CloseReason::Reset),
        ];
        for (last, ready, reason) in cases {
            let mut bench = Bench::new(Feed, &[End, Fail(WouldBlock), End, last], &[]);
            for _ in 0..3 {
                bench.turn(ENDING);
                assert!(bench.connection.is_serving() && !bench.wants_turn());
            }
            bench.connection.tell(&bench.service, b"news");
            assert_eq!(bench.sent(), "news");
            bench.turn(ready);
            assert_eq!(bench.connection.state, State::Closed(reason));
        }
    }

    #[test]
    fn a_reset_at_any_step_ends_the_connection() {
        let reset = State::Closed(CloseReason::Reset);
        let scripts: [(&[Answer], &[Answer]); 4] = [
            (&[Fail(ConnectionReset)], &[]),
            (&[give(b"a"), Fail(ConnectionReset)], &[]),
            (&[give(b"a")], &[Fail(BrokenPipe)]),
            (&[give(b"ab")], &[Take(1), Fail(ConnectionReset)]),
        ];
        for (reads, writes) in scripts {
            let mut bench = echo(reads, writes);
            bench.turn(ENDING).flush().turn(Readiness::default());
            assert_eq!(bench.connection.state, reset, "{reads:?} {writes:?}");
            let calls = bench.connection.link.stream.calls;
            bench.turn(ENDING).flush();
            assert_eq!(
                bench.connection.link.stream.calls, calls,
                "called when closed"
            );
        }
        let mut bench = echo(&[give(b"ab"), End], &[Take(1), Fail(BrokenPipe)]);
        bench.turn(ENDING).flush();
        assert_eq!(bench.connection.state, reset);
    }

    #[test]
    fn input_before_a_reset_is_still_given_to_the_service() {
        let reads = [give(b"a"), give(b"b"), give(b"go")];
        let mut bench = polite(b"<one>", &reads, &[Take(3), Fail(BrokenPipe)]);
        bench.connection.latch(READABLE);
        bench.flush();
        assert!(bench.wants_turn() && !bench.connection.is_closed());
        assert_eq!(bench.connection.lag(&bench.service), 0);
        bench.turn(Readiness::default());
        assert_eq!(bench.service.received, b"abgo");
        assert_eq!(bench.sent(), "hi ");
        bench.turn(READABLE);
        assert_eq!(
            bench.connection.finish(&mut bench.service),
            Some(CloseReason::Done)
        );
        let mut bench = echo(&[give(b"a"), give(b"b"), End], &[Fail(BrokenPipe)]);
        bench.turn(READABLE);
        assert_eq!(bench.connection.traffic(), (2, 0));
        assert_eq!(bench.connection.state, State::Closed(CloseReason::Reset));
    }

    #[test]
    fn a_stream_that_cuts_reads_is_read_until_it_would_block() {
        let mut bench = echo(&[give(b"a"), give(b"b"), Fail(WouldBlock), give(b"c")], &[]);
        bench.connection.link.stream.cuts_reads = true;
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "ab");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn client_that_is_cut_off_is_reset_and_one_that_has_everything_is_not() {
        for (writes, cut) in [(&[Take(2)][..], true), (&[], false)] {
            let mut bench = echo(&[give(b"hello")], writes);
            bench.turn(READABLE);
            let reason = CloseReason::Shutdown;
            bench.connection.abort(&bench.service, reason);
            assert_eq!(bench.connection.link.stream.reset, cut);
        }
        let mut bench = polite(b"<one>", &[], &[Take(3), Take(2)]);
        bench.flush();
        let reason = CloseReason::Shutdown;
        bench.connection.abort(&bench.service, reason);
        assert!(bench.connection.link.stream.reset);
    }

    #[test]
    fn closed_connection_stays_closed() {
        let mut bench = polite(b"<one>", &[], &[]);
        bench.connection.abort(&bench.service, CloseReason::Reset);
        bench
            .connection
            .close(&mut bench.service, CloseReason::SlowConsumer);
        bench
            .connection
            .drain(&mut bench.service, CloseReason::Shutdown);
        bench
            .connection
            .abort(&bench.service, CloseReason::Shutdown);
        let reason = bench.connection.finish(&mut bench.service);
        assert_eq!(reason, Some(CloseReason::Reset));
    }

    #[test]
    fn other_errors_keep_their_kind() {
        let mut bench = echo(&[Fail(ErrorKind::TimedOut)], &[]);
        bench.turn(READABLE);
        let reason = CloseReason::Error(ErrorKind::TimedOut);
        assert_eq!(bench.connection.finish(&mut bench.service), Some(reason));
    }

    /// Answers every input with `bye!`. Each message of its shared output ends with `>`.
    struct Polite {
        published: &'static [u8],
        closed: Vec<CloseReason>,
        received: Vec<u8>,
    }

    impl Service for Polite {
        type Session = usize;

        fn open(&mut self, _: &Peer<'_>) -> (usize, Outcome<'_>) {
            (0, Outcome::reply(b"hi "))
        }

        fn receive<'a>(&'a mut self, _: &'a mut usize, input: &'a [u8]) -> Outcome<'a> {
            self.received.extend(input);
            let outcome = Outcome::reply_both(b"bye", b"!");
            match input {
                b"go" => outcome.then_close(CloseReason::Done),
                _ => outcome,
            }
        }

        fn close(&mut self, _: usize, reason: CloseReason) -> Slices<'_> {
            self.closed.push(reason);
            Slices::EMPTY
        }

        fn owed<'a>(&'a self, taken: &'a usize) -> Owed<'a> {
            let next = &self.published[*taken..];
            let whole = *taken == 0 || self.published[taken - 1] == b'>';
            let end = next.iter().position(|&byte| byte == b'>');
            Owed {
                next: next.into(),
                lag: next.len() as u64,
                unfinished: if whole { 0 } else { end.map_or(0, |at| at + 1) },
            }
        }

        fn advance(&mut self, taken: &mut usize, written: usize) {
            *taken += written;
        }

        fn release(&mut self, taken: &mut usize, release: Release) {
            assert_eq!(release, Release::All);
            *taken = self.published.len();
        }
    }

    fn polite(published: &'static [u8], reads: &[Answer], writes: &[Answer]) -> Bench<Polite> {
        let service = Polite {
            published,
            closed: Vec::new(),
            received: Vec::new(),
        };
        Bench::new(service, reads, writes)
    }

    #[test]
    fn closing_delivers_the_reply_and_waits_for_the_peers_end() {
        let reads = [give(b"go"), give(b"more"), End];
        let mut bench = polite(b"", &reads, &[Take(3), Take(1)]);
        bench.turn(READABLE);
        let closing = State::Closing(CloseReason::Done);
        assert_eq!((bench.connection.state, bench.sent()), (closing, "hi b"));
        assert_eq!(bench.service.closed, [CloseReason::Done]);
        bench.flush();
        assert_eq!(bench.sent(), "hi bye!");
        assert!(bench.connection.link.stream.shut);
        bench.turn(READABLE);
        assert_eq!(bench.connection.state, closing);
        bench.turn(READABLE);
        let closed = State::Closed(CloseReason::Done);
        assert_eq!((bench.connection.state, bench.sent()), (closed, "hi bye!"));
    }

    #[test]
    fn private_output_is_sent_between_whole_messages() {
        let mut bench = polite(b"<one><two>", &[give(b"x")], &[Take(3), Take(2)]);
        bench.flush();
        assert_eq!(bench.sent(), "hi <o");
        bench.turn(READABLE).flush();
        assert_eq!(bench.sent(), "hi <one>bye!<two>");
    }

    #[test]
    fn closing_client_gets_the_rest_of_a_message_and_then_its_private_output() {
        let mut bench = polite(b"<one><two>", &[give(b"x")], &[Take(3), Take(2)]);
        bench.flush().turn(READABLE);
        let reason = CloseReason::SlowConsumer;
        bench.connection.close(&mut bench.service, reason);
        assert_eq!(bench.service.closed, [reason]);
        assert_eq!(bench.flush().sent(), "hi <one>bye!");
        assert!(bench.connection.link.stream.shut);
    }

    #[test]
    fn draining_delivers_what_is_shared_and_discards_input() {
        let mut bench = polite(b"<one>", &[give(b"x"), End], &[Take(3), Fail(WouldBlock)]);
        bench.flush();
        let reason = CloseReason::Shutdown;
        bench.connection.drain(&mut bench.service, reason);
        bench.turn(READABLE).flush();
        assert_eq!(bench.sent(), "hi <one>");
        assert_eq!(bench.connection.closing(), Some(reason));
        bench.turn(ENDING);
        assert_eq!(bench.connection.state, State::Closed(reason));
    }

    /// Memory is bounded by what a turn publishes: with tags that is much for little input.
    #[test]
    fn turn_ends_when_it_has_published_its_share() {
        let room = Room {
            tag: Some("a tag of 17 bytes".parse().unwrap()),
            ..Room::default()
        };
        let service = Broadcast::with_segments(room, 64);
        let mut bench = Bench::new(service, &[give(b"\n"), give(b"\n"), give(b"\n")], &[]);
        bench.connection.link.stream.cuts_reads = true;
        for messages in 1..4 {
            bench.turn(READABLE);
            assert_eq!(bench.service.published(), messages * 18);
        }
    }

    /// A client that is reset while what it is owed goes out has not got it: the end that was to
    /// come is not the reason of its close.
    #[test]
    fn reset_while_draining_is_the_reason_and_later_it_is_not() {
        let (reset, shutdown) = (CloseReason::Reset, CloseReason::Shutdown);
        for by_write in [true, false] {
            let writes = [Take(3), Take(2), Fail(BrokenPipe)];
            let writes = if by_write { &writes[..] } else { &writes[..2] };
            let mut bench = polite(b"<one>", &[Fail(ConnectionReset)], writes);
            bench.flush();
            bench.connection.drain(&mut bench.service, shutdown);
            assert_eq!(bench.connection.state, State::Draining(shutdown));
            if by_write {
                bench.flush();
                assert_eq!(bench.service.closed, [reset]);
            }
            bench.turn(ENDING);
            assert_eq!(bench.connection.finish(&mut bench.service), Some(reset));
            assert_eq!(bench.service.closed, [reset]);
        }
        let mut bench = polite(b"", &[Fail(ConnectionReset)], &[]);
        bench.connection.drain(&mut bench.service, shutdown);
        assert_eq!(bench.connection.closing(), Some(shutdown));
        bench.turn(ENDING);
        assert_eq!(bench.connection.finish(&mut bench.service), Some(shutdown));
    }

    /// A client that takes everything at once must not keep the others waiting.
    #[test]
    fn endless_output_is_sent_in_shares() {
        let mut bench = Bench::new(Chargen::new(false), &[], &[]);
        for share in 1..4 {
            bench.connection.flush(&mut bench.service);
            let sent = bench.connection.traffic().1;
            assert!(
                bench.connection.has_more() && sent >= share * MOST_OUTPUT,
                "{sent} bytes"
            );
            assert!(sent < (share + 1) * MOST_OUTPUT, "{sent} bytes");
        }
        bench.connection.finish_message(&mut bench.service);
        bench.connection.flush(&mut bench.service);
        assert!(!bench.connection.has_more());
        assert_eq!(bench.connection.traffic().1 % 74, 0);
    }

    #[test]
    fn a_session_is_given_back_once() {
        let mut bench = polite(b"", &[End], &[]);
        bench.turn(ENDING);
        for _ in 0..2 {
            let reason = bench.connection.finish(&mut bench.service);
            assert_eq!(reason, Some(CloseReason::PeerClosed));
        }
        assert_eq!(bench.service.closed, [CloseReason::PeerClosed]);
    }
}
