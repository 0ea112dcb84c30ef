//! Work that is counted: a test asserts steps of loops where a time would depend on the machine.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts a step of a loop whose length is bounded.
pub(crate) fn step() {
    STEPS.set(STEPS.get() + 1);
}

/// Number of steps that `act` takes.
pub(crate) fn steps(act: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    act();
    STEPS.get() - before
}
