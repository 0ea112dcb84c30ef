//! Signals, whatever the process has inherited of them: a mask that blocks them, a disposition that
//! ignores them, or the place of a container's first process, which no default action ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::flag::{register_conditional_default, register_conditional_shutdown};
use signal_hook_mio::v1_0::Signals;

use super::kernel::Event;

/// Signals that are turned into requests to a loop.
pub(super) struct CaughtSignals {
    signals: Signals,
    /// True during a call that may wait for long, in which the loop sees no request.
    in_call: Arc<AtomicBool>,
}

impl CaughtSignals {
    /// Catches SIGTERM, SIGINT and SIGUSR1, and SIGHUP unless the process has inherited it ignored
    /// (nohup(1)); their arrival is readiness under `token`.
    ///
    /// They are unblocked in this thread after that, so that one that has waited is a request, too.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let stops = stop_signals();
        let caught: Vec<Signal> = [&stops[..], &[Signal::SIGUSR1]].concat();
        let in_call = Arc::new(AtomicBool::new(false));
        let mut signals = Signals::new(caught.iter().map(|&signal| signal as i32))?;
        registry.register(&mut signals, token, Interest::READABLE)?;
        for number in stops.into_iter().map(|signal| signal as i32) {
            register_conditional_shutdown(number, 128 + number, Arc::clone(&in_call))?;
        }
        SigSet::from_iter(caught).thread_unblock()?;
        Ok(Self { signals, in_call })
    }

    /// The requests of signals since the last call.
    pub(super) fn requests(&mut self) -> impl Iterator<Item = Event> {
        let report = Signal::SIGUSR1 as i32;
        self.signals.pending().map(move |signal| match signal {
            signal if signal == report => Event::Report,
            _ => Event::Stop,
        })
    }

    /// Makes a call that may wait for long: meanwhile a signal that asks for a stop ends the process.
    pub(super) fn while_blocking<R>(&self, call: impl FnOnce() -> R) -> R {
        self.in_call.store(true, Ordering::SeqCst);
        let result = call();
        self.in_call.store(false, Ordering::SeqCst);
        result
    }
}

/// Makes signals that ask for a stop end the process at once for as long as `condition` is true. By
/// default they do so, except those that the process has inherited as blocked or ignored, and in a
/// container's first process.
pub(super) fn end_process_while(condition: &Arc<AtomicBool>) -> io::Result<()> {
    let stops = stop_signals();
    for number in stops.iter().map(|&signal| signal as i32) {
        let condition = Arc::clone(condition);
        if std::process::id() == 1 {
            // No default action ends it.
            register_conditional_shutdown(number, 128 + number, condition)?;
        } else {
            register_conditional_default(number, condition)?;
        }
    }
    Ok(SigSet::from_iter(stops).thread_unblock()?)
}

/// SIGTERM, SIGINT, and SIGHUP unless the process has inherited it ignored (nohup(1)).
fn stop_signals() -> Vec<Signal> {
    let mut stops = vec![Signal::SIGTERM, Signal::SIGINT];
    if !is_ignored(Signal::SIGHUP) {
        stops.push(Signal::SIGHUP);
    }
    stops
}

/// Keeps job control from stopping this thread, and those that it starts, when it uses a terminal
/// from the background: reading fails with `EIO`, and writing works (termios(3)).
pub(crate) fn block_terminal_stops() -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]);
    Ok(signals.thread_block()?)
}

/// True if the process ignores a signal (`SigIgn` in proc(5)), and where the system doesn't tell: its
/// disposition then stays as it is.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal).unwrap_or(true)
}

/// The same, from the text of /proc/self/status.
fn ignores(status: &str, signal: Signal) -> Option<bool> {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> (signal as i32 - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\tffff\n";
        assert_eq!(ignores(status, Signal::SIGHUP), Some(true));
        assert_eq!(ignores(status, Signal::SIGPIPE), Some(true));
        assert_eq!(ignores(status, Signal::SIGINT), Some(false));
        assert_eq!(ignores("Name:\tresound\n", Signal::SIGHUP), None);
    }
}
