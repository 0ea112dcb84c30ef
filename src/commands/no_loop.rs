//! The times in which no loop sees signals: before one runs, and after it has ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::flag::register_conditional_shutdown;

/// Until this is dropped, SIGTERM and SIGINT end the process at once. That holds also as the first
/// process of a container, and where the process has inherited them blocked or ignored.
pub(super) struct NoLoop(Arc<AtomicBool>);

impl NoLoop {
    /// Also keeps job control from stopping the process, as the server itself does for its console:
    /// a terminal may accept the log from the job in front alone (`tostop` in termios(3)).
    pub(super) fn begin() -> io::Result<Self> {
        SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]).thread_block()?;
        let active = Arc::new(AtomicBool::new(true));
        let ending = [Signal::SIGTERM, Signal::SIGINT];
        for number in ending.map(|signal| signal as i32) {
            register_conditional_shutdown(number, 128 + number, Arc::clone(&active))?;
        }
        SigSet::from_iter(ending).thread_unblock()?;
        Ok(Self(active))
    }
}

impl Drop for NoLoop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
