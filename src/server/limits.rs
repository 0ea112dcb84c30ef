//! Bounds of a tick and of a client.

use std::time::Duration;

use crate::config::{Config, SlowConsumer};
use crate::net::FOREVER;
use crate::service::{MOST_INPUT, Needs};

/// Linger time of a client that the server closes, by default.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Bounds of a tick and of a client. Sizes are in bytes.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The most input that is read from a client in one turn, or output that it publishes.
    pub(super) turn: usize,
    /// Bytes published in one tick after which the remaining turns wait for the next one.
    pub(super) publish: u64,
    /// A client further behind the shared output than this holds up the room.
    pub(super) backlog: u64,
    pub(super) max_clients: usize,
    pub(super) high_water: u64,
    /// Time that a client may hold up the room; `None` is unlimited.
    pub(super) patience: Option<Duration>,
    pub(super) slow_consumer: SlowConsumer,
    /// Time that a stop may take.
    pub(super) grace: Duration,
    /// Time that a client which is being closed may take.
    pub(super) linger: Duration,
    /// True if the server stops by itself after one client.
    pub(super) once: bool,
}

impl Limits {
    /// The bounds that a configuration sets for a service.
    pub(super) fn new(config: &Config, needs: Needs) -> Self {
        let linger = config.sockets.linger;
        let most_clients = if config.once { 1 } else { usize::MAX };
        Self {
            turn: MOST_INPUT,
            publish: (needs.capacity / 4).max(1),
            backlog: needs.capacity / 2,
            max_clients: config
                .max_clients
                .map_or(most_clients, |max| max.min(most_clients)),
            high_water: config.high_water,
            patience: config.patience,
            slow_consumer: config.slow_consumer,
            grace: config.grace,
            linger: linger.map_or(LINGER, |linger| linger.min(FOREVER)),
            once: config.once,
        }
    }
}
