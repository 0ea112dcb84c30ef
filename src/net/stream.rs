//! Byte streams, and what they are ready for.

use std::io::{self, Read, Write};

/// A byte stream whose two directions end apart.
pub(crate) trait Stream: Read + Write {
    /// Whether a read that doesn't fill its buffer has emptied the kernel's.
    fn short_read_drains(&self) -> bool;

    /// Ends our output; the peer reads its end after all that was written (shutdown(2)).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes closing reset the connection, so that the peer doesn't take what it was sent for
    /// all that there was (socket(7), `SO_LINGER`).
    fn reset_on_close(&mut self);

    /// Whether there is nobody at the other end to end the other direction, too.
    fn is_one_way(&self) -> bool {
        false
    }
}

/// What a stream is ready for, as the poller said it: never less than what is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There may be input, or its end, or an error.
    pub(crate) readable: bool,
    /// The kernel may take output, or has an error to tell.
    pub(crate) writable: bool,
    /// A short read doesn't mean that the input is drained: its end or an urgent byte, at
    /// which reads stop short, lies behind it.
    pub(crate) ending: bool,
}
