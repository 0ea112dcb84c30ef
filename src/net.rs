//! The kernel as the tick sees it: waiting, accepting, streams, the clock.
//!
//! The tick knows nothing else of the outside. [`Poller`] is the production form, over
//! `mio::Poll`; the other one is the simulated kernel of the tests.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Token, Waker};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

use crate::address::Address;
use crate::listener::Listener;
use crate::mailbox::{Answerer, Exchanged, Mailbox};
use crate::pipe::{Direction, Pipe};
use crate::spin::Spin;

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
    fn local(&self, listener: usize, stream: &Self::Stream) -> Address;

    /// Sends the answers that wait at a datagram socket, then receives some datagrams, if there are
    /// any, and answers them.
    fn exchange(&mut self, mailbox: usize, answerer: &mut Answerer<'_>) -> io::Result<Exchanged>;

    /// What a datagram socket is bound to.
    fn mailbox(&self, mailbox: usize) -> &Address;

    /// Whether an address may be one of this machine's, whatever its port.
    fn is_local(address: SocketAddr) -> bool;

    /// Ends listening at once, and removes what that leaves in the file system.
    fn close_listeners(&mut self);

    /// The time, which never goes back.
    fn now(&self) -> Instant;

    /// The time of day.
    fn time_of_day(&self) -> SystemTime;
}

/// A byte stream whose two directions end apart.
pub(crate) trait Stream: Read + Write {
    /// Whether a read that doesn't fill its buffer has emptied the kernel's.
    fn short_read_drains(&self) -> bool;

    /// Ends our output; the peer reads its end after all that was written (shutdown(2)).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes closing reset the connection, so that the peer doesn't take what it was sent for
    /// all that there was (socket(7), `SO_LINGER`).
    fn reset_on_close(&mut self);

    /// Whether there is nobody at the other end to end the other direction, too.
    fn is_one_way(&self) -> bool {
        false
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A listener's backlog is no longer empty.
    Listener(usize),
    /// There are datagrams at a socket for them, or it takes answers again.
    Mail(usize),
    /// A client's stream has become ready.
    Client(usize, Readiness),
    /// Somebody wants the server to stop; the second time at once.
    Stop,
    /// Somebody wants to know how it is.
    Report,
}

/// What a stream is ready for, as the poller said it: never less than what is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There may be input, or its end, or an error.
    pub(crate) readable: bool,
    /// The kernel may take output, or has an error to tell.
    pub(crate) writable: bool,
    /// A short read doesn't mean that the input is drained: its end or an urgent byte, at
    /// which reads stop short, lies behind it.
    pub(crate) ending: bool,
}

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
    mailboxes: Vec<Mailbox>,
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
        mut mailboxes: Vec<Mailbox>,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let doors = (listeners.len(), mailboxes.len());
        for (i, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LAST_LISTENER - i))?;
        }
        for (i, mailbox) in mailboxes.iter_mut().enumerate() {
            mailbox.register(poll.registry(), Token(LAST_LISTENER - doors.0 - i))?;
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
            mailboxes,
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
                events.push(Event::Mail(LAST_LISTENER - self.doors.0 - token.0));
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

    fn local(&self, listener: usize, stream: &Socket) -> Address {
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

    fn exchange(&mut self, mailbox: usize, answerer: &mut Answerer<'_>) -> io::Result<Exchanged> {
        let token = Token(LAST_LISTENER - self.doors.0 - mailbox);
        let Some(mailbox) = self.mailboxes.get_mut(mailbox) else {
            return Ok(Exchanged::default());
        };
        let before = mailbox.blocked;
        let result = mailbox.exchange(answerer);
        if mailbox.blocked != before {
            mailbox.reregister(self.poll.registry(), token)?;
        }
        result
    }

    fn mailbox(&self, mailbox: usize) -> &Address {
        self.mailboxes[mailbox].address()
    }

    /// To all others no socket can be bound (EADDRNOTAVAIL in bind(2)); any other error tells nothing.
    fn is_local(mut address: SocketAddr) -> bool {
        address.set_port(0);
        let bound = UdpSocket::bind(address);
        !bound.is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable)
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
        self.mailboxes.clear();
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

/// A connected socket of either family, or one of the standard streams.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(Pipe),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Pipe(pipe) => pipe.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Pipe(pipe) => pipe.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    /// On Unix sockets reads also stop where descriptors were passed (unix(7), `SCM_RIGHTS`).
    fn short_read_drains(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Pipe(pipe) => pipe.shutdown_write(),
        }
    }

    fn reset_on_close(&mut self) {
        // Where it fails the peer only isn't told.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(&*stream).set_linger(Some(Duration::ZERO)),
            // Neither is there one to reset.
            Self::Unix(_) | Self::Pipe(_) => Ok(()),
        };
    }

    fn is_one_way(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }
}
