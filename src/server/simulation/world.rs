//! A kernel and the clients at its other end.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::actor::Actor;
use super::kernel::Kernel;
use crate::net::Event;

/// The surroundings of the server under test.
#[derive(Debug)]
pub(super) struct World {
    pub(super) kernel: Kernel,
    pub(super) actors: Vec<Actor>,
    /// True if the server sleeps without a timeout and no client will wake it.
    pub(super) stuck: bool,
    /// Waits in a row that did not sleep and before which the server made no call.
    idle_polls: usize,
    /// Decides on stops of the process, in its own order: other chances do not depend on it.
    stops: Rng,
    /// Odds of a stop of the process, as one in a number of waits (0: never).
    stop_odds: u32,
    /// Time that passed while the process was stopped.
    pub(super) stopped_for: Duration,
    /// Time at which the last wait began: deadlines before it were judged after it.
    pub(super) polled_at: Instant,
}

impl World {
    pub(super) fn new(kernel: Kernel, actors: Vec<Actor>) -> Self {
        let mut stops = Rng::with_seed(kernel.rng.clone().u64(..));
        Self {
            actors,
            stuck: false,
            idle_polls: 0,
            stop_odds: *stops.choice(&[0, 0, 0, 30]).expect("there are four"),
            stops,
            stopped_for: Duration::ZERO,
            polled_at: kernel.now,
            kernel,
        }
    }

    /// Never stops the process.
    pub(super) fn without_stops(mut self) -> Self {
        self.stop_odds = 0;
        self
    }

    /// One wait of the server. A wait that only polls is never interrupted (`epoll_wait(2)`).
    pub(super) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        self.check_idle_polls(timeout);
        self.polled_at = self.kernel.now;
        let polls = timeout == Some(Duration::ZERO);
        if !polls && self.stop_odds > 0 && self.stops.u32(..self.stop_odds) == 0 {
            return self.stop_process(events);
        }
        if polls || !self.kernel.chance(self.kernel.odds.interrupted) {
            self.sleep(timeout, events);
        }
    }

    /// Stops the process in a wait, for up to three hours in which the clients go on. The wait then
    /// ends, with the events that were gathered before, or without any.
    fn stop_process(&mut self, events: &mut Vec<Event>) {
        if self.stops.bool() {
            self.kernel.collect(events);
        }
        for _ in 0..self.stops.u8(..30) {
            self.act();
        }
        let time = Duration::from_secs(self.stops.u64(..3 * 60 * 60));
        self.kernel.now += time;
        self.stopped_for += time;
    }

    fn check_idle_polls(&mut self, timeout: Option<Duration>) {
        if self.kernel.calls > 0 || timeout != Some(Duration::ZERO) {
            self.idle_polls = 0;
        } else {
            self.idle_polls += 1;
        }
        self.kernel.calls = 0;
        // A pass polls twice if it judges: it looks again before. It may tell a room that no client
        // reads of one newcomer.
        assert!(
            self.idle_polls < 5 + 2 * self.actors.len(),
            "the server polls without sleeping and does nothing"
        );
    }

    /// Lets the clients act until there is an event or `timeout` has passed.
    fn sleep(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        let deadline = timeout.map(|timeout| self.kernel.now + timeout);
        loop {
            for _ in 0..self.kernel.rng.usize(..4) {
                self.act();
            }
            self.kernel.collect(events);
            let now = self.kernel.now;
            if !events.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                return;
            }
            if !self.ready_actors().is_empty() {
                self.kernel.now += Duration::from_micros(self.kernel.rng.u64(..300));
                continue;
            }
            let Some(next) = self.alarm().into_iter().chain(deadline).min() else {
                self.stuck = true;
                return;
            };
            self.kernel.now = next.max(now);
        }
    }

    /// One step of any client that can take one.
    fn act(&mut self) {
        let ready = self.ready_actors();
        let all_sent = self.have_all_sent();
        if let Some(&i) = ready.get(self.kernel.rng.usize(..ready.len().max(1))) {
            self.actors[i].act(&mut self.kernel, all_sent);
        }
    }

    /// Indices of the clients that can take a step now.
    fn ready_actors(&self) -> Vec<usize> {
        let all_sent = self.have_all_sent();
        let actors = self.actors.iter().enumerate();
        let ready = actors.filter(|(_, actor)| actor.can_act(&self.kernel, all_sent));
        ready.map(|(i, _)| i).collect()
    }

    fn have_all_sent(&self) -> bool {
        self.actors.iter().all(Actor::sends_no_more)
    }

    /// The next time at which a client will take a step of its own accord.
    fn alarm(&self) -> Option<Instant> {
        let now = self.kernel.now;
        self.actors.iter().filter_map(|a| a.alarm(now)).min()
    }
}
