//! Clients that hold up the room, and the end of the patience with them.
//!
//! The patience belongs to the room: clients that fail to catch up use it up together, and it comes
//! back slowly. Otherwise as many clients as an attacker opens could each hold up the room for the
//! whole patience, one after the other.
//!
//! - A client that holds up the room must read what it is behind within one patience: that is its
//!   *pace*.
//! - It may be behind its pace for half of what is left of the room's [`Budget`], which is two
//!   patiences: for one patience, if no client has failed lately.
//! - A client that is near the limit when another begins to hold up the room is counted from then.
//! - The time for which a client held up the room and then failed is taken from the budget. For such
//!   clients the room therefore stands still for at most two patiences plus a thirtieth of the time,
//!   however many they are, and for a moment each.
//! - A client that catches up uses up nothing. It reads at least half of the log in a patience, on
//!   average; so the room is at least as fast. Its reading is seen in steps only: the kernel tells
//!   that a stream takes output when a third of its buffer is free.
//!
//! A client is put into a list at a point where no clock is read. Its time starts when the timers
//! run next, or before the loop waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::patience::{Budget, Pace, Place};

/// The clients that hold up the room, and those that are near to it.
#[derive(Debug)]
pub(super) struct Holds {
    /// `None` if the patience is unlimited.
    budget: Option<Budget>,
    /// Clients too far behind: while there are any, no client is read.
    holding: Vec<Hold>,
    /// By key: clients that were near the limit when another began to hold up the room. Their pace
    /// counts from then.
    near: BTreeMap<usize, Pace>,
}

/// A client that holds up the room.
#[derive(Debug)]
struct Hold {
    key: usize,
    place: Place,
    /// Unset until its time has started.
    times: Option<Times>,
}

#[derive(Debug)]
struct Times {
    since: Instant,
    pace: Pace,
    /// Time by which it may be behind its pace.
    allowance: Duration,
}

/// The present state of a client that holds up the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is behind, with its cursor at this position.
    Behind(u64),
    CaughtUp,
}

impl Holds {
    /// No holds yet. A `patience` of `None` is unlimited.
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self {
            budget: patience.map(Budget::new),
            holding: Vec::new(),
            near: BTreeMap::new(),
        }
    }

    /// Lets a client hold up the room.
    pub(super) fn add(&mut self, key: usize, place: Place) {
        self.holding.push(Hold {
            key,
            place,
            times: None,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holding.is_empty()
    }

    /// The keys of the clients that hold up the room.
    pub(super) fn keys(&self) -> impl Iterator<Item = usize> {
        self.holding.iter().map(|hold| hold.key)
    }

    /// True if the time of a client has not started yet.
    pub(super) fn has_new(&self) -> bool {
        self.holding.last().is_some_and(|hold| hold.times.is_none())
    }

    /// Starts the time of the clients that began to hold up the room since the last call, and the
    /// pace of those that are `near` to it.
    pub(super) fn start(&mut self, now: Instant, near: impl Iterator<Item = (usize, Place)>) {
        let Some(budget) = &mut self.budget else {
            return;
        };
        let (patience, allowance) = (budget.patience, budget.allowance(now));
        for hold in &mut self.holding {
            let (key, place) = (hold.key, hold.place);
            hold.times.get_or_insert_with(|| Times {
                since: now,
                pace: take_pace(&mut self.near, key, place, now, patience),
                allowance,
            });
        }
        let mut paces = BTreeMap::new();
        for (key, place) in near {
            paces.insert(key, take_pace(&mut self.near, key, place, now, patience));
        }
        self.near = paces;
    }

    /// Puts off the end of the patience.
    pub(super) fn excuse(&mut self, time: Duration) {
        for hold in &mut self.holding {
            if let Some(times) = &mut hold.times {
                times.since += time;
                times.pace.excuse(time);
            }
        }
        for pace in self.near.values_mut() {
            pace.excuse(time);
        }
    }

    /// The earliest time at which the patience with a client may be over; `None` if it is unlimited,
    /// or no time has started.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let patience = self.budget.as_ref()?.patience;
        let times = self.holding.iter().filter_map(|hold| hold.times.as_ref());
        times.filter_map(|times| times.deadline(patience)).min()
    }

    /// Ends the holds of clients that have caught up, or with which the patience is over. Calls
    /// `ended` with each key, and true if the client has failed.
    pub(super) fn end(
        &mut self,
        now: Instant,
        state: impl Fn(usize) -> State,
        mut ended: impl FnMut(usize, bool),
    ) {
        let budget = &mut self.budget;
        self.holding.retain_mut(|hold| {
            let state = state(hold.key);
            let failed = match (&mut *budget, &mut hold.times) {
                (Some(budget), Some(times)) => times.judge(state, now, budget),
                _ => false,
            };
            let over = failed || state == State::CaughtUp;
            if over {
                ended(hold.key, failed);
            }
            !over
        });
    }

    /// Ends the holds of clients that don't stay.
    pub(super) fn retain(&mut self, stays: impl Fn(usize) -> bool) {
        self.holding.retain(|hold| stays(hold.key));
    }

    /// Forgets the pace of a client that holds up the room no more.
    pub(super) fn forget(&mut self, key: usize) {
        self.near.remove(&key);
    }

    /// Forgets all clients.
    pub(super) fn clear(&mut self) {
        self.near.clear();
        self.holding.clear();
    }
}

/// The pace by which a client is behind since another held up the room, or a new one.
fn take_pace(
    near: &mut BTreeMap<usize, Pace>,
    key: usize,
    place: Place,
    now: Instant,
    patience: Duration,
) -> Pace {
    let known = near.remove(&key).map(|mut pace| {
        pace.advance(place.cursor, now, patience);
        pace
    });
    let behind = known.filter(|pace| !pace.behind(now).is_zero() && !pace.is_done());
    behind.unwrap_or_else(|| Pace::new(place, now))
}

impl Times {
    fn deadline(&self, patience: Duration) -> Option<Instant> {
        let end = self.since.checked_add(patience);
        let behind = self.pace.deadline(self.allowance);
        end.into_iter().chain(behind).min()
    }

    /// Takes note of a client's state. True if the patience with it is over: then the time of the
    /// hold is taken from the budget. A client that catches up has kept its pace.
    fn judge(&mut self, state: State, now: Instant, budget: &mut Budget) -> bool {
        let State::Behind(cursor) = state else {
            return false;
        };
        self.pace.advance(cursor, now, budget.patience);
        let over = self.deadline(budget.patience).is_some_and(|at| now >= at);
        if over {
            budget.charge(self.since, now);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    /// Bytes that a client is behind when it begins to hold up the room.
    const LAG: u64 = 1000;

    /// A room with a patience of a second, and a clock that the test moves.
    struct Scene {
        holds: Holds,
        now: Instant,
        /// Clients that have failed.
        failed: Vec<usize>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                holds: Holds::new(Some(PATIENCE)),
                now: Instant::now(),
                failed: Vec::new(),
            }
        }

        fn add(&mut self, key: usize) {
            let place = Place {
                lag: LAG,
                cursor: 0,
            };
            self.holds.add(key, place);
        }

        fn start(&mut self, near: &[usize]) {
            let place = Place {
                lag: LAG / 2,
                cursor: 0,
            };
            self.holds
                .start(self.now, near.iter().map(|&key| (key, place)));
        }

        /// Judges every millisecond, until no client holds up the room. `read` tells the bytes that
        /// each client has read by then. Returns the milliseconds.
        fn hold(&mut self, read: impl Fn(usize, u64) -> u64) -> u64 {
            if self.holds.has_new() {
                self.start(&[]);
            }
            let mut millis = 0;
            while !self.holds.is_empty() {
                let state = |key| match read(key, millis) {
                    LAG.. => State::CaughtUp,
                    cursor => State::Behind(cursor),
                };
                let (failed, now) = (&mut self.failed, self.now);
                self.holds.end(now, state, |key, fails| {
                    failed.extend(fails.then_some(key));
                });
                if !self.holds.is_empty() {
                    self.pass(1);
                    millis += 1;
                }
            }
            millis
        }

        /// Milliseconds for which a client that reads nothing holds up the room.
        fn stall(&mut self, key: usize) -> u64 {
            self.add(key);
            self.hold(|_, _| 0)
        }

        fn pass(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn stalled_clients_use_up_the_patience_together() {
        let mut scene = Scene::new();
        let held = [(); 4].map(|()| scene.stall(0));
        for (held, halved) in held.into_iter().zip([1000, 500, 258, 133]) {
            assert!((halved - 10..halved + 10).contains(&held), "{held}");
        }
        let more: u64 = (0..30).map(|_| scene.stall(0)).sum();
        assert!(more < 400, "{more}");
        assert_eq!(scene.stall(0), 5, "a moment");
        assert_eq!(scene.failed.len(), 35);
    }

    #[test]
    fn patience_comes_back_in_thirty_times_its_length() {
        let mut scene = Scene::new();
        scene.stall(0);
        scene.pass(15_000);
        let part = scene.stall(0);
        assert!((745..755).contains(&part), "{part}");
        scene.pass(60_000);
        assert_eq!(scene.stall(0), 1000);
    }

    /// Ten a second or fewer: at least nine tenths of a minute are left to the senders.
    #[test]
    fn stalled_clients_of_a_minute_leave_nine_tenths_of_it() {
        for every in [100, 1000, 5000] {
            let mut scene = Scene::new();
            let start = scene.now;
            let mut held = 0;
            while scene.now - start < Duration::from_secs(60) {
                held += scene.stall(0);
                scene.pass(every);
            }
            assert!(held <= 5000, "one every {every} ms: {held}");
        }
    }

    #[test]
    fn client_on_its_pace_has_the_whole_patience_whatever_others_have_used_up() {
        let mut scene = Scene::new();
        for key in 0..4 {
            scene.stall(key);
        }
        for key in 4..30 {
            scene.add(key);
            // In steps of 20 ms, a little faster than in a second.
            let held = scene.hold(|_, millis| millis / 20 * 21);
            assert!((940..1000).contains(&held), "{held}");
        }
        assert_eq!(scene.failed, [0, 1, 2, 3]);
    }

    #[test]
    fn client_that_is_too_slow_fails_after_the_patience() {
        let mut scene = Scene::new();
        scene.add(7);
        assert_eq!(scene.hold(|_, millis| millis * 9 / 10), 1000);
        assert_eq!(scene.failed, [7]);
    }

    /// It has no credit for what it has read.
    #[test]
    fn client_that_reads_and_then_stalls_has_what_is_left_of_the_patience() {
        let mut scene = Scene::new();
        for key in 0..2 {
            scene.stall(key);
        }
        scene.add(2);
        let held = scene.hold(|_, millis| (millis * 50).min(900));
        assert!((270..300).contains(&held), "{held}");
    }

    /// The kernel tells of room when a third of a buffer of megabytes is free: a client that reads
    /// steadily, faster than its pace, is seen to read in steps. Each wait for one used up a part of
    /// the patience.
    #[test]
    fn client_that_is_seen_to_read_in_large_steps_uses_up_nothing() {
        let mut scene = Scene::new();
        for key in 0..1000 {
            scene.add(key);
            scene.hold(|_, millis| millis / 260 * 650);
        }
        assert_eq!(scene.failed, [0; 0]);
        assert_eq!(scene.stall(0), 1000);
    }

    #[test]
    fn clients_that_hold_up_the_room_at_once_are_charged_once() {
        let mut scene = Scene::new();
        for key in 0..100 {
            scene.add(key);
        }
        assert_eq!(scene.stall(100), 1000);
        assert_eq!(scene.stall(0), 500);
    }

    #[test]
    fn time_of_a_client_near_the_limit_counts_from_when_another_holds() {
        let mut scene = Scene::new();
        scene.add(0);
        scene.start(&[1, 2]);
        scene.hold(|_, _| 0);
        scene.pass(100_000);
        // Client 1 has read nothing since, client 2 all that it was behind then.
        for (key, cursor) in [(1, 0), (2, LAG / 2)] {
            let place = Place { lag: LAG, cursor };
            scene.holds.add(key, place);
        }
        let read = |key, millis| if key == 1 { 0 } else { LAG * millis / 900 };
        scene.holds.start(scene.now, [].into_iter());
        assert!(scene.holds.deadline().unwrap() <= scene.now);
        scene.hold(read);
        assert_eq!(scene.failed, [0, 1]);
    }

    #[test]
    fn without_a_limit_no_client_fails_and_with_none_each_does() {
        let now = Instant::now();
        for (patience, fails) in [(None, false), (Some(Duration::ZERO), true)] {
            let mut holds = Holds::new(patience);
            for key in 0..3 {
                let place = Place {
                    lag: LAG,
                    cursor: 0,
                };
                holds.add(key, place);
                holds.start(now, [].into_iter());
                assert_eq!(holds.deadline().is_some(), fails);
                let mut failed = Vec::new();
                let later = now + 1000 * PATIENCE;
                let at = if fails { now } else { later };
                holds.end(
                    at,
                    |_| State::Behind(0),
                    |key, fails| {
                        failed.extend(fails.then_some(key));
                    },
                );
                assert_eq!(failed.contains(&key), fails);
            }
        }
    }

    #[test]
    fn longest_patience_overflows_nothing() {
        let mut scene = Scene::new();
        scene.holds = Holds::new(Some(Duration::MAX));
        scene.add(0);
        scene.start(&[]);
        scene.pass(1_000_000);
        scene
            .holds
            .end(scene.now, |_| State::Behind(u64::MAX), |_, _| panic!());
        assert!(!scene.holds.is_empty());
    }
}
