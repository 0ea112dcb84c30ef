//! The options of the load tester.

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use resound::ListenAddress;
use resound::load::{Load, LoadMode, Rate, SHORTEST_MESSAGE};

use crate::units;

use super::values::{
    Limit, address, check_destination, count, count_limit, duration, interval, rate, send_rate,
    size,
};

/// Bytes of the longest message.
const LONGEST: u64 = 64 << 20;

/// Bytes of the longest UDP datagram.
const LONGEST_DATAGRAM: usize = 65_507;

/// More clients than a system has descriptors for.
const MOST_CLIENTS: usize = 1_000_000;

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Address of the server: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), the same after udp://
    /// for datagrams, unix:PATH, unix:@NAME or unixgram:PATH
    #[arg(value_name = "ADDR", value_parser = address())]
    to: ListenAddress,

    /// Workload: 'echo' sends messages and receives them back; 'stream' does so in bulk; 'churn'
    /// connects, has one message echoed and disconnects; 'fanout' has publishers and subscribers of
    /// a room; 'sink' only sends; 'source' only receives
    #[arg(long, value_name = "MODE", default_value = "echo", value_parser = mode)]
    mode: LoadMode,

    /// Clients at a time [default: 50; stream, sink, source: 4]
    #[arg(long, value_name = "N", value_parser = count)]
    clients: Option<usize>,

    /// fanout: clients that receive the published messages [default: 100]
    #[arg(long, value_name = "N", value_parser = count)]
    subscribers: Option<usize>,

    /// fanout: clients that publish; each receives the messages of the others [default: 1]
    #[arg(long, value_name = "N", value_parser = count)]
    publishers: Option<usize>,

    /// Additional clients that stop reading; in modes other than fanout they also send
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    slow: usize,

    /// Bytes of a message, newline included [default: 64; stream, sink, source: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = message_size)]
    size: Option<usize>,

    /// Messages of one client in flight at a time; 'unlimited' needs --rate, and is the default
    /// with it [default: 1; stream: 16; fanout: 1024]
    #[arg(long, value_name = "N", value_parser = count_limit)]
    depth: Option<Limit<usize>>,

    /// Messages per second of all clients (churn: connections), sent at fixed times whatever the
    /// server does; latency counts from these times [default: as fast as they return]
    #[arg(long, value_name = "RATE", value_parser = send_rate)]
    rate: Option<Rate>,

    /// Connections opened per second [default: as fast as they are accepted]
    #[arg(long, value_name = "RATE", value_parser = send_rate)]
    connect_rate: Option<Rate>,

    /// Length of the measurement
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = interval)]
    duration: Duration,

    /// Length of the warm-up before the measurement
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    warmup: Duration,

    /// Time limit of connecting, of messages in flight at the end, of a datagram, and of a connection
    /// of churn
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    timeout: Duration,

    /// Check the contents of every message received
    #[arg(long)]
    verify: bool,

    /// Never sleep: a CPU is busy, and the server need not wake the load tester; off suits low rates
    /// [default: on with two or more processors]
    #[arg(long, value_name = "on|off", value_parser = switch)]
    spin: Option<bool>,

    /// Print a line on standard error at this interval, in place of the bar on a terminal
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,

    /// Print the results as one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the latencies of each interval to FILE, as an HdrHistogram log
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Fail if the 99th percentile of the latency is above this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_p99: Option<Duration>,

    /// Fail if the throughput is below this: messages (churn: connections) per second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) min_rate: Option<Rate>,
}

impl LoadArgs {
    /// Checks what the types of the options cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_mode()?;
        self.check_address()?;
        if self.depth == Some(Limit::Unlimited) && self.rate.is_none() {
            return Err("--depth unlimited needs --rate".to_owned());
        }
        self.check_rate()?;
        self.check_clients()
    }

    /// Checks that a system can have this number of clients.
    fn check_clients(&self) -> Result<(), String> {
        let load = self.load();
        let extra = [load.publishers, load.slow];
        let all = extra
            .iter()
            .try_fold(load.clients, |sum, n| sum.checked_add(*n));
        if all.is_some_and(|n| n <= MOST_CLIENTS) {
            return Ok(());
        }
        let given = [
            ("--clients", self.clients.is_some()),
            ("--subscribers", self.subscribers.is_some()),
            ("--publishers", self.publishers.is_some()),
            ("--slow", self.slow > 0),
        ];
        let given = given.iter().filter(|(_, given)| *given);
        let given: Vec<_> = given.map(|(option, _)| *option).collect();
        Err(format!(
            "more than {MOST_CLIENTS} clients: {}",
            given.join(", ")
        ))
    }

    /// Checks that each option given fits the mode.
    fn check_mode(&self) -> Result<(), String> {
        use LoadMode::{Churn, Echo, Fanout, Sink, Source, Stream};
        let answered = &[Echo, Stream, Churn, Fanout][..];
        let allowed: [(&str, bool, &[LoadMode]); 9] = [
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
        let Some((option, ..)) = allowed.iter().find(misplaced) else {
            return Ok(());
        };
        let hint = match *option {
            "--clients" => ", which has --subscribers and --publishers",
            _ => "",
        };
        let mode = self.mode.name();
        Err(format!("{option} is not for --mode {mode}{hint}"))
    }

    /// Checks that a message is due while it is measured.
    fn check_rate(&self) -> Result<(), String> {
        let end = self.warmup.saturating_add(self.duration);
        let Some(rate) = self
            .rate
            .filter(|rate| rate.first_after(self.warmup) >= end)
        else {
            return Ok(());
        };
        let [warmup, time] = [self.warmup, self.duration].map(units::duration);
        let rate = units::rate_given(rate);
        Err(format!(
            "with --rate {rate} no message is due within --duration {time} after --warmup {warmup}"
        ))
    }

    fn check_address(&self) -> Result<(), String> {
        let to = &self.to;
        check_destination(to)?;
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
            (Some(Limit::Of(depth)), _) => depth,
            (Some(Limit::Unlimited), _) | (None, Some(_)) => usize::MAX,
            (None, None) => load.depth,
        };
        load.rate = self.rate;
        load.connect_rate = self.connect_rate;
        load.duration = self.duration;
        load.warmup = self.warmup;
        load.timeout = self.timeout;
        load.interval = self.interval.unwrap_or(load.interval);
        load.spin = self.spin.unwrap_or_else(has_spare_processor);
        load.verify = self.verify;
        load.catch_signals = true;
        load
    }

    /// True if each interval prints a line.
    pub(crate) fn has_lines(&self) -> bool {
        self.interval.is_some()
    }
}

/// True if the server can have a processor of its own.
fn has_spare_processor() -> bool {
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

fn message_size(text: &str) -> Result<usize, String> {
    let size = size(text)?;
    if size > LONGEST {
        return Err("larger than 64MiB".to_owned());
    }
    match usize::try_from(size) {
        Ok(size) if size >= SHORTEST_MESSAGE => Ok(size),
        _ => Err(format!(
            "a message holds its number and a newline, which are {SHORTEST_MESSAGE} bytes"
        )),
    }
}

#[cfg(test)]
mod tests;
