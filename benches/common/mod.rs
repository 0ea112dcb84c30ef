//! Shared by the benches: real servers in processes of their own, and real clients.
//!
//! The time is that of server, kernel and load together. Where there are two cores, the server has
//! one and the load the other; on one, such as under `taskset -c 1`, they take turns. The programs
//! of a group are measured one right after the other: in minutes a machine drifts by a third.

pub(crate) mod client;
pub(crate) mod cores;
pub(crate) mod remote;
pub(crate) mod room;
pub(crate) mod server;

use std::env;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, PlottingBackend};

use crate::peers::{Kind, Program};
use crate::report::results;
use crate::report::table;
use remote::{Remote, remote};
use server::Running;

/// The benches of one kind of server.
pub(crate) struct Bench {
    pub(crate) kind: Kind,
    pub(crate) targets: &'static [fn(&mut Criterion)],
}

/// Measures, then prints the ratios of the throughputs.
pub(crate) fn measure(benches: &[Bench]) {
    cores::cores();
    server::raise_descriptor_limit();
    cores::take_for_load();
    let began = SystemTime::now();
    let mut criterion = settings().configure_from_args();
    for bench in benches {
        if remote().is_none_or(|remote| remote.is(bench.kind)) {
            for target in bench.targets {
                target(&mut criterion);
            }
        }
    }
    criterion.final_summary();
    tell(began);
}

/// The table of what has been measured since then; without a test's single runs and lists of names.
fn tell(began: SystemTime) {
    let mut measured = results::read(&results::directory());
    measured.retain(|one| one.at >= began);
    let subject = remote().map_or_else(|| Program::Resound.name().to_string(), Remote::name);
    let rows = table::speed(&measured, &subject);
    if !rows.is_empty() {
        print(&format!("\n{rows}"));
    }
}

/// Standard output is where criterion writes, too.
#[allow(clippy::print_stdout, reason = "the figures are the data")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// Long enough for a confidence interval of some percent, short enough for all benches together to
/// be over in less than ten minutes.
fn settings() -> Criterion {
    Criterion::default()
        .output_directory(&results::directory())
        .plotting_backend(PlottingBackend::Plotters)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .nresamples(20_000)
}

/// Measures each program under the same load, which is started once it is wanted: what `start`
/// returns makes it, `turn` by `turn`.
pub(crate) fn compare<L>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kind: Kind,
    start: impl Fn(SocketAddr) -> L,
    turn: impl Fn(&mut L),
) {
    for subject in subjects(kind) {
        let mut running = None;
        group.bench_function(subject.name(), |b| {
            let (load, _) = running.get_or_insert_with(|| {
                let server = subject.start(kind);
                (start(server.address()), server)
            });
            b.iter(|| turn(load));
        });
        if let Some((load, server)) = running {
            drop(load);
            server.stop();
        }
    }
}

/// The programs to measure, or the one that runs elsewhere.
///
/// The order makes a difference, so where there are several rounds another one is first each
/// time: `RESOUND_ROUND` is its number.
fn subjects(kind: Kind) -> Vec<Subject> {
    if let Some(remote) = remote() {
        return vec![Subject::Remote(remote)];
    }
    let mut programs: Vec<Subject> = Program::all(kind).map(Subject::Program).collect();
    let round = env::var("RESOUND_ROUND").ok();
    let round: usize = round.and_then(|text| text.parse().ok()).unwrap_or(0);
    let first = round % programs.len().max(1);
    programs.rotate_left(first);
    programs
}

enum Subject {
    Program(Program),
    Remote(&'static Remote),
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Program(program) => program.name().to_string(),
            Self::Remote(remote) => remote.name(),
        }
    }

    fn start(&self, kind: Kind) -> Server {
        match self {
            Self::Program(program) => Server::Ours(Running::start(*program, kind)),
            Self::Remote(remote) => Server::Theirs(remote.address),
        }
    }
}

/// The server under load.
enum Server {
    Ours(Running),
    Theirs(SocketAddr),
}

impl Server {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(running) => running.address(),
            Self::Theirs(address) => *address,
        }
    }

    fn stop(self) {
        if let Self::Ours(running) = self {
            running.stop();
        }
    }
}

/// A number with a comma for the thousands.
pub(crate) fn thousands(number: usize) -> String {
    match (number / 1000, number % 1000) {
        (0, rest) => rest.to_string(),
        (more, rest) => format!("{more},{rest:03}"),
    }
}

/// A count and its noun, such as "1,000 clients".
pub(crate) fn some(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}
