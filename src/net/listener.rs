//! Listening sockets: binding, options, backlog; and what the errors of accepting mean.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::address::{Address, abstract_name};
use super::error::cause;
use super::options::SocketOptions;
use super::socket::Socket;

/// A bound listener. A Unix socket's file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Kind,
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    /// The file goes before the socket is closed: nobody can take it for a stale one.
    Unix(
        #[expect(dead_code, reason = "its drop removes the file")] Option<SocketFile>,
        UnixListener,
        Box<SocketOptions>,
    ),
}

impl Listener {
    /// Binds and listens; `dual`: IPv6 takes IPv4, too.
    pub(crate) fn bind(address: &Address, dual: bool, options: &SocketOptions) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::bind_tcp(*address, dual, options),
            Address::Unix(path) => Self::bind_unix(path, options),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What is set here is inherited by accepted sockets, so that accepting costs no call more.
    fn bind_tcp(address: SocketAddr, dual: bool, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        options.prepare(&socket, dual)?;
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
        let name = socket_name(path)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        options.prepare(&socket, false)?;
        let file = bind_unix_name(&socket, path, &name, options)?;
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

    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        match &self.socket {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Socket::Tcp(stream), Address::Tcp(peer).canonical()))
            }
            Kind::Unix(_, listener, options) => {
                let (stream, _) = listener.accept()?;
                options.set_buffers(&SockRef::from(&stream))?;
                // Here it isn't inherited; kernels without urgent data on Unix sockets refuse it.
                let _ = SockRef::from(&stream).set_out_of_band_inline(true);
                Ok((Socket::Unix(stream), self.address.clone()))
            }
        }
    }
}

/// The name of a Unix socket: a path, or what follows an `@` (unix(7), abstract).
pub(crate) fn socket_name(path: &Path) -> io::Result<SockAddr> {
    let bad = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
    let too_long = |_| bad("the path is too long");
    let Some(rest) = abstract_name(path) else {
        return SockAddr::unix(path).map_err(too_long);
    };
    if !cfg!(target_os = "linux") {
        return Err(bad("only Linux has abstract sockets"));
    }
    let name = OsString::from_vec([b"\0", rest].concat());
    SockAddr::unix(name).map_err(too_long)
}

/// Binds a Unix socket to its name, with the permissions that are asked for; what there is of it in
/// the file system.
pub(crate) fn bind_unix_name(
    socket: &socket2::Socket,
    path: &Path,
    name: &SockAddr,
    options: &SocketOptions,
) -> io::Result<Option<SocketFile>> {
    if name.is_unnamed() || name.as_pathname().is_none() {
        socket.bind(name)?;
        return Ok(None);
    }
    remove_stale(path, name, socket.r#type()?)?;
    if let Some(mode) = options.unix_mode {
        // On Linux the file has at most what the socket has, from the start; elsewhere this fails.
        let _ = fchmod(socket, Mode::from_raw_mode(mode));
    }
    socket.bind(name)?;
    let file = SocketFile::of(path)?;
    if let Some(mode) = options.unix_mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(Some(file))
}

/// Makes room for a socket where a server that is no more has left its file.
fn remove_stale(path: &Path, name: &SockAddr, kind: Type) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let text = "a file that is not a socket is in the way";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let probe = socket2::Socket::new(Domain::UNIX, kind, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        // Nobody listens there any more.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        // Connected, or its backlog is full, or it is a socket of another type.
        _ => Err(io::Error::from(Errno::ADDRINUSE)),
    }
}

/// The file of a Unix socket: removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: Box<Path>,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: std::path::absolute(path)?.into(),
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(e) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {}", self.path.display(), cause(&e));
        }
    }
}

/// What an error of accepting asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// The backlog is empty.
    Drained,
    /// This connection has failed already; the next one may not have.
    Retry,
    /// No descriptors or memory, or something unheard of: a rest, then again.
    Exhausted,
}

impl AcceptError {
    /// Sorts an error as accept(2) describes it: Linux also passes on errors that the new
    /// connection has met in the network.
    pub(crate) fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::Drained;
        }
        match Errno::from_io_error(error) {
            Some(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::TIMEDOUT,
            ) => Self::Retry,
            #[cfg(target_os = "linux")]
            Some(Errno::NONET) => Self::Retry,
            _ => Self::Exhausted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_accepting_are_sorted() {
        let sort = |errno: Errno| AcceptError::of(&errno.into());
        assert_eq!(sort(Errno::AGAIN), AcceptError::Drained);
        for errno in [Errno::INTR, Errno::CONNABORTED, Errno::NETUNREACH] {
            assert_eq!(sort(errno), AcceptError::Retry);
        }
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::INVAL,
        ] {
            assert_eq!(sort(errno), AcceptError::Exhausted);
        }
    }

    #[test]
    fn the_file_of_a_unix_socket_lives_as_long_as_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        let listener = Listener::bind_unix(&path, &SocketOptions::default()).unwrap();
        let again = Listener::bind_unix(&path, &SocketOptions::default()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_plain_file_is_not() {
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
    fn a_file_that_took_the_place_of_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("s").into();
        let listener = Listener::bind_unix(&path, &SocketOptions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
