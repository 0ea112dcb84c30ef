//! The commands that `main` runs: a server, the client, the load tester.

pub(crate) mod connect;
pub(crate) mod load;
mod no_loop;
pub(crate) mod serve;
mod small;
mod unanswered;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open descriptors as far as the system allows (setrlimit(2)), and returns it.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    in_force.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}
