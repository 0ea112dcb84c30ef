//! Seeds of simulated runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most failed seeds that are named.
const NAMED: usize = 30;

/// Runs the seeds below `count`, and `found`: those by which a fault was found once. `SEED` in the
/// environment selects one of them, `SEEDS` another count.
///
/// # Panics
/// If a run has panicked; the message names the number of such runs and the first [`NAMED`] of them.
pub(crate) fn for_each_seed(count: u64, found: &[u64], run: impl Fn(u64)) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = variable("SEED") {
        return run(seed);
    }
    let count = variable("SEEDS").unwrap_or(count);
    let fails = |&seed: &u64| catch_unwind(AssertUnwindSafe(|| run(seed))).is_err();
    let further = found.iter().copied().filter(|seed| *seed >= count);
    let failed: Vec<u64> = (0..count).chain(further).filter(fails).collect();
    if let Some(first) = failed.first() {
        let failures = failed.len();
        let named = &failed[..failures.min(NAMED)];
        panic!(
            "{failures} of {count} seeds failed: {named:?}; SEED={first} runs the first of them again"
        );
    }
}
