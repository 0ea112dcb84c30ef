//! The remote ends of a simulated client: a server, the writer of standard input, the reader of
//! standard output. Each acts at its own pace, and may stop, close or reset.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::net::simulation::{Remote, World};

/// Standard input and output, which are opened before the client runs; connections follow.
pub(super) const INPUT: usize = 0;
pub(super) const OUTPUT: usize = 1;

/// Steps after which a run is taken for an endless one.
const MAX_STEPS: usize = 200_000;

/// The way in which a server ends its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerEnd {
    /// After all its bytes and the client's end.
    AfterClient,
    /// After all its bytes; it still receives.
    AfterReply,
    /// After all its bytes; it receives no more.
    Close,
    /// By a reset, after a number of bytes sent and received.
    Reset(usize),
    /// Not at all: it neither sends nor receives after a number of bytes.
    Silent(usize),
}

/// The way in which the reader of standard output ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReaderEnd {
    Never,
    /// It closes after a number of bytes.
    Close(usize),
    /// It takes no more after a number of bytes.
    Stop(usize),
}

/// State of all remote ends, which the checks of a run read.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) rng: Rng,
    /// Bytes of standard input, and the number of those written so far.
    pub(super) input: Vec<u8>,
    pub(super) typed: usize,
    /// False if standard input stays open after its last byte.
    pub(super) closes_input: bool,
    /// Bytes that the server is to receive, and those that it has received.
    pub(super) expected: Vec<u8>,
    pub(super) received: Vec<u8>,
    /// Bytes that the server sends, and the number of those sent so far.
    pub(super) reply: Vec<u8>,
    pub(super) sent: usize,
    pub(super) server: ServerEnd,
    /// True if the server has ended, closed or reset the connection.
    pub(super) server_ended: bool,
    saw_end: bool,
    /// The connection of these bytes.
    pub(super) connection: Option<usize>,
    pub(super) reader: ReaderEnd,
    pub(super) shown: Vec<u8>,
    /// Time from which connections are accepted.
    pub(super) listens_at: Instant,
    /// Longest ordinary and longest rare pause between two steps of one end.
    pub(super) pauses: (Duration, Duration),
    due: [Instant; 3],
    now: Instant,
    steps: usize,
    /// Most received bytes that the client may keep for standard output.
    pub(super) most_unwritten: usize,
}

impl Ends {
    pub(super) fn new(mut rng: Rng, now: Instant) -> Self {
        let pause = |rng: &mut Rng| Duration::from_micros(rng.u64(1..20_000));
        let pauses = (pause(&mut rng), pause(&mut rng) * 40);
        Self {
            rng,
            input: Vec::new(),
            typed: 0,
            closes_input: true,
            expected: Vec::new(),
            received: Vec::new(),
            reply: Vec::new(),
            sent: 0,
            server: ServerEnd::AfterClient,
            server_ended: false,
            saw_end: false,
            connection: None,
            reader: ReaderEnd::Never,
            shown: Vec::new(),
            listens_at: now,
            pauses,
            due: [now; 3],
            now,
            steps: 0,
            most_unwritten: usize::MAX,
        }
    }

    /// Checks that the client keeps no more than it may for a reader that is slow.
    fn check_memory(&self, world: &World) {
        let Some(id) = self.connection.filter(|_| !world.is_closed(OUTPUT)) else {
            return;
        };
        let written = self.shown.len() + world.in_flight(OUTPUT).len();
        let kept = world.history(id).bytes_read.saturating_sub(written);
        assert!(
            kept <= self.most_unwritten,
            "{kept} bytes wait for the reader"
        );
    }

    /// One to `most` bytes in one step, as a rule a few.
    fn amount(&mut self, most: usize) -> usize {
        let most = if self.rng.bool() { most } else { most.min(5) };
        self.rng.usize(1..=most.max(1))
    }

    fn write_input(&mut self, world: &mut World) -> bool {
        if world.is_dropped(INPUT) || (self.typed == self.input.len() && !self.closes_input) {
            return false;
        }
        if self.typed == self.input.len() {
            self.closes_input = false; // done
            world.half_close(INPUT);
            return true;
        }
        let end = self.input.len().min(self.typed + self.amount(200));
        let written = world.send(INPUT, &self.input[self.typed..end]);
        self.typed += written;
        written > 0
    }

    fn read_output(&mut self, world: &mut World) -> bool {
        let left = match self.reader {
            ReaderEnd::Never => usize::MAX,
            ReaderEnd::Close(most) | ReaderEnd::Stop(most) => most - self.shown.len(),
        };
        if left == 0 {
            let closes = matches!(self.reader, ReaderEnd::Close(_));
            if closes && !world.is_closed(OUTPUT) {
                world.reset(OUTPUT);
                return true;
            }
            return false;
        }
        let most = self.amount(200).min(left);
        let (bytes, _) = world.receive(OUTPUT, most);
        self.shown.extend(&bytes);
        !bytes.is_empty()
    }

    fn serve(&mut self, world: &mut World) -> bool {
        let connected = |id: &usize| world.is_connected(*id) && !world.is_dropped(*id);
        let Some(id) = (OUTPUT + 1..world.count()).rev().find(connected) else {
            return false;
        };
        if self.connection.replace(id) != Some(id) {
            // The client has given up the connection before.
            (self.sent, self.saw_end, self.server_ended) = (0, false, false);
            self.received.clear();
        }
        let moved = self.sent + self.received.len();
        match self.server {
            ServerEnd::Silent(most) if moved >= most => return false,
            ServerEnd::Reset(most) if moved >= most && !self.server_ended => {
                self.server_ended = true;
                world.reset(id);
                return true;
            }
            _ => {}
        }
        if world.is_closed(id) {
            return false;
        }
        let first = self.rng.bool();
        let acted = first && self.receive(world, id);
        acted || self.send(world, id) || (!first && self.receive(world, id))
    }

    fn receive(&mut self, world: &mut World, id: usize) -> bool {
        if self.saw_end {
            return false;
        }
        let most = self.amount(300);
        let (bytes, ended) = world.receive(id, most);
        self.received.extend(&bytes);
        let whole = self.expected.starts_with(&self.received);
        assert!(whole, "received other bytes than the input");
        if ended && !world.is_dropped(id) {
            assert_eq!(self.received, self.expected, "ended before all was sent");
        }
        self.saw_end |= ended;
        ended || !bytes.is_empty()
    }

    fn send(&mut self, world: &mut World, id: usize) -> bool {
        if self.sent < self.reply.len() {
            let end = self.reply.len().min(self.sent + self.amount(300));
            let sent = world.send(id, &self.reply[self.sent..end]);
            self.sent += sent;
            return sent > 0;
        }
        let ends = match self.server {
            ServerEnd::AfterClient => self.saw_end,
            ServerEnd::AfterReply | ServerEnd::Close => true,
            ServerEnd::Reset(_) | ServerEnd::Silent(_) => false,
        };
        if !ends || self.server_ended {
            return false;
        }
        self.server_ended = true;
        match self.server {
            ServerEnd::Close => world.close(id),
            _ => world.half_close(id),
        }
        true
    }
}

/// The remote ends as the simulated kernel has them.
pub(super) struct SharedEnds(pub(super) Rc<RefCell<Ends>>);

impl Remote for SharedEnds {
    fn act(&mut self, world: &mut World) -> bool {
        let mut ends = self.0.borrow_mut();
        ends.now = world.now;
        ends.check_memory(world);
        if world.now >= ends.listens_at {
            world.odds.refused = 0;
            world.odds.unanswered = 0;
            world.odds.queue_full = 0;
        }
        let mut order = [0, 1, 2];
        ends.rng.shuffle(&mut order);
        for end in order {
            if ends.due[end] > world.now {
                continue;
            }
            let acted = match end {
                0 => ends.write_input(world),
                1 => ends.read_output(world),
                _ => ends.serve(world),
            };
            if acted {
                let (usual, rare) = ends.pauses;
                let most = if ends.rng.u8(..30) == 0 { rare } else { usual };
                let part = if ends.rng.bool() { ends.rng.f64() } else { 0.0 };
                let pause = most.mul_f64(part);
                ends.due[end] = world.now + pause;
                ends.steps += 1;
                assert!(ends.steps < MAX_STEPS, "the run does not end");
                return true;
            }
        }
        false
    }

    fn alarm(&self) -> Option<Instant> {
        let ends = self.0.borrow();
        let times = ends.due.into_iter().chain([ends.listens_at]);
        times.filter(|at| *at > ends.now).min()
    }
}

/// An error of writing that no reader causes.
pub(super) const NO_SPACE: ErrorKind = ErrorKind::StorageFull;
