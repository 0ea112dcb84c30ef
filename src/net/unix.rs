//! Names of Unix sockets (unix(7)), and the files that they leave.
//!
//! A name is a path, or on Linux `@` and a name without a file (an abstract socket address).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Type};

use super::error::cause;

/// The part of an abstract name after its `@`; `None` for the path of a file.
pub(crate) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

/// The name of a socket as a path, from what the kernel tells of it; empty if it is unnamed.
pub(crate) fn path_of(pathname: Option<&Path>, abstract_name: Option<&[u8]>) -> PathBuf {
    match (pathname, abstract_name) {
        (_, Some(name)) => OsString::from_vec([b"@", name].concat()).into(),
        // A file whose path begins with `@`.
        (Some(path), None) if self::abstract_name(path).is_some() => Path::new(".").join(path),
        (path, None) => path.map_or_else(PathBuf::new, Path::to_path_buf),
    }
}

/// The name of a socket as the kernel takes it.
///
/// # Errors
/// `InvalidInput` if it is too long, or abstract on a system other than Linux.
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

/// Binds a Unix socket to a name; returns its file, if it has one, with these permissions.
///
/// The file of a server that is no longer running is replaced.
///
/// # Errors
/// `AddrInUse` if another socket is bound there, `AlreadyExists` if there is a file that is not a
/// socket; those of bind(2).
pub(crate) fn bind(
    socket: &socket2::Socket,
    path: &Path,
    permissions: Option<u32>,
) -> io::Result<Option<SocketFile>> {
    let name = socket_name(path)?;
    if name.is_unnamed() || name.as_pathname().is_none() {
        socket.bind(&name)?;
        return Ok(None);
    }
    remove_stale(path, &name, socket.r#type()?)?;
    if let Some(mode) = permissions {
        // On Linux the file never has more than the socket has; on other systems this fails.
        let _ = fchmod(socket, Mode::from_raw_mode(mode));
    }
    socket.bind(&name)?;
    let file = SocketFile::of(path)?;
    if let Some(mode) = permissions {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(Some(file))
}

/// Removes the file of a socket that no process has open.
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
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        // Connected, or the accept queue is full, or the socket has another type.
        _ => Err(io::Error::from(Errno::ADDRINUSE)),
    }
}

/// The file of a Unix socket: removed when dropped, unless another file has replaced it.
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
