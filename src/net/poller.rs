//! The kernel over `mio::Poll`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Interest, Token, Waker};

use super::address::Address;
use super::datagram::{BatchCounts, DatagramSocket, ReplyFn};
use super::kernel::{Event, Net};
use super::listener::Listener;
use super::pipe::Direction;
use super::signals::{self, CaughtSignals};
use super::socket::Socket;
use super::spin::Spin;
use super::stream::Readiness;

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
/// The token of the first listener; those of the others and of the datagram sockets count down from
/// it. The tokens of streams are their clients' keys, which count up from 0.
const FIRST_LISTENER: usize = usize::MAX - 2;

/// The most events taken from the kernel in one call.
pub(crate) const EVENTS_PER_WAIT: usize = 1024;

/// The kernel over `mio::Poll`.
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
    spin: Spin,
    listeners: Vec<Listener>,
    datagram_sockets: Vec<DatagramSocket>,
    tokens: Tokens,
    control: Arc<Control>,
    /// Stop requests of `control` that were passed on as events.
    stops_told: usize,
    signals: Option<CaughtSignals>,
    /// True while signals end the process.
    signals_end: Arc<AtomicBool>,
}

/// The numbers of listeners and datagram sockets, on which tokens depend. They stay the same after
/// the sockets are closed.
#[derive(Clone, Copy)]
struct Tokens {
    listeners: usize,
    datagram_sockets: usize,
}

impl Tokens {
    fn listener(index: usize) -> Token {
        Token(FIRST_LISTENER - index)
    }

    fn datagram_socket(self, index: usize) -> Token {
        Token(FIRST_LISTENER - self.listeners - index)
    }

    /// The event that readiness under a token means; none for a request of a signal or a handle.
    fn event(self, event: &mio::event::Event) -> Option<Event> {
        let token = event.token();
        if token == WAKER || token == SIGNALS {
            return None;
        }
        let last_listener = FIRST_LISTENER - self.listeners;
        Some(if token.0 > last_listener {
            Event::Listener(FIRST_LISTENER - token.0)
        } else if token.0 > last_listener - self.datagram_sockets {
            Event::Datagram(last_listener - token.0)
        } else {
            Event::Client(token.0, readiness(event))
        })
    }
}

/// The part of a poller that other threads reach.
#[derive(Debug)]
pub(crate) struct Control {
    waker: Waker,
    stop_requests: AtomicUsize,
}

impl Control {
    /// Requests a stop and wakes the poller.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.stop_requests.fetch_add(1, Ordering::Release);
        self.waker.wake()
    }
}

impl Poller {
    pub(crate) fn new(
        mut listeners: Vec<Listener>,
        mut datagram_sockets: Vec<DatagramSocket>,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let tokens = Tokens {
            listeners: listeners.len(),
            datagram_sockets: datagram_sockets.len(),
        };
        for (i, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Tokens::listener(i))?;
        }
        for (i, socket) in datagram_sockets.iter_mut().enumerate() {
            socket.register(poll.registry(), tokens.datagram_socket(i))?;
        }
        let control = Arc::new(Control {
            waker: Waker::new(poll.registry(), WAKER)?,
            stop_requests: AtomicUsize::new(0),
        });
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS_PER_WAIT),
            spin: Spin::default(),
            listeners,
            datagram_sockets,
            tokens,
            control,
            stops_told: 0,
            signals: None,
            signals_end: Arc::new(AtomicBool::new(false)),
        })
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// Lets each wait poll for this time after the last event before it sleeps.
    pub(crate) fn spin_for(&mut self, time: Duration) {
        self.spin = Spin::new(time);
    }

    /// Turns SIGTERM, SIGINT and SIGHUP into stop requests and SIGUSR1 into a report request,
    /// whatever the process has inherited; only a SIGHUP that is ignored stays so (nohup(1)).
    pub(crate) fn catch_signals(&mut self) -> io::Result<()> {
        self.signals = Some(CaughtSignals::new(self.poll.registry(), SIGNALS)?);
        self.signals_end.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Makes the same signals end the process at once, whatever it has inherited, until they are
    /// caught.
    pub(crate) fn end_on_signals(&mut self) -> io::Result<()> {
        self.signals_end.store(true, Ordering::SeqCst);
        signals::end_process_while(&self.signals_end)
    }

    pub(super) fn signals(&self) -> Option<&CaughtSignals> {
        self.signals.as_ref()
    }

    /// Requests the readiness of a source that is no stream, under a client's key.
    pub(crate) fn register_source(
        &mut self,
        source: &mut impl mio::event::Source,
        key: usize,
    ) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(source, Token(key), interest)
    }

    /// Appends the requests of signals and handles since the last call.
    fn requests(&mut self, events: &mut Vec<Event>) {
        if let Some(signals) = &mut self.signals {
            events.extend(signals.requests());
        }
        let requested = self.control.stop_requests.load(Ordering::Acquire);
        events.extend(std::iter::repeat_n(
            Event::Stop,
            requested - self.stops_told,
        ));
        self.stops_told = requested;
    }
}

impl Net for Poller {
    type Stream = Socket;

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let poll = |timeout| {
            self.poll.poll(&mut self.events, timeout)?;
            Ok(!self.events.is_empty())
        };
        match self.spin.wait(timeout, poll, Instant::now) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut has_requests = false;
        for event in &self.events {
            match self.tokens.event(event) {
                Some(event) => events.push(event),
                None => has_requests = true,
            }
        }
        if has_requests {
            self.requests(events);
        }
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<(Socket, Address)> {
        self.listeners[listener].accept()
    }

    fn register(&mut self, stream: &mut Socket, key: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[cfg(target_os = "linux")]
        let interest = interest | Interest::PRIORITY;
        let registry = self.poll.registry();
        match stream {
            Socket::Tcp(stream) => registry.register(stream, Token(key), interest),
            Socket::Unix(stream) => registry.register(stream, Token(key), interest),
            Socket::Pipe(pipe) => {
                let interest = match pipe.direction() {
                    Direction::Input => Interest::READABLE,
                    Direction::Output => Interest::WRITABLE,
                };
                #[cfg(target_os = "linux")]
                if let Some(timer) = pipe.retry_timer() {
                    registry.register(&mut SourceFd(&timer), Token(key), Interest::READABLE)?;
                }
                let fd = pipe.as_raw_fd();
                match registry.register(&mut SourceFd(&fd), Token(key), interest) {
                    // A file, which is always ready: epoll(7) refuses it.
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                    result => result,
                }
            }
        }
    }

    fn local_address(&self, listener: usize, stream: &Socket) -> Address {
        let Some(listener) = self.listeners.get(listener) else {
            return Address::Stdin;
        };
        let address = listener.address();
        match stream {
            Socket::Tcp(stream) if address.is_unspecified() => stream
                .local_addr()
                .map_or_else(|_| address.clone(), |local| Address::Tcp(local).canonical()),
            _ => address.clone(),
        }
    }

    fn receive_and_reply(
        &mut self,
        socket: usize,
        reply: &mut ReplyFn<'_>,
    ) -> io::Result<BatchCounts> {
        let token = self.tokens.datagram_socket(socket);
        let Some(socket) = self.datagram_sockets.get_mut(socket) else {
            return Ok(BatchCounts::default());
        };
        let was_blocked = socket.is_blocked();
        let result = socket.receive_and_reply(reply);
        if socket.is_blocked() != was_blocked {
            socket.reregister(self.poll.registry(), token)?;
        }
        result
    }

    /// A socket can't be bound to another machine's address (`EADDRNOTAVAIL` in bind(2)); any other
    /// error leaves it open.
    fn is_local(mut address: SocketAddr) -> bool {
        address.set_port(0);
        let bound = UdpSocket::bind(address);
        !bound.is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable)
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
        self.datagram_sockets.clear();
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn time_of_day(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The readiness in an event. Errors and ends count for both directions: a read or write tells which.
fn readiness(event: &mio::event::Event) -> Readiness {
    let failed = event.is_error();
    let ending = event.is_read_closed() || event.is_priority() || failed;
    Readiness {
        readable: event.is_readable() || ending,
        writable: event.is_writable() || event.is_write_closed() || failed,
        ending,
        hung_up: event.is_read_closed() && event.is_write_closed() && !failed,
    }
}
