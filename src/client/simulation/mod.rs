//! The production client over a simulated kernel: connecting, the server, the standard streams, all
//! from one seed. Checks: every byte arrives once and in order, in both directions; the end of input
//! is told after the last byte; the run ends for the right reason; limits, pauses and timeouts are
//! exact to a millisecond of the simulated clock; no poll in vain, and no sleep while something
//! could be moved.

mod datagrams;
mod ends;

use std::cell::{Ref, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Connect;
use super::kernel::Kernel;
use crate::net::address::{Address, ListenAddress};
use crate::net::pipe::Direction;
use crate::net::simulation::{History, Odds, SimNet, SimStream, Stops, World, for_each_seed};
use ends::{Ends, INPUT, NO_SPACE, OUTPUT, ReaderEnd, ServerEnd, SharedEnds};

/// Seeds in an ordinary test run.
const SEEDS: u64 = 500;

/// Tolerance of times: polls take a little.
const TOLERANCE: Duration = Duration::from_millis(1);

impl Kernel for SimNet {
    /// The port of the name is the number of its addresses.
    fn resolve(&mut self, name: &ListenAddress) -> io::Result<Vec<Address>> {
        let addresses = name.resolve()?;
        let count = addresses[0].socket_addr().map_or(1, |a| a.port().into());
        Ok(vec![addresses[0].clone(); count])
    }

    fn open_standard(&mut self, direction: Direction) -> io::Result<SimStream> {
        Ok(self.stream(match direction {
            Direction::Input => INPUT,
            Direction::Output => OUTPUT,
        }))
    }

    fn is_terminal(&self, _: Direction) -> bool {
        false
    }

    fn catch_signals(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn client_survives_every_order_of_events() {
    for_each_seed(SEEDS, &[], |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut run = Run::new(&mut rng);
        run.choose_streams(&mut rng);
        run.choose_timeout(&mut rng);
        run.go();
    });
}

/// Readiness that is told together with the outcome of connecting must not be lost.
#[test]
fn reply_and_end_that_arrive_while_connecting_are_read() {
    for_each_seed(50, &[], |seed| {
        let mut rng = Rng::with_seed(seed);
        let run = Run::new(&mut rng);
        {
            let mut world = run.net.0.borrow_mut();
            (world.odds.cuts_reads, world.odds.whole_state) = (false, true);
            (world.odds.smallest_buffer, world.odds.buffer) = (10, 10);
            let mut ends = run.ends.borrow_mut();
            ends.reply = b"!".to_vec();
            ends.server = ServerEnd::AfterReply;
            ends.closes_input = false;
            ends.pauses = (Duration::ZERO, Duration::ZERO);
        }
        run.go();
    });
}

#[test]
fn connecting_and_its_retries_are_exact() {
    for_each_seed(SEEDS, &[], |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut run = Run::new(&mut rng);
        run.choose_dialing(&mut rng);
        run.go();
    });
}

/// One run of a client.
struct Run {
    connect: Connect,
    net: SimNet,
    ends: Rc<RefCell<Ends>>,
    high_water: usize,
    start: Instant,
    /// True if standard output fails.
    no_space: bool,
}

impl Run {
    /// A run in which the server accepts at once, receives all, and replies with random bytes.
    fn new(rng: &mut Rng) -> Self {
        let odds = odds(rng);
        let ends = Rc::new(RefCell::new(Ends::new(rng.fork(), Instant::now())));
        let mut world = World::new(rng.fork(), odds, Box::new(SharedEnds(Rc::clone(&ends))));
        world.stops_stuck = true;
        let start = world.now;
        let mut connect = Connect::new("127.0.0.1:1".parse().unwrap());
        {
            let mut ends = ends.borrow_mut();
            ends.listens_at = start;
            ends.reply = (0..length(rng, 3000)).map(|_| rng.u8(..)).collect();
            ends.input = text(rng, 3000);
            if rng.u8(..4) == 0 {
                let texts: Vec<Vec<u8>> = (0..=rng.usize(..3)).map(|_| text(rng, 300)).collect();
                ends.expected = texts.concat();
                let template = |text: &Vec<u8>| String::from_utf8_lossy(text).parse().unwrap();
                connect.send = texts.iter().map(template).collect();
            } else {
                connect.crlf = rng.bool();
                ends.expected = sent(&ends.input, connect.crlf);
            }
            let is_file = rng.u8(..4) == 0;
            let input = if is_file {
                ends.typed = ends.input.len();
                ends.closes_input = false;
                world.open_file(&ends.input)
            } else {
                world.open_connected()
            };
            assert_eq!((input, world.open_connected()), (INPUT, OUTPUT));
        }
        Self {
            connect,
            net: SimNet::new(world),
            ends,
            high_water: 32 + length(rng, 500),
            start,
            no_space: false,
        }
    }

    /// Streams that end, stop, break or fail.
    fn choose_streams(&mut self, rng: &mut Rng) {
        let mut ends = self.ends.borrow_mut();
        let most = ends.reply.len() + ends.expected.len();
        ends.server = match rng.u8(..8) {
            0 => ServerEnd::AfterReply,
            1 => ServerEnd::Close,
            2 => ServerEnd::Reset(length(rng, most)),
            3 => ServerEnd::Silent(length(rng, most)),
            _ => ServerEnd::AfterClient,
        };
        let most = length(rng, ends.reply.len());
        ends.reader = match rng.u8(..8) {
            0 => ReaderEnd::Close(most),
            1 => ReaderEnd::Stop(most),
            _ => ReaderEnd::Never,
        };
        ends.closes_input &= rng.u8(..8) > 0;
        if rng.u8(..16) == 0 {
            self.no_space = true;
            self.net.0.borrow_mut().fail_writes(OUTPUT, NO_SPACE);
        }
    }

    fn choose_timeout(&mut self, rng: &mut Rng) {
        if rng.bool() {
            self.connect.timeout = Some(Duration::from_millis(rng.u64(10..3000)));
        }
        // A process that is stopped misses the time at which a check is due, and nothing else.
        let stopped = if rng.u8(..4) == 0 { 50 } else { 0 };
        self.net.0.borrow_mut().odds.stopped = stopped;
    }

    /// Addresses that refuse or don't answer, until a server listens.
    fn choose_dialing(&mut self, rng: &mut Rng) {
        let millis = |rng: &mut Rng, most| Duration::from_millis(rng.u64(1..most));
        let is_unix = rng.u8(..4) == 0;
        let to = if is_unix {
            "unix:/socket".to_owned()
        } else {
            format!("127.0.0.1:{}", rng.u16(1..4))
        };
        self.connect.to = to.parse().unwrap();
        self.connect.timeout = rng.bool().then(|| millis(rng, 2000));
        self.connect.retry = match rng.u8(..3) {
            0 => None,
            1 => Some(Duration::MAX),
            _ => Some(millis(rng, 5000)),
        };
        let mut world = self.net.0.borrow_mut();
        world.odds.stopped = if rng.u8(..4) == 0 { 20 } else { 0 };
        world.odds.refused = rng.usize(1..4);
        let limited = self.connect.timeout.is_some();
        world.odds.unanswered = if limited { rng.usize(..4) } else { 0 };
        world.odds.queue_full = rng.usize(..4);
        world.odds.connecting = millis(rng, 300);
        let mut ends = self.ends.borrow_mut();
        ends.listens_at = self.start + millis(rng, 8000);
        ends.pauses = (Duration::from_micros(50), Duration::from_micros(100));
    }

    fn go(self) {
        // One read more than the limit.
        self.ends.borrow_mut().most_unwritten = 2 * self.high_water;
        let result = self.connect.run_over(self.net.clone(), self.high_water);
        let error = result.err().map(|e| e.to_string());
        let cannot_connect = |e: &String| e.starts_with("cannot connect");
        self.check_attempts(error.as_ref().is_some_and(cannot_connect));
        match error.as_deref() {
            Some(error) if cannot_connect(&error.to_owned()) => {}
            error => {
                self.check_bytes();
                self.check_end(error);
            }
        }
    }

    fn world(&self) -> Ref<'_, World> {
        self.net.0.borrow()
    }

    fn connection(&self) -> History {
        let world = self.world();
        world.history(world.count() - 1)
    }

    fn is_stopped_at_times(&self) -> bool {
        self.world().odds.stopped > 0
    }

    /// Checks what the remote ends have received, and what is still on its way to them.
    fn check_bytes(&self) {
        let (world, ends) = (self.world(), self.ends.borrow());
        let id = world.count() - 1;
        let received = [&ends.received[..], &world.in_flight(id)].concat();
        let current = ends.connection == Some(id);
        assert!(!current || ends.expected.starts_with(&received));
        let read = &ends.reply[..world.history(id).bytes_read];
        let written = [&ends.shown[..], &world.in_flight(OUTPUT)].concat();
        assert!(read.starts_with(&written), "other bytes than the reply");
        let gone = world.is_closed(OUTPUT) || self.no_space;
        assert!(gone || world.stuck || written == read, "output was lost");
    }

    /// Checks the reason of the end.
    fn check_end(&self, error: Option<&str>) {
        let (world, ends) = (self.world(), self.ends.borrow());
        let id = world.count() - 1;
        match error {
            Some(error) if error.ends_with("is lost: reset") => assert!(world.is_closed(id)),
            Some(error) if error.starts_with("cannot write") => assert!(self.no_space),
            Some(error) if error.starts_with("standard output was closed") => {
                assert!(world.is_closed(OUTPUT) && self.sent() != ends.expected);
            }
            Some(error) if error.contains("accepted nothing for") => {
                assert!(world.is_starved(id));
                self.check_timeout();
            }
            Some(error) if error.contains("received nothing from") => {
                assert_eq!(self.connection().bytes_read, 0);
                self.check_timeout();
            }
            Some(error) => panic!("{error}"),
            None if world.is_closed(OUTPUT) => self.check_read_is_sent(),
            None if world.stuck => self.check_stuck(),
            None if self.connection().end_read.is_some() && self.input_ended() => {
                assert!(ends.server_ended && ends.sent == ends.reply.len());
                assert_eq!(self.connection().bytes_read, ends.reply.len());
                // The end of the server's output does not end the other direction.
                assert!(self.sent() == ends.expected, "input was dropped");
            }
            None => {
                let connection = self.connection();
                assert!(connection.bytes_read > 0 || connection.end_read.is_some());
                self.check_read_is_sent();
                self.check_timeout();
            }
        }
    }

    /// True if the client knows that there is no more input.
    fn input_ended(&self) -> bool {
        !self.connect.send.is_empty() || self.world().history(INPUT).end_read.is_some()
    }

    /// Input that the server has, or that is on its way to it.
    fn sent(&self) -> Vec<u8> {
        let (world, ends) = (self.world(), self.ends.borrow());
        let id = world.count() - 1;
        let current = ends.connection == Some(id);
        let received = if current { &ends.received[..] } else { &[] };
        [received, &world.in_flight(id)].concat()
    }

    /// Checks that all input that the client has read went to the server, unless that has closed.
    fn check_read_is_sent(&self) {
        let (world, ends) = (self.world(), self.ends.borrow());
        if world.is_closed(world.count() - 1) {
            return; // its kernel takes bytes before it answers with a reset
        }
        let read = world.history(INPUT).bytes_read;
        let read = if self.connect.send.is_empty() {
            sent(&ends.input[..read], self.connect.crlf)
        } else {
            ends.expected.clone()
        };
        assert!(self.sent() == read, "input was dropped");
    }

    /// Checks that the timeout has passed since bytes were last moved, and just that.
    fn check_timeout(&self) {
        let timeout = self.connect.timeout.expect("there is a timeout");
        let world = self.world();
        let connection = self.connection();
        let ended = connection.dropped.unwrap();
        let moves = [
            connection.moved,
            connection.end_read,
            world.history(OUTPUT).moved,
            world.history(INPUT).end_read,
        ];
        let last = moves.into_iter().flatten().max();
        let id = world.count() - 1;
        let all_read = connection.end_read.is_some() || !world.is_readable(id);
        assert!(all_read, "what has arrived is not read");
        let silence = ended - last.unwrap_or(connection.begun);
        assert!(silence >= timeout, "ended after {silence:?} of {timeout:?}");
        if !self.is_stopped_at_times() {
            let connecting = last.map_or(world.odds.connecting, |_| Duration::ZERO);
            let most = timeout + connecting + TOLERANCE;
            assert!(silence <= most, "ended after {silence:?} of {timeout:?}");
        }
    }

    /// Checks that a client that would sleep for ever has nothing to move.
    fn check_stuck(&self) {
        let world = self.world();
        let id = world.count() - 1;
        let held_up = world.is_starved(OUTPUT) || world.history(id).end_read.is_some();
        assert!(held_up || !world.is_readable(id), "input is forgotten");
        let lost = world.is_closed(id) && world.is_starved(OUTPUT);
        let held_up = world.is_starved(id) || lost;
        let reads = self.connect.send.is_empty() && world.history(INPUT).end_read.is_none();
        let unread = reads && world.is_readable(INPUT);
        assert!(held_up || !unread, "standard input is forgotten");
        assert!(self.connect.timeout.is_none() || world.is_starved(OUTPUT));
    }

    /// Checks the times of all attempts to connect: limits, the next address, pauses, the end.
    fn check_attempts(&self, failed: bool) {
        let world = self.world();
        let all: Vec<History> = (OUTPUT + 1..world.count())
            .map(|id| world.history(id))
            .collect();
        if matches!(self.connect.to, ListenAddress::Unix(_)) {
            return; // not every attempt leaves a connection
        }
        if self.is_stopped_at_times() {
            return self.check_last_attempt(&all, failed);
        }
        let tried = all.len() - usize::from(!failed);
        let count = match self.connect.to {
            ListenAddress::Tcp { port, .. } => usize::from(port),
            _ => 1,
        };
        let mut due = self.start;
        let mut pause = Duration::from_millis(100);
        let mut limit = None;
        let mut began_in_time = false;
        for (i, attempt) in all.iter().enumerate() {
            assert_near(attempt.begun, due);
            if i % count == 0 {
                limit = self.limit(attempt.begun);
                began_in_time = self
                    .retry_left(attempt.begun)
                    .is_some_and(|left| !left.is_zero());
            }
            let Some(ended) = attempt.dropped.filter(|_| i < tried) else {
                continue;
            };
            let lasted = ended - attempt.begun;
            let within = |limit| lasted <= limit + TOLERANCE;
            assert!(limit.is_none_or(within), "an attempt beyond its limit");
            let given_up = world.is_undecided(OUTPUT + 1 + i);
            let whole = |limit| lasted >= limit;
            assert!(!given_up || limit.is_some_and(whole), "given up early");
            due = ended;
            if (i + 1) % count == 0 {
                let left = self.retry_left(ended).unwrap_or_default();
                let last = i + 1 == all.len();
                // A server that has refused may have begun to listen by the end.
                let looks_again = began_in_time && !given_up;
                let ends = left.is_zero() && !looks_again;
                assert_eq!(ends, failed && last, "retries end in time");
                due += pause.min(left);
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }

    /// Checks that retries, wherever the process was stopped, have ended with an attempt that began
    /// when their time was over, or that had no answer until then.
    fn check_last_attempt(&self, all: &[History], failed: bool) {
        let Some(retry) = self.connect.retry.filter(|_| failed) else {
            return;
        };
        let last = all.last().expect("it has tried");
        let ended = last.dropped.expect("it has failed");
        let end = self.start + retry;
        let unanswered = self.world().is_undecided(OUTPUT + all.len());
        assert!(
            ended >= end && (unanswered || last.begun >= end),
            "given up early"
        );
    }

    fn retry_left(&self, at: Instant) -> Option<Duration> {
        let retry = self.connect.retry?;
        Some(retry.saturating_sub(at - self.start))
    }

    /// Limit of an attempt in the round that begins at a time.
    fn limit(&self, begun: Instant) -> Option<Duration> {
        let limits = [self.connect.timeout, self.retry_left(begun)];
        let limit = limits.into_iter().flatten().min()?;
        let limit = limit.max(Duration::from_millis(10));
        (limit < Duration::from_secs(1 << 30)).then_some(limit)
    }
}

fn assert_near(at: Instant, due: Instant) {
    let late = at.saturating_duration_since(due);
    assert!(at >= due && late <= TOLERANCE, "it is {late:?} late");
}

/// A kernel of some kind.
fn odds(rng: &mut Rng) -> Odds {
    let often = [0, 5, 50];
    Odds {
        interrupted: *rng.choice(&often).unwrap(),
        early: *rng.choice(&often).unwrap(),
        spurious: *rng.choice(&often).unwrap(),
        whole_state: rng.bool(),
        cuts_reads: rng.u8(..4) == 0,
        stops: Stops::Long,
        connecting: Duration::from_millis(rng.u64(..5)),
        buffer: length(rng, 400) + 1,
        smallest_buffer: 1,
        ..Odds::default()
    }
}

/// Lines of letters.
fn text(rng: &mut Rng, most: usize) -> Vec<u8> {
    let length = length(rng, most);
    let letter = |rng: &mut Rng| match rng.u8(..10) {
        0 => b'\n',
        _ => rng.u8(b'a'..=b'z'),
    };
    (0..length).map(|_| letter(rng)).collect()
}

/// Standard input as the server gets it.
fn sent(input: &[u8], crlf: bool) -> Vec<u8> {
    let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
    let bytes = input.iter().map(|byte| match byte {
        b'\n' => end,
        byte => std::slice::from_ref(byte),
    });
    bytes.flatten().copied().collect()
}

/// Less than `most`; small more often than not.
fn length(rng: &mut Rng, most: usize) -> usize {
    let most = if rng.bool() { most } else { most.min(8) };
    rng.usize(..most.max(1))
}
