//! The arguments of the load tester.

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use resound::ListenAddress;
use resound::load::{Load, LoadMode, SHORTEST_MESSAGE};

use super::values::{Count, Limit, Time, size};

/// The longest message, and the longest datagram.
const LONGEST: u64 = 64 << 20;
const LONGEST_DATAGRAM: usize = 65_507;

/// No system has descriptors for more.
const MOST_CLIENTS: usize = 1_000_000;

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Where the server listens: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), the same with
    /// udp:// in front for datagrams, unix:PATH, unix:@NAME or unixgram:PATH
    #[arg(value_name = "ADDR")]
    to: ListenAddress,

    /// What clients do: 'echo' sends messages and waits for them to come back; 'stream' does so in
    /// bulk; 'churn' connects, has one message echoed and goes; 'fanout' has publishers and
    /// subscribers of a room; 'sink' only sends; 'source' only receives
    #[arg(long, value_name = "MODE", default_value = "echo", value_parser = mode)]
    mode: LoadMode,

    /// How many clients there are at a time [default: 50; stream, sink, source: 4]
    #[arg(long, value_name = "N", value_parser = count)]
    clients: Option<usize>,

    /// fanout: how many clients receive what is published [default: 100]
    #[arg(long, value_name = "N", value_parser = count)]
    subscribers: Option<usize>,

    /// fanout: how many clients publish; each is sent what the others publish [default: 1]
    #[arg(long, value_name = "N", value_parser = count)]
    publishers: Option<usize>,

    /// So many clients more that stop reading: in fanout they only listen, else they send too
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    slow: usize,

    /// Bytes in a message, its newline included [default: 64; stream, sink, source: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = message)]
    size: Option<usize>,

    /// Messages of one client that may be under way at a time; 'unlimited' goes with --rate, and is
    /// the default there [default: 1; stream: 16; fanout: 1024]
    #[arg(long, value_name = "N")]
    depth: Option<Limit<Count>>,

    /// Messages a second in all (churn: connections), sent at their times whatever the server
    /// does; latency counts from these times [default: as fast as they come back]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<u64>,

    /// Connections opened a second [default: as fast as they are accepted]
    #[arg(long, value_name = "N", value_parser = rate)]
    connect_rate: Option<u64>,

    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = span)]
    duration: Duration,

    /// How long to load the server before that
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    warmup: Time,

    /// What takes longer never comes: connecting, the rest after the end, a datagram
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = span)]
    timeout: Duration,

    /// Check the contents of all that comes back
    #[arg(long)]
    verify: bool,

    /// Whether to ask the system for events without ever sleeping while something is under way:
    /// who sleeps has to be woken by the server [default: on if there are two processors]
    #[arg(long, value_name = "on|off", value_parser = switch)]
    spin: Option<bool>,

    /// A line on standard error so often, in place of the bar on a terminal
    #[arg(long, value_name = "DURATION", value_parser = span)]
    interval: Option<Duration>,

    /// Print the results as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the latencies of each interval to FILE, as an HdrHistogram log
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// It is a failure if more than one in a hundred messages takes longer
    #[arg(long, value_name = "DURATION")]
    max_p99: Option<Time>,

    /// It is a failure if fewer messages (churn: connections) a second are done
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) min_rate: Option<u64>,
}

impl LoadArgs {
    /// What the types of the arguments don't say.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_mode()?;
        self.check_address()?;
        if self.depth == Some(Limit::Unlimited) && self.rate.is_none() {
            return Err("--depth unlimited is for --rate".to_owned());
        }
        let load = self.load();
        let extra = [load.publishers, load.slow];
        let all = extra
            .iter()
            .try_fold(load.clients, |sum, n| sum.checked_add(*n));
        match all {
            Some(n) if n <= MOST_CLIENTS => Ok(()),
            _ => Err(format!("more than {MOST_CLIENTS} clients")),
        }
    }

    /// Each option is for some modes.
    fn check_mode(&self) -> Result<(), String> {
        use LoadMode::{Churn, Echo, Fanout, Sink, Source, Stream};
        let answered = &[Echo, Stream, Churn, Fanout][..];
        let fits: [(&str, bool, &[LoadMode]); 9] = [
            (
                "--clients",
                self.clients.is_some(),
                &[Echo, Stream, Churn, Sink, Source],
            ),
            ("--subscribers", self.subscribers.is_some(), &[Fanout]),
            ("--publishers", self.publishers.is_some(), &[Fanout]),
            ("--slow", self.slow > 0, &[Echo, Stream, Fanout, Source]),
            ("--depth", self.depth.is_some(), &[Echo, Stream, Fanout]),
            (
                "--rate",
                self.rate.is_some(),
                &[Echo, Stream, Churn, Fanout, Sink],
            ),
            ("--verify", self.verify, answered),
            ("--max-p99", self.max_p99.is_some(), answered),
            ("--hdr", self.hdr.is_some(), answered),
        ];
        let misplaced =
            |(_, given, modes): &&(_, bool, &[LoadMode])| *given && !modes.contains(&self.mode);
        let Some((option, ..)) = fits.iter().find(misplaced) else {
            return Ok(());
        };
        let hint = match *option {
            "--clients" => ", which has --subscribers and --publishers",
            _ => "",
        };
        let mode = self.mode.name();
        Err(format!("{option} is not for --mode {mode}{hint}"))
    }

    fn check_address(&self) -> Result<(), String> {
        let to = &self.to;
        if to.is_dual_stack() {
            return Err(format!("'{to}' is no single address to connect to"));
        }
        if let ListenAddress::Tcp { port: 0, .. } | ListenAddress::Udp { port: 0, .. } = to {
            return Err(format!("nobody listens on port 0: '{to}'"));
        }
        if !to.is_datagram() {
            return Ok(());
        }
        if !matches!(self.mode, LoadMode::Echo | LoadMode::Sink) {
            let mode = self.mode.name();
            return Err(format!(
                "--mode {mode} is for connections, and '{to}' has none"
            ));
        }
        if self.slow > 0 {
            return Err(format!("--slow is for connections, and '{to}' has none"));
        }
        if self.load().size > LONGEST_DATAGRAM {
            return Err(format!(
                "a datagram has at most {LONGEST_DATAGRAM} bytes: --size"
            ));
        }
        Ok(())
    }

    /// The load of these arguments.
    pub(crate) fn load(&self) -> Load {
        let mut load = Load::new(self.to.clone(), self.mode);
        let clients = match self.mode {
            LoadMode::Fanout => self.subscribers,
            _ => self.clients,
        };
        load.clients = clients.unwrap_or(load.clients);
        if self.mode == LoadMode::Fanout {
            load.publishers = self.publishers.unwrap_or(load.publishers);
        }
        load.slow = self.slow;
        load.size = self.size.unwrap_or(load.size);
        load.depth = match (self.depth, self.rate) {
            (Some(Limit::Of(Count(depth))), _) => depth,
            (Some(Limit::Unlimited), _) | (None, Some(_)) => usize::MAX,
            (None, None) => load.depth,
        };
        load.rate = self.rate;
        load.connect_rate = self.connect_rate;
        load.duration = self.duration;
        load.warmup = self.warmup.0;
        load.timeout = self.timeout;
        load.interval = self.interval.unwrap_or(load.interval);
        load.spin = self.spin.unwrap_or_else(has_processors);
        load.verify = self.verify;
        load.catch_signals = true;
        load
    }

    /// Whether there is to be a line for each interval.
    pub(crate) fn has_lines(&self) -> bool {
        self.interval.is_some()
    }

    pub(crate) fn max_p99(&self) -> Option<Duration> {
        self.max_p99.map(|Time(time)| time)
    }
}

/// Whether the server may have a processor of its own.
fn has_processors() -> bool {
    available_parallelism().is_ok_and(|n| n.get() > 1)
}

fn mode(text: &str) -> Result<LoadMode, String> {
    let mut modes = LoadMode::ALL.into_iter();
    modes
        .find(|mode| mode.name() == text)
        .ok_or_else(|| "expected echo, stream, churn, fanout, sink or source".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a number from 1 on".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    // What has no place in it is too many in any case.
    rate(text).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// A time that is long enough to measure in.
fn span(text: &str) -> Result<Duration, String> {
    let Time(time) = text.parse()?;
    if time < Duration::from_millis(10) {
        return Err("expected 10ms or more".to_owned());
    }
    Ok(time)
}

fn message(text: &str) -> Result<usize, String> {
    let size = size(text)?;
    if size > LONGEST {
        return Err("larger than 64MiB".to_owned());
    }
    match usize::try_from(size) {
        Ok(size) if size >= SHORTEST_MESSAGE => Ok(size),
        _ => Err(format!(
            "a message has its number and a newline in it, which are {SHORTEST_MESSAGE} bytes"
        )),
    }
}

#[cfg(test)]
mod tests;
