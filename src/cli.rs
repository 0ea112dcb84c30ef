//! The command line: doc comments are the help, and every value is checked here.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use resound::{Config, ListenAddress};

/// How values are written.
const UNITS: &str = "\
SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s.
RUST_LOG, such as RUST_LOG=resound=debug, overrides -v and -q.
Exit code: 0 after a stop by signal, 1 if it can't start or go on, 2 after bad usage.";

/// A plain echo or broadcast service over TCP and Unix sockets: one thread, bounded memory,
/// no byte lost.
///
/// Logs go to standard error. Stop it with Ctrl-C or SIGTERM: it delivers what is pending and
/// exits with 0; a second signal, once the log has said so, ends it at once.
#[derive(Debug, Parser)]
#[command(
    name = "resound",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = UNITS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log each client that comes and goes; twice: each pass of the loop, too
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    #[arg(display_order = 100)]
    verbose: u8,

    /// Log only warnings and errors
    #[arg(short, long, global = true, display_order = 101)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send every byte back to who sent it (RFC 862)
    #[command(after_help = UNITS)]
    Echo(EchoArgs),
    /// Send each line of a client to all the other clients
    #[command(after_help = UNITS)]
    Broadcast(BroadcastArgs),
}

#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct BroadcastArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The longest line that is accepted, without its newline, up to 1GiB; who sends a longer one
    /// is closed
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = max_message)]
    max_message: u64,

    /// How long a client that doesn't read may hold up the others before it is closed as a slow
    /// consumer: a duration, 0 or 'unlimited'
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = patience)]
    patience: Limit<Time>,
}

/// What every service takes.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Where to listen: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1) or unix:PATH. A name stands
    /// for all its addresses; port 0 lets the system choose. May be given more than once
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:9999")]
    listen: Vec<ListenAddress>,

    /// Connections that may wait to be accepted (the system may cap it)
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,

    /// Clients served at a time, or 'unlimited'; others wait [default: what the limit of
    /// descriptors leaves]
    #[arg(long, value_name = "N")]
    max_clients: Option<Limit<Count>>,

    /// A client with more than this unsent is not read until it takes some
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = size)]
    high_water: u64,

    /// How long to go on delivering what is pending when stopped
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    grace: Time,
}

impl Cli {
    /// What is logged, in the terms of `RUST_LOG`.
    pub(crate) fn log_filter(&self) -> &'static str {
        match (self.quiet, self.verbose) {
            (true, _) => "warn",
            (false, 0) => "info",
            (false, 1) => "info,resound=debug",
            (false, _) => "debug,resound=trace",
        }
    }
}

impl ServerArgs {
    /// The settings; without `--max-clients` there may be `max_clients`.
    pub(crate) fn config(&self, max_clients: usize) -> Config {
        Config {
            listen: self.listen.clone(),
            backlog: self.backlog,
            max_clients: match self.max_clients {
                None => Some(max_clients),
                Some(Limit::Of(Count(n))) => Some(n),
                Some(Limit::Unlimited) => None,
            },
            high_water: self.high_water,
            grace: self.grace.0,
            ..Config::default()
        }
    }
}

impl BroadcastArgs {
    pub(crate) fn max_message(&self) -> usize {
        usize::try_from(self.max_message).unwrap_or(usize::MAX)
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.patience {
            Limit::Unlimited => None,
            Limit::Of(Time(patience)) => Some(patience),
        }
    }
}

/// The arguments, or the exit code: 0 after help, 2 after bad usage.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let checked = Cli::try_parse().and_then(|cli| {
        // Global options, one before and one after the subcommand, escape `conflicts_with`.
        if cli.quiet && cli.verbose > 0 {
            let text = "the argument '--quiet' cannot be used with '--verbose'";
            return Err(Cli::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(cli)
    });
    checked.map_err(|e| {
        // A closed standard stream is no reason to fail in another way.
        let _ = match e.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let text = e.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                writeln!(io::stderr(), "resound: {line}")
            }
            _ => e.print(),
        };
        ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
    })
}

/// A limit that may be absent, for which there is a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    Unlimited,
    Of(T),
}

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            other => other.parse().map(Self::Of),
        }
    }
}

/// A duration such as `10s`, `250ms` or `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Beyond this a deadline means nothing, and clocks overflow.
        const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
        match humantime::parse_duration(text) {
            Ok(time) if time <= LONGEST => Ok(Self(time)),
            Ok(_) => Err("longer than a hundred years".to_owned()),
            Err(_) => Err("expected a duration such as 10s, 250ms or 1m30s".to_owned()),
        }
    }
}

/// A number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(usize);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(n) if n > 0 => Ok(Self(n)),
            _ => Err("expected a number from 1 on, or 'unlimited'".to_owned()),
        }
    }
}

fn patience(text: &str) -> Result<Limit<Time>, String> {
    let hint = |error: String| format!("{error}, 0 or 'unlimited'");
    text.parse().map_err(hint)
}

fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("expected a size such as 65536, 64KiB or 1MiB".to_owned()),
    }
}

fn max_message(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("a message has at least a byte".to_owned()),
        n if n > ByteSize::gib(1).as_u64() => Err("larger than 1GiB".to_owned()),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broadcast(args: &[&str]) -> Result<(BroadcastArgs, &'static str), String> {
        let all = ["resound", "broadcast"].iter().chain(args);
        let cli = Cli::try_parse_from(all).map_err(|e| e.to_string())?;
        let filter = cli.log_filter();
        match cli.command {
            Command::Broadcast(args) => Ok((args, filter)),
            Command::Echo(_) => unreachable!(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let (args, filter) = broadcast(&[]).unwrap();
        let config = args.server.config(7);
        let max_clients = Some(7);
        assert_eq!(
            config,
            Config {
                max_clients,
                ..Config::default()
            }
        );
        assert_eq!(args.patience(), Config::default().patience);
        assert_eq!((args.max_message(), filter), (65536, "info"));
    }

    #[test]
    fn every_option_arrives() {
        let text = "-l 7000 --listen unix:/s --backlog 5 --max-clients 9 --high-water 1MiB \
                    --grace 250ms --max-message 1KiB --patience 1m30s -vv";
        let (args, filter) = broadcast(&text.split_whitespace().collect::<Vec<_>>()).unwrap();
        let expected = Config {
            listen: vec![
                "127.0.0.1:7000".parse().unwrap(),
                "unix:/s".parse().unwrap(),
            ],
            backlog: 5,
            max_clients: Some(9),
            high_water: 1 << 20,
            grace: Duration::from_millis(250),
            ..Config::default()
        };
        assert_eq!(args.server.config(7), expected);
        assert_eq!(args.patience(), Some(Duration::from_secs(90)));
        assert_eq!((args.max_message(), filter), (1024, "debug,resound=trace"));
    }

    #[test]
    fn unlimited_is_a_word() {
        let (args, _) = broadcast(&["--patience=unlimited", "--max-clients=unlimited"]).unwrap();
        assert_eq!(args.patience(), None);
        assert_eq!(args.server.config(7).max_clients, None);
        let (args, _) = broadcast(&["--patience=0"]).unwrap();
        assert_eq!(args.patience(), Some(Duration::ZERO));
    }

    #[test]
    fn bad_values_are_refused_with_a_reason() {
        for (arg, cause) in [
            ("--listen=70000", "out of range"),
            ("--backlog=0", "0 is not in 1.."),
            ("--max-clients=0", "from 1 on"),
            ("--high-water=much", "expected a size"),
            ("--high-water=-1", "expected a size"),
            ("--grace=5", "expected a duration"),
            ("--grace=101years", "hundred years"),
            ("--max-message=0", "at least a byte"),
            ("--max-message=2GiB", "larger than 1GiB"),
            ("--patience=forever", "expected a duration"),
        ] {
            let error = broadcast(&[arg]).unwrap_err();
            assert!(error.contains(cause), "{arg}: {error}");
        }
    }
}
