//! Broken invariants of one client: faults of this program that need not end it for all.

use std::fmt;

use log::error;

/// Reports a fault: a panic in a debug build, where tests run, and a line in the log of a server.
#[cold]
pub(super) fn report(fault: fmt::Arguments<'_>) {
    #[cfg(test)]
    let expected = EXPECTED.get();
    #[cfg(not(test))]
    let expected = false;
    debug_assert!(expected, "{fault}");
    error!("a fault of resound: {fault}; please report it");
}

#[cfg(test)]
thread_local! {
    /// True in a test that brings a fault about.
    pub(super) static EXPECTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
