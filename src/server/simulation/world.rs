//! A kernel and the clients at its other end.

use std::time::{Duration, Instant};

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
}

impl World {
    pub(super) fn new(kernel: Kernel, actors: Vec<Actor>) -> Self {
        Self {
            kernel,
            actors,
            stuck: false,
            idle_polls: 0,
        }
    }

    /// One wait of the server.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) {
        self.check_idle_polls(timeout);
        if !self.kernel.chance(self.kernel.odds.interrupted) {
            self.sleep(timeout, events);
        }
    }

    fn check_idle_polls(&mut self, timeout: Option<Duration>) {
        if self.kernel.calls > 0 || timeout != Some(Duration::ZERO) {
            self.idle_polls = 0;
        } else {
            self.idle_polls += 1;
        }
        self.kernel.calls = 0;
        assert!(
            self.idle_polls < 3,
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
