//! The options of broadcast.

use std::time::Duration;

use clap::Args;
use resound::{
    Config, Framing, Heartbeat, Listen, OnEof, Replay, Role, Room, RoomError, SlowConsumer,
    TagFormat,
};

use super::server::{ServerArgs, check_listeners};
use super::values::{
    Limit, heartbeat, max_message, on_eof, patience, replay, size, slow_consumer, timeout,
};
use crate::units;

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct BroadcastArgs {
    /// Listen for clients that publish and receive nothing; the same as -l 'ADDR?role=publish'. May
    /// be repeated
    #[arg(long, value_name = "ADDR")]
    publish_only: Vec<Listen>,

    /// Listen for clients that receive, and whose input is discarded; the same as
    /// -l 'ADDR?role=subscribe'. May be repeated
    #[arg(long, value_name = "ADDR")]
    subscribe_only: Vec<Listen>,

    /// Form of a message: 'lines' (a line with its newline), 'raw' (the bytes of one read) or 'u32'
    /// (after its length: 32 bits, big-endian)
    #[arg(
        long,
        value_name = "FRAMING",
        default_value_t,
        hide_possible_values = true
    )]
    framing: Framing,

    /// Longest message, without its newline or length, up to 1GiB; the sender of a longer one is
    /// closed
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = max_message)]
    max_message: u64,

    /// Send messages to their senders as well
    #[arg(long)]
    include_sender: bool,

    /// Publish text that has waited for its newline for DURATION, with one added; for clients that
    /// send no newlines
    #[arg(long, value_name = "DURATION", default_value = "unlimited", value_parser = timeout)]
    line_timeout: Limit<Duration>,

    /// Time for which clients that are half of --log-size behind may hold up the others; one that has
    /// not caught up by then is a slow consumer, even if it reads; readers that stop one after the
    /// other share it; a duration, 0 or 'unlimited'
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = patience)]
    patience: Limit<Duration>,

    /// Treatment of a slow consumer: 'close' it, or make it 'skip' to the newest message
    #[arg(long, value_name = "ACTION", default_value = "close", value_parser = slow_consumer)]
    slow_consumer: SlowConsumer,

    /// Room for messages that some clients have not read yet; a client that is half of it behind
    /// holds up the others, so choose at least twice the longest burst
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    log_size: u64,

    /// Past messages that a new client is sent: a number such as 100, or a size such as 64KiB
    /// [default: none]
    #[arg(long, value_name = "N|SIZE", value_parser = replay)]
    replay: Option<Replay>,

    /// Put the local date and time and the sender in front of each message:
    /// 'MMDD HH:MM:SS From IP:PORT. msg='
    #[arg(long, conflicts_with = "tag_format")]
    tag: bool,

    /// The same in another form: a text with the placeholders {date} (MMDD), {time} (HH:MM:SS),
    /// {iso} (RFC 3339), {peer} and {id}; {{ and }} stand for braces
    #[arg(long, value_name = "FORMAT")]
    tag_format: Option<TagFormat>,

    /// Announce to the room each client that joins or leaves, and to a new client those present, with
    /// its first byte or after a second; a connection that leaves before, as health probes do, is not
    /// announced
    #[arg(long)]
    announce: bool,

    /// Send a line, empty or LINE as given, to each client that was sent nothing for DURATION
    #[arg(long, value_name = "DURATION[=LINE]", value_parser = heartbeat)]
    heartbeat: Option<Heartbeat>,

    /// Publish the lines of standard input; addresses without a role are then subscribe-only. At its
    /// end stay, or with --stdin=exit deliver pending output and exit
    #[arg(long, value_name = "ACTION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "stay", value_parser = on_eof, conflicts_with = "console")]
    stdin: Option<OnEof>,

    /// Write each published message to standard output
    #[arg(long, conflicts_with_all = ["console", "show"])]
    stdout: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

impl BroadcastArgs {
    /// The settings of the server. `max_clients` is the default of `--max-clients`.
    pub(crate) fn config(&self, max_clients: usize) -> Result<Config, String> {
        let mut config = self.server.config(max_clients)?;
        let with_role = |listen: &Listen, role| {
            let mut listen = listen.clone();
            listen.role = Some(role);
            listen
        };
        let publishers = self.publish_only.iter();
        let subscribers = self.subscribe_only.iter();
        let restricted: Vec<Listen> = publishers
            .map(|listen| with_role(listen, Role::Publish))
            .chain(subscribers.map(|listen| with_role(listen, Role::Subscribe)))
            .collect();
        // Without --listen they replace the default address.
        if !restricted.is_empty() && self.server.listen.is_empty() {
            config.listen.clear();
        }
        config.listen.extend(restricted);
        if self.stdin.is_some() {
            make_feed(&mut config.listen);
        }
        config.patience = self.patience.value();
        config.slow_consumer = self.slow_consumer;
        config.heartbeat = self.encoded_heartbeat()?;
        Ok(config)
    }

    /// The heartbeat in the encoding of the clients.
    fn encoded_heartbeat(&self) -> Result<Option<Heartbeat>, String> {
        let Some(mut heartbeat) = self.heartbeat.clone() else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&heartbeat.text);
        let encoded = self.server.encoding.encode(&text);
        let encoded = encoded.map_err(|e| format!("--heartbeat: {e}"))?;
        heartbeat.text = encoded.into_owned();
        Ok(Some(heartbeat))
    }

    /// Checks what the types of the options cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        let other_role = |listeners: &[Listen], role| {
            let is_other = |listen: &&Listen| listen.role.is_some_and(|given| given != role);
            let listen = listeners.iter().find(is_other);
            listen.map(|listen| format!("'{listen}' has another role already"))
        };
        let error = other_role(&self.publish_only, Role::Publish)
            .or_else(|| other_role(&self.subscribe_only, Role::Subscribe));
        if let Some(error) = error {
            return Err(error);
        }
        if self.line_timeout.value().is_some() && self.framing != Framing::Lines {
            return Err("--line-timeout is for --framing lines".to_owned());
        }
        let listen = self.config(1)?.listen;
        check_listeners(&listen, true, false)?;
        self.server.check(&listen)?;
        self.room().check().map_err(|e| self.explain(e))
    }

    /// The settings of the room.
    pub(crate) fn room(&self) -> Room {
        let tag = self.tag.then(TagFormat::default);
        let mut room = Room::default();
        room.framing = self.framing;
        room.max_message = usize::try_from(self.max_message).unwrap_or(usize::MAX);
        room.include_sender = self.include_sender;
        room.line_timeout = self.line_timeout.value();
        room.log_size = self.log_size;
        room.replay = self.replay.unwrap_or_default();
        room.tag = self.tag_format.clone().or(tag);
        room.announce = self.announce;
        room
    }

    /// An error of the room's settings in the terms of the command line.
    fn explain(&self, error: RoomError) -> String {
        let (log, message) = (units::size(self.log_size), units::size(self.max_message));
        let tags = if self.tag || self.tag_format.is_some() {
            " and tags"
        } else {
            ""
        };
        match error {
            RoomError::LogSize(least) => format!(
                "--log-size {log} is too small: a quarter of it must hold what a client may send \
                 at once, which with --max-message {message}{tags} needs at least {}",
                units::size(least)
            ),
            RoomError::Replay(most) => format!(
                "--replay is too large: with --log-size {log} it may be a quarter of that, {}",
                units::size(most)
            ),
            other => other.to_string(),
        }
    }

    /// The action at the end of standard input, if it is published.
    pub(crate) fn stdin(&self) -> Option<OnEof> {
        self.stdin
    }

    /// True if published messages go to standard output.
    pub(crate) fn stdout(&self) -> bool {
        self.stdout
    }
}

/// Makes addresses without a role subscribe-only: what standard input publishes is not for every
/// reader, health probe and scanner to write into.
fn make_feed(listeners: &mut [Listen]) {
    for listen in listeners {
        listen.role.get_or_insert(Role::Subscribe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, with};
    use clap::Parser;
    use resound::SocketOptions;

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
    fn defaults_are_those_of_the_library() {
        let (args, filter) = broadcast(&[]).unwrap();
        let max_clients = Some(7);
        let expected = with(Config::default(), |config| config.max_clients = max_clients);
        assert_eq!(args.config(7), Ok(expected));
        assert_eq!(args.room(), Room::default());
        assert_eq!((args.stdin(), args.stdout(), filter), (None, false, "info"));
    }

    #[test]
    fn every_option_arrives() {
        let text = "-l 7000?role=both --listen unix:/s --backlog 5 --max-clients 9 --high-water 1MiB \
                    --grace 250ms --max-message 1KiB --patience 1m30s -vv --framing u32 \
                    --include-sender --slow-consumer skip --log-size 9MiB --replay 1MiB --tag \
                    --announce --heartbeat 30s=still=here --stdin=exit --stdout \
                    --publish-only 7001 --subscribe-only 7002";
        let (args, filter) = broadcast(&text.split_whitespace().collect::<Vec<_>>()).unwrap();
        let listen = [
            "7000?role=both",
            "unix:/s?role=subscribe",
            "7001?role=publish",
            "7002?role=subscribe",
        ];
        let heartbeat = Heartbeat::new(Duration::from_secs(30), "still=here");
        let sockets = with(SocketOptions::default(), |options| options.backlog = 5);
        let expected = with(Config::default(), |config| {
            config.listen = listen.map(|text| text.parse().unwrap()).to_vec();
            config.sockets = sockets;
            config.max_clients = Some(9);
            config.high_water = 1 << 20;
            config.patience = Some(Duration::from_secs(90));
            config.slow_consumer = SlowConsumer::Skip;
            config.heartbeat = Some(heartbeat);
            config.grace = Duration::from_millis(250);
        });
        assert_eq!(args.config(7), Ok(expected));
        let room = with(Room::default(), |room| {
            room.framing = Framing::U32;
            room.max_message = 1024;
            room.include_sender = true;
            room.log_size = 9 << 20;
            room.replay = Replay::Bytes(1 << 20);
            room.tag = Some(TagFormat::default());
            room.announce = true;
        });
        assert_eq!(args.room(), room);
        assert_eq!((args.stdin(), args.stdout()), (Some(OnEof::Stop), true));
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
        assert_eq!(args.stdin(), Some(OnEof::Stay));
        let (args, _) = broadcast(&["--heartbeat=5s"]).unwrap();
        assert_eq!(args.config(1).unwrap().heartbeat.unwrap().text, b"");
    }

    #[test]
    fn listeners_with_a_role_replace_the_default_one() {
        let (args, _) = broadcast(&["--publish-only=7001"]).unwrap();
        assert_eq!(
            args.config(1).unwrap().listen,
            ["7001?role=publish".parse().unwrap()]
        );
    }

    /// Kind of fault: whoever can read a feed can also write into it.
    #[test]
    fn addresses_without_a_role_are_for_subscribers_when_standard_input_publishes() {
        let listen = |args: &[&str]| broadcast(args).unwrap().0.config(1).unwrap().listen;
        let texts = |args: &[&str]| -> Vec<String> {
            listen(args).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(&["-l7"]), ["127.0.0.1:7"]);
        assert_eq!(texts(&["--stdin"]), ["127.0.0.1:9999?role=subscribe"]);
        let many = ["--stdin=exit", "-l7?role=both", "-l8", "--publish-only=9"];
        let roles = [
            "127.0.0.1:7?role=both",
            "127.0.0.1:8?role=subscribe",
            "127.0.0.1:9?role=publish",
        ];
        assert_eq!(texts(&many), roles);
    }

    #[test]
    fn unlimited_is_a_word() {
        let (args, _) = broadcast(&["--patience=unlimited", "--max-clients=unlimited"]).unwrap();
        assert_eq!(args.config(7).unwrap().patience, None);
        assert_eq!(args.config(7).unwrap().max_clients, None);
        let (args, _) = broadcast(&["--patience=0"]).unwrap();
        assert_eq!(args.config(7).unwrap().patience, Some(Duration::ZERO));
    }

    #[test]
    fn contradicting_options_are_refused_with_a_reason() {
        for (args, cause) in [
            (&["broadcast", "--log-size=1MiB"][..], "at least 1280KiB"),
            (&["broadcast", "--max-message=1MiB"], "at least 5MiB"),
            (&["broadcast", "--replay=2MiB"], "a quarter of that, 1MiB"),
            (
                &["broadcast", "--publish-only=7?role=subscribe"],
                "another role",
            ),
            (
                &["broadcast", "--subscribe-only=7?role=both"],
                "another role",
            ),
            (
                &["broadcast", "--subscribe-only=7?role=publish"],
                "another role",
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
            ("--max-message=0", "at least one byte"),
            ("--max-message=2GiB", "larger than 1GiB"),
            ("--patience=forever", "expected a duration"),
            ("--framing=frames", "expected lines, raw or u32"),
            ("--slow-consumer=kill", "expected close or skip"),
            ("--replay=all", "expected a number of messages"),
            ("--log-size=17EiB", "16EiB or larger"),
            ("--log-size=18446744073709551616", "16EiB or larger"),
            ("--replay=16EiB", "64 bits can't hold it"),
            ("--replay=18446744073709551616", "64 bits can't hold it"),
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
