//! The binary: parses the command line, starts the logger and runs one command.

mod cli;
mod commands;
mod logger;
mod report;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use resound::{Discard, Time, escape};

use cli::Command;
use commands::{connect, load, serve};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    logger::start(cli.log_filter());
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
    logger::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Writes each line of an error to standard error, which may be closed.
fn fail(error: &str) -> ExitCode {
    for reason in error.lines() {
        let _ = writeln!(io::stderr(), "resound: {}", escape(reason.as_bytes()));
    }
    ExitCode::FAILURE
}
