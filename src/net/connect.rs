//! Non-blocking connections to servers: [`Dial`] for the [`Poller`].

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Type};

use super::address::Address;
use super::error::cause;
use super::kernel::{ConnectOptions, Datagrams, Dial};
use super::poller::Poller;
use super::socket::Socket;
use super::socket_file::{self, SocketFile};
use super::unix::{self, socket_name};
use crate::text::escape::escape_path;

/// A non-blocking socket that exchanges datagrams with one server.
#[derive(Debug)]
pub(crate) enum DatagramClient {
    /// A UDP socket, with the server's address unless it is connected to it.
    Udp(UdpSocket, Option<SocketAddr>),
    Unix {
        socket: UnixDatagram,
        /// The server's path.
        to: PathBuf,
        /// The socket's own file, removed when this is dropped.
        _file: Option<SocketFile>,
    },
}

impl Datagrams for DatagramClient {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket, Some(to)) => socket.send_to(datagram, *to),
            Self::Udp(socket, None) => socket.send(datagram),
            Self::Unix { socket, to, .. } => match socket.send(datagram) {
                // The server is gone; another may have taken its place.
                Err(e) if is_refused(&e) => {
                    let again = SockRef::from(&*socket).connect(&socket_name(to)?);
                    again.map_err(|_| ErrorKind::ConnectionRefused)?;
                    socket.send(datagram)
                }
                result => result,
            },
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket, Some(_)) => socket.recv_from(buffer).map(|(n, _)| n),
            Self::Udp(socket, None) => socket.recv(buffer),
            Self::Unix { socket, .. } => socket.recv(buffer),
        }
    }
}

/// True for the errors of a Unix socket whose server is gone: the first send fails for that reason,
/// and disconnects the socket.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

impl Dial for Poller {
    type Datagrams = DatagramClient;

    fn connect(&mut self, to: &Address, options: ConnectOptions<'_>) -> io::Result<Socket> {
        match to {
            Address::Tcp(to) => connect_tcp(*to, options).map(Socket::Tcp),
            Address::Unix(path) => connect_unix(path).map(Socket::Unix),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn finish_connect(&mut self, stream: &Socket, to: &Address) -> io::Result<Address> {
        let Socket::Tcp(stream) = stream else {
            // A Unix socket connects or fails at once.
            return Ok(to.clone());
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let local = Address::Tcp(stream.local_addr()?);
        if local == *to {
            // Without a listener there, the kernel may have chosen the port that the socket connects
            // to: it is connected to itself.
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(local)
    }

    fn open_datagrams(
        &mut self,
        to: &Address,
        options: ConnectOptions<'_>,
    ) -> io::Result<(DatagramClient, Address)> {
        match to {
            Address::Udp(to) => open_udp(*to, options),
            Address::UnixDatagram(path) => open_unix_datagram(path, options.source_path),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn register_datagrams(&mut self, socket: &mut DatagramClient, key: usize) -> io::Result<()> {
        match socket {
            DatagramClient::Udp(socket, _) => self.register_source(socket, key),
            DatagramClient::Unix { socket, .. } => self.register_source(socket, key),
        }
    }

    fn while_blocking<R>(&self, call: impl FnOnce() -> R) -> R {
        match self.signals() {
            Some(signals) => signals.while_blocking(call),
            None => call(),
        }
    }
}

fn connect_tcp(to: SocketAddr, options: ConnectOptions<'_>) -> io::Result<TcpStream> {
    let socket = ip_socket(to, Type::STREAM, Protocol::TCP)?;
    bind(&socket, options.source)?;
    socket.set_tcp_nodelay(true)?;
    if options.urgent_inline {
        socket.set_out_of_band_inline(true)?;
    }
    match socket.connect(&to.into()) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INPROGRESS) => {}
        result => result?,
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Opens a UDP socket. Where the kernel chooses the port, that is another than the server's: a
/// service doesn't answer datagrams from its own port, which may be those of its like.
fn open_udp(to: SocketAddr, options: ConnectOptions<'_>) -> io::Result<(DatagramClient, Address)> {
    let is_chosen = options.source.is_none_or(|source| source.port() == 0);
    open_but(
        |(_, local): &(_, Address)| {
            let port = local.socket_addr().map(|local| local.port());
            is_chosen && port == Some(to.port())
        },
        || open_any_udp(to, options),
    )
}

/// Opens a socket, and another one if the first is unsuitable, which is kept open meanwhile: the
/// kernel chooses its port no second time.
fn open_but<T>(
    is_unsuitable: impl Fn(&T) -> bool,
    open: impl Fn() -> io::Result<T>,
) -> io::Result<T> {
    let first = open()?;
    if is_unsuitable(&first) {
        return open();
    }
    Ok(first)
}

/// Opens a UDP socket. It is connected to a single server: then it is told if there is no listener,
/// and receives from that server alone. For broadcast and multicast it receives from every server.
fn open_any_udp(
    to: SocketAddr,
    options: ConnectOptions<'_>,
) -> io::Result<(DatagramClient, Address)> {
    let socket = ip_socket(to, Type::DGRAM, Protocol::UDP)?;
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    let many = options.broadcast || to.ip().is_multicast();
    if many {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = options.source.unwrap_or(SocketAddr::new(any, 0));
        socket
            .bind(&source.into())
            .map_err(|e| no_source(source.ip(), &e))?;
    } else {
        bind(&socket, options.source)?;
        socket.connect(&to.into())?;
    }
    let socket = UdpSocket::from_std(socket.into());
    let local = Address::Udp(socket.local_addr()?);
    Ok((DatagramClient::Udp(socket, many.then_some(to)), local))
}

fn ip_socket(to: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(to), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a socket to its source, if it has one, before it is connected.
fn bind(socket: &socket2::Socket, source: Option<SocketAddr>) -> io::Result<()> {
    let Some(source) = source else {
        return Ok(());
    };
    if source.port() == 0 {
        // The kernel chooses the port when the socket connects: it may be in use for other servers.
        // A kernel without this option chooses one now.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::socket::setsockopt(
            socket,
            nix::sys::socket::sockopt::IpBindAddressNoPort,
            &true,
        );
    }
    let bound = socket.bind(&source.into());
    bound.map_err(|e| no_source(source.ip(), &e))
}

fn no_source(source: impl std::fmt::Display, error: &io::Error) -> io::Error {
    let text = format!("the source {source}: {}", cause(error));
    io::Error::new(ErrorKind::AddrNotAvailable, text)
}

/// Connects a Unix socket, which succeeds or fails at once.
fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket_name(path)?)?;
    Ok(UnixStream::from_std(socket.into()))
}

/// Opens a Unix datagram socket with a name, without which the server could not reply.
fn open_unix_datagram(to: &Path, source: Option<&Path>) -> io::Result<(DatagramClient, Address)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket_name(to)?)?;
    let path = source.map_or_else(unused_name, Path::to_path_buf);
    let bound = socket_file::bind(&socket, &path, None);
    let file = bound.map_err(|e| no_source(format_args!("unixgram:{}", escape_path(&path)), &e))?;
    let name = socket.local_addr()?;
    let local = unix::path_of(name.as_pathname(), name.as_abstract_namespace());
    let socket = UnixDatagram::from_std(socket.into());
    let local = Address::UnixDatagram(local.into());
    let socket = DatagramClient::Unix {
        socket,
        to: to.to_owned(),
        _file: file,
    };
    Ok((socket, local))
}

/// An unused name; empty on Linux, where the kernel chooses one (unix(7), autobind).
fn unused_name() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::new();
    }
    let (process, number) = (std::process::id(), fastrand::u32(..));
    std::env::temp_dir().join(format!("resound-{process}-{number:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Event, Net};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;
    use std::rc::Rc;
    use std::time::Duration;

    fn poller() -> Poller {
        Poller::new(Vec::new(), Vec::new()).unwrap()
    }

    /// Connects to an address and waits for the outcome.
    fn outcome(to: &Address, options: ConnectOptions<'_>) -> io::Result<Address> {
        let mut net = poller();
        let mut stream = net.connect(to, options)?;
        net.register(&mut stream, 5)?;
        loop {
            let mut events = Vec::new();
            net.wait(Some(Duration::from_secs(10)), &mut events)?;
            assert!(!events.is_empty(), "no outcome for ten seconds");
            if events
                .iter()
                .any(|event| matches!(event, Event::Client(5, ready) if ready.writable))
            {
                return net.finish_connect(&stream, to);
            }
        }
    }

    fn from(source: &str) -> ConnectOptions<'static> {
        ConnectOptions {
            source: Some(source.parse().unwrap()),
            ..ConnectOptions::default()
        }
    }

    #[test]
    fn connecting_to_a_listener_returns_the_local_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Address::Tcp(listener.local_addr().unwrap());
        let local = outcome(&to, from("127.0.0.1:0")).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(local, Address::Tcp(peer));
    }

    #[test]
    fn connection_to_itself_is_refused() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = unused.local_addr().unwrap();
        drop(unused);
        let error = outcome(&Address::Tcp(to), from(&to.to_string())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn source_of_another_machine_is_named_in_the_error() {
        let to = Address::Tcp(([127, 0, 0, 1], 9).into());
        let error = outcome(&to, from("192.0.2.1:0")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(
            error.to_string().starts_with("the source 192.0.2.1: "),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_accept_queue_of_a_unix_socket_would_block() {
        let name = format!("@resound-connect-{}", std::process::id());
        let to = Address::Unix(Path::new(&name).into());
        let Address::Unix(path) = &to else { return };
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&socket_name(path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
        let mut net = poller();
        let mut open = Vec::new();
        let error = loop {
            match net.connect(&to, ConnectOptions::default()) {
                Ok(stream) => open.push(stream),
                Err(e) => break e,
            }
            assert!(open.len() < 10);
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    /// One client in 28,000 was never answered: the kernel had chosen the server's port for it.
    #[test]
    fn second_socket_is_opened_while_an_unsuitable_first_one_is_open() {
        // Each socket has the number of sockets that are open with it.
        let open = Rc::new(());
        let socket = || {
            let socket = Rc::clone(&open);
            Ok((socket, Rc::strong_count(&open) - 1))
        };
        let (second, number) = open_but(|(_, number)| *number == 1, socket).unwrap();
        assert_eq!(number, 2);
        drop(second);
        assert_eq!(open_but(|_| false, socket).unwrap().1, 1);
    }

    #[test]
    fn chosen_source_port_may_be_the_servers() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let source = SocketAddr::from(([127, 0, 0, 2], to.port()));
        let options = from(&source.to_string());
        let (_, local) = poller().open_datagrams(&Address::Udp(to), options).unwrap();
        assert_eq!(local, Address::Udp(source));
    }

    #[test]
    fn datagrams_are_answered_to_the_local_address() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = Address::Udp(server.local_addr().unwrap());
        for (broadcast, source) in [(false, None), (false, Some("127.0.0.1:0")), (true, None)] {
            let options = ConnectOptions {
                source: source.map(|source| source.parse().unwrap()),
                broadcast,
                ..ConnectOptions::default()
            };
            let (mut socket, local) = poller().open_datagrams(&to, options).unwrap();
            assert_eq!(socket.send(b"one").unwrap(), 3);
            let mut buffer = [0; 9];
            let (_, peer) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(local.socket_addr().unwrap().port(), peer.port());
            server.send_to(b"two", peer).unwrap();
            let n = loop {
                match socket.receive(&mut buffer) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    result => break result.unwrap(),
                }
            };
            assert_eq!(&buffer[..n], b"two");
        }
    }
}
