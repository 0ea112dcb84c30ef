//! Clients on their way out, with their deadlines.
//!
//! A client's progress is noted after each touch, and its deadline has a place in an order: clients to
//! which nothing happens cost nothing, however many they are.
//!
//! A client is put into a list at a point where no clock is read. Its time starts when the timers
//! run next, or before the loop waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Silence after which no input in flight is expected any more, with which a close would collide.
pub(in crate::server) const SILENCE: Duration = Duration::from_millis(100);

/// The clients on their way out.
#[derive(Debug)]
pub(super) struct Waiting {
    linger: Duration,
    /// By key.
    clients: BTreeMap<usize, Lingering>,
    /// The deadlines of those whose time has started.
    order: BTreeSet<(Instant, usize)>,
    /// Clients whose time has not started, if they are still there.
    new: Vec<usize>,
    /// Clients whose progress is to be noted, if they are still there; one may be in it twice.
    touched: Vec<usize>,
}

/// A client on its way out.
#[derive(Debug)]
struct Lingering {
    /// Bytes received and sent when the silence began.
    traffic: (u64, u64),
    /// True if bytes waited to be sent when its progress was last noted.
    waiting: bool,
    /// True once everything was sent.
    delivered: bool,
    deadlines: Option<Deadlines>,
}

#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// End of the linger time. It starts when the close begins, and again once everything was sent;
    /// until then also whenever the client takes bytes, unless it is a slow consumer.
    last: Instant,
    /// End of the silence, which starts again when bytes move. It doesn't count while bytes wait to
    /// be sent.
    silent: Instant,
}

/// The present state of a client on its way out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes received and sent.
    pub(super) traffic: (u64, u64),
    /// True if bytes wait to be sent.
    pub(super) waiting: bool,
    /// True for a slow consumer, whose patience is used up.
    pub(super) slow: bool,
}

impl Waiting {
    /// No clients yet; each may take the time `linger`.
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            linger,
            clients: BTreeMap::new(),
            order: BTreeSet::new(),
            new: Vec::new(),
            touched: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Adds a client that has received and sent these numbers of bytes.
    pub(super) fn add(&mut self, key: usize, traffic: (u64, u64)) {
        self.clients.insert(key, Lingering::new(traffic));
        self.new.push(key);
        self.touched.push(key);
    }

    /// Notes that something may have happened to a client.
    pub(super) fn touch(&mut self, key: usize) {
        self.touched.push(key);
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, key: usize) {
        if let Some(at) = self.clients.remove(&key).and_then(|l| l.deadline()) {
            self.order.remove(&(at, key));
        }
    }

    /// Starts the time of the clients that were added since the last call.
    pub(super) fn start(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.new) {
            let linger = self.linger;
            self.change(key, |lingering| lingering.start(now, linger));
        }
    }

    /// Puts off the deadlines of all.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.clients.values_mut().for_each(|l| l.excuse(time));
        let deadlines = self.clients.iter();
        let deadlines = deadlines.filter_map(|(key, l)| Some((l.deadline()?, *key)));
        self.order = deadlines.collect();
    }

    /// The earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes note of the progress, at `noted`, of the clients that were touched since the last call,
    /// each of which costs the logarithm of the number of all.
    pub(super) fn note(&mut self, noted: Instant, progress: impl Fn(usize) -> Progress) {
        self.start(noted);
        for key in std::mem::take(&mut self.touched) {
            let linger = self.linger;
            self.change(key, |l| l.note(progress(key), noted, linger));
        }
    }

    /// Removes a client whose time was over at `now`.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<usize> {
        let (_, key) = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.remove(key);
        Some(key)
    }

    /// Changes a client that may be gone, and gives it its place in the order.
    fn change(&mut self, key: usize, change: impl FnOnce(&mut Lingering)) {
        #[cfg(test)]
        crate::testing::work::step();
        let Some(lingering) = self.clients.get_mut(&key) else {
            return;
        };
        let before = lingering.deadline();
        change(lingering);
        let after = lingering.deadline();
        if before != after {
            before.map(|at| self.order.remove(&(at, key)));
            after.map(|at| self.order.insert((at, key)));
        }
    }
}

impl Lingering {
    fn new(traffic: (u64, u64)) -> Self {
        Self {
            traffic,
            waiting: false,
            delivered: false,
            deadlines: None,
        }
    }

    fn start(&mut self, now: Instant, linger: Duration) {
        self.deadlines.get_or_insert(Deadlines {
            last: now + linger,
            silent: now + SILENCE,
        });
    }

    /// Puts off the deadlines.
    fn excuse(&mut self, time: Duration) {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.last += time;
            deadlines.silent += time;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let Deadlines { last, silent } = self.deadlines?;
        Some(if self.waiting { last } else { last.min(silent) })
    }

    /// Takes note of the client's progress, at `noted`.
    fn note(&mut self, progress: Progress, noted: Instant, linger: Duration) {
        let Some(deadlines) = &mut self.deadlines else {
            return;
        };
        let Progress {
            traffic,
            waiting,
            slow,
        } = progress;
        if !self.delivered && (!waiting || (!slow && traffic.1 != self.traffic.1)) {
            self.delivered = !waiting;
            deadlines.last = noted + linger;
        }
        if waiting || self.waiting || traffic != self.traffic {
            deadlines.silent = noted + SILENCE;
        }
        (self.traffic, self.waiting) = (traffic, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::LINGER;
    use crate::testing::work::steps;

    const START: Progress = Progress {
        traffic: (0, 0),
        waiting: true,
        slow: false,
    };

    /// Milliseconds until the time of a client is over. Its progress is noted every 10 ms.
    fn over_after(progress: impl Fn(u64) -> Progress) -> u64 {
        let start = Instant::now();
        let mut waiting = Waiting::new(LINGER);
        waiting.add(0, (0, 0));
        let times = (0..10_000).step_by(10);
        let mut over = times.skip_while(|&ms| {
            let now = start + Duration::from_millis(ms);
            waiting.touch(0);
            waiting.note(now, |_| progress(ms));
            waiting.take_over(now).is_none()
        });
        over.next().unwrap()
    }

    #[test]
    fn silent_client_that_has_everything_is_dropped_after_100_ms() {
        let silent = Progress {
            waiting: false,
            ..START
        };
        assert_eq!(over_after(|_| silent), 100);
    }

    #[test]
    fn client_that_takes_nothing_is_dropped_after_the_linger_time() {
        assert_eq!(over_after(|_| START), 1000);
    }

    #[test]
    fn client_that_takes_bytes_may_take_its_time_unless_it_is_a_slow_consumer() {
        let taking = |ms: u64, slow| Progress {
            traffic: (0, ms.min(3000)),
            slow,
            ..START
        };
        assert_eq!(over_after(|ms| taking(ms, false)), 4000);
        assert_eq!(over_after(|ms| taking(ms, true)), 1000);
    }

    /// A client that sends a byte now and then is not waited for longer than any other.
    #[test]
    fn client_that_trickles_is_dropped_after_the_linger_time() {
        let trickling = |ms: u64, waiting| Progress {
            traffic: (ms / 50, 0),
            waiting,
            ..START
        };
        assert_eq!(over_after(|ms| trickling(ms, false)), 1000);
        assert_eq!(over_after(|ms| trickling(ms, true)), 1000);
        // Once it has everything its linger time starts again, and only once.
        let taking = |ms: u64| Progress {
            traffic: (ms / 50, ms.min(3000)),
            waiting: ms < 3000,
            ..START
        };
        assert_eq!(over_after(taking), 4000);
    }

    #[test]
    fn silence_begins_when_the_last_byte_has_moved() {
        let until = |ms: u64| Progress {
            traffic: (ms.min(300), 0),
            waiting: false,
            ..START
        };
        assert_eq!(over_after(until), 400);
    }

    /// Every client on its way out was looked at in every tick.
    #[test]
    fn clients_to_which_nothing_happens_cost_nothing() {
        let start = Instant::now();
        let mut waiting = Waiting::new(LINGER);
        (0..1000).for_each(|key| waiting.add(key, (0, 0)));
        waiting.note(start, |_| START);
        waiting.touch(7);
        let silent = Progress {
            waiting: false,
            ..START
        };
        let noted = || waiting.note(start + SILENCE, |_| silent);
        assert_eq!(steps(noted), 1);
        assert_eq!(waiting.deadline(), Some(start + 2 * SILENCE));
        assert_eq!(waiting.take_over(start + 2 * SILENCE), Some(7));
        assert_eq!(waiting.deadline(), Some(start + LINGER));
        waiting.remove(8);
        waiting.excuse(LINGER);
        assert_eq!(waiting.take_over(start + LINGER), None);
        let over = std::iter::from_fn(|| waiting.take_over(start + 2 * LINGER));
        assert_eq!((over.count(), waiting.is_empty()), (998, true));
    }
}
