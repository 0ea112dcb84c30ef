//! What a server is told: checked values, no texts.

use std::time::Duration;

use crate::address::ListenAddress;

/// The settings of a server; [`Default`] gives those of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; a server needs at least one address.
    pub listen: Vec<ListenAddress>,
    /// Connections that may wait in each listener's backlog to be accepted (listen(2)).
    pub backlog: i32,
    /// Clients served at a time, unlimited if none; others wait in the backlog.
    pub max_clients: Option<usize>,
    /// A client with more than this many bytes unsent is not read until it takes some.
    pub high_water: u64,
    /// How long a client that has fallen behind may hold up the room before it is closed as a
    /// slow consumer; for ever if none.
    pub patience: Option<Duration>,
    /// How long a stopping server goes on delivering what is pending.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 9999,
            }],
            backlog: 1024,
            max_clients: None,
            high_water: 256 * 1024,
            patience: Some(Duration::from_secs(1)),
            grace: Duration::from_secs(5),
        }
    }
}
