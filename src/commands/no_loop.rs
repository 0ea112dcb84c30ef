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
    pub(super) fn begin() -> io::Result<Self> {
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
