//! The loop: connect, prepare, measure, wait for the last answers.

use std::time::{Duration, SystemTime};

use super::dialer::{Dialed, Dialer};
use super::faults::Fault;
use super::mismatch::{Mismatch, MismatchKind};
use super::moment::Moment;
use super::outcome::{Interval, LoadEnd, LoadOutcome};
use super::run::{ConnectRequest, Run};
use super::schedule::Schedule;
use super::slow::Slow;
use super::workload::Workload;
use super::{Load, LoadError, LoadMode};
use crate::net::error::cause;
use crate::net::{Dial, EVENTS_PER_WAIT, Event, Readiness};

/// Checks for late messages and connections in a timeout.
const CHECKS: u32 = 10;

/// The time by which a wait may be longer than it was asked to be.
const OVERSLEEP: Duration = Duration::from_millis(2);

/// The time by which a pass may be longer than its wait before the process counts as held up: it was
/// stopped, or the machine slept.
const HELD: Duration = Duration::from_millis(20);

/// The most polls before a judgement, where each fills the event buffer.
const MOST_LOOKS: usize = 64;

/// The time that a member of a room may take to join it, beside the timeout.
const JOINING: Duration = Duration::from_millis(1);

/// The time for which slow readers read in the end.
const READING: Duration = Duration::from_millis(300);

/// The loop over the clients of a load.
pub(super) struct Engine<'a, N: Dial> {
    load: &'a Load,
    watch: &'a mut dyn FnMut(&Interval),
    events: Vec<Event>,
    run: Run<N>,
    dialer: Dialer<N>,
    workload: Box<dyn Workload<N>>,
    slow: Slow<N>,
    /// True while clients have turns: from the beginning until the last answers.
    has_turns: bool,
    /// The largest number of clients that were connected at the same time.
    most: usize,
    /// The time of the next check for what is late.
    next_check: Moment,
    /// The end of the present interval.
    interval_end: Moment,
    /// Number of SIGINT and SIGTERM so far.
    interrupts: usize,
    /// The time for which the process was held up so far.
    held: Duration,
}

impl<'a, N: Dial + 'static> Engine<'a, N> {
    pub(super) fn new(
        load: &'a Load,
        net: N,
        watch: &'a mut dyn FnMut(&Interval),
    ) -> Result<Self, LoadError> {
        Ok(Self {
            load,
            watch,
            events: Vec::new(),
            dialer: Dialer::new(load, &net, load.active_clients() + load.slow)?,
            run: Run::new(net, load.size),
            workload: load.workload(),
            slow: Slow::new(load),
            has_turns: false,
            most: 0,
            next_check: Moment::START,
            interval_end: Moment::NEVER,
            interrupts: 0,
            held: Duration::ZERO,
        })
    }

    pub(super) fn run(mut self) -> Result<LoadOutcome, LoadError> {
        self.connect()?;
        let started = if self.interrupts == 0 {
            self.begin()
        } else {
            self.run.net.time_of_day()
        };
        let end = self.measure()?;
        self.drain()?;
        self.read_slow()?;
        self.run.now = self.run.clock();
        // Also if nothing is in flight: clients that were closed may have messages to account for.
        if self.run.tally.has_begun() {
            self.workload.give_up(&mut self.run);
        }
        let interval = self.run.tally.take_interval(self.run.now);
        if !interval.counts.latency.is_empty() || interval.counts.bytes > 0 {
            (self.watch)(&interval);
        }
        Ok(self.into_outcome(started, end))
    }

    fn into_outcome(mut self, started: SystemTime, end: LoadEnd) -> LoadOutcome {
        let mismatch = self.mismatch(end);
        let tally = self.run.tally;
        let elapsed = tally.measured();
        let took = match self.load.rate {
            Some(_) => tally.took(),
            // Answers that are late at the end replace those that were late at the beginning.
            None => elapsed,
        };
        let (counts, faults) = tally.into_total();
        LoadOutcome {
            started,
            elapsed,
            took,
            end,
            clients: self.most,
            slow_closed: self.slow.closed(),
            counts,
            faults,
            mismatch,
        }
    }

    /// The kind of the server, if it is another than the load is for. Clients that stayed connected
    /// and were sent nothing are a sign, too.
    fn mismatch(&mut self, end: LoadEnd) -> Option<Mismatch> {
        let faults = self.run.tally.faults();
        let happened = |kinds: &[Fault]| kinds.iter().any(|kind| faults.count(*kind) > 0);
        let stayed = self.most > 0 && !happened(&[Fault::Refused, Fault::Closed, Fault::Reset]);
        let waited = end == LoadEnd::Duration && happened(&[Fault::Unanswered, Fault::Lost]);
        if stayed && waited && !self.run.has_received {
            return Some(Mismatch::new(MismatchKind::Silent, &[]));
        }
        // Connections that come and go are counted whatever the answer.
        let all_checked = self.load.verify && self.load.mode != LoadMode::Churn;
        self.run.tally.mismatch(all_checked).cloned()
    }

    /// Opens all connections, and waits until the clients can begin.
    fn connect(&mut self) -> Result<(), LoadError> {
        let keys = match self.load.mode {
            // Its connections are measured.
            LoadMode::Churn => 0,
            _ => self.load.active_clients() + self.load.slow,
        };
        // Slow readers have the last keys, and come first: they are there when the others begin.
        for key in (0..keys).rev() {
            let since = Moment::START;
            self.dialer.request(ConnectRequest { key, since });
        }
        while !self.dialer.is_idle() && self.interrupts == 0 {
            self.pass()?;
        }
        let members = u32::try_from(self.load.active_clients()).unwrap_or(u32::MAX);
        let deadline = self.run.now + self.load.timeout + JOINING.saturating_mul(members);
        let held = self.held;
        while self.interrupts == 0 && !self.prepare()? {
            if self.run.now > deadline + self.held.saturating_sub(held) {
                self.look()?;
                if self.prepare()? {
                    break;
                }
                return Err(LoadError(self.workload.obstacle(&self.run)));
            }
            self.pass()?;
        }
        Ok(())
    }

    /// True if the clients can begin.
    fn prepare(&mut self) -> Result<bool, LoadError> {
        self.workload.prepare(&mut self.run).map_err(LoadError)
    }

    /// Begins the warm-up; returns the time of day at which the measured time begins.
    fn begin(&mut self) -> SystemTime {
        let now = self.run.clock();
        let start = now + self.load.warmup;
        let end = start + self.load.duration;
        self.run.now = now;
        self.run.tally.begin(now, start..end);
        let schedule = |rate| Schedule::new(rate, now..end);
        self.run.schedule = self.load.rate.map(schedule);
        self.interval_end = self.end_of_interval(now);
        self.has_turns = true;
        self.workload.begin(&mut self.run);
        self.run.net.time_of_day() + self.load.warmup
    }

    /// The end of an interval that begins now; also the beginning and the end of the measured time
    /// end one.
    fn end_of_interval(&self, now: Moment) -> Moment {
        let start = self.run.tally.start();
        let next = now + self.load.interval;
        if now < start {
            return next.min(start);
        }
        next.min(self.run.tally.end())
    }

    fn measure(&mut self) -> Result<LoadEnd, LoadError> {
        self.run.now = self.run.clock();
        while self.run.now < self.run.tally.end() {
            if self.interrupts > 0 || !self.workload.can_continue() {
                let now = self.run.clock();
                self.run.tally.end_early(now);
                let end = match self.interrupts {
                    0 => LoadEnd::Abandoned,
                    _ => LoadEnd::Interrupted,
                };
                return Ok(end);
            }
            self.pass()?;
            self.workload.advance(&mut self.run);
        }
        Ok(LoadEnd::Duration)
    }

    /// Waits for answers to what is in flight, for at most a timeout.
    fn drain(&mut self) -> Result<(), LoadError> {
        if let Some(schedule) = &mut self.run.schedule {
            schedule.stop();
        } else {
            self.dialer.clear();
            self.run.requests.clear();
        }
        self.workload.finish(&mut self.run);
        self.interval_end = Moment::NEVER;
        let until = self.run.now + self.load.timeout;
        let (interrupts, held) = (self.interrupts, self.held);
        while !self.workload.is_settled() && self.interrupts == interrupts {
            if self.run.now >= until + self.held.saturating_sub(held) {
                self.look()?;
                break;
            }
            self.pass()?;
            self.workload.advance(&mut self.run);
        }
        self.has_turns = false;
        Ok(())
    }

    /// Lets slow readers read, which shows whether the server has closed them.
    fn read_slow(&mut self) -> Result<(), LoadError> {
        self.slow.begin_to_read(&mut self.run.buffer);
        let until = self.run.now + READING;
        while self.slow.has_open() && self.run.now < until {
            self.pass()?;
        }
        self.look()
    }

    /// One pass of the loop.
    fn pass(&mut self) -> Result<(), LoadError> {
        let (before, sleep) = (self.run.now, self.sleep());
        self.take_events(sleep)?;
        let took = self.run.now.since(before);
        if took > sleep + HELD {
            self.held += took;
        }
        self.dial()?;
        self.check()
    }

    /// Waits for events, and passes them on; returns their number.
    fn take_events(&mut self, timeout: Duration) -> Result<usize, LoadError> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let waited = self.run.net.wait(Some(timeout), &mut events);
        waited.map_err(|e| LoadError(format!("cannot wait for events: {}", cause(&e))))?;
        self.run.now = self.run.clock();
        for event in &events {
            match *event {
                Event::Client(key, ready) => self.ready(key, ready)?,
                Event::Stop => self.interrupts += 1,
                _ => {}
            }
        }
        let count = events.len();
        self.events = events;
        self.most = self.most.max(self.workload.connected());
        Ok(count)
    }

    /// Takes what has come by now, before something is judged as late: a wait may have ended without
    /// an event, the event buffer may have been full, and the process may have been stopped meanwhile.
    fn look(&mut self) -> Result<(), LoadError> {
        for _ in 0..MOST_LOOKS {
            let count = self.take_events(Duration::ZERO)?;
            if self.has_turns {
                self.workload.advance(&mut self.run);
            }
            if count < EVENTS_PER_WAIT {
                break;
            }
        }
        Ok(())
    }

    /// Passes an event on.
    fn ready(&mut self, key: usize, ready: Readiness) -> Result<(), LoadError> {
        let is_slow = key >= self.load.active_clients();
        if self.dialer.is_dialing(key) {
            match self.dialer.ready(key, ready, &mut self.run)? {
                Dialed::Pending => return Ok(()),
                Dialed::Failed => {
                    self.workload.refused(key, &mut self.run);
                    return Ok(());
                }
                Dialed::Connected(connection, _) if is_slow => self.slow.open(key, connection),
                Dialed::Connected(connection, request) => {
                    self.workload.open(request, connection, &mut self.run);
                }
            }
        }
        if is_slow {
            self.slow.ready(key, ready, &mut self.run.buffer);
        } else {
            self.workload.ready(key, ready, &mut self.run);
        }
        Ok(())
    }

    /// Begins to open the connections that clients have asked for.
    fn dial(&mut self) -> Result<(), LoadError> {
        for request in self.run.requests.drain(..) {
            self.dialer.request(request);
        }
        if self.dialer.is_idle() {
            return Ok(());
        }
        for key in self.dialer.advance(&mut self.run)? {
            self.workload.refused(key, &mut self.run);
        }
        Ok(())
    }

    /// Ends the interval, and gives up what is late, if it is time.
    fn check(&mut self) -> Result<(), LoadError> {
        let now = self.run.now;
        if now >= self.interval_end {
            let interval = self.run.tally.take_interval(now);
            (self.watch)(&interval);
            self.interval_end = self.end_of_interval(now);
        }
        if now >= self.next_check {
            let timeout = self.load.timeout;
            self.next_check = now + timeout / CHECKS;
            self.look()?;
            self.workload.expire(now.before(timeout), &mut self.run);
            for key in self.dialer.expire(now, &mut self.run)? {
                self.workload.refused(key, &mut self.run);
            }
        }
        Ok(())
    }

    /// The time to sleep unless an event occurs.
    fn sleep(&self) -> Duration {
        let is_busy = self.has_turns && self.workload.is_busy();
        if self.load.spin || is_busy || !self.run.requests.is_empty() {
            return Duration::ZERO;
        }
        let now = self.run.clock();
        let schedule = self.run.schedule.as_ref().and_then(Schedule::next_time);
        let next = [
            schedule,
            self.dialer.next_time(),
            Some(self.next_check),
            Some(self.interval_end),
        ];
        let next = next.into_iter().flatten().min().unwrap_or(now);
        // The rest is spent awake, so that what is due is not late.
        next.since(now).saturating_sub(OVERSLEEP)
    }
}
