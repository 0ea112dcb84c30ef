//! A sender of datagrams, which takes answers only from the address it sends to.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use resound::Address;
use socket2::{Domain, SockAddr, Socket, Type};

use super::client::unix_name;
use super::{DEADLINE, assert_same, eventually};

/// The largest datagram over IPv4.
pub(crate) const LARGEST: usize = 65_507;

/// A connected datagram socket. Its methods panic when a test should fail.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Socket,
}

impl Sender {
    /// A sender on loopback, on a port that the kernel chooses.
    #[track_caller]
    pub(crate) fn to(address: &Address) -> Self {
        let to = ip_of(address);
        let from = match to {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        Self::from(from, address)
    }

    /// A sender at an address.
    #[track_caller]
    pub(crate) fn from(from: SocketAddr, to: &Address) -> Self {
        let socket = socket(Domain::for_address(from));
        socket.bind(&from.into()).expect("it is on loopback");
        Self::connected(socket, &ip_of(to).into())
    }

    /// A sender at an address that others may have, too (`SO_REUSEPORT`).
    #[track_caller]
    pub(crate) fn sharing(from: SocketAddr, to: &Address) -> Self {
        let socket = socket(Domain::for_address(from));
        socket.set_reuse_port(true).expect("it can be set");
        socket.bind(&from.into()).expect("it is shared");
        Self::connected(socket, &ip_of(to).into())
    }

    /// A sender with the name of a Unix socket, or without one.
    #[track_caller]
    pub(crate) fn on_unix(from: Option<&Path>, to: &Address) -> Self {
        let Address::UnixDatagram(to) = to else {
            panic!("{to} takes no datagrams of Unix");
        };
        let socket = socket(Domain::UNIX);
        if let Some(path) = from {
            let name = unix_name(path).expect("it is short");
            socket.bind(&name).expect("the name is free");
        }
        Self::connected(socket, &unix_name(to).expect("it is short"))
    }

    #[track_caller]
    fn connected(socket: Socket, to: &SockAddr) -> Self {
        socket.connect(to).expect("a datagram socket can connect");
        Self { socket }
    }

    /// The address that the server sees.
    pub(crate) fn name(&self) -> String {
        let name = self.socket.local_addr().expect("it is bound");
        name.as_socket().expect("it is UDP").to_string()
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let sent = self.socket.send(bytes).expect("the kernel takes it");
        assert_eq!(sent, bytes.len());
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn next(&self) -> Vec<u8> {
        self.next_within(DEADLINE).expect("there is an answer")
    }

    /// The next answer, if it arrives in time.
    #[track_caller]
    pub(crate) fn next_within(&self, time: Duration) -> Option<Vec<u8>> {
        let set = self.socket.set_read_timeout(Some(time));
        set.expect("it is not zero");
        self.receive()
    }

    #[track_caller]
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; LARGEST + 1];
        match (&self.socket).read(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                Some(buffer)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// The answer is exactly this.
    #[track_caller]
    pub(crate) fn receives(&self, expected: impl AsRef<[u8]>) {
        assert_same(&self.next(), expected.as_ref());
    }

    /// Sends bytes, and receives the same.
    #[track_caller]
    pub(crate) fn echoes(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.send(bytes);
        self.receives(bytes);
    }

    /// Sends bytes repeatedly until they are echoed: the kernel drops datagrams for which a flooded
    /// socket has no room.
    #[track_caller]
    pub(crate) fn echoes_at_last(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        eventually("an echo", || {
            self.send(bytes);
            let answer = self.next_within(Duration::from_millis(100));
            answer.is_some_and(|answer| answer == bytes)
        });
    }

    /// The answers that can be read now.
    #[track_caller]
    pub(crate) fn available(&self) -> Vec<Vec<u8>> {
        let set = |on| self.socket.set_nonblocking(on);
        set(true).expect("it can be set");
        let all = std::iter::from_fn(|| self.receive()).collect();
        set(false).expect("it can be set");
        all
    }

    #[track_caller]
    pub(crate) fn receives_nothing(&self) {
        assert_eq!(self.available(), Vec::<Vec<u8>>::new());
    }
}

fn socket(domain: Domain) -> Socket {
    Socket::new(domain, Type::DGRAM, None).expect("there are descriptors")
}

#[track_caller]
fn ip_of(address: &Address) -> SocketAddr {
    match address.reachable() {
        Address::Udp(address) => address,
        other => panic!("{other} is not UDP"),
    }
}
