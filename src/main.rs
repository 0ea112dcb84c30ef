//! The binary: parses the command line, starts the logger and runs one command.

mod cli;
mod commands;
mod logger;
mod report;
mod units;

use std::process::ExitCode;

use resound::{Discard, Time, escape};

use cli::{Cli, Command};
use commands::{connect, load, serve};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(()) => {
            logger::finish("");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    if cli.command.serves() {
        // Before the first line of the log, which starts a thread.
        serve::stay_in_background()?;
    }
    logger::start(cli.log_filter());
    match &cli.command {
        Command::Echo(args) => serve::echo(args),
        Command::Discard(args) => serve::small("discard", &args.server, Discard::new()),
        Command::Reply(args) => serve::reply(args),
        Command::Daytime(args) => serve::small("daytime", &args.server, args.service()),
        Command::Time(args) => serve::small("time", &args.server, Time::new()),
        Command::Chargen(args) => serve::small("chargen", &args.server, args.service()),
        Command::Broadcast(args) => serve::broadcast(args),
        Command::Connect(args) => connect::run(args),
        Command::Load(args) => load::run(args, cli.quiet),
    }
}

/// Writes each line of an error to standard error, which may be closed or not be read.
fn fail(error: &str) -> ExitCode {
    let line = |reason: &str| format!("resound: {}\n", escape(reason.as_bytes()));
    logger::finish(&error.lines().map(line).collect::<String>());
    ExitCode::FAILURE
}
