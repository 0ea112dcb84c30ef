//! Connections of the load's clients, which never wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::net::address::Address;
use crate::net::{ConnectOptions, Dial};

/// Addresses that clients on this machine come from, those after 127.0.0.1: one alone would run out
/// of ports.
const SPREAD: usize = 250;

/// A socket that is connected, or about to be.
pub(super) enum Wire<N: Dial> {
    Stream(N::Stream),
    Datagrams(N::Datagrams),
}

impl<N: Dial> Wire<N> {
    /// Begins to connect; whether that has succeeded is told once the socket is writable. With
    /// `spread` the client with this number has an address of its own.
    ///
    /// # Errors
    /// `WouldBlock` if the backlog of a Unix socket is full.
    pub(super) fn connect(
        net: &mut N,
        to: &Address,
        number: usize,
        spread: bool,
    ) -> io::Result<Self> {
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
                Ok(Self::Datagrams(socket))
            }
            _ => net.connect(to, options).map(Self::Stream),
        }
    }

    /// Asks for its readiness under a key.
    pub(super) fn register(&mut self, net: &mut N, key: usize) -> io::Result<()> {
        match self {
            Self::Stream(stream) => net.register(stream, key),
            Self::Datagrams(socket) => net.register_datagrams(socket, key),
        }
    }

    /// What has become of connecting.
    pub(super) fn outcome(&self, net: &mut N, to: &Address) -> io::Result<()> {
        match self {
            Self::Stream(stream) => net.finish_connect(stream, to).map(drop),
            Self::Datagrams(_) => Ok(()),
        }
    }
}

/// The address of the client with this number.
fn source(number: usize) -> Option<SocketAddr> {
    let last = u32::try_from(number % SPREAD).ok()?;
    // Not that one itself: where nobody listens, a socket could be connected to itself.
    let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + last);
    Some(SocketAddrV4::new(ip, 0).into())
}
