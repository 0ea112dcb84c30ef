//! The heartbeat: a message for those who were sent nothing for long.
//!
//! Nothing is noted when something is sent but that it was: each beat, eight to a period, counts
//! for every client how often in a row nothing was.

use std::time::{Duration, Instant};

use super::tick::Tick;
use crate::config::Heartbeat;
use crate::net::Net;
use crate::net::address::Role;
use crate::service::Service;

/// Beats in a period.
const BEATS: u8 = 8;

/// When to look, and what to send.
#[derive(Debug)]
pub(super) struct Heart {
    step: Duration,
    next: Instant,
    message: Vec<u8>,
}

impl Heart {
    pub(super) fn new(heartbeat: &Heartbeat, now: Instant, service: &impl Service) -> Self {
        let step = (heartbeat.every / u32::from(BEATS)).max(Duration::from_millis(1));
        Self {
            step,
            next: now + step,
            message: service.frame_line(&heartbeat.text),
        }
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// When it beats next, if there is anybody to beat for.
    pub(super) fn next_beat(&self) -> Option<Instant> {
        let heart = self.heart.as_ref()?;
        (!self.clients.is_empty() && !self.is_stopping()).then_some(heart.next)
    }

    /// Sends the message to those who were sent nothing in a period, and could have been.
    pub(super) fn beat(&mut self) {
        let Some(next) = self.next_beat() else {
            return;
        };
        let now = self.net.now();
        if now < next {
            return;
        }
        for key in self.keys() {
            self.beat_for(key);
        }
        if let Some(heart) = &mut self.heart {
            heart.next = now + heart.step;
        }
    }

    fn beat_for(&mut self, key: usize) {
        let client = &mut self.clients[key];
        // To who only publishes nothing is sent, and a file or a pipe is no connection to keep.
        let deaf = client.role == Role::Publish || client.address.is_stdio();
        if !client.connection.was_silent(&self.service) || deaf {
            client.silence = 0;
            return;
        }
        client.silence += 1;
        // The first may have come right after it was sent something.
        if client.silence > BEATS
            && let Some(heart) = &self.heart
        {
            client.connection.tell(&self.service, &heart.message);
            // That was one, and it was sent right now.
            client.connection.was_silent(&self.service);
            client.silence = 1;
            self.after(key);
        }
    }
}
