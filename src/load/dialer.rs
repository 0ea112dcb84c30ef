//! Opening connections: a limited number at a time, at a limited rate.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use rustix::io::Errno;

use super::faults::Fault;
use super::moment::Moment;
use super::rate::Rate;
use super::run::{ConnectRequest, Run};
use super::{Load, LoadError};
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::probe::answering_first;
use crate::net::{ConnectOptions, Dial, Readiness};

/// Connections that are being opened at a time: fewer than an accept queue usually holds.
const AT_ONCE: usize = 100;

/// The pause after a full accept queue or a failure.
const PAUSE: Duration = Duration::from_millis(5);

/// The time in which one of several addresses of a UDP server answers.
const LONGEST_PROBE: Duration = Duration::from_millis(500);

/// Local addresses of clients on this machine, those after 127.0.0.1: one alone would run out of
/// ports.
const SPREAD: usize = 250;

/// A client's connection.
pub(super) enum Connection<N: Dial> {
    Stream(N::Stream),
    Datagrams(N::Datagrams),
}

/// The outcome of an event for a connection that is being opened.
pub(super) enum Dialed<N: Dial> {
    /// None yet.
    Pending,
    Connected(Connection<N>, ConnectRequest),
    Failed,
}

/// The connections that are being opened, and those that clients wait for.
pub(super) struct Dialer<N: Dial> {
    /// The server's addresses; the first is the one that is tried next, and in the end the one that
    /// was found.
    addresses: VecDeque<Address>,
    name: String,
    /// True if clients have local addresses of their own.
    spread: bool,
    requests: VecDeque<ConnectRequest>,
    /// Connections that are being opened, by key, and their number.
    dialing: Vec<Option<Dialing<N>>>,
    in_flight: usize,
    /// The earliest time of the next attempt, and the least time between two.
    next: Moment,
    gap: Duration,
    timeout: Duration,
    /// The time since when the accept queue is full.
    full_since: Option<Moment>,
    /// Connections that were ever begun, and opened.
    begun: usize,
    opened: usize,
    /// Addresses that have failed.
    failed: usize,
}

/// A connection that is being opened.
struct Dialing<N: Dial> {
    connection: Connection<N>,
    request: ConnectRequest,
    since: Moment,
}

impl<N: Dial> Dialer<N> {
    /// A dialer for the clients with the keys below `keys`.
    pub(super) fn new(load: &Load, net: &N, keys: usize) -> Result<Self, LoadError> {
        let name = load.to.to_string();
        let addresses = net.while_blocking(|| {
            let limit = load.timeout.min(LONGEST_PROBE);
            Ok(answering_first(load.to.resolve()?, limit))
        });
        let addresses = addresses.map_err(|e: io::Error| {
            LoadError(format!("cannot connect to {name}: {}", cause(&e)))
        })?;
        let gap = |rate: Rate| Duration::from_nanos(rate.nanos(1));
        Ok(Self {
            addresses: addresses.into(),
            name,
            spread: cfg!(target_os = "linux"),
            requests: VecDeque::new(),
            dialing: std::iter::repeat_with(|| None).take(keys).collect(),
            in_flight: 0,
            next: Moment::START,
            gap: load.connect_rate.map_or(Duration::ZERO, gap),
            timeout: load.timeout,
            full_since: None,
            begun: 0,
            opened: 0,
            failed: 0,
        })
    }

    pub(super) fn request(&mut self, request: ConnectRequest) {
        self.requests.push_back(request);
    }

    /// Drops all requests, and all connections that are being opened.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.dialing.fill_with(|| None);
        self.in_flight = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.in_flight == 0
    }

    /// The time of the next attempt, if there is one that waits for no event.
    pub(super) fn next_time(&self) -> Option<Moment> {
        (self.has_room() && !self.requests.is_empty()).then_some(self.next)
    }

    /// True if another connection may be begun: one at a time, until the server is found.
    fn has_room(&self) -> bool {
        let most = if self.opened == 0 { 1 } else { AT_ONCE };
        self.in_flight < most
    }

    /// Begins to open connections, as many as may be; returns the keys of those that failed.
    pub(super) fn advance(&mut self, run: &mut Run<N>) -> Result<Vec<usize>, LoadError> {
        let mut failed = Vec::new();
        while self.has_room() && self.next <= run.now {
            let Some(request) = self.requests.pop_front() else {
                break;
            };
            self.next = if self.gap.is_zero() {
                Moment::START
            } else {
                self.next.max(run.now.before(self.gap)) + self.gap
            };
            // Before it begins: over loopback the whole handshake is part of the call.
            let since = run.clock();
            match self.begin(request, &mut run.net) {
                Ok(connection) => {
                    self.in_flight += 1;
                    self.full_since = None;
                    self.dialing[request.key] = Some(Dialing {
                        connection,
                        request,
                        since,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    failed.extend(self.postpone(request, run)?);
                }
                Err(e) if is_exhausted(&e) => {
                    let (all, cause) = (self.dialing.len(), cause(&e));
                    let text = format!("cannot open {all} connections: {cause} (ulimit -n)");
                    return Err(LoadError(text));
                }
                Err(e) => failed.extend(self.fail(request, &e, run)?),
            }
        }
        Ok(failed)
    }

    /// Begins to open one connection.
    fn begin(&mut self, request: ConnectRequest, net: &mut N) -> io::Result<Connection<N>> {
        let number = self.begun;
        self.begun += 1;
        let mut connection = connect(net, &self.addresses[0], number, self.spread);
        if matches!(&connection, Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable)
            && self.spread
        {
            self.spread = false;
            connection = connect(net, &self.addresses[0], number, false);
        }
        let mut connection = connection?;
        match &mut connection {
            Connection::Stream(stream) => net.register(stream, request.key)?,
            Connection::Datagrams(socket) => net.register_datagrams(socket, request.key)?,
        }
        Ok(connection)
    }

    /// Tries a request again after a pause, as the accept queue is full; it fails once that has
    /// lasted for a whole timeout. Returns its key if it does.
    fn postpone(
        &mut self,
        request: ConnectRequest,
        run: &mut Run<N>,
    ) -> Result<Option<usize>, LoadError> {
        let since = *self.full_since.get_or_insert(run.now);
        if run.now > since + self.timeout {
            return self.fail(request, &io::ErrorKind::TimedOut.into(), run);
        }
        self.requests.push_front(request);
        self.next = run.now + PAUSE;
        Ok(None)
    }

    /// Tries another address of the server, until one is found; then the request fails. Returns its
    /// key if it does.
    fn fail(
        &mut self,
        request: ConnectRequest,
        error: &io::Error,
        run: &mut Run<N>,
    ) -> Result<Option<usize>, LoadError> {
        if self.opened == 0 && self.failed + 1 < self.addresses.len() {
            self.failed += 1;
            self.addresses.rotate_left(1);
            self.requests.push_front(request);
            return Ok(None);
        }
        let text = cause(error);
        if self.opened == 0 {
            let name = &self.name;
            return Err(LoadError(format!("cannot connect to {name}: {text}")));
        }
        run.tally.faults().lose(Fault::Refused, || text);
        self.next = self.next.max(run.now + PAUSE);
        Ok(Some(request.key))
    }

    /// True if the connection with this key is being opened.
    pub(super) fn is_dialing(&self, key: usize) -> bool {
        self.dialing.get(key).is_some_and(Option::is_some)
    }

    /// Handles an event of a connection that is being opened.
    pub(super) fn ready(
        &mut self,
        key: usize,
        ready: Readiness,
        run: &mut Run<N>,
    ) -> Result<Dialed<N>, LoadError> {
        let Some(dialing) = self.dialing[key].take_if(|_| ready.writable) else {
            return Ok(Dialed::Pending);
        };
        self.in_flight -= 1;
        let Dialing {
            connection,
            request,
            since,
        } = dialing;
        let now = run.clock();
        let outcome = match &connection {
            Connection::Stream(stream) => run.net.finish_connect(stream, &self.addresses[0]),
            Connection::Datagrams(_) => Ok(self.addresses[0].clone()),
        };
        match outcome {
            Ok(_) => {
                self.opened += 1;
                run.tally.connected(since, now);
                Ok(Dialed::Connected(connection, request))
            }
            Err(e) => Ok(match self.fail(request, &e, run)? {
                Some(_) => Dialed::Failed,
                None => Dialed::Pending,
            }),
        }
    }

    /// Gives up connections that have taken longer than the timeout until `now`; returns their keys.
    pub(super) fn expire(
        &mut self,
        now: Moment,
        run: &mut Run<N>,
    ) -> Result<Vec<usize>, LoadError> {
        let mut failed = Vec::new();
        for key in 0..self.dialing.len() {
            let late = |dialing: &mut Dialing<N>| dialing.since + self.timeout < now;
            if let Some(dialing) = self.dialing[key].take_if(late) {
                self.in_flight -= 1;
                let error = io::ErrorKind::TimedOut.into();
                failed.extend(self.fail(dialing.request, &error, run)?);
            }
        }
        Ok(failed)
    }
}

/// Begins to connect. With `spread` a client on this machine has a local address of its own, by its
/// number.
fn connect<N: Dial>(
    net: &mut N,
    to: &Address,
    number: usize,
    spread: bool,
) -> io::Result<Connection<N>> {
    let source = match to.socket_addr() {
        Some(SocketAddr::V4(to)) if spread && to.ip().is_loopback() => source(number),
        _ => None,
    };
    let options = ConnectOptions {
        source,
        ..ConnectOptions::default()
    };
    match to {
        Address::Udp(_) | Address::UnixDatagram(_) => {
            let (socket, _) = net.open_datagrams(to, options)?;
            Ok(Connection::Datagrams(socket))
        }
        _ => net.connect(to, options).map(Connection::Stream),
    }
}

/// The local address of the client with this number; not 127.0.0.1, where a socket without a
/// listener could be connected to itself.
fn source(number: usize) -> Option<SocketAddr> {
    let last = u32::try_from(number % SPREAD).ok()?;
    let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + last);
    Some(SocketAddrV4::new(ip, 0).into())
}

/// True if the system has no means for more sockets (socket(2)).
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
