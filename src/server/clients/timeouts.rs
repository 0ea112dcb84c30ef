//! Timeouts of clients that are idle, or that do not take what they are owed.
//!
//! For each timeout the clients form a list in the order of their last activity: the first is the
//! next to be late. Activity moves a client to the end; an idle client costs nothing.

use std::time::{Duration, Instant};

use crate::connection::Activity;
use crate::service::ARRIVAL;

/// The timeouts of a server's clients, by their keys.
#[derive(Debug)]
pub(super) struct Timeouts {
    start: Instant,
    /// Time at which the present pass of the loop began, in microseconds from the start.
    now: u64,
    idle: Option<Queue>,
    /// Clients that have just become stuck: their first try comes [`SOON`].
    fresh: Option<Queue>,
    /// Clients that have been tried: each part of the write timeout ends with another try.
    write: Option<Queue>,
    /// Clients whose last message waits for its rest.
    partial: Option<Queue>,
    /// Clients that have not sent anything yet, until they arrive.
    newcomers: Queue,
    /// By key: tries in a row in which a stuck client has taken nothing.
    strikes: Vec<u8>,
}

/// Tries to write to a stuck client within its write timeout. They are needed because the kernel
/// tells of room only when there is much of it (for TCP, a third of its buffer), but takes output
/// that fits in less.
const TRIES: u8 = 4;
/// Time before the first try: bytes in flight may have made room by then.
const SOON: Duration = Duration::from_millis(2);

/// State of a client's output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// True if the client is owed something that its stream does not take.
    pub(super) stuck: bool,
    /// True if its stream takes output, as far as is known.
    pub(super) writable: bool,
}

impl Timeouts {
    /// The timeouts that are not `None`, counted from `start`.
    pub(super) fn new(
        idle: Option<Duration>,
        write: Option<Duration>,
        partial: Option<Duration>,
        start: Instant,
    ) -> Self {
        Self {
            partial: partial.map(Queue::new),
            newcomers: Queue::new(ARRIVAL),
            start,
            now: 0,
            idle: idle.map(Queue::new),
            fresh: write.map(|_| Queue::new(SOON)),
            write: write.map(|time| Queue::new(time / u32::from(TRIES))),
            strikes: Vec::new(),
        }
    }

    /// True if there is a timeout.
    pub(super) fn are_on(&self) -> bool {
        self.idle.is_some() || self.write.is_some()
    }

    /// True if messages that wait for their rest have a timeout.
    pub(super) fn limit_partials(&self) -> bool {
        self.partial.is_some()
    }

    /// True if a client may be late, arrive, or have to complete a message.
    pub(super) fn may_be_due(&self) -> bool {
        let partials = self.partial.as_ref();
        let partials = partials.is_some_and(|queue| !queue.is_empty());
        self.are_on() || partials || !self.newcomers.is_empty()
    }

    /// Notes a client that has not arrived yet, and was accepted at `now`.
    pub(super) fn note_newcomer(&mut self, key: usize, now: Instant) {
        let now = self.micros(now);
        self.newcomers.touch(key, now);
    }

    /// Notes that a client has arrived.
    pub(super) fn note_arrival(&mut self, key: usize) {
        self.newcomers.remove(key);
    }

    /// Takes a client that arrives at `now`, without having sent anything, out of the newcomers.
    pub(super) fn take_arrival(&mut self, now: Instant) -> Option<usize> {
        let key = self.newcomers.late(self.micros(now))?;
        self.newcomers.remove(key);
        Some(key)
    }

    /// Notes if the last message of a client `waits` for its rest; `new` if it has begun just now.
    pub(super) fn note_partial(&mut self, key: usize, waits: bool, new: bool) {
        let Some(partial) = &mut self.partial else {
            return;
        };
        if !waits {
            partial.remove(key);
        } else if new || !partial.contains(key) {
            partial.touch(key, self.now);
        }
    }

    /// Takes a client whose message has waited for too long at `now` out of the list.
    pub(super) fn take_partial(&mut self, now: Instant) -> Option<usize> {
        let now = self.micros(now);
        let partial = self.partial.as_mut()?;
        let key = partial.late(now)?;
        partial.remove(key);
        Some(key)
    }

    /// Sets the time of the activity that is noted from now on.
    pub(super) fn set_time(&mut self, now: Instant) {
        self.now = self.micros(now);
    }

    /// The moment at which the first client is late.
    pub(super) fn next(&self) -> Option<Instant> {
        let queues = [&self.idle, &self.fresh, &self.write];
        let queues = queues.into_iter().flatten();
        let next = queues.filter_map(Queue::next).min()?;
        self.start.checked_add(Duration::from_micros(next))
    }

    /// The moment at which the first client arrives, or has to complete a message.
    pub(super) fn next_notice(&self) -> Option<Instant> {
        let partial = self.partial.as_ref().and_then(Queue::next);
        let next = partial.into_iter().chain(self.newcomers.next()).min()?;
        self.start.checked_add(Duration::from_micros(next))
    }

    /// Notes a client's activity since the last call, and the state of its output.
    pub(super) fn note(&mut self, key: usize, activity: Activity, output: Output) {
        let Activity { read, written } = activity;
        if let Some(idle) = &mut self.idle
            && (read || written || !idle.contains(key))
        {
            idle.touch(key, self.now);
        }
        if let (Some(fresh), Some(write)) = (&mut self.fresh, &mut self.write) {
            let known = fresh.contains(key) || write.contains(key);
            // Being owed nothing for a moment, for instance after a skip, is not progress: only
            // a write is.
            if written || !known || output.writable {
                fresh.remove(key);
                write.remove(key);
            }
            if output.stuck && (written || !known) {
                fresh.touch(key, self.now);
                self.set_strikes(key, 0);
            }
        }
    }

    /// A stuck client whose next try is due.
    pub(super) fn next_try(&self, now: Instant) -> Option<usize> {
        let now = self.micros(now);
        let late = |queue: &Option<Queue>| queue.as_ref()?.late(now);
        late(&self.fresh).or_else(|| late(&self.write))
    }

    /// Notes a try to write to a client: `stuck` before it, `written` if it took bytes. True if a
    /// stuck client took nothing in all of its tries: its write timeout is over.
    pub(super) fn note_try(&mut self, key: usize, stuck: bool, written: bool) -> bool {
        let (Some(fresh), Some(write)) = (&mut self.fresh, &mut self.write) else {
            return false;
        };
        let strike = u8::from(write.contains(key));
        fresh.remove(key);
        write.touch(key, self.now);
        if let (true, Some(idle)) = (written, &mut self.idle) {
            idle.touch(key, self.now);
        }
        let strikes = if written {
            0
        } else {
            TRIES.min(self.strikes(key) + strike)
        };
        self.set_strikes(key, strikes);
        stuck && strikes >= TRIES
    }

    /// The client that has been idle for longest, if that is too long.
    pub(super) fn next_idle(&self, now: Instant) -> Option<usize> {
        self.idle.as_ref()?.late(self.micros(now))
    }

    /// Gives a client another idle timeout.
    pub(super) fn postpone_idle(&mut self, key: usize) {
        if let Some(idle) = &mut self.idle {
            idle.touch(key, self.now);
        }
    }

    /// Removes a client from all lists: no timeout is counted for it any more.
    pub(super) fn forget(&mut self, key: usize) {
        let queues = [
            &mut self.idle,
            &mut self.fresh,
            &mut self.write,
            &mut self.partial,
        ];
        for queue in queues.into_iter().flatten() {
            queue.remove(key);
        }
        self.newcomers.remove(key);
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.start))
    }

    fn strikes(&self, key: usize) -> u8 {
        self.strikes.get(key).copied().unwrap_or(0)
    }

    fn set_strikes(&mut self, key: usize, strikes: u8) {
        if self.strikes.len() <= key {
            self.strikes.resize(key + 1, 0);
        }
        self.strikes[key] = strikes;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// No client.
const NONE: u32 = u32::MAX;

/// Clients, by their keys, in the order of their last activity: a list linked through a table, so
/// that each move takes the same time.
#[derive(Debug)]
struct Queue {
    /// Time in microseconds after which a client is late.
    after: u64,
    /// By key, 16 bytes a client.
    nodes: Vec<Node>,
    first: u32,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Time of the last activity, in microseconds; [`u64::MAX`] outside the list.
    since: u64,
    previous: u32,
    next: u32,
}

const UNLINKED: Node = Node {
    since: u64::MAX,
    previous: NONE,
    next: NONE,
};

impl Queue {
    fn new(after: Duration) -> Self {
        Self {
            // With a time of 0 the first client would be late again at once, without end.
            after: micros(after).max(1),
            nodes: Vec::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// The moment at which the first is late.
    fn next(&self) -> Option<u64> {
        let first = self.nodes.get(self.first as usize)?;
        Some(first.since.saturating_add(self.after))
    }

    /// The first client, if it is late.
    fn late(&self, now: u64) -> Option<usize> {
        let late = self.next().is_some_and(|next| next <= now);
        late.then_some(self.first as usize)
    }

    fn is_empty(&self) -> bool {
        self.first == NONE
    }

    fn contains(&self, key: usize) -> bool {
        self.nodes
            .get(key)
            .is_some_and(|node| node.since != u64::MAX)
    }

    /// Moves a client to the end of the list.
    fn touch(&mut self, key: usize, now: u64) {
        self.remove(key);
        // There are never that many descriptors.
        let Ok(at) = u32::try_from(key) else { return };
        if self.nodes.len() <= key {
            self.nodes.resize(key + 1, UNLINKED);
        }
        let previous = self.last;
        self.nodes[key] = Node {
            since: now,
            previous,
            next: NONE,
        };
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = at,
            None => self.first = at,
        }
        self.last = at;
    }

    fn remove(&mut self, key: usize) {
        if !self.contains(key) {
            return;
        }
        let Node { previous, next, .. } = std::mem::replace(&mut self.nodes[key], UNLINKED);
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => self.first = next,
        }
        match self.nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None => self.last = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_costs_16_bytes() {
        assert_eq!(size_of::<Node>(), 16);
    }

    #[test]
    fn stuck_client_is_tried_soon_and_then_four_times_within_its_timeout() {
        let start = Instant::now();
        let millis = Duration::from_millis;
        let mut timeouts = Timeouts::new(None, Some(millis(400)), None, start);
        let (nothing, stuck) = (
            Activity {
                read: false,
                written: false,
            },
            Output {
                stuck: true,
                writable: false,
            },
        );
        timeouts.set_time(start);
        timeouts.note(3, nothing, stuck);
        let mut tries = Vec::new();
        let given_up = loop {
            let next = timeouts.next().unwrap();
            timeouts.set_time(next);
            tries.push((next - start).as_millis());
            assert_eq!(timeouts.next_try(next), Some(3));
            if timeouts.note_try(3, true, false) {
                break next - start;
            }
            assert_eq!(timeouts.next_try(next), None);
        };
        assert_eq!(tries, [2, 102, 202, 302, 402]);
        assert_eq!(given_up, millis(402));
        timeouts.forget(3);
        assert_eq!(timeouts.next(), None);
    }

    #[test]
    fn message_waits_for_its_rest_from_its_beginning_on() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut timeouts = Timeouts::new(None, None, Some(Duration::from_secs(2)), start);
        assert!(timeouts.limit_partials() && !timeouts.may_be_due());
        // A second part changes nothing, the beginning of another message does.
        for (at, new, due) in [(0, false, 2), (1, false, 2), (1, true, 3)] {
            timeouts.set_time(second(at));
            timeouts.note_partial(5, true, new);
            assert_eq!(timeouts.next_notice(), Some(second(due)));
        }
        assert_eq!(timeouts.take_partial(second(2)), None);
        assert_eq!(timeouts.take_partial(second(3)), Some(5));
        timeouts.note_partial(5, true, false);
        timeouts.note_partial(5, false, true);
        assert!(!timeouts.may_be_due() && timeouts.next_notice().is_none());
    }

    #[test]
    fn newcomer_arrives_once_a_second_after_it_was_accepted() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(None, None, None, start);
        assert!(!timeouts.may_be_due());
        for (key, millis) in [(4, 0), (5, 100), (6, 200)] {
            timeouts.note_newcomer(key, start + Duration::from_millis(millis));
        }
        timeouts.note_arrival(5);
        timeouts.forget(6);
        assert_eq!(timeouts.next_notice(), Some(start + ARRIVAL));
        assert_eq!(timeouts.take_arrival(start + ARRIVAL / 2), None);
        assert_eq!(timeouts.take_arrival(start + 2 * ARRIVAL), Some(4));
        assert_eq!(timeouts.take_arrival(start + 2 * ARRIVAL), None);
        assert!(!timeouts.may_be_due() && timeouts.next_notice().is_none());
    }

    #[test]
    fn activity_restarts_the_idle_timeout() {
        let start = Instant::now();
        let second = Duration::from_secs;
        let mut timeouts = Timeouts::new(Some(second(10)), None, None, start);
        let calm = Output {
            stuck: false,
            writable: true,
        };
        let mut note = |at: u64, read: bool| {
            timeouts.set_time(start + second(at));
            let written = false;
            timeouts.note(0, Activity { read, written }, calm);
            (
                timeouts.next_idle(start + second(at)),
                timeouts.next().unwrap() - start,
            )
        };
        assert_eq!(note(0, false), (None, second(10)));
        assert_eq!(note(4, false), (None, second(10)));
        assert_eq!(note(5, true), (None, second(15)));
        assert_eq!(note(15, false), (Some(0), second(15)));
    }

    proptest! {
        /// The list behaves as a plain vector that is searched for every move.
        #[test]
        fn first_client_is_the_one_touched_longest_ago(moves: Vec<(u8, bool)>) {
            let mut queue = Queue::new(Duration::from_micros(10));
            let mut model: Vec<(usize, u64)> = Vec::new();
            for (now, (key, touch)) in (0..).zip(moves) {
                let key = usize::from(key % 16);
                model.retain(|(other, _)| *other != key);
                if touch {
                    queue.touch(key, now);
                    model.push((key, now));
                } else {
                    queue.remove(key);
                }
                let first = model.first();
                prop_assert_eq!(queue.next(), first.map(|(_, since)| since + 10));
                prop_assert_eq!(queue.contains(key), touch);
                prop_assert_eq!(queue.first, first.map_or(NONE, |(key, _)| u32::try_from(*key).unwrap()));
                let late = queue.late(now);
                prop_assert_eq!(late, first.filter(|(_, since)| since + 10 <= now).map(|(key, _)| *key));
            }
        }
    }
}
