//! Connecting: addresses, sockets and their options, retries.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::info;
use socket2::{Domain, Protocol, Type};

use super::datagram::{self, BROADCAST_HINT};
use super::{Connect, ConnectError, Source};
use crate::net::Socket;
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::unix::{self, socket_name};

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest limit of an attempt.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);

/// A limit that no attempt reaches: the kernel gives up before.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(1 << 20);

/// A server that was reached.
pub(super) struct Dialed {
    pub(super) socket: DialedSocket,
    pub(super) peer: Address,
    pub(super) local: Address,
}

/// The socket of a server that was reached.
pub(super) enum DialedSocket {
    Stream(Socket),
    Datagrams(datagram::Socket),
}

/// Connects; retries while no server listens, for as long as the settings say.
pub(super) fn dial(connect: &Connect) -> Result<Dialed, ConnectError> {
    let start = Instant::now();
    let left = || {
        let most = connect.retry.unwrap_or(Duration::ZERO);
        most.saturating_sub(start.elapsed())
    };
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let limits = [connect.timeout, connect.retry.map(|_| left())];
        let limit = limits
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(LONGEST_ATTEMPT);
        let error = match attempt(connect, limit.clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT)) {
            Ok(dialed) => return Ok(dialed),
            Err(error) => error,
        };
        let left = left();
        let again = is_absent(error.kind()) && !left.is_zero();
        let error = ConnectError::new(format!("cannot connect to {}", connect.to), cause(&error));
        if !again {
            return Err(error);
        }
        if !std::mem::replace(&mut told, true) {
            info!("{error}; retrying");
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// True for an error that passes once a server listens.
fn is_absent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::NotFound
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::TimedOut
    )
}

/// An error that is not retried, whatever its kind.
fn permanent(error: &io::Error) -> io::Error {
    io::Error::other(cause(error))
}

/// Tries each address of the server once.
fn attempt(connect: &Connect, limit: Duration) -> io::Result<Dialed> {
    let resolved = connect.source.as_ref().map(Source::resolve).transpose();
    let from = resolved.map_err(|e| permanent(&e))?.flatten();
    let mut error = None;
    for peer in connect.to.resolve().map_err(|e| permanent(&e))? {
        let other = |to: SocketAddr| from.is_some_and(|from| from.is_ipv4() != to.is_ipv4());
        let fits = connect.source.as_ref().is_none_or(|s| s.fits(&connect.to));
        if !fits || peer.socket_addr().is_some_and(other) {
            continue;
        }
        match dial_one(connect, &peer, from, limit) {
            Ok((socket, local)) => {
                return Ok(Dialed {
                    socket,
                    peer,
                    local,
                });
            }
            Err(e) => error = Some(e),
        }
    }
    Err(error.unwrap_or_else(|| match &connect.source {
        Some(source) => {
            io::Error::other(format!("the source {source} is of another address family"))
        }
        None => ErrorKind::NotFound.into(),
    }))
}

fn dial_one(
    connect: &Connect,
    peer: &Address,
    from: Option<SocketAddr>,
    limit: Duration,
) -> io::Result<(DialedSocket, Address)> {
    let bound = |socket: &socket2::Socket| match from {
        Some(from) => socket.bind(&from.into()).map_err(|e| {
            let text = format!("the source {}: {}", from.ip(), cause(&e));
            io::Error::other(text)
        }),
        None => Ok(()),
    };
    match peer {
        Address::Tcp(to) => dial_tcp(*to, bound, limit),
        Address::Udp(to) => dial_udp(*to, bound, connect.broadcast),
        Address::Unix(path) => dial_unix(path, limit),
        Address::UnixDatagram(path) => {
            dial_unix_datagram(path, connect.source.as_ref().and_then(Source::path))
        }
        Address::Stdin | Address::Stdout => Err(ErrorKind::Unsupported.into()),
    }
}

fn dial_tcp(
    to: SocketAddr,
    bind: impl Fn(&socket2::Socket) -> io::Result<()>,
    limit: Duration,
) -> io::Result<(DialedSocket, Address)> {
    let protocol = Some(Protocol::TCP);
    let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, protocol)?;
    bind(&socket)?;
    socket.connect_timeout(&to.into(), limit)?;
    let local = local_addr(&socket, to)?;
    if local == to {
        // Without a listener, a port that the system has chosen may be that very one.
        return Err(ErrorKind::ConnectionRefused.into());
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    let stream = mio::net::TcpStream::from_std(socket.into());
    Ok((
        DialedSocket::Stream(Socket::Tcp(stream)),
        Address::Tcp(local),
    ))
}

fn local_addr(socket: &socket2::Socket, unknown: SocketAddr) -> io::Result<SocketAddr> {
    Ok(socket.local_addr()?.as_socket().unwrap_or(unknown))
}

/// A connected socket is told that no server listens, and receives from its server alone; where
/// datagrams go to several servers it has to receive from all of them.
fn dial_udp(
    to: SocketAddr,
    bind: impl Fn(&socket2::Socket) -> io::Result<()>,
    broadcast: bool,
) -> io::Result<(DialedSocket, Address)> {
    let protocol = Some(Protocol::UDP);
    let socket = socket2::Socket::new(Domain::for_address(to), Type::DGRAM, protocol)?;
    socket.set_nonblocking(true)?;
    socket.set_broadcast(broadcast)?;
    bind(&socket)?;
    let many = broadcast || to.ip().is_multicast();
    if !many {
        socket.connect(&to.into()).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => {
                io::Error::other(format!("{}; {BROADCAST_HINT}", cause(&e)))
            }
            _ => e,
        })?;
    } else if local_addr(&socket, to)?.port() == 0 {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
    }
    let local = Address::Udp(local_addr(&socket, to)?);
    let socket = mio::net::UdpSocket::from_std(socket.into());
    let socket = datagram::Socket::Udp(socket, many.then_some(to));
    Ok((DialedSocket::Datagrams(socket), local))
}

fn dial_unix(path: &Arc<Path>, limit: Duration) -> io::Result<(DialedSocket, Address)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Limits the wait for room in the accept queue (socket(7), SO_SNDTIMEO).
    socket.set_write_timeout(Some(limit))?;
    let full = |e: io::Error| match e.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => e,
    };
    socket.connect(&socket_name(path)?).map_err(full)?;
    socket.set_nonblocking(true)?;
    let stream = mio::net::UnixStream::from_std(socket.into());
    let local = Address::Unix(Arc::clone(path));
    Ok((DialedSocket::Stream(Socket::Unix(stream)), local))
}

/// A socket without a name could not be answered.
fn dial_unix_datagram(to: &Path, from: Option<&Path>) -> io::Result<(DialedSocket, Address)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    let to = socket_name(to)?;
    socket.connect(&to)?;
    let path = from.map_or_else(unused_name, Path::to_path_buf);
    let bound = unix::bind(&socket, &path, None);
    let file = bound.map_err(|e| {
        io::Error::other(format!(
            "the source unixgram:{}: {}",
            path.display(),
            cause(&e)
        ))
    })?;
    let name = socket.local_addr()?;
    let local = unix::path_of(name.as_pathname(), name.as_abstract_namespace());
    let local = Address::UnixDatagram(local.into());
    let socket = mio::net::UnixDatagram::from_std(socket.into());
    let socket = datagram::Socket::Unix(socket, file);
    Ok((DialedSocket::Datagrams(socket), local))
}

/// A name of its own: on Linux the system chooses (unix(7), autobind).
fn unused_name() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::new();
    }
    let (process, number) = (std::process::id(), fastrand::u32(..));
    std::env::temp_dir().join(format!("resound-{process}-{number:08x}"))
}
