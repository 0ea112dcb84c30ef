//! Byte streams and their readiness.

use std::io::{self, Read, Write};

/// A non-blocking byte stream whose two directions end separately.
pub(crate) trait Stream: Read + Write {
    /// True if a read that does not fill its buffer has emptied the kernel's.
    fn short_read_drains(&self) -> bool;

    /// Ends the output (shutdown(2)): the peer reads the written bytes and then the end.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes close(2) reset the connection (socket(7), `SO_LINGER`): the peer must not take truncated
    /// output for complete.
    fn reset_on_close(&mut self);

    /// True once the peer's kernel has all output of a stream whose two directions have ended. The
    /// poller tells when that changes.
    ///
    /// # Errors
    /// If the peer did not take all of it.
    fn is_delivered(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Fails if the connection has failed since its input has ended: reading tells only of the end.
    fn check_connection(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// True if the stream has one direction only, like a pipe.
    fn is_one_way(&self) -> bool {
        false
    }
}

/// The readiness of a stream, as far as the poller told: a direction may turn out not to be ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the poller tells them in any combination"
)]
pub(crate) struct Readiness {
    /// True if there may be input, its end, or an error.
    pub(crate) readable: bool,
    /// True if the kernel may take output, or has an error to report.
    pub(crate) writable: bool,
    /// True if the end of input or an urgent byte is near. Reads stop short there, so a short read
    /// does not mean that the input is drained.
    pub(crate) ending: bool,
    /// True if both directions have ended: the peer has closed the connection (`EPOLLHUP` in
    /// `epoll_ctl(2)`).
    pub(crate) hung_up: bool,
}
