//! Listening sockets, over TCP or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Type};

use super::address::Address;
use super::options::SocketOptions;
use super::socket::Socket;
use super::socket_file::{self, SocketFile};

/// A bound listener. Dropping it removes the file of a Unix socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Kind,
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    /// The file is removed before the socket is closed: otherwise another server could take it for
    /// a stale one, and lose its own. The options are those of accepted sockets.
    Unix(
        #[expect(dead_code, reason = "its drop removes the file")] Option<SocketFile>,
        UnixListener,
        Box<SocketOptions>,
    ),
}

impl Listener {
    /// Binds and listens. With `dual_stack`, an IPv6 socket takes IPv4 too.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2) and listen(2); `Unsupported` for any other kind of
    /// address.
    pub(crate) fn bind(
        address: &Address,
        dual_stack: bool,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::bind_tcp(*address, dual_stack, options),
            Address::Unix(path) => Self::bind_unix(path, options),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Accepted sockets inherit the options that are set here, which saves calls when accepting.
    fn bind_tcp(
        address: SocketAddr,
        dual_stack: bool,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        options.prepare(&socket, dual_stack)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        let listener = TcpListener::from_std(socket.into());
        Ok(Self {
            socket: Kind::Tcp(listener),
            address: Address::Tcp(bound),
        })
    }

    fn bind_unix(path: &Arc<Path>, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        options.prepare(&socket, false)?;
        let file = socket_file::bind(&socket, path, options.unix_mode)?;
        socket.listen(options.backlog)?;
        let listener = UnixListener::from_std(socket.into());
        Ok(Self {
            socket: Kind::Unix(file, listener, Box::new(options.clone())),
            address: Address::Unix(Arc::clone(path)),
        })
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match &self.socket {
            Kind::Tcp(listener) => SockRef::from(listener),
            Kind::Unix(_, listener, _) => SockRef::from(listener),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Kind::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Kind::Unix(_, listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// Takes one connection from the accept queue, with the peer's address.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        match &self.socket {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Socket::Tcp(stream), Address::Tcp(peer).canonical()))
            }
            Kind::Unix(_, listener, options) => {
                let (stream, _) = listener.accept()?;
                options.set_buffers(&SockRef::from(&stream))?;
                // Not inherited on Unix sockets. Kernels without urgent data there refuse it.
                let _ = SockRef::from(&stream).set_out_of_band_inline(true);
                Ok((Socket::Unix(stream), self.address.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::error::cause;
    use std::fs;

    #[test]
    fn file_of_a_unix_socket_lives_as_long_as_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        let listener = Listener::bind_unix(&path, &SocketOptions::default()).unwrap();
        let again = Listener::bind_unix(&path, &SocketOptions::default()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn stale_socket_is_replaced_and_plain_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind_unix(&path, &SocketOptions::default()).unwrap());
        fs::write(&path, "precious").unwrap();
        let error = Listener::bind_unix(&path, &SocketOptions::default()).unwrap_err();
        assert_eq!(cause(&error), "a file that is not a socket is in the way");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn file_that_took_the_place_of_the_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        let listener = Listener::bind_unix(&path, &SocketOptions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
