//! Which cores server and load run on: one each where there are two, so that neither waits for the
//! other's, and the scheduler has nothing to decide, which makes more of a difference than servers do.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

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
        let allowed = sched_getaffinity(None).ok()?;
        let mut all = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let load = all.next()?;
        let server = all.next_back()?;
        Some(Cores { server, load })
    })
}

/// From now on this thread, which makes the load, has its core.
pub(crate) fn take_for_load() {
    if let Some(cores) = cores() {
        take(cores.load);
    }
}

/// From now on this thread, and those it starts, are on that core. Where the system refuses, the
/// figures vary more, and are figures all the same.
pub(crate) fn take(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}
