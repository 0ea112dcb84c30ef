//! One client: its stream, latched readiness, outbox and session.
//!
//! Generic over the stream, so that tests can script it; it never sees the poller. Two layers:
//! [`Link`] moves bytes and remembers readiness, [`Connection`] knows what they mean and when
//! the client's time is over.

use crate::bytes::slices::limit;
use crate::close::CloseReason;
use crate::net::link::Link;
use crate::net::{Readiness, Stream};
use crate::peer::Peer;
use crate::service::{Action, Service};

/// Bytes written to a client before others have their turn: some services have always more.
const MOST_OUTPUT: u64 = 1024 * 1024;

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
    /// A connection that was just accepted; it is sent the greeting, and what `service` may add.
    pub(crate) fn open<V>(stream: T, service: &mut V, peer: &Peer<'_>, greeting: &[u8]) -> Self
    where
        V: Service<Session = S>,
    {
        let mut link = Link::new(stream);
        link.send([greeting, &[]], true);
        let (session, outcome) = service.open(peer);
        link.send(outcome.reply, true);
        let then = outcome.then;
        let mut connection = Self {
            link,
            session: Some(session),
            state: State::Serving,
            ended: false,
            shut: false,
        };
        connection.follow(service, then);
        connection
    }

    /// Remembers what the stream has become ready for.
    pub(crate) fn latch(&mut self, ready: Readiness) {
        self.link.latch(ready);
    }

    /// Makes the next turn read, whether or not the kernel has told of input.
    pub(crate) fn expect_input(&mut self) {
        self.link.ready.readable = true;
    }

    /// Makes the next flush write, whether or not the kernel has told of room.
    pub(crate) fn expect_room(&mut self) {
        self.link.ready.writable = true;
    }

    /// One turn: reads at most `budget` bytes, or what makes the service publish as many, as many
    /// at a time as `buffer` holds, and answers them. `heard` is told what the service is given.
    ///
    /// Nothing is read while more than `high_water` bytes are unsent.
    pub(crate) fn turn<V>(
        &mut self,
        service: &mut V,
        buffer: &mut [u8],
        mut budget: usize,
        high_water: u64,
        mut heard: impl FnMut(&[u8]),
    ) where
        V: Service<Session = S>,
    {
        while budget > 0 && self.wants_turn(service, high_water) {
            let before = service.published();
            let most = budget.min(buffer.len());
            let mut read = 0;
            match self.link.read(&mut buffer[..most]) {
                Ok(None) => self.run_dry(),
                Ok(Some(0)) => self.end_input(service),
                Ok(Some(n)) => {
                    read = n;
                    if self.is_serving() {
                        heard(&buffer[..n]);
                    }
                    self.receive(service, &buffer[..n]);
                }
                Err(e) => self.fail(CloseReason::of(&e)),
            }
            // Some services make much of little.
            let made = usize::try_from(service.published() - before).unwrap_or(usize::MAX);
            budget = budget.saturating_sub(read.max(made));
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
        self.link.send(outcome.reply, between);
        let then = outcome.then;
        self.follow(service, then);
    }

    /// There is no more input for now; if writing has failed before, there never will be.
    fn run_dry(&mut self) {
        if let Some(reason) = self.link.broken {
            self.fail(reason);
        }
    }

    /// The peer has ended its input: what it is owed goes out, then it is closed.
    fn end_input<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        self.ended = true;
        self.run_dry();
        if let (State::Serving, Some(session)) = (self.state, self.session.as_mut()) {
            let between = service.unfinished(session) == 0;
            let outcome = service.end(session);
            self.link.send(outcome.reply, between);
            let then = outcome.then;
            self.follow(service, then);
            self.drain(service, CloseReason::PeerClosed);
        }
        self.settle(service);
    }

    fn follow<V>(&mut self, service: &mut V, then: Action)
    where
        V: Service<Session = S>,
    {
        match then {
            Action::Continue => {}
            Action::Close(reason) => self.part(service, reason),
        }
    }

    /// Writes what the client is owed until it is all out or the stream is full; or until it has
    /// had its share, which is said with true: there may be more.
    pub(crate) fn flush<V>(&mut self, service: &mut V) -> bool
    where
        V: Service<Session = S>,
    {
        let share = self.link.sent + MOST_OUTPUT;
        let mut more = true;
        while more && self.link.sent < share && self.wants_flush(service) {
            more = self.write_next(service);
        }
        self.settle(service);
        self.link.sent >= share && self.wants_flush(service)
    }

    /// One write: private output first, but never within a message of the shared output.
    /// False when nothing is owed.
    fn write_next<V>(&mut self, service: &mut V) -> bool
    where
        V: Service<Session = S>,
    {
        if self.is_closed() {
            return false;
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
                let written = self.link.write(shared);
                if self.link.broken.is_some() {
                    service.deafen(session);
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

    /// Of what would go on for ever the client gets no more than finishes a message.
    pub(crate) fn conclude<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        if let Some(session) = &mut self.session {
            service.conclude(session);
        }
        self.settle(service);
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
        if self.is_closed() {
            return;
        }
        let Some(mut session) = self.session.take() else {
            return;
        };
        self.take_over(service, &mut session);
        service.close(session, reason);
        self.state = State::Parting(reason);
        self.settle(service);
    }

    /// A client that is too far behind goes on with the newest message, after the rest of one
    /// that it was sent in part.
    pub(crate) fn skip<V>(&mut self, service: &mut V)
    where
        V: Service<Session = S>,
    {
        if self.is_closed() {
            return;
        }
        if let Some(mut session) = self.session.take() {
            self.take_over(service, &mut session);
            service.skip(&mut session);
            self.session = Some(session);
            self.settle(service);
        }
    }

    /// Puts what finishes a message that was sent in part in front of the outbox: from here on
    /// the shared output may go on elsewhere, or not at all.
    fn take_over<V>(&mut self, service: &mut V, session: &mut S)
    where
        V: Service<Session = S>,
    {
        let mut rest = service.unfinished(session);
        if rest == 0 {
            return;
        }
        let waiting = std::mem::take(&mut self.link.outbox);
        while rest > 0 {
            let [first, second] = limit(service.shared(session), rest);
            self.link.outbox.extend(first);
            self.link.outbox.extend(second);
            let copied = first.len() + second.len();
            assert!(
                copied > 0,
                "a service gives the rest of what it says is unfinished"
            );
            service.advance(session, copied);
            rest -= copied;
        }
        self.link.outbox.extend(waiting);
    }

    /// Sends a message of the server's own, between two messages of the service.
    pub(crate) fn tell<V>(&mut self, service: &V, message: &[u8])
    where
        V: Service<Session = S>,
    {
        if let (State::Serving, Some(session)) = (self.state, self.session.as_ref()) {
            let between = service.unfinished(session) == 0;
            self.link.send([message, &[]], between);
        }
    }

    /// Whether nothing was sent since the last time this was asked, though it could have been.
    pub(crate) fn was_silent<V>(&mut self, service: &V) -> bool
    where
        V: Service<Session = S>,
    {
        let spoke = std::mem::take(&mut self.link.spoke);
        let idle = self.link.outbox.is_empty() && self.lag(service) == 0;
        !spoke && idle && self.link.ready.writable && self.is_serving()
    }

    /// Whether something was read, and something written, since the last time this was asked.
    pub(crate) fn take_activity(&mut self) -> (bool, bool) {
        let Link { heard, took, .. } = &mut self.link;
        (std::mem::take(heard), std::mem::take(took))
    }

    /// Whether the client is owed something that its stream doesn't take.
    pub(crate) fn is_stuck<V>(&self, service: &V) -> bool
    where
        V: Service<Session = S>,
    {
        !self.link.ready.writable && (!self.link.outbox.is_empty() || self.lag(service) > 0)
    }

    /// Whether its stream takes output, as far as is known.
    pub(crate) fn is_writable(&self) -> bool {
        self.link.ready.writable
    }

    /// The service's memory of the client, as long as it has one.
    pub(crate) fn session(&self) -> Option<&S> {
        self.session.as_ref()
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
            return self.part(service, self.link.broken.unwrap_or(reason));
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
                self.fail(CloseReason::of(&e));
            } else if self.link.stream.is_one_way() {
                self.state = State::Closed(reason);
            }
        }
    }

    /// Closes at once. If that cuts what the client is owed, it is reset: it must not take the
    /// end for that of a message.
    pub(crate) fn abort<V>(&mut self, service: &V, reason: CloseReason)
    where
        V: Service<Session = S>,
    {
        if self.is_closed() {
            return;
        }
        if !self.link.outbox.is_empty() || self.lag(service) > 0 {
            self.link.stream.reset_on_close();
        }
        self.state = State::Closed(reason);
    }

    /// An error ends the connection; on the way out, what it was closed for stays the reason.
    fn fail(&mut self, error: CloseReason) {
        let reason = match self.state {
            State::Parting(reason) | State::Closed(reason) => reason,
            State::Serving | State::Draining(_) => error,
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

    #[cfg(test)]
    pub(crate) fn stream(&self) -> &T {
        &self.link.stream
    }

    /// Bytes read and bytes that the kernel took, so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.link.received, self.link.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::{Address, Role};
    use crate::service::{Chargen, Echo, Outcome};
    use std::collections::VecDeque;
    use std::io::{self, ErrorKind, IoSlice, Read, Write};

    /// What a scripted stream answers to one call.
    #[derive(Clone, Copy, Debug)]
    enum Answer {
        /// To a read: these bytes.
        Give(&'static [u8]),
        /// To a write: so many are taken.
        Take(usize),
        Fail(ErrorKind),
        /// The end of input.
        End,
    }
    use Answer::{End, Fail, Give, Take};
    use ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, WouldBlock};

    /// A stream that answers reads and writes from two lists; then reads would block, and writes
    /// take everything.
    #[derive(Debug, Default)]
    struct Script {
        reads: VecDeque<Answer>,
        writes: VecDeque<Answer>,
        sent: Vec<u8>,
        shut: bool,
        calls: usize,
        cuts_reads: bool,
        reset: bool,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.reads.pop_front().unwrap_or(Fail(WouldBlock)) {
                Give(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                End => Ok(0),
                Fail(kind) => Err(kind.into()),
                Take(_) => panic!("not an answer to a read"),
            }
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(!self.shut, "a write after the output was shut");
            self.calls += 1;
            match self.writes.pop_front().unwrap_or(Take(usize::MAX)) {
                Take(n) => {
                    let n = n.min(bytes.len());
                    self.sent.extend(&bytes[..n]);
                    Ok(n)
                }
                Fail(kind) => Err(kind.into()),
                Give(_) | End => panic!("not an answer to a write"),
            }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
            self.write(&all)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn short_read_drains(&self) -> bool {
            !self.cuts_reads
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            self.shut = true;
            Ok(())
        }

        fn reset_on_close(&mut self) {
            self.reset = true;
        }
    }

    const READABLE: Readiness = Readiness {
        readable: true,
        writable: false,
        ending: false,
    };
    const WRITABLE: Readiness = Readiness {
        readable: false,
        writable: true,
        ending: false,
    };
    const ENDING: Readiness = Readiness {
        readable: true,
        writable: false,
        ending: true,
    };

    /// A connection, the service that it belongs to, and a read buffer.
    struct Bench<V: Service> {
        connection: Connection<Script, V::Session>,
        service: V,
        buffer: [u8; 8],
        high_water: u64,
    }

    impl<V: Service> Bench<V> {
        fn new(mut service: V, reads: &[Answer], writes: &[Answer]) -> Self {
            let stream = Script {
                reads: reads.iter().copied().collect(),
                writes: writes.iter().copied().collect(),
                ..Script::default()
            };
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
        let mut bench = echo(&[Give(b"hello")], &[]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "hello");
        assert_eq!(bench.connection.link.stream.calls, 2);
        assert!(!bench.wants_turn());
        assert_eq!(bench.connection.link.outbox.capacity(), 0);
    }

    #[test]
    fn a_full_read_leaves_the_latch_and_a_turn_reads_one_buffer() {
        let mut bench = echo(&[Give(b"12345678"), Give(b"9")], &[]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "12345678");
        assert!(bench.wants_turn());
        bench.turn(Readiness::default());
        assert_eq!(bench.sent(), "123456789");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn after_a_hint_of_the_end_a_short_read_is_not_the_last() {
        let mut bench = echo(&[Give(b"a"), Give(b"b"), End], &[]);
        bench.turn(ENDING);
        assert_eq!(bench.sent(), "ab");
        assert_eq!(
            bench.connection.state,
            State::Closed(CloseReason::PeerClosed)
        );
    }

    #[test]
    fn a_hint_is_forgotten_when_a_read_would_block() {
        let mut bench = echo(&[Give(b"a"), Fail(WouldBlock), Give(b"b"), Give(b"c")], &[]);
        bench.turn(ENDING).turn(READABLE);
        assert_eq!(bench.sent(), "ab");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn a_write_that_stops_at_any_byte_is_taken_up_there() {
        for n in 0..5 {
            let first = if n == 0 { Fail(WouldBlock) } else { Take(n) };
            let mut bench = echo(&[Give(b"hello")], &[first, Take(1), Fail(WouldBlock)]);
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
    fn what_comes_later_waits_behind_what_came_before() {
        let reads = [Give(b"one"), Give(b"two")];
        let mut bench = echo(&reads, &[Take(1), Take(1)]);
        bench.turn(READABLE).turn(READABLE);
        assert_eq!((bench.sent(), bench.connection.waiting()), ("o", 5));
        bench.flush().flush();
        assert_eq!(bench.sent(), "onetwo");
    }

    #[test]
    fn interrupted_calls_are_made_again() {
        let mut bench = echo(&[Fail(Interrupted), Give(b"x")], &[Fail(Interrupted)]);
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "x");
    }

    #[test]
    fn nothing_is_read_above_the_high_water_mark() {
        let mut bench = echo(&[Give(b"abcd"), Give(b"e")], &[Fail(WouldBlock)]);
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
        let mut bench = echo(&[Give(b"abc"), End], &[Take(1), Take(1)]);
        bench.turn(ENDING);
        let draining = State::Draining(CloseReason::PeerClosed);
        assert_eq!((bench.connection.state, bench.sent()), (draining, "a"));
        bench.flush();
        assert_eq!((bench.connection.state, bench.sent()), (draining, "ab"));
        bench.flush();
        let closed = State::Closed(CloseReason::PeerClosed);
        assert_eq!((bench.connection.state, bench.sent()), (closed, "abc"));
    }

    #[test]
    fn a_reset_at_any_step_ends_the_connection() {
        let reset = State::Closed(CloseReason::Reset);
        let scripts: [(&[Answer], &[Answer]); 4] = [
            (&[Fail(ConnectionReset)], &[]),
            (&[Give(b"a"), Fail(ConnectionReset)], &[]),
            (&[Give(b"a")], &[Fail(BrokenPipe)]),
            (&[Give(b"ab")], &[Take(1), Fail(ConnectionReset)]),
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
        let mut bench = echo(&[Give(b"ab"), End], &[Take(1), Fail(BrokenPipe)]);
        bench.turn(ENDING).flush();
        assert_eq!(bench.connection.state, reset);
    }

    #[test]
    fn what_arrived_before_a_reset_is_still_given_to_the_service() {
        let reads = [Give(b"a"), Give(b"b"), Give(b"go")];
        let mut bench = polite(b"<one>", &reads, &[Take(3), Fail(BrokenPipe)]);
        bench.connection.latch(READABLE);
        bench.flush();
        assert!(bench.wants_turn() && !bench.connection.is_closed());
        assert_eq!(bench.connection.lag(&bench.service), 0);
        bench.turn(Readiness::default());
        assert_eq!(bench.service.heard, b"abgo");
        assert_eq!(bench.sent(), "hi ");
        bench.turn(READABLE);
        assert_eq!(
            bench.connection.finish(&mut bench.service),
            Some(CloseReason::Done)
        );
        let mut bench = echo(&[Give(b"a"), Give(b"b"), End], &[Fail(BrokenPipe)]);
        bench.turn(READABLE);
        assert_eq!(bench.connection.traffic(), (2, 0));
        assert_eq!(bench.connection.state, State::Closed(CloseReason::Reset));
    }

    #[test]
    fn a_stream_that_cuts_reads_is_read_until_it_would_block() {
        let mut bench = echo(&[Give(b"a"), Give(b"b"), Fail(WouldBlock), Give(b"c")], &[]);
        bench.connection.link.stream.cuts_reads = true;
        bench.turn(READABLE);
        assert_eq!(bench.sent(), "ab");
        assert!(!bench.wants_turn());
    }

    #[test]
    fn who_is_cut_off_is_reset_and_who_has_everything_is_not() {
        for (writes, cut) in [(&[Take(2)][..], true), (&[], false)] {
            let mut bench = echo(&[Give(b"hello")], writes);
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
    fn who_is_closed_stays_closed() {
        let mut bench = polite(b"<one>", &[], &[]);
        bench.connection.abort(&bench.service, CloseReason::Reset);
        bench
            .connection
            .part(&mut bench.service, CloseReason::SlowConsumer);
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

    /// Says goodbye to every input. Its shared output is `<shared>`, and comes piecemeal.
    struct Polite {
        published: &'static [u8],
        closed: Vec<CloseReason>,
        heard: Vec<u8>,
    }

    impl Service for Polite {
        type Session = usize;

        fn open(&mut self, _: &Peer<'_>) -> (usize, Outcome<'_>) {
            (0, Outcome::reply(b"hi "))
        }

        fn receive<'a>(&'a mut self, _: &'a mut usize, input: &'a [u8]) -> Outcome<'a> {
            self.heard.extend(input);
            let then = match input {
                b"go" => Action::Close(CloseReason::Done),
                _ => Action::Continue,
            };
            let reply: [&[u8]; 2] = [b"bye", b"!"];
            Outcome { reply, then }
        }

        fn close(&mut self, _: usize, reason: CloseReason) {
            self.closed.push(reason);
        }

        fn shared<'a>(&'a self, taken: &'a usize) -> [&'a [u8]; 2] {
            [&self.published[*taken..], &[]]
        }

        fn advance(&mut self, taken: &mut usize, written: usize) {
            *taken += written;
        }

        fn deafen(&mut self, taken: &mut usize) {
            *taken = self.published.len();
        }

        fn lag(&self, taken: &usize) -> u64 {
            (self.published.len() - taken) as u64
        }

        fn unfinished(&self, taken: &usize) -> usize {
            let whole = *taken == 0 || self.published[taken - 1] == b'>';
            let rest = &self.published[*taken..];
            let end = rest.iter().position(|&byte| byte == b'>');
            if whole { 0 } else { end.map_or(0, |at| at + 1) }
        }
    }

    fn polite(published: &'static [u8], reads: &[Answer], writes: &[Answer]) -> Bench<Polite> {
        let (closed, heard) = (Vec::new(), Vec::new());
        let service = Polite {
            published,
            closed,
            heard,
        };
        Bench::new(service, reads, writes)
    }

    #[test]
    fn closing_delivers_the_reply_and_waits_for_the_peers_end() {
        let reads = [Give(b"go"), Give(b"more"), End];
        let mut bench = polite(b"", &reads, &[Take(3), Take(1)]);
        bench.turn(READABLE);
        let parting = State::Parting(CloseReason::Done);
        assert_eq!((bench.connection.state, bench.sent()), (parting, "hi b"));
        assert_eq!(bench.service.closed, [CloseReason::Done]);
        bench.flush();
        assert_eq!(bench.sent(), "hi bye!");
        assert!(bench.connection.link.stream.shut);
        bench.turn(READABLE);
        assert_eq!(bench.connection.state, parting);
        bench.turn(READABLE);
        let closed = State::Closed(CloseReason::Done);
        assert_eq!((bench.connection.state, bench.sent()), (closed, "hi bye!"));
    }

    #[test]
    fn private_output_goes_between_whole_messages() {
        let mut bench = polite(b"<one><two>", &[Give(b"x")], &[Take(3), Take(2)]);
        bench.flush();
        assert_eq!(bench.sent(), "hi <o");
        bench.turn(READABLE).flush();
        assert_eq!(bench.sent(), "hi <one>bye!<two>");
    }

    #[test]
    fn who_is_let_go_gets_the_rest_of_a_message_and_then_its_private_output() {
        let mut bench = polite(b"<one><two>", &[Give(b"x")], &[Take(3), Take(2)]);
        bench.flush().turn(READABLE);
        let reason = CloseReason::SlowConsumer;
        bench.connection.part(&mut bench.service, reason);
        assert_eq!(bench.service.closed, [reason]);
        assert_eq!(bench.flush().sent(), "hi <one>bye!");
        assert!(bench.connection.link.stream.shut);
    }

    #[test]
    fn draining_delivers_what_is_shared_and_discards_input() {
        let mut bench = polite(b"<one>", &[Give(b"x"), End], &[Take(3), Fail(WouldBlock)]);
        bench.flush();
        let reason = CloseReason::Shutdown;
        bench.connection.drain(&mut bench.service, reason);
        bench.turn(READABLE).flush();
        assert_eq!(bench.sent(), "hi <one>");
        assert_eq!(bench.connection.is_parting(), Some(reason));
        bench.turn(ENDING);
        assert_eq!(bench.connection.state, State::Closed(reason));
    }

    /// A reader who takes everything at once doesn't keep the others waiting.
    #[test]
    fn output_without_end_comes_in_shares() {
        let mut bench = Bench::new(Chargen::new(false), &[], &[]);
        for share in 1..4 {
            let more = bench.connection.flush(&mut bench.service);
            let sent = bench.connection.traffic().1;
            assert!(more && sent >= share * MOST_OUTPUT, "{sent} bytes");
            assert!(sent < (share + 1) * MOST_OUTPUT, "{sent} bytes");
        }
        bench.connection.conclude(&mut bench.service);
        assert!(!bench.connection.flush(&mut bench.service));
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
