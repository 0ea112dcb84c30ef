//! Timers: the phase of the tick that judges clients by their deadlines.
//!
//! Deadlines are: the idle and the write timeout, the patience with a client that holds up the
//! room, and the linger time of a client on its way out.

use std::time::{Duration, Instant};

use log::warn;

use super::clients::Clients;
use crate::close::CloseReason;
use crate::config::SlowConsumer;
use crate::net::{Net, Stream};
use crate::service::Service;

/// The phase.
#[derive(Debug)]
pub(super) struct Timers {
    slow_consumer: SlowConsumer,
}

impl Timers {
    pub(super) fn new(slow_consumer: SlowConsumer) -> Self {
        Self { slow_consumer }
    }

    /// Acts on the deadlines that have passed. Without a deadline no clock is read.
    pub(super) fn run<S: Service, T: Stream>(
        &self,
        net: &impl Net<Stream = T>,
        clients: &mut Clients<S, T>,
    ) {
        if clients.has_deadlines() {
            self.judge(clients, net.now());
        }
    }

    fn judge<S: Service, T: Stream>(&self, clients: &mut Clients<S, T>, now: Instant) {
        clients.start_deadlines(now);
        clients.set_timeouts(now);
        while let Some(key) = clients.next_try() {
            if clients.try_write(key) {
                clients.touch(key, |connection, service| {
                    connection.abort(service, CloseReason::Stalled);
                });
            }
        }
        while let Some(key) = clients.next_idle() {
            clients.touch(key, |connection, service| {
                connection.close(service, CloseReason::Idle);
            });
        }
        for key in clients.end_holds(now) {
            self.end_patience(key, clients);
        }
        clients.end_lingering(now);
    }

    /// Closes a slow consumer, or makes it skip.
    fn end_patience<S: Service, T: Stream>(&self, key: usize, clients: &mut Clients<S, T>) {
        match self.slow_consumer {
            SlowConsumer::Close => clients.touch(key, |connection, service| {
                connection.close(service, CloseReason::SlowConsumer);
            }),
            SlowConsumer::Skip => {
                let peer = clients.get(key).peer();
                let (id, address) = (peer.id, peer.address);
                warn!("client {id} ({address}) is a slow consumer: it misses messages");
                clients.skip(key);
            }
        }
    }
}

/// Time until `deadline`, rounded up to what poll(2) can wait for, so that it is over after one
/// sleep.
pub(super) fn remaining(deadline: Instant, now: Instant) -> Duration {
    let left = deadline.saturating_duration_since(now);
    let millis = left.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}
