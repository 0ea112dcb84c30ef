//! The README's chapter of figures, which is generated.

use std::env::consts::ARCH;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::memory::Counted;
use super::results::Measured;
use super::table;

/// Between these marks the README is written by `make figures`.
pub(crate) const BEGIN: &str = "<!-- figures: made by make figures -->";
pub(crate) const END: &str = "<!-- /figures -->";

/// The age, from the newest, beyond which results are of another run, and not shown with it.
const RUN: Duration = Duration::from_secs(3600);

/// The benches of which every run has results.
const BENCHES: [&str; 4] = ["echo/", "broadcast/", "udp/", "bulk/"];

/// The machine and compiler of a run.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) system: String,
    pub(crate) compiler: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let system = rustix::system::uname();
        let name = system.sysname().to_string_lossy();
        let release = system.release().to_string_lossy();
        Self {
            processor: processor().unwrap_or_else(|| ARCH.to_string()),
            cores: available_parallelism().map_or(1, usize::from),
            system: format!("{name} {release}"),
            compiler: compiler().unwrap_or_else(|| "an unknown rustc".to_string()),
        }
    }
}

fn processor() -> Option<String> {
    let all = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = all.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn compiler() -> Option<String> {
    let version = Command::new("rustc").arg("--version").output().ok()?;
    let version = String::from_utf8(version.stdout).ok()?;
    Some(version.split(" (").next()?.trim().to_string())
}

/// The results of the newest run: of its rounds, if it had some.
pub(crate) fn newest_run(rounds: Vec<Measured>, single: Vec<Measured>) -> Vec<Measured> {
    let newest = |measured: &[Measured]| measured.iter().map(|one| one.at).max();
    // A round is a copy that is made a little later.
    let mut measured = if newest(&rounds) >= newest(&single) {
        rounds
    } else {
        single
    };
    let newest = newest(&measured);
    measured.retain(|one| newest.is_some_and(|newest| one.at + RUN > newest));
    measured
}

/// The text between the marks, or an error that names the missing results.
pub(crate) fn render(
    machine: &Machine,
    measured: &[Measured],
    memory: Option<&Counted>,
) -> Result<String, String> {
    for bench in BENCHES {
        let is_ours = |one: &Measured| one.function == "resound" && one.group.starts_with(bench);
        if !measured.iter().any(is_ours) {
            let name = bench.trim_end_matches('/');
            return Err(format!("there are no results of {name} from one run"));
        }
    }
    let memory = memory.ok_or("there are no results of memory")?;
    let Machine {
        processor,
        cores,
        system,
        compiler,
    } = machine;
    let date = date(measured);
    let rounds = match measured.iter().map(|one| one.round).max() {
        Some(rounds @ 2..) => {
            format!(", {rounds} rounds: the middle one, and half of the range between the others")
        }
        _ => String::new(),
    };
    let core = if *cores == 1 { "core" } else { "cores" };
    let (speed, clients) = (table::speed(measured, "resound"), memory.clients);
    let memory = memory.table();
    Ok(format!(
        "{processor}, {cores} {core}, {system}, {compiler}; measured on {date} (UTC) by `make figures`{rounds}.\n\
         \n{speed}\n{memory}\n\
         Counted with {clients} clients that have been served once.\n"
    ))
}

/// The day of the last measurement.
fn date(measured: &[Measured]) -> String {
    let last = measured.iter().map(|one| one.at).max();
    let last = Timestamp::try_from(last.unwrap_or(SystemTime::UNIX_EPOCH));
    let last = last.expect("files have been written in this age");
    last.strftime("%Y-%m-%d").to_string()
}

/// A README with another chapter between its marks; none if it has no marks.
pub(crate) fn replace(readme: &str, chapter: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{chapter}{END}{after}"))
}
