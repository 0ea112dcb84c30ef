//! `resound load`: loads a server, shows the results and judges them.

use std::io::{self, ErrorKind, Write};

use super::no_loop::NoLoop;
use super::raise_descriptor_limit;
use crate::cli::LoadArgs;
use crate::report::{self, HdrLog, Limits, Progress, json, table};
use resound::load::{Load, LoadOutcome};
use serde_json::Value;

/// Loads a server and prints the results. A failure has a line for each reason.
pub(crate) fn run(args: &LoadArgs, quiet: bool) -> Result<(), String> {
    raise_descriptor_limit();
    let load = args.load();
    let mut intervals = Vec::new();
    let (outcome, mut reasons) = match measure(args, &load, quiet, &mut intervals) {
        Ok((outcome, reasons)) => (Some(outcome), reasons),
        Err(error) => (None, vec![error]),
    };
    let _ending = NoLoop::begin(); // the output may not be read
    let text = match &outcome {
        // Also without an outcome: a program reads the object.
        outcome if args.json => json::text(&load, outcome.as_ref(), &intervals, &reasons),
        Some(outcome) => table::text(&load, outcome),
        None => String::new(),
    };
    reasons.extend(print(&text).err());
    if reasons.is_empty() {
        return Ok(());
    }
    Err(reasons.join("\n"))
}

/// Loads a server; returns the outcome, and the reasons for which it is a failure.
fn measure(
    args: &LoadArgs,
    load: &Load,
    quiet: bool,
    intervals: &mut Vec<Value>,
) -> Result<(LoadOutcome, Vec<String>), String> {
    let starting = NoLoop::begin().map_err(|e| format!("cannot catch signals: {e}"))?;
    let comment = format!("{} {}", load.mode.name(), load.to);
    let log = args.hdr.as_deref();
    let mut log = log.map(|path| HdrLog::create(path, comment)).transpose()?;
    let progress = Progress::new(load, args.has_lines(), quiet);
    drop(starting);
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
    let limits = Limits {
        max_p99: args.max_p99,
        min_rate: args.min_rate,
    };
    let mut reasons = report::reasons(&outcome, &limits);
    reasons.extend(log.and_then(|log| log.finish().err()));
    Ok((outcome, reasons))
}

/// Writes to standard output. A reader that closes it is no failure.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {}", e.kind()))
        }
        _ => Ok(()),
    }
}
