//! What a server is told: checked values, no texts.

use std::time::Duration;

use crate::net::address::{Listen, ListenAddress};
use crate::net::options::SocketOptions;
use crate::text::template::Template;

/// The settings of a server; [`Default`] gives those of the command line.
///
/// All structs of options are extended in the same way: they are `#[non_exhaustive]`, begin with
/// [`Default`] or with a constructor that takes what has no default, and have public fields to
/// assign. A new option is one more field and breaks no caller. A builder would say each option
/// a second time, as a method.
///
/// ```
/// use std::time::Duration;
///
/// let mut config = resound::Config::default();
/// config.listen = vec!["127.0.0.1:7000".parse()?];
/// config.idle_timeout = Some(Duration::from_secs(60));
/// # Ok::<(), resound::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; a server needs at least one address.
    pub listen: Vec<Listen>,
    /// What the listeners' sockets are like, and those of the clients.
    pub sockets: SocketOptions,
    /// Clients served at a time, unlimited if none; others wait in the backlog.
    pub max_clients: Option<usize>,
    /// A client with more than this many bytes unsent is not read until it takes some.
    pub high_water: u64,
    /// How long a client that has fallen behind may hold up the room before it is a slow
    /// consumer; for ever if none.
    pub patience: Option<Duration>,
    /// What becomes of a slow consumer.
    pub slow_consumer: SlowConsumer,
    /// What clients are sent to whom nothing else was sent for long; nothing if none.
    pub heartbeat: Option<Heartbeat>,
    /// What each client is sent first; nothing if none. It isn't sent to those who only publish,
    /// nor as a datagram.
    pub greeting: Option<Template>,
    /// The server stops by itself when its first client has gone, or its first datagram was dealt
    /// with.
    pub once: bool,
    /// A client that sent nothing and was sent nothing for so long is closed; never if none.
    pub idle_timeout: Option<Duration>,
    /// A client that took nothing of what it is owed for so long is closed; never if none.
    pub write_timeout: Option<Duration>,
    /// How many datagrams a second are answered to one IP address (IPv6: one /64), on average
    /// and in a burst; any number if none.
    pub udp_rate: Option<u32>,
    /// After the last event the server goes on polling for so long before it sleeps: who comes
    /// back within that time is answered sooner, for a CPU that is busy meanwhile. Zero: it sleeps
    /// at once.
    pub spin: Duration,
    /// How long a stopping server goes on delivering what is pending.
    pub grace: Duration,
}

/// What becomes of a client that is behind for longer than the patience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// It is closed, after the rest of a message that it was sent in part.
    #[default]
    Close,
    /// After the rest of such a message it goes on with the newest one. What it missed is
    /// counted. Until it has caught up again nobody waits for it another time.
    Skip,
}

/// A sign of life for clients to whom there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// After how long without a byte it is sent; up to an eighth of that later.
    pub every: Duration,
    /// A text of one line, which is sent as a message.
    pub text: Vec<u8>,
}

impl Heartbeat {
    /// A heartbeat with these values.
    #[must_use]
    pub fn new(every: Duration, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self { every, text }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                ListenAddress::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 9999,
                }
                .into(),
            ],
            sockets: SocketOptions::default(),
            max_clients: None,
            high_water: 256 * 1024,
            patience: Some(Duration::from_secs(1)),
            slow_consumer: SlowConsumer::Close,
            heartbeat: None,
            greeting: None,
            once: false,
            idle_timeout: None,
            write_timeout: None,
            udp_rate: Some(10_000),
            spin: Duration::ZERO,
            grace: Duration::from_secs(5),
        }
    }
}
