//! Connecting: the addresses of a server in turn, each within a limit, and retries after pauses.
//!
//! Nothing else happens meanwhile. Connecting is therefore no state of the relay's loop, but plain
//! code that waits for the same kernel: for a stream that is opening, or until a pause is over.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::info;

use super::candidates::Candidates;
use super::kernel::Kernel;
use super::source::Source;
use super::{Connect, ConnectError, SERVER};
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::{ConnectOptions, Dial, Event, Readiness};

/// The first pause between two rounds of attempts; each is twice as long as the one before.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two rounds.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest limit of an attempt: that of the last round, at the end of `--retry`.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);

/// Pause while the accept queue of a Unix socket is full: the kernel reports no room in it.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// Hint for an error that sending to a broadcast address causes.
pub(super) const BROADCAST_HINT: &str = "a broadcast address needs --broadcast";

/// A server that was reached; its socket is registered under the key [`SERVER`].
pub(super) struct Dialed<N: Dial> {
    pub(super) socket: DialedSocket<N>,
    pub(super) peer: Address,
    pub(super) local: Address,
}

/// The socket of a server that was reached.
pub(super) enum DialedSocket<N: Dial> {
    /// A stream, and its readiness as far as it was told.
    Stream(N::Stream, Readiness),
    Datagrams(Candidates<N::Datagrams>),
}

/// Connects; retries while no server listens, for as long as the settings say.
pub(super) fn dial<N: Kernel>(connect: &Connect, net: &mut N) -> Result<Dialed<N>, ConnectError> {
    let start = net.now();
    Dialer {
        connect,
        net,
        start,
        retry: connect.retry,
    }
    .run()
}

/// The settings of connecting, the kernel, and the time of the beginning.
pub(super) struct Dialer<'a, N> {
    pub(super) connect: &'a Connect,
    pub(super) net: &'a mut N,
    pub(super) start: Instant,
    /// Time for which it is retried.
    pub(super) retry: Option<Duration>,
}

impl<N: Kernel> Dialer<'_, N> {
    fn run(&mut self) -> Result<Dialed<N>, ConnectError> {
        let mut pause = FIRST_PAUSE;
        let mut announced = false;
        loop {
            let began_in_time = self.is_in_time();
            let error = match self.try_addresses() {
                Ok(dialed) => return Ok(dialed),
                Err(error) => error,
            };
            let retries = self.may_retry(began_in_time, &error) && is_transient(error.kind());
            let left = self.retry_left().unwrap_or_default();
            let error = self.failure(&error);
            if !retries {
                return Err(error);
            }
            if !std::mem::replace(&mut announced, true) {
                info!("{error}; retrying");
            }
            self.sleep(pause.min(left)).map_err(|e| self.failure(&e))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn failure(&self, error: &io::Error) -> ConnectError {
        ConnectError::new(
            format!("cannot connect to {}", self.connect.to),
            cause(error),
        )
    }

    /// Time left for retries, if there are any.
    pub(super) fn retry_left(&self) -> Option<Duration> {
        let elapsed = self.net.now().duration_since(self.start);
        let retry = self.retry?;
        Some(retry.saturating_sub(elapsed))
    }

    /// True if there is time left for retries.
    pub(super) fn is_in_time(&self) -> bool {
        self.retry_left().is_some_and(|left| !left.is_zero())
    }

    /// True if another attempt may follow. The process may have been stopped since the server refused:
    /// an attempt that began in time is followed by a last one, unless it has reached its limit.
    pub(super) fn may_retry(&self, began_in_time: bool, error: &io::Error) -> bool {
        self.is_in_time() || (began_in_time && error.kind() != ErrorKind::TimedOut)
    }

    /// Limit of one attempt in this round.
    fn limit(&self) -> Option<Duration> {
        let limits = [self.connect.timeout, self.retry_left()];
        let limit = limits.into_iter().flatten().min()?;
        Some(limit.max(SHORTEST_ATTEMPT))
    }

    /// Tries each address of the server once; returns the last error if all fail. Of datagrams only the
    /// answers will tell which address has a server.
    pub(super) fn try_addresses(&mut self) -> io::Result<Dialed<N>> {
        let limit = self.limit();
        let resolved = self.connect.source.as_ref();
        let resolved = resolved.map(|source| self.net.while_blocking(|| source.resolve()));
        let source = resolved.transpose().map_err(|e| permanent(&e))?.flatten();
        let mut found: Option<Dialed<N>> = None;
        let mut error = None;
        let addresses = self.net.resolve(&self.connect.to);
        for peer in addresses.map_err(|e| permanent(&e))? {
            if !self.source_fits(source, &peer) {
                continue;
            }
            match self.try_address(&peer, source, limit) {
                Ok((socket, local)) => match (&mut found, socket) {
                    (
                        Some(Dialed {
                            socket: DialedSocket::Datagrams(all),
                            ..
                        }),
                        DialedSocket::Datagrams(more),
                    ) => all.append(more),
                    (_, socket) => {
                        let is_stream = matches!(socket, DialedSocket::Stream(..));
                        found = Some(Dialed {
                            socket,
                            peer,
                            local,
                        });
                        if is_stream {
                            break;
                        }
                    }
                },
                Err(e) => error = Some(e),
            }
        }
        found.ok_or_else(|| {
            error.unwrap_or_else(|| match &self.connect.source {
                Some(source) => {
                    let text = format!("the source {source} is of another address family");
                    io::Error::other(text)
                }
                None => ErrorKind::NotFound.into(),
            })
        })
    }

    /// True if a socket for this address can be bound to the source, if there is one.
    fn source_fits(&self, source: Option<SocketAddr>, peer: &Address) -> bool {
        let Connect {
            to, source: given, ..
        } = self.connect;
        let same_family = match (source, peer.socket_addr()) {
            (Some(source), Some(peer)) => source.is_ipv4() == peer.is_ipv4(),
            _ => true,
        };
        same_family && given.as_ref().is_none_or(|given| given.fits(to))
    }

    fn try_address(
        &mut self,
        peer: &Address,
        source: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> io::Result<(DialedSocket<N>, Address)> {
        let options = ConnectOptions {
            source,
            source_path: self.connect.source.as_ref().and_then(Source::path),
            broadcast: self.connect.broadcast,
            urgent_inline: true,
        };
        if peer.is_datagram() {
            return self.open_datagrams(peer, options);
        }
        let deadline = limit.and_then(|limit| self.net.now().checked_add(limit));
        let mut stream = self.begin(peer, options, deadline)?;
        self.net.register(&mut stream, SERVER)?;
        let ready = self.wait_for_writable(deadline)?;
        let local = self.net.finish_connect(&stream, peer)?;
        Ok((DialedSocket::Stream(stream, ready), local))
    }

    fn open_datagrams(
        &mut self,
        peer: &Address,
        options: ConnectOptions<'_>,
    ) -> io::Result<(DialedSocket<N>, Address)> {
        let opened = self.net.open_datagrams(peer, options);
        let (mut socket, local) = opened.map_err(|e| match (e.kind(), peer) {
            (ErrorKind::PermissionDenied, Address::Udp(_)) => {
                io::Error::other(format!("{}; {BROADCAST_HINT}", cause(&e)))
            }
            _ => e,
        })?;
        self.net.register_datagrams(&mut socket, SERVER)?;
        if matches!(&local, Address::UnixDatagram(_)) && !local.is_abstract() {
            // So that the file of its name is removed after a signal, too.
            self.net.catch_signals()?;
        }
        Ok((DialedSocket::Datagrams(Candidates::new(socket)), local))
    }

    /// Begins to connect a stream, once there is room in the accept queue.
    fn begin(
        &mut self,
        peer: &Address,
        options: ConnectOptions<'_>,
        deadline: Option<Instant>,
    ) -> io::Result<N::Stream> {
        let is_unix = matches!(peer, Address::Unix(_));
        loop {
            match self.net.connect(peer, options) {
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_unix => {
                    let left = self.left(deadline).unwrap_or(QUEUE_PAUSE);
                    if left.is_zero() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    self.sleep(left.min(QUEUE_PAUSE))?;
                }
                result => return result,
            }
        }
    }

    /// Waits until the stream under the key [`SERVER`] is writable: then it is connected, or has
    /// failed.
    fn wait_for_writable(&mut self, deadline: Option<Instant>) -> io::Result<Readiness> {
        let mut events = Vec::new();
        loop {
            let left = self.left(deadline);
            self.net.wait(left, &mut events)?;
            let writable = |event| match event {
                Event::Client(SERVER, ready) if ready.writable => Some(ready),
                _ => None,
            };
            if let Some(ready) = events.drain(..).find_map(writable) {
                return Ok(ready);
            }
            // Only after a poll that began at the deadline: the process may have been stopped.
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Time left until a deadline, if there is one.
    fn left(&self, deadline: Option<Instant>) -> Option<Duration> {
        Some(deadline?.saturating_duration_since(self.net.now()))
    }

    /// Waits for this time, whatever events occur.
    fn sleep(&mut self, time: Duration) -> io::Result<()> {
        let end = self.net.now() + time;
        loop {
            let left = end.saturating_duration_since(self.net.now());
            if left.is_zero() {
                return Ok(());
            }
            self.net.wait(Some(left), &mut Vec::new())?;
        }
    }
}

/// True for an error that passes once a server listens.
fn is_transient(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::NotFound
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::TimedOut
    )
}

/// An error that is not retried, whatever its kind.
fn permanent(error: &io::Error) -> io::Error {
    io::Error::other(cause(error))
}
