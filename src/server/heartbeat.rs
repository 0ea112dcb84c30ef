//! Heartbeat: the phase of the tick that sends a message to clients that were sent nothing for a
//! period.
//!
//! A write only sets a flag. The phase checks the flags eight times a period, and counts for each
//! client the checks in a row that found nothing written.

use std::time::{Duration, Instant};

use super::clients::Clients;
use crate::config;
use crate::net::{FOREVER, Stream};
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
        let step = settings.every.min(FOREVER) / u32::from(CHECKS);
        let step = step.max(Duration::from_millis(1));
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
    pub(super) fn run<S: Service, T: Stream>(&mut self, now: Instant, clients: &mut Clients<S, T>) {
        if clients.is_empty() || now < self.next {
            return;
        }
        for key in clients.keys() {
            // The first of these checks may have come right after a write.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::address::Role;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Room};

    #[test]
    fn message_reaches_listeners_that_were_sent_nothing_for_a_period() {
        let mut net = TestNet::new();
        let room = Broadcast::with_segments(Room::default(), 1 << 10);
        let settings = config::Heartbeat {
            every: Duration::from_secs(8),
            text: b"beat".to_vec(),
        };
        let mut heartbeat = Heartbeat::new(&settings, net.now.get(), &room);
        let mut clients = fixture::clients(room, &Config::default(), &net);
        assert_eq!(heartbeat.deadline(&clients), None, "no client");
        let silent = fixture::admit(&mut clients, &mut net, Role::Subscribe, false);
        let busy = fixture::admit(&mut clients, &mut net, Role::Both, false);
        let sender = fixture::admit(&mut clients, &mut net, Role::Publish, false);
        let stalled = fixture::admit(&mut clients, &mut net, Role::Both, true);
        let mut beats = Vec::new();
        for second in 1..=18 {
            net.now.set(heartbeat.deadline(&clients).unwrap());
            clients.touch(busy, |connection, service| connection.tell(service, b"x"));
            heartbeat.run(net.now.get(), &mut clients);
            beats.extend((fixture::sent(&mut clients, silent) == "beat\n").then_some(second));
        }
        assert_eq!(
            beats,
            [9, 17],
            "8 s after the last byte, an eighth later at first"
        );
        assert_eq!(fixture::sent(&mut clients, busy), "x".repeat(18));
        assert_eq!(fixture::sent(&mut clients, sender), "", "it only publishes");
        assert_eq!(fixture::sent(&mut clients, stalled), "", "it takes nothing");
    }
}
