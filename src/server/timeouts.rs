//! Timeouts of clients: who is idle, and who doesn't take what it is owed.
//!
//! The clients that a timeout is counted for stand in a list in the order in which something last
//! happened, and the first is the next to be late: noting that something has happened is moving one
//! to the end, and nothing has to be done for those to whom nothing happens.

use std::time::{Duration, Instant};

use super::tick::Tick;
use crate::close::CloseReason;
use crate::config::Config;
use crate::net::Net;
use crate::service::Service;

/// The timeouts of a server, and what they are counted from.
#[derive(Debug)]
pub(super) struct Timeouts {
    start: Instant,
    /// When this tick began its work, in microseconds from the start.
    now: u64,
    idle: Option<Queue>,
    /// Clients that have just become stuck, and those that are looked at from time to time.
    fresh: Option<Queue>,
    write: Option<Queue>,
    /// How often in a row a stuck client, by its key, has taken nothing.
    strikes: Vec<u8>,
}

/// The kernel tells of room only when there is much of it (of TCP, a third of its buffer), but takes
/// what fits in less. So a stuck client is tried: soon, as what is on its way then may make room
/// yet, and so often in a timeout.
const TRIES: u8 = 4;
const SOON: Duration = Duration::from_millis(2);

impl Timeouts {
    pub(super) fn new(config: &Config, start: Instant) -> Self {
        Self {
            start,
            now: 0,
            idle: config.idle_timeout.map(Queue::new),
            fresh: config.write_timeout.map(|_| Queue::new(SOON)),
            write: config
                .write_timeout
                .map(|time| Queue::new(time / u32::from(TRIES))),
            strikes: Vec::new(),
        }
    }

    pub(super) fn are_on(&self) -> bool {
        self.idle.is_some() || self.write.is_some()
    }

    /// What happens from now on happens at this time.
    pub(super) fn set_time(&mut self, now: Instant) {
        self.now = micros(now.saturating_duration_since(self.start));
    }

    /// When the first client is late.
    pub(super) fn next(&self) -> Option<Instant> {
        let queues = [&self.idle, &self.fresh, &self.write];
        let queues = queues.into_iter().flatten();
        let next = queues.filter_map(Queue::next).min()?;
        self.start.checked_add(Duration::from_micros(next))
    }

    fn strikes_of(&self, key: usize) -> u8 {
        self.strikes.get(key).copied().unwrap_or(0)
    }

    fn strike(&mut self, key: usize, strikes: u8) {
        if self.strikes.len() <= key {
            self.strikes.resize(key + 1, 0);
        }
        self.strikes[key] = strikes;
    }

    /// A client has gone.
    pub(super) fn forget(&mut self, key: usize) {
        let queues = [&mut self.idle, &mut self.fresh, &mut self.write];
        for queue in queues.into_iter().flatten() {
            queue.remove(key);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Notes what has happened to a client since the last time.
    pub(super) fn note(&mut self, key: usize) {
        let client = &mut self.clients[key];
        let connection = &mut client.connection;
        let timeouts = &mut self.timeouts;
        let now = timeouts.now;
        let activity = connection.take_activity();
        let (heard, took) = (activity.read, activity.written);
        // Who is on its way out has a deadline of its own, and a pipe is not a peer.
        if connection.closing().is_some() || client.address.is_stdio() {
            return timeouts.forget(key);
        }
        if let Some(idle) = &mut timeouts.idle
            && (heard || took || !idle.contains(key))
        {
            idle.touch(key, now);
        }
        if let (Some(fresh), Some(write)) = (&mut timeouts.fresh, &mut timeouts.write) {
            let stuck = connection.is_stuck(&self.service);
            let known = fresh.contains(key) || write.contains(key);
            // Who is owed nothing just now, by a skip for instance, still hasn't taken anything.
            if took || !known || connection.is_writable() {
                fresh.remove(key);
                write.remove(key);
            }
            if stuck && (took || !known) {
                fresh.touch(key, now);
                timeouts.strike(key, 0);
            }
        }
    }

    /// Closes those who are late.
    pub(super) fn expire_clients(&mut self, now: Instant) {
        self.timeouts.set_time(now);
        let now = self.timeouts.now;
        while let Some(key) = late(self.timeouts.fresh.as_ref(), now) {
            self.try_stuck(key, 0);
        }
        while let Some(key) = late(self.timeouts.write.as_ref(), now) {
            self.try_stuck(key, 1);
        }
        while let Some(key) = late(self.timeouts.idle.as_ref(), now) {
            let client = &mut self.clients[key];
            if client.queued
                && let Some(idle) = &mut self.timeouts.idle
            {
                // It has said something, and only waits for its turn.
                idle.touch(key, now);
                continue;
            }
            let connection = &mut client.connection;
            connection.close(&mut self.service, CloseReason::Idle);
            self.timeouts.forget(key);
            self.after(key);
        }
    }

    /// Tries whether a stuck client takes something; so many strikes if it doesn't.
    fn try_stuck(&mut self, key: usize, strikes: u8) {
        let client = &mut self.clients[key];
        let stuck = client.connection.is_stuck(&self.service);
        if stuck {
            client.connection.expect_room();
        }
        let more = client.connection.flush(&mut self.service);
        let took = client.connection.take_activity().written;
        let count = if took {
            0
        } else {
            TRIES.min(self.timeouts.strikes_of(key) + strikes)
        };
        self.timeouts.strike(key, count);
        if stuck && count >= TRIES {
            let reason = CloseReason::Stalled;
            client.connection.abort(&self.service, reason);
            self.timeouts.forget(key);
            return self.after(key);
        }
        let Timeouts {
            idle,
            fresh,
            write,
            now,
            ..
        } = &mut self.timeouts;
        if let (Some(fresh), Some(write)) = (fresh, write) {
            fresh.remove(key);
            write.touch(key, *now);
        }
        if let (true, Some(idle)) = (took, idle) {
            idle.touch(key, *now);
        }
        self.flush_later(key, more);
        self.after(key);
    }
}

/// The first client of a queue, if it is late.
fn late(queue: Option<&Queue>, now: u64) -> Option<usize> {
    let queue = queue?;
    let late = queue.next().is_some_and(|next| next <= now);
    late.then_some(queue.first as usize)
}

/// No client.
const NONE: u32 = u32::MAX;

/// Clients, by their keys, in the order in which something last happened to them: a list through a
/// table, so that each move takes the same time.
#[derive(Debug)]
struct Queue {
    /// So long after that they are late, in microseconds.
    after: u64,
    /// 16 bytes a client.
    places: Vec<Place>,
    first: u32,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// When something last happened; never if it isn't in the list.
    since: u64,
    before: u32,
    behind: u32,
}

const NOWHERE: Place = Place {
    since: u64::MAX,
    before: NONE,
    behind: NONE,
};

impl Queue {
    fn new(after: Duration) -> Self {
        Self {
            // At no time nobody would ever be done with.
            after: micros(after).max(1),
            places: Vec::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// When the first is late.
    fn next(&self) -> Option<u64> {
        let first = self.places.get(self.first as usize)?;
        Some(first.since.saturating_add(self.after))
    }

    fn contains(&self, key: usize) -> bool {
        self.places
            .get(key)
            .is_some_and(|place| place.since != u64::MAX)
    }

    /// Something has happened to this client: it goes to the end.
    fn touch(&mut self, key: usize, now: u64) {
        self.remove(key);
        // There are never so many descriptors.
        let Ok(at) = u32::try_from(key) else { return };
        if self.places.len() <= key {
            self.places.resize(key + 1, NOWHERE);
        }
        let before = self.last;
        self.places[key] = Place {
            since: now,
            before,
            behind: NONE,
        };
        match self.places.get_mut(before as usize) {
            Some(place) => place.behind = at,
            None => self.first = at,
        }
        self.last = at;
    }

    fn remove(&mut self, key: usize) {
        if !self.contains(key) {
            return;
        }
        let Place { before, behind, .. } = std::mem::replace(&mut self.places[key], NOWHERE);
        match self.places.get_mut(before as usize) {
            Some(place) => place.behind = behind,
            None => self.first = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(place) => place.before = before,
            None => self.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_client_costs_16_bytes() {
        assert_eq!(size_of::<Place>(), 16);
    }

    proptest! {
        /// The list is what a plain vector is that is searched for every move.
        #[test]
        fn the_first_is_who_was_touched_longest_ago(moves: Vec<(u8, bool)>) {
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
                let late = late(Some(&queue), now);
                prop_assert_eq!(late, first.filter(|(_, since)| since + 10 <= now).map(|(key, _)| *key));
            }
        }
    }
}
