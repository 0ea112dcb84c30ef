//! One table of the extreme values of every option that takes a number.

use clap::CommandFactory;

use super::Cli;
use clap::Parser;
use proptest::prelude::*;

/// Texts that every such option is tried with: the least, the largest, one past it, and what is no
/// number.
const EXTREMES: [&str; 20] = [
    "0",
    "1",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "-1",
    "0.5",
    "1e3",
    "NaN",
    "inf",
    "",
    " ",
    "0s",
    "18446744073709551615s",
    "584942417355years",
    "16EiB",
    "17EiB",
    "999999999999999999999999EiB",
    "unlimited",
    "٣",
];

/// The names of values in the help that are no numbers. An option with any other name needs a row, so that
/// none escapes the table.
const OTHERS: [&str; 10] = [
    "ACTION",
    "ADDR",
    "EVENT",
    "FILE",
    "FORMAT",
    "FRAMING",
    "INTERFACE",
    "LABEL",
    "TEXT",
    "on|off",
];

/// True if the option takes a number, as far as its values' names say.
fn takes_number(option: &clap::Arg) -> bool {
    let names = option.get_value_names().unwrap_or_default();
    let is_other = names.iter().any(|name| OTHERS.contains(&name.as_str()));
    // The one MODE is a word, and that of `--unix-mode` a number.
    option.get_action().takes_values() && !is_other && option.get_long() != Some("mode")
}

const MAX: &str = "18446744073709551615";

/// By option, with its command where they differ: the values that are taken, and others that are refused. All extremes that are not among
/// the first are refused, too.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("backlog", &["1", "2147483647"], &["2147483648"]),
    ("clients", &["1", MAX, "1000000"], &[]),
    (
        "connect-rate",
        &["1", "0.5", "10000000"],
        &["10000001", "1/0s"],
    ),
    (
        "connect timeout",
        &["10ms", "100years", "unlimited"],
        &["9ms", "101years"],
    ),
    ("defer-accept", &["1s", "32767s"], &["32768s", "1ms"]),
    ("depth", &["1", MAX, "unlimited"], &[]),
    ("dscp", &["0", "1", "63"], &["64", "255"]),
    ("duration", &["10ms", "100years"], &["9ms", "101years"]),
    ("fast-open", &["1", "65535"], &["65536"]),
    ("grace", &["0s", "0", "100years"], &["101years"]),
    (
        "heartbeat",
        &["10ms", "100years", "1s=x"],
        &["9ms", "101years=x"],
    ),
    ("high-water", &["0", "1", MAX], &["1EiB1"]),
    ("idle-timeout", &["10ms", "100years", "unlimited"], &["9ms"]),
    ("interval", &["10ms", "100years"], &["9ms", "101years"]),
    (
        "keepalive",
        &["1s", "32767s,32767s,127"],
        &["32768s", "1s,0s", "1s,1s,128"],
    ),
    ("line-timeout", &["10ms", "100years", "unlimited"], &["9ms"]),
    ("linger", &["0s", "0", "100years"], &["101years"]),
    ("log-size", &["0", "1", MAX, "15EiB"], &[]),
    ("max-clients", &["1", MAX, "unlimited"], &[]),
    ("max-message", &["1", "1GiB"], &["1073741825"]),
    ("max-p99", &["0s", "0", "100years"], &["101years"]),
    ("min-rate", &["1", "0.5", MAX], &["1/0s"]),
    (
        "patience",
        &["0s", "0", "100years", "unlimited"],
        &["101years"],
    ),
    ("publishers", &["1", MAX], &[]),
    (
        "rate",
        &["1", "0.5", "10000000", "1/100years"],
        &["10000001", "1/101years"],
    ),
    ("reconnect", &["10ms", "100years", "unlimited"], &["9ms"]),
    ("recv-buffer", &["1", "2147483647"], &["2GiB"]),
    ("replay", &["0", "1", MAX, "15EiB"], &[]),
    ("retry", &["10ms", "100years", "unlimited"], &["9ms"]),
    ("send-buffer", &["1", "2147483647"], &["2GiB"]),
    ("size", &["17", "64MiB"], &["16", "67108865"]),
    ("slow", &["0", "1", MAX], &[]),
    ("spin", &["0s", "0", "100years"], &["101years"]),
    ("subscribers", &["1", MAX], &[]),
    ("timeout", &["10ms", "100years"], &["9ms", "101years"]),
    ("tos", &["0", "1", "255", "0xff"], &["256", "0x100"]),
    ("udp-rate", &["1", MAX, "unlimited"], &[]),
    ("unix-mode", &["0", "1", "0777"], &["1000", "8"]),
    ("warmup", &["0s", "0", "100years"], &["101years"]),
    (
        "write-timeout",
        &["10ms", "100years", "unlimited"],
        &["9ms"],
    ),
];

/// The values of the table that do not go with the defaults of other options, or are beyond what a
/// system has.
const LATER: [&str; 13] = [
    "broadcast --max-message=1GiB",
    "broadcast --log-size=0",
    "broadcast --log-size=1",
    "broadcast --replay=15EiB",
    "broadcast --udp-rate=1",
    "broadcast --udp-rate=18446744073709551615",
    "broadcast --udp-rate=unlimited",
    "load --clients=18446744073709551615",
    "load --subscribers=18446744073709551615",
    "load --publishers=18446744073709551615",
    "load --slow=18446744073709551615",
    "load --depth=unlimited",
    "load --rate=1/100years",
];

/// Arguments without which the option is of no use.
fn needed(command: &str, option: &str) -> &'static [&'static str] {
    match (command, option) {
        ("load", "subscribers" | "publishers") => &["--mode=fanout"],
        ("chargen", "udp-rate") => &["-ludp://7", "--udp-amplify"],
        ("broadcast", "udp-rate") => &[], // it has no datagrams
        (_, "udp-rate") => &["-ludp://7"],
        (_, "unix-mode") => &["-lunix:/s"],
        _ => &[],
    }
}

/// The outcome of a command with an option and a value, `Ok(Err)` if the check after parsing
/// refuses it; an error is the first line.
fn outcome(command: &str, option: &str, value: &str) -> Result<Result<(), String>, String> {
    let needed = needed(command, option);
    let option = format!("--{option}={value}");
    let operand = match command {
        "reply" => &["text"][..],
        "connect" | "load" => &["7000"],
        _ => &[],
    };
    let args = ["resound", command, &option];
    let parsed = Cli::try_parse_from(args.iter().chain(needed).chain(operand));
    let first_line = |e: clap::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let cli = parsed.map_err(first_line)?;
    Ok(cli.command.check().map_err(first_line))
}

proptest! {
    /// An argument may come from anywhere: an error that quotes it is one line that a terminal shows
    /// and does not obey.
    #[test]
    fn error_about_any_argument_is_one_safe_line(
        command in "echo|reply|broadcast|connect|load|\\PC{0,5}|.{0,5}",
        option in "-l|--[a-z-]{1,12}|--greeting|--tag-format|--source|--encoding|.{0,10}",
        value in ".{0,20}|unix:.{0,10}|\\{.{0,10}\\}|[0-9]{1,3}.{0,3}",
    ) {
        let separate = ["resound", &command, &option, &value];
        let joined = ["resound", &command, &format!("{option}={value}")];
        for args in [&separate[..], &joined] {
            let parsed = Cli::try_parse_from(args).and_then(|cli| cli.command.check());
            let Err(error) = parsed else {
                continue;
            };
            if error.use_stderr() {
                let line = super::one_line(&error);
                prop_assert_eq!(&resound::escape(line.as_bytes()), &line);
            }
        }
    }
}

#[test]
fn every_option_takes_its_extremes_or_refuses_them_by_name() {
    let (mut tried, mut later) = (Vec::new(), Vec::new());
    let mut cli = Cli::command();
    cli.build();
    for command in cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let name = command.get_name();
        for option in command.get_arguments() {
            let Some(long) = option.get_long() else {
                continue;
            };
            if !takes_number(option) {
                continue;
            }
            let full = format!("{name} {long}");
            let row = |wanted: &str| TABLE.iter().find(|(option, ..)| *option == wanted);
            let row = row(&full).or(row(long));
            let (option, taken, refused) = row.unwrap_or_else(|| panic!("no row for --{long}"));
            tried.push(option);
            for value in *taken {
                let given = format!("{name} --{long}={value}");
                let checked = outcome(name, long, value).expect(&given);
                if let Err(e) = checked {
                    assert!(e.contains(&format!("--{long}")), "{e}");
                    later.push(given);
                }
            }
            let others = EXTREMES.iter().filter(|value| !taken.contains(value));
            for value in others.chain(*refused) {
                let error =
                    outcome(name, long, value).expect_err(&format!("{name} --{long}={value}"));
                assert!(error.contains(&format!("--{long}")), "{error}");
            }
        }
    }
    let unused = TABLE.iter().find(|(option, ..)| !tried.contains(&option));
    assert_eq!(unused, None, "no such option");
    assert_eq!(later, LATER);
}
