//! What a load has come to, for people and for machines.

mod bars;
mod hdr;
mod json;
mod progress;
#[cfg(test)]
mod sample;
mod table;
mod units;
mod verdict;

use std::io::{self, ErrorKind, Write};

use resound::load::{Load, LoadOutcome};
use serde_json::Value;

use crate::cli::{LoadArgs, mode_name};
use hdr::HdrLog;
use progress::Progress;
use verdict::Demands;

/// Loads a server, shows what that comes to, and judges it: a failure has a line for each reason.
pub(crate) fn load(args: &LoadArgs, quiet: bool) -> Result<(), String> {
    let load = args.load();
    let comment = format!("{} {}", mode_name(load.mode), load.to);
    let log = args
        .hdr
        .as_deref()
        .map(|path| HdrLog::create(path, comment));
    let mut log = log.transpose()?;
    let progress = Progress::new(&load, args.has_lines(), quiet);
    let mut intervals = Vec::new();
    let outcome = load.run(|interval| {
        progress.show(interval);
        if let Some(log) = &mut log {
            log.write(interval);
        }
        if args.json {
            intervals.push(json::interval(interval));
        }
    });
    progress.end();
    let outcome = outcome.map_err(|e| e.to_string())?;
    let demands = Demands {
        max_p99: args.max_p99(),
        min_rate: args.min_rate,
    };
    let mut reasons = verdict::reasons(&outcome, &demands);
    reasons.extend(log.and_then(|log| log.finish().err()));
    let printed = print(&text(args, &load, &outcome, &intervals, &reasons));
    reasons.extend(printed.err());
    if reasons.is_empty() {
        return Ok(());
    }
    Err(reasons.join("\n"))
}

fn text(
    args: &LoadArgs,
    load: &Load,
    outcome: &LoadOutcome,
    intervals: &[Value],
    reasons: &[String],
) -> String {
    if args.json {
        json::text(load, outcome, intervals, reasons)
    } else {
        table::text(load, outcome)
    }
}

/// To standard output; a reader that goes is no failure.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {}", e.kind()))
        }
        _ => Ok(()),
    }
}
