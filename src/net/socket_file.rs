//! Files of Unix sockets: made by a bind, replaced if their server has gone, removed at the end.
//!
//! Several servers may be started at once on one path. Looking for a running server, removing a stale
//! file and binding are one step: the directory is locked meanwhile. Otherwise two servers could find
//! the same file stale, and the second would remove the file of the first.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::error::cause;
use super::unix::socket_name;
use crate::text::escape::escape_path;

/// The longest wait for the lock of a directory. Any program that may read the directory can hold it.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Binds a Unix socket to a name; returns its file, if it has one, with these permissions.
///
/// The file of a server that is no longer running is replaced.
///
/// # Errors
/// `AddrInUse` if another socket is bound there, `AlreadyExists` if there is a file that is not a
/// socket; those of bind(2).
pub(crate) fn bind(
    socket: &Socket,
    path: &Path,
    permissions: Option<u32>,
) -> io::Result<Option<SocketFile>> {
    let name = socket_name(path)?;
    if name.is_unnamed() || name.as_pathname().is_none() {
        socket.bind(&name)?;
        return Ok(None);
    }
    let _lock = lock_directory(path);
    remove_stale(path, &name)?;
    let mode = permissions.map(Mode::from_raw_mode);
    if let Some(mode) = mode {
        // On Linux the file never has more than the socket has; on other systems this fails.
        let _ = fchmod(socket, mode);
    }
    socket.bind(&name)?;
    let file = SocketFile::of(path)?;
    if let Some(mode) = mode {
        file.set_mode(mode)?;
    }
    Ok(Some(file))
}

/// Locks the directory of a file (flock(2)); no file is left behind.
///
/// `None` if it can't be locked: it may not be readable, its file system may have no locks, or another
/// program may hold the lock for long. Then servers that are started at once may replace each other.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return None,
        }
    }
}

/// Removes the file of a socket that no process has open.
fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let text = "a file that is not a socket is in the way";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    if is_bound(name)? {
        return Err(io::Error::from(Errno::ADDRINUSE));
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// True if a process has a socket bound to this file.
///
/// The probe is a datagram socket. A server of streams isn't told of it, and has no client by it:
/// connect(2) fails with `EPROTOTYPE` if the types differ, also if the server does not listen yet. A
/// datagram socket isn't told of a connect either.
fn is_bound(name: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        Err(e) => match e.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::PermissionDenied => Err(e),
            _ => Ok(true),
        },
        Ok(()) => Ok(true),
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

    fn is(&self, found: &fs::Metadata) -> bool {
        (found.dev(), found.ino()) == (self.device, self.inode)
    }

    /// Sets the permissions of this file, and of no other that has replaced it: no link is followed.
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(open(&*self.path, flags, Mode::empty())?);
            if !self.is(&file.metadata()?) {
                return Err(io::Error::from(Errno::STALE));
            }
            change_mode(&file, mode)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            Ok(rustix::fs::chmodat(
                rustix::fs::CWD,
                &*self.path,
                mode,
                flags,
            )?)
        }
    }
}

/// Sets the permissions of a file that is open as a path only, which fchmod(2) refuses.
#[cfg(target_os = "linux")]
fn change_mode(file: &File, mode: Mode) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;

    if file.metadata()?.mode() & 0o7777 == mode.as_raw_mode() {
        return Ok(()); // bind(2) has given it those of the socket
    }
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(mode.as_raw_mode()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _lock = lock_directory(&self.path);
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| self.is(&found));
        if ours && let Err(e) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {}", escape_path(&self.path), cause(&e));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;

    use super::*;

    fn try_bind(path: &Path) -> io::Result<(Socket, SocketFile)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let file = bind(&socket, path, None)?;
        Ok((socket, file.expect("it has a file")))
    }

    /// Without the lock one of them removes the file of another, which then runs without a file.
    #[test]
    fn one_of_eight_servers_started_at_once_replaces_a_stale_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..100 {
            drop(UnixListener::bind(&path).unwrap());
            let start = Barrier::new(8);
            let started = thread::scope(|scope| {
                let threads = [(); 8].map(|()| {
                    scope.spawn(|| {
                        start.wait();
                        try_bind(&path)
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let (bound, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
            assert_eq!(bound.len(), 1);
            for result in refused {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            }
            let (_socket, file) = bound.into_iter().next().unwrap().unwrap();
            assert!(file.is(&fs::symlink_metadata(&path).unwrap()));
            drop(file);
            assert!(!path.exists());
        }
    }

    /// A server that has not come to listen(2) yet refuses connections, as a stale file does.
    #[test]
    fn server_that_does_not_listen_yet_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let bound = try_bind(&path).unwrap();
        assert_eq!(
            try_bind(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        assert!(bound.1.is(&fs::symlink_metadata(&path).unwrap()));
    }

    #[test]
    fn file_that_has_replaced_ours_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_socket, file) = try_bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(file);
        assert!(path.exists());
    }

    /// A change of permissions by path follows links.
    #[test]
    fn permissions_of_no_other_file_are_changed() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["socket", "other"].map(|name| folder.path().join(name));
        fs::write(&other, "secret").unwrap();
        let permissions = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&other, permissions).unwrap();
        let (_socket, file) = try_bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        assert!(file.set_mode(Mode::from_raw_mode(0o666)).is_err());
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn lock_that_another_program_holds_delays_a_start_and_does_not_prevent_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open(folder.path()).unwrap();
        flock(&directory, FlockOperation::LockExclusive).unwrap();
        let (_socket, file) = try_bind(&folder.path().join("socket")).unwrap();
        drop(directory);
        drop(file);
    }
}
