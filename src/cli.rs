//! The command line: doc comments are the help, and every value is checked here.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use resound::{
    AtEnd, Config, Connect, Framing, Heartbeat, Listen, ListenAddress, Replay, Role, Room,
    RoomError, SlowConsumer, TagFormat,
};

/// How values are written.
const UNITS: &str = "\
SIZE is a number of bytes such as 65536, 64KiB or 1MiB, DURATION a time such as 10s, 250ms or 1m30s.
RUST_LOG, such as RUST_LOG=resound=debug, overrides -v and -q. SIGUSR1 makes a server log statistics.
Exit code: 0 after a stop by signal, operator or --stdin=exit; 1 if it can't start or go on; 2 after
bad usage.";

/// A plain echo or broadcast service over TCP and Unix sockets: one thread, bounded memory,
/// no message torn or doubled.
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
    Echo(PlainArgs),
    /// Read everything and answer nothing (RFC 863); with --console the operator answers
    #[command(after_help = UNITS)]
    Discard(PlainArgs),
    /// Send each message of a client, as a rule a line, to all the other clients
    #[command(after_help = UNITS)]
    Broadcast(Box<BroadcastArgs>),
    /// Talk to a server: standard input goes there, what comes is printed
    ///
    /// Lines go both ways at once. After the end of input (Ctrl-D) the server is told so, and what
    /// it still says is printed; quit or exit, typed on a terminal, leaves at once.
    #[command(after_help = UNITS)]
    Connect(ConnectArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ConnectArgs {
    /// Where the server listens: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1) or unix:PATH
    #[arg(value_name = "ADDR")]
    to: ListenAddress,

    /// Let control characters from the server reach the terminal as they are
    #[arg(long)]
    raw: bool,
}

impl ConnectArgs {
    pub(crate) fn connect(&self) -> Connect {
        Connect {
            to: self.to.clone(),
            raw: self.raw,
        }
    }
}

/// For services without options of their own.
#[derive(Args, Debug)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct BroadcastArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Listen here for clients that publish and are sent nothing; the same as
    /// -l 'ADDR?role=publish'. May be given more than once
    #[arg(long, value_name = "ADDR")]
    publish_only: Vec<Listen>,

    /// Listen here for clients that hear and whose input is discarded; the same as
    /// -l 'ADDR?role=subscribe'. May be given more than once
    #[arg(long, value_name = "ADDR")]
    subscribe_only: Vec<Listen>,

    /// What a message is: 'lines' (with their newlines), 'raw' (what one read returned) or 'u32' (with its
    /// length in front, 32 bits, big-endian)
    #[arg(
        long,
        value_name = "FRAMING",
        default_value_t,
        hide_possible_values = true
    )]
    framing: Framing,

    /// The longest message that is accepted, without its newline or length, up to 1GiB; who sends
    /// a longer one is closed
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = max_message)]
    max_message: u64,

    /// Send messages to their senders, too
    #[arg(long)]
    include_sender: bool,

    /// How long a client that doesn't read may hold up the others before it is a slow
    /// consumer: a duration, 0 or 'unlimited'
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = patience)]
    patience: Limit<Time>,

    /// What becomes of a slow consumer: 'close' it, or make it 'skip' to the newest message
    #[arg(long, value_name = "WHAT", default_value = "close", value_parser = slow_consumer)]
    slow_consumer: SlowConsumer,

    /// Room for messages that some clients have not taken yet; who is half of it behind holds
    /// up the others
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    log_size: u64,

    /// What those who come get of the past: a number of messages such as 100, or a size such as
    /// 64KiB [default: nothing]
    #[arg(long, value_name = "N|SIZE", value_parser = replay)]
    replay: Option<Replay>,

    /// Put the local date, the time and the sender in front of each message:
    /// 'MMDD HH:MM:SS From IP:PORT. msg='
    #[arg(long)]
    tag: bool,

    /// The same in another form: a text with {date} (MMDD), {time} (HH:MM:SS), {iso} (RFC 3339),
    /// {peer} and {id} in it; {{ and }} stand for braces
    #[arg(long, value_name = "FORMAT")]
    tag_format: Option<TagFormat>,

    /// Tell the room who comes and goes, and newcomers who is there
    #[arg(long)]
    announce: bool,

    /// Send a line, empty or TEXT, to clients that were sent nothing for so long
    #[arg(long, value_name = "DURATION[=TEXT]", value_parser = heartbeat)]
    heartbeat: Option<Heartbeat>,

    /// Publish the lines of standard input; at its end stay, or with --stdin=exit deliver
    /// what is pending and exit
    #[arg(long, value_name = "AT-END", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "stay", value_parser = at_end, conflicts_with = "console")]
    stdin: Option<AtEnd>,

    /// Write each published message to standard output
    #[arg(long, conflicts_with = "console")]
    stdout: bool,
}

/// What every service takes.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Where to listen: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), each perhaps with tcp:// in
    /// front, or unix:PATH. A name stands for all its addresses; port 0 lets the system choose.
    /// May be given more than once
    /// [default: 127.0.0.1:9999]
    #[arg(short, long, value_name = "ADDR")]
    listen: Vec<Listen>,

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

    /// Show what clients send on standard output, and take texts for them and commands from
    /// standard input: /help lists them
    #[arg(long)]
    pub(crate) console: bool,
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
        let default = Config::default();
        Config {
            listen: if self.listen.is_empty() {
                default.listen
            } else {
                self.listen.clone()
            },
            backlog: self.backlog,
            max_clients: match self.max_clients {
                None => Some(max_clients),
                Some(Limit::Of(Count(n))) => Some(n),
                Some(Limit::Unlimited) => None,
            },
            high_water: self.high_water,
            grace: self.grace.0,
            ..default
        }
    }
}

impl BroadcastArgs {
    /// The settings of the server; without `--max-clients` there may be `max_clients`.
    pub(crate) fn config(&self, max_clients: usize) -> Config {
        let mut config = self.server.config(max_clients);
        let of_role = |listen: &Listen, role| Listen {
            role,
            ..listen.clone()
        };
        let publishers = self.publish_only.iter();
        let subscribers = self.subscribe_only.iter();
        let others: Vec<Listen> = publishers
            .map(|listen| of_role(listen, Role::Publish))
            .chain(subscribers.map(|listen| of_role(listen, Role::Subscribe)))
            .collect();
        if !others.is_empty() && self.server.listen.is_empty() {
            config.listen.clear();
        }
        config.listen.extend(others);
        config.patience = match self.patience {
            Limit::Unlimited => None,
            Limit::Of(Time(patience)) => Some(patience),
        };
        config.slow_consumer = self.slow_consumer;
        config.heartbeat.clone_from(&self.heartbeat);
        config
    }

    /// The settings of the room.
    pub(crate) fn room(&self) -> Room {
        let tag = self.tag.then(TagFormat::default);
        Room {
            framing: self.framing,
            max_message: usize::try_from(self.max_message).unwrap_or(usize::MAX),
            include_sender: self.include_sender,
            log_size: self.log_size,
            replay: self.replay.unwrap_or_default(),
            tag: self.tag_format.clone().or(tag),
            announce: self.announce,
        }
    }

    /// What is wrong with the settings of the room, in the terms of the command line.
    fn why_not(&self, error: RoomError) -> String {
        let (log, message) = (in_units(self.log_size), in_units(self.max_message));
        let tags = if self.tag || self.tag_format.is_some() {
            " and tags"
        } else {
            ""
        };
        match error {
            RoomError::LogSize(least) => format!(
                "--log-size {log} is too small: a quarter of it has to hold what a client may \
                 bring at once, which with --max-message {message}{tags} takes at least {}",
                in_units(least)
            ),
            RoomError::Replay(most) => format!(
                "--replay is too much: with --log-size {log} it may be a quarter of that, {}",
                in_units(most)
            ),
            other => other.to_string(),
        }
    }

    /// Whether standard input is published, and what then.
    pub(crate) fn stdin(&self) -> Option<AtEnd> {
        self.stdin
    }

    /// Whether what is published goes to standard output.
    pub(crate) fn stdout(&self) -> bool {
        self.stdout
    }
}

impl Command {
    /// What all services take.
    fn server(&self) -> Option<&ServerArgs> {
        match self {
            Self::Echo(args) | Self::Discard(args) => Some(&args.server),
            Self::Broadcast(args) => Some(&args.server),
            Self::Connect(_) => None,
        }
    }

    /// What the types of the arguments don't say.
    fn check(&self) -> Result<(), clap::Error> {
        let refuse = |text: String| Err(Cli::command().error(ErrorKind::ValueValidation, text));
        if let Self::Broadcast(args) = self {
            let publishers = args
                .publish_only
                .iter()
                .filter(|l| l.role == Role::Subscribe);
            let subscribers = args.subscribe_only.iter();
            let mut others = publishers.chain(subscribers.filter(|l| l.role == Role::Publish));
            if let Some(listen) = others.next() {
                return refuse(format!("'{listen}' has another role already"));
            }
            return args.room().check().or_else(|e| refuse(args.why_not(e)));
        }
        let listens = self.server().map_or(&[][..], |server| &server.listen);
        match listens.iter().find(|listen| listen.role != Role::Both) {
            Some(listen) => refuse(format!("only broadcast has roles: --listen '{listen}'")),
            None => Ok(()),
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
        cli.command.check()?;
        Ok(cli)
    });
    checked.map_err(|e| {
        // A closed standard stream is no reason to fail in another way.
        let _ = match e.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let text = e.to_string();
                let text = text.split("\n\nFor more information").next();
                let line = text.unwrap_or_default().trim_end().replace('\n', "\\n");
                let line = line.strip_prefix("error: ").unwrap_or(&line);
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

/// A number of bytes as it can be written on the command line.
fn in_units(bytes: u64) -> String {
    match bytes {
        n if n > 0 && n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n > 0 && n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => n.to_string(),
    }
}

fn max_message(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("a message has at least a byte".to_owned()),
        n if n > ByteSize::gib(1).as_u64() => Err("larger than 1GiB".to_owned()),
        n => Ok(n),
    }
}

fn slow_consumer(text: &str) -> Result<SlowConsumer, String> {
    match text {
        "close" => Ok(SlowConsumer::Close),
        "skip" => Ok(SlowConsumer::Skip),
        _ => Err("expected close or skip".to_owned()),
    }
}

fn at_end(text: &str) -> Result<AtEnd, String> {
    match text {
        "stay" => Ok(AtEnd::Stay),
        "exit" => Ok(AtEnd::Stop),
        _ => Err("expected stay or exit".to_owned()),
    }
}

/// A number counts messages, a number with a unit bytes.
fn replay(text: &str) -> Result<Replay, String> {
    if let Ok(messages) = text.parse() {
        return Ok(Replay::Messages(messages));
    }
    match size(text) {
        Ok(bytes) => Ok(Replay::Bytes(bytes)),
        Err(_) => {
            Err("expected a number of messages such as 100, or a size such as 64KiB".to_owned())
        }
    }
}

fn heartbeat(text: &str) -> Result<Heartbeat, String> {
    let (every, text) = text.split_once('=').unwrap_or((text, ""));
    let Time(every) = every.parse()?;
    if every < Duration::from_millis(10) {
        return Err("expected 10ms or more".to_owned());
    }
    if text.contains(['\n', '\r']) {
        return Err("the text has a line end".to_owned());
    }
    let text = text.as_bytes().to_vec();
    Ok(Heartbeat { every, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broadcast(args: &[&str]) -> Result<(BroadcastArgs, &'static str), String> {
        let all = ["resound", "broadcast"].iter().chain(args);
        let cli = Cli::try_parse_from(all).map_err(|e| e.to_string())?;
        let filter = cli.log_filter();
        match cli.command {
            Command::Broadcast(args) => Ok((*args, filter)),
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let (args, filter) = broadcast(&[]).unwrap();
        let max_clients = Some(7);
        let expected = Config {
            max_clients,
            ..Config::default()
        };
        assert_eq!(args.config(7), expected);
        assert_eq!(args.room(), Room::default());
        assert_eq!((args.stdin(), args.stdout(), filter), (None, false, "info"));
    }

    #[test]
    fn every_option_arrives() {
        let text = "-l 7000 --listen unix:/s --backlog 5 --max-clients 9 --high-water 1MiB \
                    --grace 250ms --max-message 1KiB --patience 1m30s -vv --framing u32 \
                    --include-sender --slow-consumer skip --log-size 9MiB --replay 1MiB --tag \
                    --announce --heartbeat 30s=still=here --stdin=exit --stdout \
                    --publish-only 7001 --subscribe-only 7002";
        let (args, filter) = broadcast(&text.split_whitespace().collect::<Vec<_>>()).unwrap();
        let listen = [
            "7000",
            "unix:/s",
            "7001?role=publish",
            "7002?role=subscribe",
        ];
        let heartbeat = Heartbeat {
            every: Duration::from_secs(30),
            text: b"still=here".to_vec(),
        };
        let expected = Config {
            listen: listen.map(|text| text.parse().unwrap()).to_vec(),
            backlog: 5,
            max_clients: Some(9),
            high_water: 1 << 20,
            patience: Some(Duration::from_secs(90)),
            slow_consumer: SlowConsumer::Skip,
            heartbeat: Some(heartbeat),
            grace: Duration::from_millis(250),
        };
        assert_eq!(args.config(7), expected);
        let room = Room {
            framing: Framing::U32,
            max_message: 1024,
            include_sender: true,
            log_size: 9 << 20,
            replay: Replay::Bytes(1 << 20),
            tag: Some(TagFormat::default()),
            announce: true,
        };
        assert_eq!(args.room(), room);
        assert_eq!((args.stdin(), args.stdout()), (Some(AtEnd::Stop), true));
        assert_eq!(filter, "debug,resound=trace");
    }

    #[test]
    fn options_with_two_forms_take_both() {
        let room = |arg: &str| broadcast(&[arg]).unwrap().0.room();
        assert_eq!(room("--replay=100").replay, Replay::Messages(100));
        assert_eq!(room("--replay=100B").replay, Replay::Bytes(100));
        let own = room("--tag-format={id}: ").tag.unwrap();
        assert_eq!(own, "{id}: ".parse().unwrap());
        let (args, _) = broadcast(&["--stdin"]).unwrap();
        assert_eq!(args.stdin(), Some(AtEnd::Stay));
        let (args, _) = broadcast(&["--heartbeat=5s"]).unwrap();
        assert_eq!(args.config(1).heartbeat.unwrap().text, b"");
    }

    #[test]
    fn listeners_with_a_role_replace_the_default_one() {
        let (args, _) = broadcast(&["--publish-only=7001"]).unwrap();
        assert_eq!(
            args.config(1).listen,
            ["7001?role=publish".parse().unwrap()]
        );
    }

    #[test]
    fn unlimited_is_a_word() {
        let (args, _) = broadcast(&["--patience=unlimited", "--max-clients=unlimited"]).unwrap();
        assert_eq!(args.config(7).patience, None);
        assert_eq!(args.config(7).max_clients, None);
        let (args, _) = broadcast(&["--patience=0"]).unwrap();
        assert_eq!(args.config(7).patience, Some(Duration::ZERO));
    }

    /// What an argument makes wrong is said, though each value by itself is right.
    #[test]
    fn settings_that_do_not_go_together_are_refused_with_a_reason() {
        for (args, cause) in [
            (&["broadcast", "--log-size=1MiB"][..], "at least 1280KiB"),
            (&["broadcast", "--max-message=1MiB"], "at least 5MiB"),
            (&["broadcast", "--replay=2MiB"], "a quarter of that, 1MiB"),
            (&["echo", "-l7?role=publish"], "only broadcast has roles"),
            (
                &["broadcast", "--publish-only=7?role=subscribe"],
                "another role",
            ),
            (
                &["broadcast", "--subscribe-only=7?role=publish"],
                "another role",
            ),
            (
                &["discard", "-l7?role=subscribe"],
                "only broadcast has roles",
            ),
        ] {
            let cli = Cli::try_parse_from(["resound"].iter().chain(args)).unwrap();
            let error = cli.command.check().unwrap_err().to_string();
            assert!(error.contains(cause), "{args:?}: {error}");
        }
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
            ("--framing=frames", "expected lines, raw or u32"),
            ("--slow-consumer=kill", "expected close or skip"),
            ("--replay=all", "expected a number of messages"),
            ("--tag-format={when}", "{when} is not one of"),
            ("--heartbeat=often", "expected a duration"),
            ("--heartbeat=1ms", "10ms or more"),
            ("--heartbeat=1s=a\nb", "line end"),
            ("--stdin=leave", "expected stay or exit"),
            ("--publish-only=x", "expected HOST:PORT"),
        ] {
            let error = broadcast(&[arg]).unwrap_err();
            assert!(error.contains(cause), "{arg}: {error}");
        }
    }
}
