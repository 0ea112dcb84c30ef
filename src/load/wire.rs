//! Sockets of the load's clients, which never wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use mio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::net::address::Address;
use crate::net::listener::socket_name;
use crate::net::{Poller, Socket};

/// Addresses that clients on this machine come from, those after 127.0.0.1: one alone would run out
/// of ports.
const SPREAD: usize = 250;

/// A socket that is connected, or about to be.
#[derive(Debug)]
pub(super) enum Wire {
    Stream(Socket),
    Datagrams(Datagrams),
}

/// A connected socket for datagrams.
#[derive(Debug)]
pub(super) enum Datagrams {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Datagrams {
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(datagram),
            Self::Unix(socket) => socket.send(datagram),
        }
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Unix(socket) => socket.recv(buffer),
        }
    }
}

impl Wire {
    /// Begins to connect; whether that has succeeded is told once the socket is writable. With
    /// `spread` the client with this number has an address of its own.
    ///
    /// # Errors
    /// `WouldBlock` if the backlog of a Unix socket is full.
    pub(super) fn connect(to: &Address, number: usize, spread: bool) -> io::Result<Self> {
        let from = match to.socket_addr() {
            Some(SocketAddr::V4(to)) if spread && to.ip().is_loopback() => source(number),
            _ => None,
        };
        match to {
            Address::Tcp(to) => {
                let socket = ip_socket(*to, Type::STREAM, Protocol::TCP, from)?;
                socket.set_tcp_nodelay(true)?;
                started(socket.connect(&(*to).into()))?;
                let stream = TcpStream::from_std(socket.into());
                Ok(Self::Stream(Socket::Tcp(stream)))
            }
            Address::Udp(to) => {
                let socket = ip_socket(*to, Type::DGRAM, Protocol::UDP, from)?;
                socket.connect(&(*to).into())?;
                let socket = UdpSocket::from_std(socket.into());
                Ok(Self::Datagrams(Datagrams::Udp(socket)))
            }
            Address::Unix(path) => {
                let socket = unix_socket(path, Type::STREAM)?;
                let stream = UnixStream::from_std(socket.into());
                Ok(Self::Stream(Socket::Unix(stream)))
            }
            Address::UnixDatagram(path) => {
                let socket = unix_socket(path, Type::DGRAM)?;
                let socket = UnixDatagram::from_std(socket.into());
                Ok(Self::Datagrams(Datagrams::Unix(socket)))
            }
            Address::Stdin | Address::Stdout => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Asks for its readiness under a key.
    pub(super) fn register(&mut self, net: &mut Poller, key: usize) -> io::Result<()> {
        match self {
            Self::Stream(Socket::Tcp(stream)) => net.register_source(stream, key),
            Self::Stream(Socket::Unix(stream)) => net.register_source(stream, key),
            Self::Stream(Socket::Pipe(_)) => Err(io::ErrorKind::Unsupported.into()),
            Self::Datagrams(Datagrams::Udp(socket)) => net.register_source(socket, key),
            Self::Datagrams(Datagrams::Unix(socket)) => net.register_source(socket, key),
        }
    }

    /// What has become of connecting (socket(7), `SO_ERROR`).
    pub(super) fn outcome(&self) -> io::Result<()> {
        let error = match self {
            Self::Stream(Socket::Tcp(stream)) => stream.take_error()?,
            _ => None,
        };
        error.map_or(Ok(()), Err)
    }
}

/// The address of the client with this number.
fn source(number: usize) -> Option<SocketAddr> {
    let last = u32::try_from(number % SPREAD).ok()?;
    // Not that one itself: where nobody listens, a socket could be connected to itself.
    let ip = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + last);
    Some(SocketAddrV4::new(ip, 0).into())
}

fn ip_socket(
    to: SocketAddr,
    kind: Type,
    protocol: Protocol,
    from: Option<SocketAddr>,
) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(to), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = from {
        // The port is chosen when it connects: it need be free only for this server.
        #[cfg(target_os = "linux")]
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::IpBindAddressNoPort,
            &true,
        )?;
        socket.bind(&from.into())?;
    }
    Ok(socket)
}

/// A Unix socket is connected at once, or not at all. One for datagrams gets a name, without which
/// it can't be answered: on Linux the system chooses (unix(7), autobind).
fn unix_socket(path: &Path, kind: Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    if kind == Type::DGRAM {
        if !cfg!(target_os = "linux") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        socket.bind(&SockAddr::unix("")?)?;
    }
    socket.connect(&socket_name(path)?)?;
    Ok(socket)
}

/// Connecting goes on by itself.
fn started(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INPROGRESS) => Ok(()),
        result => result,
    }
}
