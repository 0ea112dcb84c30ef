//! A timer that makes a poller tell readiness again: for the input of a terminal, whose return to
//! this process no event announces.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Nanoseconds after which readiness is told again.
const PAUSE: i64 = 300_000_000;

/// A timer of the kernel (`timerfd_create(2)`).
#[derive(Debug)]
pub(super) struct RetryTimer(OwnedFd);

impl RetryTimer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Makes the timer readable, once, after the pause.
    pub(super) fn start(&self) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: PAUSE,
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsRawFd for RetryTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
