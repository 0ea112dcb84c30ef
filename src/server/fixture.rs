//! A scripted kernel for the unit tests of the phases: no loop, no events, a clock that the test
//! moves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::clients::Clients;
use super::limits::Limits;
use crate::config::Config;
use crate::net::address::{Address, Role};
use crate::net::datagram::{BatchCounts, Datagram, ReplyFn};
use crate::net::{Event, Net, Readiness};
use crate::service::Service;
use crate::testing::{Answer, Script};

/// A kernel that answers from lists.
#[derive(Debug)]
pub(super) struct TestNet {
    pub(super) now: Cell<Instant>,
    /// Number of times that the clock was read.
    pub(super) clock_reads: Cell<usize>,
    /// Results of accepting; after the last one the accept queue is empty.
    pub(super) accepts: VecDeque<io::Result<Script>>,
    /// Datagrams to be received, and the replies to them.
    pub(super) datagrams: VecDeque<(Vec<u8>, SocketAddr)>,
    pub(super) replies: Vec<Vec<u8>>,
}

impl TestNet {
    pub(super) fn new() -> Self {
        Self {
            now: Cell::new(Instant::now()),
            clock_reads: Cell::new(0),
            accepts: VecDeque::new(),
            datagrams: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    pub(super) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }
}

/// The address that test clients connect from.
pub(super) fn client_address() -> Address {
    Address::Tcp(([127, 0, 0, 1], 5000).into())
}

impl Net for TestNet {
    type Stream = Script;

    fn wait(&mut self, _: Option<Duration>, _: &mut Vec<Event>) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self, _: usize) -> io::Result<(Script, Address)> {
        let empty = || Err(io::ErrorKind::WouldBlock.into());
        let stream = self.accepts.pop_front().unwrap_or_else(empty)?;
        Ok((stream, client_address()))
    }

    fn register(&mut self, _: &mut Script, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn local_address(&self, _: usize, _: &Script) -> Address {
        Address::Tcp(([127, 0, 0, 1], 7).into())
    }

    /// Receives one datagram a batch.
    fn receive_and_reply(&mut self, _: usize, reply: &mut ReplyFn<'_>) -> io::Result<BatchCounts> {
        let mut counts = BatchCounts::default();
        if let Some((bytes, source)) = self.datagrams.pop_front() {
            counts.received = 1;
            let mut answer = Vec::new();
            let datagram = Datagram {
                bytes: &bytes,
                from: &Address::Udp(source),
                to: None,
            };
            if reply(datagram, &mut answer) {
                counts.sent = 1;
                self.replies.push(answer);
            }
        }
        counts.more = !self.datagrams.is_empty();
        Ok(counts)
    }

    fn is_local(address: SocketAddr) -> bool {
        address.ip().is_loopback()
    }

    fn close_listeners(&mut self) {}

    fn now(&self) -> Instant {
        self.clock_reads.set(self.clock_reads.get() + 1);
        self.now.get()
    }

    fn time_of_day(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// Clients of a service with these settings.
pub(super) fn clients<S: Service>(
    service: S,
    config: &Config,
    net: &TestNet,
) -> Clients<S, Script> {
    let limits = Limits::new(config, service.needs());
    Clients::new(service, config, limits, net.now.get())
}

/// Admits a client over a stream that takes everything, or nothing; returns its key.
pub(super) fn admit<S: Service>(
    clients: &mut Clients<S, Script>,
    net: &mut TestNet,
    role: Role,
    stalled: bool,
) -> usize {
    let mut stream = Script::default();
    stream.stall(stalled);
    admit_from(clients, net, client_address(), role, stream)
}

/// Admits a client from an address over a stream; returns its key.
pub(super) fn admit_from<S: Service>(
    clients: &mut Clients<S, Script>,
    net: &mut TestNet,
    address: Address,
    role: Role,
    stream: Script,
) -> usize {
    let local = address.clone();
    let opened = clients.open(net, stream, address, role, &local);
    opened.expect("the test's kernel takes every stream")
}

/// The lines that `act` logs, warnings and what is said by default.
pub(super) fn logged(act: impl FnOnce()) -> Vec<String> {
    static LOG: Lines = Lines;
    // Another test may have been first.
    let _ = log::set_logger(&LOG);
    // No more: with debug output clients are treated in another way.
    log::set_max_level(log::LevelFilter::Info);
    LINES.take();
    act();
    LINES.take()
}

thread_local! {
    /// Lines that this test has logged.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A log that keeps lines by thread.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Gives a client input, and all clients a pass of reading and publishing.
pub(super) fn send<S: Service>(clients: &mut Clients<S, Script>, key: usize, input: &[u8]) {
    clients.touch(key, |connection, _| {
        let script = connection.stream_mut();
        script.on_read(Answer::Give(input.to_vec()));
    });
    let readable = Readiness {
        readable: true,
        ..Readiness::default()
    };
    clients.latch(key, readable);
    clients.read(usize::MAX, false, |_, _, _| {});
    clients.publish();
}

/// Takes out the bytes that a client was sent.
pub(super) fn sent<S: Service>(clients: &mut Clients<S, Script>, key: usize) -> String {
    let sent = clients.touch(key, |connection, _| connection.stream_mut().take_sent());
    String::from_utf8(sent).expect("tests send text")
}
