//! The kernel through `mio::Poll`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Interest, Token, Waker};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::address::Address;
use super::datagram::{BatchCounts, DatagramSocket, ReplyFn};
use super::kernel::{Event, Net};
use super::listener::Listener;
use super::pipe::Direction;
use super::socket::Socket;
use super::spin::Spin;
use super::stream::Readiness;

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
/// Listener `i` has the token `LAST_LISTENER - i`, and the sockets for datagrams follow; clients
/// count up from 0.
const LAST_LISTENER: usize = usize::MAX - 2;

/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;

/// The kernel through `mio::Poll`.
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
    spin: Spin,
    listeners: Vec<Listener>,
    datagram_sockets: Vec<DatagramSocket>,
    /// How many of the one kind and of the other there were at the start.
    doors: (usize, usize),
    control: Arc<Control>,
    /// How many of the stops asked for through `control` were passed on.
    stops: usize,
    signals: Option<Signals>,
}

/// What other threads reach of a poller.
#[derive(Debug)]
pub(crate) struct Control {
    waker: Waker,
    stops: AtomicUsize,
}

impl Control {
    /// Asks for a stop and wakes the poller.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.stops.fetch_add(1, Ordering::Release);
        self.waker.wake()
    }
}

impl Poller {
    pub(crate) fn new(
        mut listeners: Vec<Listener>,
        mut datagram_sockets: Vec<DatagramSocket>,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let doors = (listeners.len(), datagram_sockets.len());
        for (i, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LAST_LISTENER - i))?;
        }
        for (i, socket) in datagram_sockets.iter_mut().enumerate() {
            socket.register(poll.registry(), Token(LAST_LISTENER - doors.0 - i))?;
        }
        let control = Arc::new(Control {
            waker: Waker::new(poll.registry(), WAKER)?,
            stops: AtomicUsize::new(0),
        });
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS),
            spin: Spin::default(),
            listeners,
            datagram_sockets,
            doors,
            control,
            stops: 0,
            signals: None,
        })
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// From now on a wait polls for so long after the last event before it sleeps.
    pub(crate) fn spin_for(&mut self, time: Duration) {
        self.spin = Spin::new(time);
    }

    /// From now on SIGTERM and SIGINT ask for a stop, and SIGUSR1 for a report.
    pub(crate) fn catch_signals(&mut self) -> io::Result<()> {
        let caught = [Signal::TERM, Signal::INT, Signal::USR1];
        let mut signals = Signals::new(caught.map(Signal::as_raw))?;
        let registry = self.poll.registry();
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Asks for the readiness of what is no stream, under a key of its own among the clients'.
    pub(crate) fn register_source(
        &mut self,
        source: &mut impl mio::event::Source,
        key: usize,
    ) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(source, Token(key), interest)
    }

    /// What signals and handles have asked for since the last time.
    fn requests(&mut self, events: &mut Vec<Event>) {
        for signal in self.signals.iter_mut().flat_map(Signals::pending) {
            let report = signal == Signal::USR1.as_raw();
            events.push(if report { Event::Report } else { Event::Stop });
        }
        let asked = self.control.stops.load(Ordering::Acquire);
        events.extend(std::iter::repeat_n(Event::Stop, asked - self.stops));
        self.stops = asked;
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
        let mut asked = false;
        for event in &self.events {
            let token = event.token();
            if token == WAKER || token == SIGNALS {
                asked = true;
            } else if token.0 > LAST_LISTENER - self.doors.0 {
                events.push(Event::Listener(LAST_LISTENER - token.0));
            } else if token.0 > LAST_LISTENER - self.doors.0 - self.doors.1 {
                events.push(Event::Datagram(LAST_LISTENER - self.doors.0 - token.0));
            } else {
                events.push(Event::Client(token.0, readiness(event)));
            }
        }
        if asked {
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
                let fd = pipe.as_raw_fd();
                match registry.register(&mut SourceFd(&fd), Token(key), interest) {
                    // A file: it never makes anybody wait, and epoll(7) has no use for it.
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
        let token = Token(LAST_LISTENER - self.doors.0 - socket);
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

    /// To all others no socket can be bound (EADDRNOTAVAIL in bind(2)); any other error tells nothing.
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

/// Errors and ends count as readiness for both directions: reading or writing tells which.
fn readiness(event: &mio::event::Event) -> Readiness {
    let failed = event.is_error();
    let ending = event.is_read_closed() || event.is_priority() || failed;
    Readiness {
        readable: event.is_readable() || ending,
        writable: event.is_writable() || event.is_write_closed() || failed,
        ending,
    }
}
