//! The binary: parses the command line, starts the logger and runs one command.

mod cli;
mod commands;
mod report;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use log::LevelFilter;
use resound::{Discard, Time};

use cli::{Cli, Command};
use commands::{connect, load, serve};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    start_logger(&cli);
    let result = match &cli.command {
        Command::Echo(args) => serve::echo(args),
        Command::Discard(args) => serve::small("discard", &args.server, Discard::new()),
        Command::Reply(args) => serve::reply(args),
        Command::Daytime(args) => serve::small("daytime", &args.server, args.service()),
        Command::Time(args) => serve::small("time", &args.server, Time::new()),
        Command::Chargen(args) => serve::small("chargen", &args.server, args.service()),
        Command::Broadcast(args) => serve::broadcast(args),
        Command::Connect(args) => connect::run(args),
        Command::Load(args) => load::run(args, cli.quiet),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Starts the logger. `RUST_LOG` overrides the options, unless nothing in it is valid: a mistake
/// must not silence errors.
fn start_logger(cli: &Cli) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let logger = |filter: &str| {
        env_logger::Builder::new()
            .parse_filters(filter)
            .parse_write_style(&variable("RUST_LOG_STYLE"))
            .format_target(false)
            .build()
    };
    let filter = variable("RUST_LOG");
    let mut chosen = logger(&filter);
    // A filter without a valid part leaves only errors.
    let asks_for_errors = filter.to_ascii_lowercase().contains("error");
    if chosen.filter() == LevelFilter::Error && !asks_for_errors {
        chosen = logger(cli.log_filter());
    }
    let level = chosen.filter();
    if log::set_boxed_logger(Box::new(chosen)).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes each line of an error to standard error, which may be closed.
fn fail(error: &str) -> ExitCode {
    for reason in error.lines() {
        let _ = writeln!(io::stderr(), "resound: {reason}");
    }
    ExitCode::FAILURE
}
