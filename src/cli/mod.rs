//! The command line: checked options, whose doc comments are the help.
//!
//! | file | holds |
//! |---|---|
//! | `server.rs` | the options of every server, and of its sockets |
//! | `services.rs`, `broadcast.rs` | the options of a service, and their settings |
//! | `connect.rs`, `load.rs` | the options of the client and of the load tester |
//! | `values.rs` | the values of options: parsers and their errors |

#![allow(clippy::doc_markdown, reason = "the help has no code marks")]

mod broadcast;
mod connect;
#[cfg(test)]
mod extremes;
mod load;
mod server;
mod services;
mod values;

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use resound::escape;

use crate::logger;
pub(crate) use broadcast::BroadcastArgs;
pub(crate) use connect::ConnectArgs;
pub(crate) use load::LoadArgs;
pub(crate) use server::ServerArgs;
use services::{ChargenArgs, CommonArgs, DaytimeArgs};
pub(crate) use services::{EchoArgs, ReplyArgs};

/// The end of a server's help.
const SERVER_HELP: &str = "\
TEXT may contain \\n, \\r, \\t, \\\\ and \\xNN, and {peer}, {local}, {id}, {hostname}, {date}, {time}, {iso} and {env:NAME}; {{ and }} stand for braces. SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s.

RUST_LOG, such as RUST_LOG=resound=debug, overrides -v and -q. SIGUSR1 makes a server log statistics.

Exit code: 0 after a stop by signal, operator, --once or --stdin=exit; 1 if it cannot start or continue; 2 for a wrong command line.";

/// The end of the client's help.
const CONNECT_HELP: &str = "\
TEXT may contain \\n, \\r, \\t, \\\\ and \\xNN, and {peer}, {local}, {hostname}, {date}, {time}, {iso} and {env:NAME}; {{ and }} stand for braces. DURATION is a time such as 10s, 250ms or 1m30s.

Exit code: 0 when the server has ended and all input is sent, or after a timeout if something was received; 1 if it cannot connect, the connection is lost, nothing was received, or input could not be sent; 2 for a wrong command line.";

/// The end of the load tester's help.
const LOAD_HELP: &str = "\
SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s, RATE a number per second or in another time such as 20000, 0.5, 30/m or 1/2s.

The server must return messages unchanged: 'resound echo' for echo, stream and churn, 'resound broadcast' for fanout; 'resound discard' is for sink, 'resound chargen' for source. A server of another kind is named, with the first bytes that it sent. To load it with datagrams from another machine it needs --udp-rate unlimited.

Exit code: 0 on success, also after Ctrl-C; 1 if it cannot connect, there are errors, nothing was measured, or --max-p99 or --min-rate is not met; 2 for a wrong command line.";

/// A plain echo or broadcast service over TCP, UDP and Unix sockets, and other small services: one
/// thread, bounded memory, no message torn or duplicated.
///
/// Logs go to standard error. Stop a server with Ctrl-C, SIGTERM or SIGHUP: it delivers pending output
/// and exits with 0; a second signal, after the log has said 'stopping', ends it at once.
#[derive(Debug, Parser)]
#[command(
    // The name that the process was started with may be any bytes.
    bin_name = "resound",
    name = "resound",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = SERVER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log more: a server logs the options in force and each client that connects or leaves; twice:
    /// also each health probe, which leaves without a byte, and each pass of the loop
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    #[arg(display_order = 100)]
    verbose: u8,

    /// Log only warnings and errors
    #[arg(short, long, global = true, display_order = 101)]
    pub(crate) quiet: bool,
}

// Deferred: only the options of the chosen command are built. Those of all take 290 KiB of heap.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Send every byte back to its sender (RFC 862)
    #[command(after_help = SERVER_HELP)]
    Echo(EchoArgs),
    /// Read everything and answer nothing (RFC 863); with --console the operator answers
    #[command(after_help = SERVER_HELP)]
    Discard(CommonArgs),
    /// Send TEXT to every client, in answer to each message or on connect
    #[command(after_help = SERVER_HELP)]
    Reply(ReplyArgs),
    /// Send the date and the time as text (RFC 867)
    #[command(after_help = SERVER_HELP)]
    Daytime(DaytimeArgs),
    /// Send the seconds since 1900 as 32 bits (RFC 868), which wrap around in 2036
    #[command(after_help = SERVER_HELP)]
    Time(CommonArgs),
    /// Send characters without end, at the reader's pace (RFC 864)
    #[command(after_help = SERVER_HELP)]
    Chargen(ChargenArgs),
    /// Send each message of a client, by default a line, to all other clients
    #[command(after_help = SERVER_HELP)]
    Broadcast(Box<BroadcastArgs>),
    /// Talk to a server: send standard input, print what is received
    ///
    /// Both directions run at once. The end of input (Ctrl-D) is passed on to the server, and its
    /// further output is printed; quit or exit, typed on a terminal, leaves at once. Over UDP and
    /// Unix datagrams each line is a datagram, and a second of silence after the last is the end.
    #[command(after_help = CONNECT_HELP)]
    Connect(ConnectArgs),
    /// Load a server and measure it: throughput, latencies, errors
    ///
    /// One thread with any number of clients. Without --rate a message is sent when another has
    /// returned; with it messages are sent at fixed times, and latency counts from these, so that a
    /// stall of the server shows in every message that had to wait. Ctrl-C ends it early, with the
    /// results so far.
    #[command(after_help = LOAD_HELP)]
    Load(Box<LoadArgs>),
}

impl Cli {
    /// The filter of the log, as in `RUST_LOG`.
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
    /// True if it is a server.
    pub(crate) fn serves(&self) -> bool {
        !matches!(self, Self::Connect(_) | Self::Load(_))
    }

    /// Checks what the types of the options cannot.
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
        // A standard stream that is closed or not read does not change the exit code.
        match e.kind() {
            ErrorKind::InvalidUtf8 => complain(&not_utf8(env::args_os())),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => drop(e.print()),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                logger::finish(&for_stderr(&e.render()));
            }
            _ => complain(&one_line(&e)),
        }
        ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
    })
}

/// Writes a line of complaint to standard error.
fn complain(text: &str) {
    logger::finish(&format!("resound: {text}\n"));
}

/// A text in colours, if standard error has them.
fn for_stderr(text: &StyledStr) -> String {
    match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => text.to_string(),
        _ => text.ansi().to_string(),
    }
}

/// The error of an argument that is not UTF-8 and must be. Clap doesn't name it.
fn not_utf8(args: impl Iterator<Item = OsString>) -> String {
    let all: Vec<OsString> = args.filter(|arg| arg.to_str().is_none()).collect();
    let may_be = |arg: &&OsString| {
        let before = arg
            .as_bytes()
            .utf8_chunks()
            .next()
            .map_or("", |chunk| chunk.valid());
        before.contains("unix:") || before.contains("unixgram:")
    };
    let wrong = all.iter().find(|arg| !may_be(arg)).or(all.first());
    let name = wrong.map_or(&[][..], |arg| arg.as_bytes());
    format!("the argument '{}' is not UTF-8; see --help", escape(name))
}

/// The error in one line, without clap's usage and tips.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage: ", "\n\nFor more information", "\n\n  tip: "];
    let end = end.iter().filter_map(|mark| text.find(mark)).min();
    let text = text[..end.unwrap_or(text.len())].trim_end();
    match error.kind() {
        // These line ends come from the user's value.
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => escape(text.as_bytes()),
        _ => {
            let words: Vec<&str> = text.split_whitespace().collect();
            format!("{}; see --help", escape(words.join(" ").as_bytes()))
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
    use std::os::unix::ffi::OsStringExt;

    #[track_caller]
    fn assert_refused(args: &[&str], cause: &str) {
        let cli = Cli::try_parse_from(["resound"].iter().chain(args)).unwrap();
        let error = cli.command.check().unwrap_err().to_string();
        assert!(error.contains(cause), "{args:?}: {error}");
    }

    #[test]
    fn help_of_each_command_begins_with_its_summary() {
        for command in Cli::command().get_subcommands() {
            let summary = command.get_about().unwrap().to_string();
            for option in ["-h", "--help"] {
                let args = ["resound", command.get_name(), option];
                let help = Cli::try_parse_from(args).unwrap_err().to_string();
                assert!(help.starts_with(&summary), "{summary}: {help}");
            }
        }
    }

    #[test]
    fn argument_that_is_not_utf8_is_named() {
        let args = [
            &b"resound"[..],
            b"echo",
            b"-lunix:/\xe9",
            b"--greeting=\xff",
        ];
        let args = args.map(|arg| OsString::from_vec(arg.to_vec()));
        let error = Cli::try_parse_from(&args).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUtf8);
        let text = r"the argument '--greeting=\xff' is not UTF-8; see --help";
        assert_eq!(not_utf8(args.into_iter()), text);
    }

    /// Each value is valid by itself.
    #[test]
    fn contradicting_options_are_refused_with_a_reason() {
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
            (&["chargen", "-l7", "-ludp://7"], "needs --udp-amplify"),
            (&["chargen", "-lunixgram:/s"], "needs --udp-amplify"),
            (
                &["echo", "-l*:7", "--ipv6-only"],
                "excludes IPv4, which is part of --listen '*:7'",
            ),
        ] {
            assert_refused(args, cause);
        }
    }

    #[test]
    fn options_without_a_listener_and_texts_without_an_encoding_are_refused() {
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
    fn options_of_each_service_can_be_combined() {
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
