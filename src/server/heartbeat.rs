//! Heartbeat: the phase of the tick that sends a message to clients which were sent nothing for
//! long.
//!
//! Sending sets a flag, and no more. Each check, eight to a period, counts for every client how
//! often in a row nothing was sent.

use std::time::{Duration, Instant};

use super::clients::Clients;
use crate::config;
use crate::net::{Net, Stream};
use crate::service::Service;

/// Checks in a period.
const CHECKS: u8 = 8;

/// The phase: the time of the next check, and the message.
#[derive(Debug)]
pub(super) struct Heartbeat {
    step: Duration,
    next: Instant,
    message: Vec<u8>,
}

impl Heartbeat {
    pub(super) fn new(settings: &config::Heartbeat, now: Instant, service: &impl Service) -> Self {
        let step = (settings.every / u32::from(CHECKS)).max(Duration::from_millis(1));
        Self {
            step,
            next: now + step,
            message: service.frame_line(&settings.text),
        }
    }

    /// The time of the next check; `None` without clients.
    pub(super) fn deadline<S: Service, T: Stream>(
        &self,
        clients: &Clients<S, T>,
    ) -> Option<Instant> {
        (!clients.is_empty()).then_some(self.next)
    }

    /// Sends the message to the clients that were sent nothing in a period, and could have been.
    pub(super) fn run<S: Service, T: Stream>(
        &mut self,
        net: &impl Net<Stream = T>,
        clients: &mut Clients<S, T>,
    ) {
        if clients.is_empty() {
            return;
        }
        let now = net.now();
        if now < self.next {
            return;
        }
        for key in clients.keys() {
            // The first check may have come right after it was sent something.
            if clients.count_silence(key) > CHECKS {
                clients.touch(key, |connection, service| {
                    connection.tell(service, &self.message);
                });
                clients.restart_silence(key);
            }
        }
        self.next = now + self.step;
    }
}
