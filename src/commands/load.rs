//! `resound load`: loads a server, shows the results and judges them.

use std::io::{self, ErrorKind, Write};

use super::raise_descriptor_limit;
use crate::cli::LoadArgs;
use crate::report::{self, HdrLog, Limits, Progress, json, table};

/// Loads a server and prints the results. A failure has a line for each reason.
pub(crate) fn run(args: &LoadArgs, quiet: bool) -> Result<(), String> {
    raise_descriptor_limit();
    let load = args.load();
    let comment = format!("{} {}", load.mode.name(), load.to);
    let log = args.hdr.as_deref();
    let mut log = log.map(|path| HdrLog::create(path, comment)).transpose()?;
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
    let limits = Limits {
        max_p99: args.max_p99,
        min_rate: args.min_rate,
    };
    let mut reasons = report::reasons(&outcome, &limits);
    reasons.extend(log.and_then(|log| log.finish().err()));
    let text = if args.json {
        json::text(&load, &outcome, &intervals, &reasons)
    } else {
        table::text(&load, &outcome)
    };
    reasons.extend(print(&text).err());
    if reasons.is_empty() {
        return Ok(());
    }
    Err(reasons.join("\n"))
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
