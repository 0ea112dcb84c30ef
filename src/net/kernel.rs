//! The kernel as the loops see it: waiting, accepting, connecting, datagrams, the clock.
//!
//! A loop reaches the outside only through these traits. [`Poller`](super::Poller) implements them
//! over `mio::Poll`, the tests by simulated kernels.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::address::Address;
use super::datagram::{BatchCounts, ReplyFn};
use super::stream::{Readiness, Stream};

/// A hundred years, the longest time that a deadline may lie ahead: beyond it, clocks overflow.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 31_557_600);

/// The kernel as a loop sees it.
pub(crate) trait Net {
    /// A connected, non-blocking byte stream.
    type Stream: Stream;

    /// Appends new events to `events`. If there are none it sleeps until there are, for at most
    /// `timeout` (none: for ever), and may return early. Readiness is edge-triggered: each change
    /// is told once (epoll(7)).
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Takes one connection from a listener's accept queue, with the peer's address.
    ///
    /// # Errors
    /// `WouldBlock` if the queue is empty; those of accept(2), which
    /// [`AcceptError`](super::accept_error::AcceptError) sorts.
    fn accept(&mut self, listener: usize) -> io::Result<(Self::Stream, Address)>;

    /// Requests the readiness of a stream, under a client's key, until it is dropped.
    fn register(&mut self, stream: &mut Self::Stream, key: usize) -> io::Result<()>;

    /// The local address of an accepted stream: its listener's, or, if the listener is bound to every
    /// address of the machine, the one that the client connected to.
    fn local_address(&self, listener: usize, stream: &Self::Stream) -> Address;

    /// Sends the queued replies of a datagram socket, then receives a batch and replies to it. A
    /// closed socket receives nothing.
    fn receive_and_reply(
        &mut self,
        socket: usize,
        reply: &mut ReplyFn<'_>,
    ) -> io::Result<BatchCounts>;

    /// True if an IP address may be one of this machine's; its port does not matter.
    fn is_local(address: SocketAddr) -> bool;

    /// Closes the listeners and datagram sockets, and removes the files of Unix sockets.
    fn close_listeners(&mut self);

    /// The monotonic time.
    fn now(&self) -> Instant;

    /// The time of day.
    fn time_of_day(&self) -> SystemTime;
}

/// A kernel through which a loop also opens connections of its own, without ever waiting in a call.
pub(crate) trait Dial: Net {
    /// A socket for the datagrams of one server.
    type Datagrams: Datagrams;

    /// Begins to connect a stream. Once it is writable, [`finish_connect`](Self::finish_connect)
    /// tells the outcome.
    ///
    /// # Errors
    /// `WouldBlock` if the accept queue of a Unix socket is full; `AddrNotAvailable` if the source
    /// cannot be used; those of connect(2) that occur at once.
    fn connect(&mut self, to: &Address, options: ConnectOptions<'_>) -> io::Result<Self::Stream>;

    /// The local address of a stream that has connected to this server, or the reason why it has
    /// not. Asked once, when the stream has become writable for the first time.
    fn finish_connect(&mut self, stream: &Self::Stream, to: &Address) -> io::Result<Address>;

    /// Opens a socket for datagrams to and from a server; also returns its local address.
    ///
    /// # Errors
    /// `AddrNotAvailable` if the source cannot be used; those of socket(2), bind(2) and connect(2).
    fn open_datagrams(
        &mut self,
        to: &Address,
        options: ConnectOptions<'_>,
    ) -> io::Result<(Self::Datagrams, Address)>;

    /// Requests the readiness of a datagram socket, under a client's key, until it is dropped.
    fn register_datagrams(&mut self, socket: &mut Self::Datagrams, key: usize) -> io::Result<()>;

    /// Makes a call that may wait for long, such as resolving a name. Meanwhile a signal that is
    /// caught as a stop request ends the process at once.
    fn while_blocking<R>(&self, call: impl FnOnce() -> R) -> R {
        call()
    }
}

/// Options of a connection; by default the system chooses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectOptions<'a> {
    /// The local IP address, and the port unless it is 0.
    pub(crate) source: Option<SocketAddr>,
    /// The local name of a Unix datagram socket.
    pub(crate) source_path: Option<&'a Path>,
    /// Datagrams may go to a broadcast address (`SO_BROADCAST` in socket(7)); then those of every
    /// sender are received.
    pub(crate) broadcast: bool,
    /// Urgent bytes stay in the stream (`SO_OOBINLINE` in socket(7)).
    pub(crate) urgent_inline: bool,
}

/// A non-blocking socket that exchanges datagrams with one server.
pub(crate) trait Datagrams {
    /// Sends one datagram; returns its length.
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize>;

    /// Receives one datagram; what does not fit into the buffer is cut off.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// An event that a loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A listener's accept queue is no longer empty.
    Listener(usize),
    /// A datagram socket has input, or takes replies again.
    Datagram(usize),
    /// A client's stream has become ready.
    Client(usize, Readiness),
    /// A signal or a handle requests a stop; the second one, an immediate stop.
    Stop,
    /// A signal requests a report.
    Report,
}
