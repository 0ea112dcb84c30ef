//! Cores for server and load: one each where there are two, so that neither waits for the
//! other's, and the scheduler has nothing to decide, which makes more of a difference than servers do.

use std::sync::OnceLock;

/// A core for the server, and one for the load; none if they share what there is.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    load: usize,
}

/// The cores of this process, as they were before any was taken: of those that it may use the
/// first for the load, beside what the kernel usually does there, and the last for the server.
pub(crate) fn cores() -> Option<Cores> {
    static CORES: OnceLock<Option<Cores>> = OnceLock::new();
    *CORES.get_or_init(|| {
        let allowed = allowed();
        let (load, rest) = allowed.split_first()?;
        Some(Cores {
            server: *rest.last()?,
            load: *load,
        })
    })
}

/// From now on this thread, which makes the load, has its core.
pub(crate) fn take_for_load() {
    if let Some(cores) = cores() {
        take(cores.load);
    }
}

/// The cores that this process may use.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(|&core| allowed.is_set(core))
        .collect()
}

/// From now on this thread, and those it starts, are on that core. Where the system refuses, the
/// figures vary more, and are figures all the same.
#[cfg(target_os = "linux")]
pub(crate) fn take(core: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Other systems place their threads themselves.
#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn take(_: usize) {}
