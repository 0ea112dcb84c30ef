//! Errors of accepting, sorted by the action that they ask for.

use std::io;

use rustix::io::Errno;

/// The action that an error of accepting asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// The accept queue is empty: wait for the next event.
    Drained,
    /// This connection has failed: accept the next one.
    Retry,
    /// No descriptors or no memory are left, or the error is unknown: try again after a rest.
    Exhausted,
}

impl AcceptError {
    /// Sorts an error as accept(2) describes it: Linux also reports network errors of the new
    /// connection.
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
}
