//! The time in which a server is starting, and no loop sees signals yet.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::flag::register_conditional_shutdown;

/// Until this is dropped, SIGTERM and SIGINT end the process at once. That holds also as the first
/// process of a container, and where the process has inherited them blocked or ignored.
pub(super) struct Starting(Arc<AtomicBool>);

impl Starting {
    /// Also keeps job control from stopping the process, as the server itself does for its console:
    /// a terminal may accept the log from the job in front alone (`tostop` in termios(3)).
    pub(super) fn begin() -> io::Result<Self> {
        SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]).thread_block()?;
        let starting = Arc::new(AtomicBool::new(true));
        let ending = [Signal::SIGTERM, Signal::SIGINT];
        for number in ending.map(|signal| signal as i32) {
            register_conditional_shutdown(number, 128 + number, Arc::clone(&starting))?;
        }
        SigSet::from_iter(ending).thread_unblock()?;
        Ok(Self(starting))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
