//! The kernel as the loops see it: waiting, accepting, streams, the clock.
//!
//! A loop knows nothing else of the outside. [`Poller`](super::Poller) is the production form; the
//! other one is the simulated kernel of the tests.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::address::Address;
use super::datagram::{BatchCounts, ReplyFn};
use super::stream::{Readiness, Stream};

/// What the tick asks of a kernel.
pub(crate) trait Net {
    /// A connected, non-blocking byte stream.
    type Stream: Stream;

    /// Appends what happened to `events`; sleeps for at most `timeout` (none: for ever) if
    /// nothing has. Readiness is edge-triggered: it is told once.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Takes one connection from a listener's backlog; `WouldBlock` when there is none.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Address)>;

    /// Asks for the readiness of a stream, under the client's key, until it is dropped.
    fn register(&mut self, stream: &mut Self::Stream, key: usize) -> io::Result<()>;

    /// The address at which a client has come in: its listener's, or, where that stands for many,
    /// the one of them.
    fn local_address(&self, listener: usize, stream: &Self::Stream) -> Address;

    /// Sends the queued replies of a datagram socket, then receives a batch and replies to it. A
    /// closed socket receives nothing.
    fn receive_and_reply(
        &mut self,
        socket: usize,
        reply: &mut ReplyFn<'_>,
    ) -> io::Result<BatchCounts>;

    /// The address that a datagram socket is bound to.
    fn datagram_address(&self, socket: usize) -> &Address;

    /// Whether an address may be one of this machine's, whatever its port.
    fn is_local(address: SocketAddr) -> bool;

    /// Ends listening at once, and removes what that leaves in the file system.
    fn close_listeners(&mut self);

    /// The time, which never goes back.
    fn now(&self) -> Instant;

    /// The time of day.
    fn time_of_day(&self) -> SystemTime;
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A listener's backlog is no longer empty.
    Listener(usize),
    /// A datagram socket has input, or takes replies again.
    Datagram(usize),
    /// A client's stream has become ready.
    Client(usize, Readiness),
    /// Somebody wants the server to stop; the second time at once.
    Stop,
    /// Somebody wants to know how it is.
    Report,
}
