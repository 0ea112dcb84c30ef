//! Clients of the simulation: well-behaved, slow, stopped, greedy, fragmenting, resetting.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::kernel::Kernel;

/// One client.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) behaviour: Behaviour,
    pub(super) phase: Phase,
    /// All bytes that it is to send.
    pub(super) script: Vec<u8>,
    /// Number of bytes sent.
    pub(super) sent: usize,
    pub(super) received: Vec<u8>,
    pub(super) half_closed: bool,
    /// True once it has reset the connection.
    pub(super) reset: bool,
    /// True while it does not read: until a time, or for good.
    stopped: bool,
    paused_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected before this time.
    Arriving(Instant),
    /// On the connection with this index.
    Connected(usize),
    /// Done with that connection: it was ended by the server, or reset.
    Left(usize),
    /// Not connected: nothing listened.
    Refused,
}

/// The ways in which a client differs from a prompt one.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    /// Most bytes in a send, and in a receive.
    pub(super) send: usize,
    pub(super) receive: usize,
    /// Share of its steps that it takes, as one in this number; it lets the others pass.
    pub(super) acts_one_in: usize,
    /// Number of bytes received after which it stops reading, and for this time; `None`: for good.
    pub(super) pause: Option<(usize, Option<Duration>)>,
    /// Number of bytes sent after which it resets the connection.
    pub(super) reset_after: Option<usize>,
    /// True if it reads nothing as long as it can send.
    pub(super) sends_first: bool,
    /// True if it half-closes once it has sent everything; else it waits for all other clients.
    pub(super) ends_early: bool,
}

impl Behaviour {
    /// Any behaviour.
    pub(super) fn random(rng: &mut Rng) -> Self {
        let size = |rng: &mut Rng| {
            if rng.u8(..3) == 0 {
                1
            } else {
                rng.usize(1..300)
            }
        };
        let mut behaviour = Self {
            send: size(rng),
            receive: size(rng),
            acts_one_in: 1,
            ends_early: rng.bool(),
            ..Self::default()
        };
        match rng.u8(..10) {
            0 => behaviour.acts_one_in = rng.usize(2..20),
            1 | 2 => {
                let time = (rng.u8(..3) > 0).then(|| Duration::from_millis(rng.u64(1..3000)));
                behaviour.pause = Some((rng.usize(..200), time));
            }
            3 => behaviour.sends_first = true,
            4 => behaviour.reset_after = Some(rng.usize(..400)),
            _ => {}
        }
        behaviour
    }

    /// True if it may stop reading for good.
    pub(super) fn may_stop(&self) -> bool {
        matches!(self.pause, Some((_, None)))
    }
}

impl Actor {
    pub(super) fn new(behaviour: Behaviour, arrival: Instant, script: Vec<u8>) -> Self {
        Self {
            behaviour,
            phase: Phase::Arriving(arrival),
            script,
            sent: 0,
            received: Vec::new(),
            half_closed: false,
            reset: false,
            stopped: false,
            paused_until: None,
        }
    }

    /// The index of its connection, if it ever had one.
    pub(super) fn conn(&self) -> Option<usize> {
        match self.phase {
            Phase::Connected(id) | Phase::Left(id) => Some(id),
            Phase::Arriving(_) | Phase::Refused => None,
        }
    }

    /// True if it will take no further step.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Left(_) | Phase::Refused) || self.has_stopped()
    }

    /// True if it has read the end, or has reset the connection.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Left(_))
    }

    /// True if it has stopped reading for good.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped && self.paused_until.is_none()
    }

    /// True if it will send nothing further.
    pub(super) fn sends_no_more(&self) -> bool {
        self.has_sent_all() || self.is_finished()
    }

    fn has_sent_all(&self) -> bool {
        self.sent == self.script.len()
    }

    /// The later time at which it will take a step of its own accord.
    pub(super) fn alarm(&self, now: Instant) -> Option<Instant> {
        let at = match self.phase {
            Phase::Arriving(at) => Some(at),
            Phase::Connected(_) => self.paused_until,
            Phase::Left(_) | Phase::Refused => None,
        };
        at.filter(|at| *at > now)
    }

    /// True if it can take a step now. `all_sent`: no client will send anything further.
    pub(super) fn can_act(&self, kernel: &Kernel, all_sent: bool) -> bool {
        match self.phase {
            Phase::Arriving(at) => at <= kernel.now,
            Phase::Connected(id) => {
                self.wants_reset()
                    || self.can_send(kernel, id)
                    || self.can_half_close(all_sent)
                    || self.can_receive(kernel, id)
                    || self.can_leave(kernel, id, all_sent)
            }
            Phase::Left(_) | Phase::Refused => false,
        }
    }

    fn wants_reset(&self) -> bool {
        let after = self.behaviour.reset_after;
        after.is_some_and(|bytes| self.sent >= bytes)
    }

    fn can_send(&self, kernel: &Kernel, id: usize) -> bool {
        !self.has_sent_all() && kernel.room(id) > 0
    }

    fn can_half_close(&self, all_sent: bool) -> bool {
        self.has_sent_all() && !self.half_closed && (self.behaviour.ends_early || all_sent)
    }

    /// True if only a reset ends its connection: the server keeps it although its input has ended.
    fn can_leave(&self, kernel: &Kernel, id: usize, all_sent: bool) -> bool {
        let stays = kernel.subscribe_listener == Some(kernel.conns[id].listener);
        stays
            && self.half_closed
            && self.reads(kernel.now)
            && (self.behaviour.ends_early || all_sent)
    }

    /// True if it has not stopped reading, or its pause is over.
    fn reads(&self, now: Instant) -> bool {
        match self.paused_until {
            Some(until) => now >= until,
            None => !self.stopped,
        }
    }

    fn can_receive(&self, kernel: &Kernel, id: usize) -> bool {
        let reads = self.reads(kernel.now);
        let sends = self.behaviour.sends_first && self.can_send(kernel, id);
        // A reset reaches even a client that does not read.
        (reads && !sends && kernel.is_receivable(id)) || kernel.conns[id].reset_by_server
    }

    /// Takes one step, if it can, or lets it pass. `all_sent` as for [`can_act`](Self::can_act).
    pub(super) fn act(&mut self, kernel: &mut Kernel, all_sent: bool) {
        let one_in = self.behaviour.acts_one_in;
        if one_in > 1 && kernel.rng.usize(..one_in) != 0 {
            kernel.now += Duration::from_micros(kernel.rng.u64(..2000));
            return;
        }
        match self.phase {
            Phase::Arriving(_) => {
                self.phase = kernel.connect().map_or(Phase::Refused, Phase::Connected);
            }
            Phase::Connected(id) => self.act_connected(kernel, id, all_sent),
            Phase::Left(_) | Phase::Refused => {}
        }
    }

    fn act_connected(&mut self, kernel: &mut Kernel, id: usize, all_sent: bool) {
        if self.wants_reset() {
            kernel.reset(id);
            self.reset = true;
            self.phase = Phase::Left(id);
            return;
        }
        let can_receive = self.can_receive(kernel, id);
        let can_send = self.can_send(kernel, id);
        if can_send && (!can_receive || kernel.rng.bool()) {
            self.send(kernel, id);
        } else if can_receive {
            self.receive(kernel, id);
        } else if self.can_half_close(all_sent) {
            kernel.half_close(id);
            self.half_closed = true;
        } else if self.can_leave(kernel, id, all_sent) && kernel.rng.u8(..8) == 0 {
            kernel.reset(id);
            self.reset = true;
            self.phase = Phase::Left(id);
        }
    }

    fn send(&mut self, kernel: &mut Kernel, id: usize) {
        let rest = &self.script[self.sent..];
        let most = kernel.room(id).min(rest.len()).min(self.behaviour.send);
        let n = kernel.rng.usize(1..=most);
        kernel.send(id, &rest[..n]);
        self.sent += n;
    }

    fn receive(&mut self, kernel: &mut Kernel, id: usize) {
        let most = kernel.rng.usize(1..=self.behaviour.receive);
        let (bytes, ended) = kernel.receive(id, most);
        self.received.extend(bytes);
        if ended {
            self.phase = Phase::Left(id);
            if !self.half_closed && !kernel.conns[id].dropped {
                // It ends its side, too.
                kernel.half_close(id);
            }
        }
        if self.stopped {
            // It reads again, and doesn't stop another time.
            self.stopped = false;
            self.paused_until = None;
            self.behaviour.pause = None;
        }
        if let Some((after, time)) = self.behaviour.pause
            && self.received.len() >= after
        {
            self.stopped = true;
            self.paused_until = time.map(|time| kernel.now + time);
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            phase,
            sent,
            half_closed,
            received,
            behaviour,
            paused_until,
            ..
        } = self;
        let (all, received) = (self.script.len(), received.len());
        write!(f, "{phase:?}: sent {sent} of {all}, received {received}, ")?;
        write!(
            f,
            "half-closed {half_closed}, paused until {paused_until:?}, {behaviour:?}"
        )
    }
}
