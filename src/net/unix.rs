//! Names of Unix sockets (unix(7)).
//!
//! A name is a path, or on Linux `@` and a name without a file (an abstract socket address).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use socket2::SockAddr;

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
