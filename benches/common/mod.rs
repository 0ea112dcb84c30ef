//! What the benches share: a real server on a thread of its own, and blocking clients.
//!
//! The time is that of server, kernel and load together. With two cores, much of a short round
//! trip is how the scheduler places and wakes the two threads, which differs from run to run by
//! a factor of five; on one core (`taskset -c 1 cargo bench`) figures can be compared.

#![allow(dead_code, reason = "no bench uses all of it")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criterion::Criterion;
use resound::{CloseReason, Config, Handle, Server, Service, Stats};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No answer takes this long, unless it never comes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Of a long answer only so much is compared, its end: comparing must not be what is measured.
const COMPARED: usize = 4096;

/// A server on a free port, with the settings that the binary has by default.
pub(crate) struct Running {
    address: SocketAddr,
    handle: Handle,
    thread: JoinHandle<io::Result<Stats>>,
}

impl Running {
    pub(crate) fn start<S>(service: S) -> Self
    where
        S: Service<Session: Send> + Send + 'static,
    {
        Self::listen(service, "127.0.0.1:0")
    }

    /// The same for datagrams, of which any number is answered.
    pub(crate) fn datagrams<S>(service: S) -> Self
    where
        S: Service<Session: Send> + Send + 'static,
    {
        Self::listen(service, "udp://127.0.0.1:0")
    }

    fn listen<S>(service: S, address: &str) -> Self
    where
        S: Service<Session: Send> + Send + 'static,
    {
        raise_descriptor_limit();
        let config = Config {
            listen: vec![address.parse().expect("it is an address")],
            udp_rate: None,
            ..Config::default()
        };
        let server = Server::bind(&config, service).expect("there is a free port");
        let address = server.local_addrs()[0].socket_addr();
        Self {
            address: address.expect("it is an IP address"),
            handle: server.handle(),
            thread: thread::spawn(move || server.run()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// One more client.
    pub(crate) fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        set_options(&stream).expect("the socket has these options");
        stream
    }

    pub(crate) fn clients(&self, count: usize) -> Vec<TcpStream> {
        (0..count).map(|_| self.client()).collect()
    }

    /// Ends the server, whatever its clients do.
    pub(crate) fn end(self) {
        self.handle.stop().expect("the server can be woken");
        let stats = self.thread.join().expect("the server doesn't panic");
        stats.expect("waiting for events doesn't fail");
    }

    /// Ends the server, after its clients. None was closed for another reason than that it
    /// went, and it went without anything unread, which would have been a reset.
    pub(crate) fn stop(self) {
        self.handle.stop().expect("the server can be woken");
        let stats = self.thread.join().expect("the server doesn't panic");
        let stats = stats.expect("waiting for events doesn't fail");
        let well = stats.closes(CloseReason::PeerClosed);
        assert_eq!(well, stats.clients, "clients were lost: {stats}");
    }
}

/// Sends all of `bytes`.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let sent = stream.write_all(bytes);
    sent.expect("the server reads in time");
}

/// Receives as many bytes as `expected` has, and checks that they are these. `buffer` is where
/// they go, the same for all clients, so that they stay in the cache.
pub(crate) fn receive(stream: &mut TcpStream, expected: &[u8], buffer: &mut Vec<u8>) {
    buffer.resize(expected.len(), 0);
    let received = stream.read_exact(buffer);
    received.expect("the server answers in time");
    let from = expected.len().saturating_sub(COMPARED);
    assert!(buffer[from..] == expected[from..], "not what was expected");
}

/// Long enough for some hundred iterations of the slowest, short enough for all benches to be
/// over in two minutes.
pub(crate) fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .sample_size(50)
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))
}

/// Both ends of every connection are ours, which is more than the usual 1,024 descriptors. If
/// the system refuses, the benches with few clients work all the same.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
