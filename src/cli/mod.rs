//! The command line: doc comments are the help, and every value is checked here.

#![allow(clippy::doc_markdown, reason = "no marks in the help")]

mod broadcast;
mod connect;
mod load;
mod server;
mod services;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use broadcast::BroadcastArgs;
pub(crate) use connect::ConnectArgs;
pub(crate) use load::LoadArgs;
pub(crate) use server::ServerArgs;
use services::{ChargenArgs, DaytimeArgs, PlainArgs};
pub(crate) use services::{EchoArgs, ReplyArgs};

/// How values are written.
const UNITS: &str = "\
TEXT may have \\n, \\r, \\t, \\\\ and \\xNN in it, and {peer}, {local}, {id}, {hostname}, {date}, {time}, {iso} and {env:NAME}; {{ and }} stand for braces. SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s.

RUST_LOG, such as RUST_LOG=resound=debug, overrides -v and -q. SIGUSR1 makes a server log statistics.

Exit code: 0 after a stop by signal, operator, --once or --stdin=exit; 1 if it can't start or go on; 2 after bad usage.";

/// The same for the client.
const CLIENT: &str = "\
TEXT may have \\n, \\r, \\t, \\\\ and \\xNN in it, and {peer}, {local}, {hostname}, {date}, {time}, {iso} and {env:NAME}; {{ and }} stand for braces. DURATION is a time such as 10s, 250ms or 1m30s.

Exit code: 0 when the server has ended, or a wait after something came; 1 if it can't connect, the connection is lost or nothing came; 2 after bad usage.";

/// The same for the load tester.
const LOAD: &str = "\
SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s.

The server is one whose answers are what it was sent: 'resound echo' for echo, stream and churn, 'resound broadcast' for fanout, 'resound discard' for sink, 'resound chargen' for source. One that answers datagrams has to have --udp-rate unlimited.

Exit code: 0 when all went well, also after Ctrl-C; 1 if it can't connect, something was lost, nothing was measured, or --max-p99 or --min-rate isn't met; 2 after bad usage.";

/// A plain echo or broadcast service over TCP, UDP and Unix sockets, and others as plain: one
/// thread, bounded memory, no message torn or doubled.
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

    /// Log more: the options in force, each client that comes and goes; twice: each pass of the
    /// loop, too
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    #[arg(display_order = 100)]
    verbose: u8,

    /// Log only warnings and errors
    #[arg(short, long, global = true, display_order = 101)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send every byte back to who sent it (RFC 862)
    #[command(after_help = UNITS)]
    Echo(EchoArgs),
    /// Read everything and answer nothing (RFC 863); with --console the operator answers
    #[command(after_help = UNITS)]
    Discard(PlainArgs),
    /// Say TEXT to everybody, in answer to each message or at once
    #[command(after_help = UNITS)]
    Reply(ReplyArgs),
    /// Say the date and the time, as text (RFC 867)
    #[command(after_help = UNITS)]
    Daytime(DaytimeArgs),
    /// Say the seconds since 1900, as 32 bits (RFC 868), which begin again in 2036
    #[command(after_help = UNITS)]
    Time(PlainArgs),
    /// Send characters without end, at the reader's pace (RFC 864)
    #[command(after_help = UNITS)]
    Chargen(ChargenArgs),
    /// Send each message of a client, as a rule a line, to all the other clients
    #[command(after_help = UNITS)]
    Broadcast(Box<BroadcastArgs>),
    /// Talk to a server: standard input goes there, what comes is printed
    ///
    /// Lines go both ways at once. After the end of input (Ctrl-D) the server is told so, and what
    /// it still says is printed; quit or exit, typed on a terminal, leaves at once. Over UDP and
    /// Unix datagrams each line is one, and a second of silence after the last is the end.
    #[command(after_help = CLIENT)]
    Connect(ConnectArgs),
    /// Load a server and measure it: throughput, latencies, errors
    ///
    /// One thread, as many clients as are wanted. Without --rate a message goes out when another
    /// has come back; with it messages go out at their times, and latency counts from these, so
    /// that a stall of the server shows in all that had to wait for it. Ctrl-C ends it early, with
    /// the results so far.
    #[command(after_help = LOAD)]
    Load(Box<LoadArgs>),
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

impl Command {
    /// What the types of the arguments don't say.
    fn check(&self) -> Result<(), clap::Error> {
        let checked = match self {
            Self::Echo(args) => args.check(),
            Self::Discard(args) | Self::Time(args) => args.check(),
            Self::Reply(args) => args.check(),
            Self::Daytime(args) => args.check(),
            Self::Chargen(args) => args.check(),
            Self::Broadcast(args) => args.check(),
            Self::Connect(args) => args.check(),
            Self::Load(args) => args.check(),
        };
        checked.map_err(|text| Cli::command().error(ErrorKind::ValueValidation, text))
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
        cli.command.check()?;
        Ok(cli)
    });
    checked.map_err(|e| {
        // A closed standard stream is no reason to fail in another way.
        let _ = match e.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => e.print(),
            _ => writeln!(io::stderr(), "resound: {}", one_line(&e)),
        };
        ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
    })
}

/// What is wrong, in one line: without the usage and the tips that come with it.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage: ", "\n\nFor more information", "\n\n  tip: "];
    let end = end.iter().filter_map(|mark| text.find(mark)).min();
    let text = text[..end.unwrap_or(text.len())].trim_end();
    match error.kind() {
        // Here line ends are those of the user.
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => text.replace('\n', "\\n"),
        _ => {
            let words: Vec<&str> = text.split_whitespace().collect();
            format!("{}; --help lists what there is", words.join(" "))
        }
    }
}

/// A value with some of its fields changed, for the tests.
#[cfg(test)]
fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_refused(args: &[&str], cause: &str) {
        let cli = Cli::try_parse_from(["resound"].iter().chain(args)).unwrap();
        let error = cli.command.check().unwrap_err().to_string();
        assert!(error.contains(cause), "{args:?}: {error}");
    }

    /// What an argument makes wrong is said, though each value by itself is right.
    #[test]
    fn settings_that_do_not_go_together_are_refused_with_a_reason() {
        for (args, cause) in [
            (
                &["echo", "-l7?role=publish"][..],
                "only broadcast has roles",
            ),
            (
                &["discard", "-l7?role=subscribe"],
                "only broadcast has roles",
            ),
            (
                &["broadcast", "-ludp://7"],
                "broadcast has no datagrams: --listen 'udp://127.0.0.1:7'",
            ),
            (&["chargen", "-l7", "-ludp://7"], "takes --udp-amplify"),
            (&["chargen", "-lunixgram:/s"], "takes --udp-amplify"),
            (
                &["echo", "-l*:7", "--ipv6-only"],
                "leaves nothing of both families: --listen '*:7'",
            ),
        ] {
            assert_refused(args, cause);
        }
    }

    #[test]
    fn what_fits_no_listener_and_what_no_encoding_has_is_refused() {
        for (args, cause) in [
            (
                &["echo", "-ludp://7", "--keepalive=1s"][..],
                "--keepalive is for TCP listeners",
            ),
            (
                &["echo", "-lunix:/s", "--dscp=ef"],
                "--dscp is for TCP and UDP listeners",
            ),
            (
                &["echo", "--unix-mode=0600"],
                "--unix-mode is for Unix sockets with a path",
            ),
            (&["echo", "-lunix:@x", "--unix-mode=0600"], "with a path"),
            (
                &["echo", "-ludp://7", "--greeting=hi"],
                "--greeting is for listeners for connections",
            ),
            (&["echo", "-ludp://7", "--backlog=7"], "--backlog is for"),
            (
                &["reply", "好👍", "--encoding=gbk"],
                "TEXT: GBK has no '👍'",
            ),
            (
                &["echo", "--prefix=é好", "--encoding=latin1"],
                "--prefix: windows-1252 has no '好'",
            ),
            (
                &["time", "--greeting=好", "--encoding=latin1"],
                "--greeting: windows-1252 has no '好'",
            ),
        ] {
            assert_refused(args, cause);
        }
    }

    #[test]
    fn what_each_service_takes_goes_together() {
        for args in [
            &["chargen", "-ludp://7", "--udp-amplify"][..],
            &["echo", "-l*:7", "-ludp://*:7", "-lunix:@x", "-lunixgram:/s"],
            &[
                "reply",
                "{peer}: 好",
                "--encoding=gbk",
                "--on=connect",
                "--close",
                "--once",
            ],
            &["daytime", "--format=%F %T"],
            &[
                "time",
                "--keepalive=60s,10s,3",
                "--tos=0x10",
                "--linger=0s",
                "--no-nodelay",
            ],
            &[
                "discard",
                "--show",
                "--console",
                "--recv-buffer=1MiB",
                "--send-buffer=1MiB",
            ],
            &[
                "echo",
                "-lunix:/s",
                "--unix-mode=0660",
                "--idle-timeout=10s",
                "--write-timeout=5s",
            ],
            &[
                "echo",
                "--defer-accept=5s",
                "--fast-open=16",
                "--bind-device=lo",
                "--reuse-port",
            ],
        ] {
            let cli = Cli::try_parse_from(["resound"].iter().chain(args)).unwrap();
            cli.command
                .check()
                .unwrap_or_else(|e| panic!("{args:?}: {e}"));
        }
    }

    #[test]
    fn bad_values_are_refused_with_a_reason() {
        for (args, cause) in [
            (
                &["echo", "--prefix={who}"][..],
                "{who} is not one of {peer}",
            ),
            (&["reply", "\\q"], "after '\\' expected"),
            (&["reply", "x", "--on=leave"], "expected connect or message"),
            (&["daytime", "--format=%!"], "--format"),
            (
                &["echo", "--encoding=klingon"],
                "expected an encoding such as",
            ),
            (&["echo", "--udp-rate=0"], "from 1 on, or 'unlimited'"),
            (&["echo", "--idle-timeout=0s"], "10ms or more"),
            (&["echo", "--write-timeout=soon"], "expected a duration"),
            (&["echo", "--keepalive=1s,1s,0"], "a count from 1 to 127"),
            (&["echo", "--tos=256"], "0 to 255"),
            (&["echo", "--dscp=best"], "0 to 63"),
            (&["echo", "--fast-open=0"], "not in 1..=65535"),
            (&["echo", "--defer-accept=1ms"], "whole seconds"),
            (&["echo", "--unix-mode=888"], "in octal"),
            (&["echo", "--bind-device="], "name of an interface"),
            (&["echo", "--recv-buffer=4GiB"], "2GiB or larger"),
        ] {
            let all = ["resound"].iter().chain(args);
            let error = Cli::try_parse_from(all).unwrap_err().to_string();
            assert!(error.contains(cause), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
