//! The settings of a server, as checked values.

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
    /// The addresses to listen on, one at least.
    pub listen: Vec<Listen>,
    /// The options of all sockets, the listeners' and the clients'.
    pub sockets: SocketOptions,
    /// The most clients served at a time; unlimited if none. More connections wait in the accept
    /// queue.
    pub max_clients: Option<usize>,
    /// High-water mark in bytes: a client with more unsent output is not read.
    pub high_water: u64,
    /// The longest time for which a client that is half of [`Room::log_size`](crate::Room::log_size)
    /// behind may hold up the room; unlimited if none. A client that has not caught up entirely by
    /// then is a slow consumer, even if it reads all the time. Clients that fail share two patiences:
    /// each has half of what is left. What they use comes back, one second in thirty.
    pub patience: Option<Duration>,
    /// The treatment of a slow consumer.
    pub slow_consumer: SlowConsumer,
    /// The message for clients that were sent nothing else for a while.
    pub heartbeat: Option<Heartbeat>,
    /// The text that a client is sent first. A client that only publishes is sent none, and neither
    /// is the sender of a datagram.
    pub greeting: Option<Template>,
    /// True if the server stops after its first client was closed, or its first datagram handled. A
    /// client that leaves without a byte in either direction does not count, nor does one that a room
    /// has greeted but not yet announced; the next one waits until it has left.
    pub once: bool,
    /// The time without input and output after which a client is closed; unlimited if none.
    pub idle_timeout: Option<Duration>,
    /// The time without progress of its pending output after which a client is closed; unlimited if
    /// none.
    pub write_timeout: Option<Duration>,
    /// The most datagrams a second that are sent to one IP address (IPv6: to one /64), on average and
    /// in a burst; unlimited if none, and to loopback addresses.
    pub udp_rate: Option<u32>,
    /// True if a UDP answer may be longer than 64 bytes and three times the question. The source
    /// address may be forged, and its owner is then flooded with a multiple of what is sent here.
    pub udp_amplify: bool,
    /// The time of busy polling after the last event, before the server sleeps: it lowers the latency
    /// of a message that arrives meanwhile, and keeps a CPU busy. With zero the server sleeps at once.
    pub spin: Duration,
    /// The longest time for which a stopping server delivers pending output.
    pub grace: Duration,
}

/// The treatment of a client that holds up the room for longer than the patience: it has stopped
/// reading, or cannot keep up with the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The client is closed, after the rest of a message that it was sent in part.
    #[default]
    Close,
    /// The client continues with the newest message, after the rest of a message that it was sent in
    /// part. Missed messages are counted. It does not hold up the room again until it has caught up.
    Skip,
}

/// A message for clients that were sent nothing else for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The time without output after which it is sent. It may be late by up to an eighth of that.
    pub every: Duration,
    /// A text of one line, in the encoding of the clients; it may be empty.
    pub text: Vec<u8>,
}

impl Heartbeat {
    /// A heartbeat with this interval and text.
    #[must_use]
    pub fn new(every: Duration, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self { every, text }
    }
}

impl Config {
    /// Bytes in a UDP answer to a datagram of any length, at most; see [`udp_amplify`](Self::udp_amplify).
    pub const UDP_ANSWER: usize = 64;
    /// Bytes in a longer UDP answer for each byte of the datagram, at most: as for a QUIC server that
    /// does not know if its client's address is real (RFC 9000, section 8.1).
    pub const UDP_FACTOR: usize = 3;
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
            udp_amplify: false,
            spin: Duration::ZERO,
            grace: Duration::from_secs(5),
        }
    }
}
