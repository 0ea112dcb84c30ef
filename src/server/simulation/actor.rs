//! Clients of the simulation: well-behaved, slow, stopped, greedy, fragmenting, vanishing.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::kernel::World;

/// How a client behaves, each in a measure of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    /// Most bytes in a send and in a read.
    pub(super) send: usize,
    pub(super) receive: usize,
    /// It acts in one of so many chances.
    pub(super) laziness: usize,
    /// After so many bytes read it stops reading for so long; for ever if none.
    pub(super) stop_after: Option<(usize, Option<Duration>)>,
    /// After so many bytes sent it resets the connection.
    pub(super) vanish_after: Option<usize>,
    /// It reads nothing as long as it can send.
    pub(super) greedy: bool,
    /// It half-closes as soon as it has sent everything, not when all the others have too.
    pub(super) hasty: bool,
}

impl Manners {
    /// May stop reading for ever.
    pub(super) fn is_settler(&self) -> bool {
        matches!(self.stop_after, Some((_, None)))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Will connect at this time.
    #[default]
    Away,
    Here(usize),
    /// Has read the end, or was reset.
    Gone(usize),
    /// Never got in.
    Refused,
}

/// One client.
#[derive(Debug, Default)]
pub(super) struct Actor {
    pub(super) manners: Manners,
    pub(super) phase: Phase,
    pub(super) arrival: Option<Instant>,
    /// All it wants to send, and how much of it has been.
    pub(super) script: Vec<u8>,
    pub(super) sent: usize,
    pub(super) half_closed: bool,
    pub(super) vanished: bool,
    pub(super) received: Vec<u8>,
    /// It doesn't read before this.
    pause: Option<Instant>,
    stopped: bool,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            phase,
            sent,
            half_closed,
            received,
            manners,
            pause,
            ..
        } = self;
        let (all, received) = (self.script.len(), received.len());
        write!(f, "{phase:?}: sent {sent} of {all}, received {received}, ")?;
        write!(f, "half-closed {half_closed}, pause {pause:?}, {manners:?}")
    }
}

impl Actor {
    pub(super) fn new(manners: Manners, arrival: Instant, script: Vec<u8>) -> Self {
        let arrival = Some(arrival);
        Self {
            manners,
            arrival,
            script,
            ..Self::default()
        }
    }

    pub(super) fn conn(&self) -> Option<usize> {
        match self.phase {
            Phase::Here(id) | Phase::Gone(id) => Some(id),
            Phase::Away | Phase::Refused => None,
        }
    }

    /// Has done all it ever will.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Gone(_) | Phase::Refused) || self.has_stopped()
    }

    /// Has read the end, or reset the connection.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Gone(_))
    }

    /// Reads nothing any more.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped && self.pause.is_none()
    }

    fn has_sent_all(&self) -> bool {
        self.sent == self.script.len()
    }

    /// When it will do something again of its own accord.
    pub(super) fn alarm(&self, world: &World) -> Option<Instant> {
        match self.phase {
            Phase::Away => self.arrival.filter(|&at| at > world.now),
            Phase::Here(_) => self.pause.filter(|&at| at > world.now),
            _ => None,
        }
    }

    pub(super) fn can_act(&self, world: &World) -> bool {
        match self.phase {
            Phase::Away => self.arrival.is_some_and(|at| at <= world.now),
            Phase::Here(id) => {
                self.wants_to_vanish()
                    || self.can_send(world, id)
                    || self.can_half_close(world)
                    || self.can_receive(world, id)
            }
            Phase::Gone(_) | Phase::Refused => false,
        }
    }

    fn wants_to_vanish(&self) -> bool {
        self.manners.vanish_after.is_some_and(|n| self.sent >= n)
    }

    fn can_send(&self, world: &World, id: usize) -> bool {
        !self.has_sent_all() && world.room(id) > 0
    }

    fn can_half_close(&self, world: &World) -> bool {
        let done = |a: &Self| a.has_sent_all() || a.is_finished();
        let others_done = |world: &World| world.actors.iter().all(done);
        self.has_sent_all() && !self.half_closed && (self.manners.hasty || others_done(world))
    }

    fn can_receive(&self, world: &World, id: usize) -> bool {
        let reads = match self.pause {
            Some(until) => world.now >= until,
            None => !self.stopped,
        };
        let polite = !self.manners.greedy || !self.can_send(world, id);
        // Even who reads nothing hears of a reset.
        (reads && polite && world.has_news(id)) || world.conns[id].destroyed
    }

    /// One step.
    pub(super) fn act(&mut self, world: &mut World) {
        let laziness = self.manners.laziness;
        if laziness > 1 && world.rng.usize(..laziness) != 0 {
            world.now += Duration::from_micros(world.rng.u64(..2000));
            return;
        }
        match self.phase {
            Phase::Away => {
                self.phase = world.connect().map_or(Phase::Refused, Phase::Here);
            }
            Phase::Here(id) => self.act_connected(world, id),
            Phase::Gone(_) | Phase::Refused => {}
        }
    }

    fn act_connected(&mut self, world: &mut World, id: usize) {
        if self.wants_to_vanish() {
            world.reset(id);
            self.vanished = true;
            self.phase = Phase::Gone(id);
            return;
        }
        let receive = self.can_receive(world, id);
        let send = self.can_send(world, id);
        if send && (!receive || world.rng.bool()) {
            let room = world.room(id).min(self.script.len() - self.sent);
            let n = world.rng.usize(1..=room.min(self.manners.send));
            let bytes = self.script[self.sent..self.sent + n].to_vec();
            self.sent += n;
            world.send(id, &bytes);
        } else if receive {
            self.receive(world, id);
        } else if self.can_half_close(world) {
            world.half_close(id);
            self.half_closed = true;
        }
    }

    fn receive(&mut self, world: &mut World, id: usize) {
        let most = world.rng.usize(1..=self.manners.receive);
        let (bytes, over) = world.receive(id, most);
        self.received.extend(bytes);
        if over {
            self.phase = Phase::Gone(id);
            if !self.half_closed && !world.conns[id].dropped {
                // It closes its side in answer.
                world.half_close(id);
            }
        }
        if self.stopped {
            // It reads again, and doesn't stop another time.
            self.stopped = false;
            self.pause = None;
            self.manners.stop_after = None;
        }
        if let Some((after, pause)) = self.manners.stop_after
            && self.received.len() >= after
        {
            self.stopped = true;
            self.pause = pause.map(|p| world.now + p);
        }
    }
}

/// Manners of every kind, at random.
pub(super) fn manners(rng: &mut Rng) -> Manners {
    let size = |rng: &mut Rng| {
        if rng.u8(..3) == 0 {
            1
        } else {
            rng.usize(1..300)
        }
    };
    let mut manners = Manners {
        send: size(rng),
        receive: size(rng),
        laziness: 1,
        hasty: rng.bool(),
        ..Manners::default()
    };
    match rng.u8(..10) {
        0 => manners.laziness = rng.usize(2..20),
        1 | 2 => {
            let pause = (rng.u8(..3) > 0).then(|| Duration::from_millis(rng.u64(1..3000)));
            manners.stop_after = Some((rng.usize(..200), pause));
        }
        3 => manners.greedy = true,
        4 => manners.vanish_after = Some(rng.usize(..400)),
        _ => {}
    }
    manners
}
