//! The results of criterion, read from its directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

/// One function of one group.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) group: String,
    pub(crate) function: String,
    /// Messages or bytes of an iteration.
    pub(crate) moved: Moved,
    /// The median iteration in nanoseconds.
    pub(crate) median: f64,
    /// Half of its confidence interval, as a share of it.
    pub(crate) spread: f64,
    pub(crate) at: SystemTime,
    /// In which of several rounds.
    pub(crate) round: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Messages(u64),
    Bytes(u64),
}

/// The directory of criterion's results: that of its variable, or in cargo's target directory,
/// which is where the bench itself lies.
pub(crate) fn directory() -> PathBuf {
    if let Some(home) = env::var_os("CRITERION_HOME") {
        return home.into();
    }
    let executable = env::current_exe().expect("the system knows what it runs");
    // target/release/deps/bench
    let target = executable.ancestors().nth(3);
    target.expect("cargo has built it").join("criterion")
}

/// The newest results that there are; none if nothing has been measured.
pub(crate) fn read(directory: &Path) -> Vec<Measured> {
    named(directory, "new", 0)
}

/// Those of the rounds of `make figures`, which are criterion's baselines.
pub(crate) fn read_rounds(directory: &Path) -> Vec<Measured> {
    let rounds = (1..=3).map(|round| named(directory, &format!("round{round}"), round));
    rounds.flatten().collect()
}

fn named(directory: &Path, baseline: &str, round: u32) -> Vec<Measured> {
    let groups = children(directory);
    let functions = groups.iter().flat_map(|group| children(group));
    functions
        .filter_map(|function| measured(&function.join(baseline), round))
        .collect()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn measured(directory: &Path, round: u32) -> Option<Measured> {
    let estimates = directory.join("estimates.json");
    let at = estimates.metadata().and_then(|file| file.modified()).ok()?;
    let (what, how_long) = (json(&directory.join("benchmark.json"))?, json(&estimates)?);
    // What has a value besides a name is of an earlier version of these benches.
    what["value_str"].is_null().then_some(())?;
    let throughput = &what["throughput"];
    let messages = throughput["Elements"].as_u64().map(Moved::Messages);
    let bytes = throughput["Bytes"].as_u64().map(Moved::Bytes);
    let median = how_long["median"]["point_estimate"].as_f64()?;
    let bound = |name| how_long["median"]["confidence_interval"][name].as_f64();
    Some(Measured {
        group: what["group_id"].as_str()?.to_string(),
        function: what["function_id"].as_str()?.to_string(),
        moved: messages.or(bytes)?,
        median,
        spread: (bound("upper_bound")? - bound("lower_bound")?) / (2.0 * median),
        at,
        round,
    })
}

pub(super) fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}
