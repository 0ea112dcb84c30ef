//! The load's loop: connect, begin, measure, wait for the rest.

use std::time::{Duration, SystemTime};

use super::dialer::{Dialed, Dialer, Wish, nanos};
use super::outcome::{Interval, LoadEnd, LoadOutcome};
use super::player::{Context, Player};
use super::slow::Slow;
use super::tally::Schedule;
use super::{Load, LoadError, LoadMode};
use crate::net::error::cause;
use crate::net::{Event, Net, Poller};

/// How often in a timeout to look for what is late.
const LOOKS: u64 = 10;

/// An event loop's sleep may be so much longer than it was asked for.
const COARSE: u64 = 2_000_000;

/// How long it may take until one more member of a room gets what the others publish.
const A_MEMBER: u64 = 1_000_000;

/// How long slow readers read in the end.
const ASKING: u64 = 300_000_000;

/// The loop over the clients of a load.
pub(super) struct Engine<'a> {
    load: &'a Load,
    watch: &'a mut dyn FnMut(&Interval),
    net: Poller,
    events: Vec<Event>,
    cx: Context,
    dialer: Dialer,
    player: Box<dyn Player>,
    slow: Slow,
    /// Clients that were connected at a time, at most.
    most: usize,
    /// When to look for what is late.
    look: u64,
    /// When the present interval ends.
    tick: u64,
    /// Somebody wants it to end; at once.
    interrupts: usize,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        load: &'a Load,
        player: Box<dyn Player>,
        watch: &'a mut dyn FnMut(&Interval),
    ) -> Result<Self, LoadError> {
        let failed = |e| LoadError(format!("cannot start: {}", cause(&e)));
        let mut net = Poller::new(Vec::new(), Vec::new()).map_err(failed)?;
        if load.catch_signals {
            net.catch_signals().map_err(failed)?;
        }
        Ok(Self {
            load,
            watch,
            net,
            events: Vec::new(),
            cx: Context::new(load.size),
            dialer: Dialer::new(load, load.players() + load.slow)?,
            player,
            slow: Slow::new(load),
            most: 0,
            look: 0,
            tick: u64::MAX,
            interrupts: 0,
        })
    }

    pub(super) fn run(mut self) -> Result<LoadOutcome, LoadError> {
        self.connect()?;
        let started = if self.interrupts == 0 {
            self.begin()
        } else {
            SystemTime::now()
        };
        let end = self.measure()?;
        self.drain()?;
        self.ask_slow()?;
        self.cx.now = self.cx.clock();
        // Also where nothing is waited for any longer: it may have been given up, and not named yet.
        if self.cx.tally.has_begun() {
            self.player.give_up(&mut self.cx);
        }
        let interval = self.cx.tally.take_interval(self.cx.now);
        if !interval.counts.latency.is_empty() || interval.counts.bytes > 0 {
            (self.watch)(&interval);
        }
        let elapsed = self.cx.tally.measured();
        let took = match self.load.rate {
            Some(_) => self.cx.tally.took(),
            // As many came late from before as come late now.
            None => elapsed,
        };
        let (counts, faults) = self.cx.tally.into_total();
        Ok(LoadOutcome {
            started,
            elapsed,
            took,
            end,
            clients: self.most,
            slow_closed: self.slow.closed(),
            counts,
            faults,
        })
    }

    /// Opens all connections, and waits until clients could begin.
    fn connect(&mut self) -> Result<(), LoadError> {
        let keys = match self.load.mode {
            // Its connections are what is measured.
            LoadMode::Churn => 0,
            _ => self.load.players() + self.load.slow,
        };
        // Slow ones first: they are there before the others begin.
        for key in (0..keys).rev() {
            self.dialer.ask(Wish { key, since: 0 });
        }
        while !self.dialer.is_idle() && self.interrupts == 0 {
            self.pass()?;
        }
        // A large room takes its time.
        let room = self.load.players() as u64 * A_MEMBER;
        let patience = self.cx.now + nanos(self.load.timeout) + room;
        while self.interrupts == 0 && !self.player.prepare(&mut self.cx).map_err(LoadError)? {
            self.pass()?;
            if self.cx.now > patience {
                return Err(LoadError(self.player.obstacle()));
            }
        }
        Ok(())
    }

    /// The clock starts; returns when what is measured will have begun.
    fn begin(&mut self) -> SystemTime {
        let now = self.cx.clock();
        let start = now + nanos(self.load.warmup);
        let end = start + nanos(self.load.duration);
        self.cx.now = now;
        self.cx.tally.begin(now, start..end);
        self.cx.schedule = self.load.rate.map(|rate| Schedule::new(rate, now..end));
        self.tick = self.next_tick(now);
        self.player.begin(&mut self.cx);
        SystemTime::now() + self.load.warmup
    }

    /// Intervals end where what is measured begins and ends, too.
    fn next_tick(&self, now: u64) -> u64 {
        let start = self.cx.tally.start();
        let next = now + nanos(self.load.interval);
        if now < start {
            return next.min(start);
        }
        next.min(self.cx.tally.end())
    }

    fn measure(&mut self) -> Result<LoadEnd, LoadError> {
        self.cx.now = self.cx.clock();
        while self.cx.now < self.cx.tally.end() {
            if self.interrupts > 0 || !self.player.is_alive() {
                let now = self.cx.clock();
                self.cx.tally.end_early(now);
                let end = match self.interrupts {
                    0 => LoadEnd::Abandoned,
                    _ => LoadEnd::Interrupted,
                };
                return Ok(end);
            }
            self.pass()?;
            self.player.act(&mut self.cx);
        }
        Ok(LoadEnd::Duration)
    }

    /// What is under way may come yet.
    fn drain(&mut self) -> Result<(), LoadError> {
        if let Some(schedule) = &mut self.cx.schedule {
            schedule.stop();
        } else {
            self.dialer.forget();
            self.cx.wishes.clear();
        }
        self.player.finish(&mut self.cx);
        self.tick = u64::MAX;
        let until = self.cx.now + nanos(self.load.timeout);
        let interrupts = self.interrupts;
        while !self.player.is_done() && self.cx.now < until && self.interrupts == interrupts {
            self.pass()?;
            self.player.act(&mut self.cx);
        }
        Ok(())
    }

    /// Slow readers read to the end: whether there is one.
    fn ask_slow(&mut self) -> Result<(), LoadError> {
        self.slow.begin_to_read();
        let until = self.cx.now + ASKING;
        while self.slow.has_open() && self.cx.now < until {
            self.pass()?;
        }
        Ok(())
    }

    /// One pass of the loop.
    fn pass(&mut self) -> Result<(), LoadError> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let waited = self.net.wait(Some(self.sleep()), &mut events);
        waited.map_err(|e| LoadError(format!("cannot wait for events: {}", cause(&e))))?;
        self.cx.now = self.cx.clock();
        for event in &events {
            match *event {
                Event::Client(key, ready) if self.dialer.is_dialing(key) => {
                    match self.dialer.ready(key, ready, &mut self.net, &mut self.cx)? {
                        Dialed::Waits => {}
                        Dialed::Failed => self.player.refused(key, &mut self.cx),
                        Dialed::Stands(wire, wish) if key < self.load.players() => {
                            self.player.open(wish, wire, &mut self.cx);
                            self.player.ready(key, ready, &mut self.cx);
                        }
                        Dialed::Stands(wire, wish) => {
                            self.slow.open(wish.key, wire);
                            self.slow.ready(key, ready);
                        }
                    }
                }
                Event::Client(key, ready) if key < self.load.players() => {
                    self.player.ready(key, ready, &mut self.cx);
                }
                Event::Client(key, ready) => self.slow.ready(key, ready),
                Event::Stop => self.interrupts += 1,
                _ => {}
            }
        }
        self.events = events;
        self.most = self.most.max(self.player.alive());
        self.dial()?;
        self.look()
    }

    fn dial(&mut self) -> Result<(), LoadError> {
        for wish in self.cx.wishes.drain(..) {
            self.dialer.ask(wish);
        }
        if self.dialer.is_idle() {
            return Ok(());
        }
        for key in self.dialer.act(&mut self.net, &mut self.cx)? {
            self.player.refused(key, &mut self.cx);
        }
        Ok(())
    }

    /// What is done now and then.
    fn look(&mut self) -> Result<(), LoadError> {
        let now = self.cx.now;
        if now >= self.tick {
            let interval = self.cx.tally.take_interval(now);
            (self.watch)(&interval);
            self.tick = self.next_tick(now);
        }
        if now >= self.look {
            let timeout = nanos(self.load.timeout);
            self.look = now + timeout / LOOKS;
            self.player
                .expire(now.saturating_sub(timeout), &mut self.cx);
            for key in self.dialer.give_up(&mut self.cx)? {
                self.player.refused(key, &mut self.cx);
            }
        }
        Ok(())
    }

    /// How long to sleep if nothing happens.
    fn sleep(&self) -> Duration {
        if self.load.spin || self.player.is_busy() || !self.cx.wishes.is_empty() {
            return Duration::ZERO;
        }
        let now = self.cx.clock();
        let schedule = self.cx.schedule.as_ref().and_then(Schedule::next_time);
        let next = [
            schedule,
            self.dialer.next_time(),
            Some(self.look),
            Some(self.tick),
        ];
        let next = next.into_iter().flatten().min().unwrap_or(now);
        let left = next.saturating_sub(now);
        // The last of it is spent awake, so that what is due isn't late.
        Duration::from_nanos(left.saturating_sub(COARSE))
    }
}
