//! The servers: binds, attaches the standard streams, says where it listens, runs, judges.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use log::{debug, info, warn};
use nix::sys::signal::{SigSet, Signal};
use resound::{
    Address, BoundAddress, Broadcast, Config, Echo, OnEof, PrefixedEcho, Role, Server, Service,
    Stats, TextEncoding, escape,
};

use super::no_loop::NoLoop;
use super::raise_descriptor_limit;
use super::small::Small;
use super::unanswered;
use crate::cli::{BroadcastArgs, EchoArgs, ReplyArgs, ServerArgs};
use crate::logger;
use crate::units::{self, duration};

/// Descriptors that are not clients: the standard streams, the poller, signals, listeners.
const RESERVED: usize = 32;

/// Runs `resound echo`.
pub(crate) fn echo(args: &EchoArgs) -> Result<(), String> {
    match args.prefix()? {
        None => serve_alone("echo", &args.server, Echo::new()),
        Some(prefix) => small("echo", &args.server, PrefixedEcho::new(prefix)),
    }
}

/// Runs `resound reply`.
pub(crate) fn reply(args: &ReplyArgs) -> Result<(), String> {
    small("reply", &args.server, args.service()?)
}

/// Runs `resound broadcast`.
pub(crate) fn broadcast(args: &BroadcastArgs) -> Result<(), String> {
    let service = Broadcast::new(args.room()).map_err(|e| e.to_string())?;
    let streams = Streams {
        publish: args.stdin(),
        subscribe: args.stdout(),
        ..Streams::of(&args.server)
    };
    let config = |max_clients| args.config(max_clients);
    serve("broadcast", config, service, streams)
}

/// Runs one of the services whose speed matters less.
pub(crate) fn small(
    name: &str,
    args: &ServerArgs,
    service: impl Into<Small>,
) -> Result<(), String> {
    serve_alone(name, args, service.into())
}

/// Serves with the options that every service has.
fn serve_alone<S: Service>(name: &str, args: &ServerArgs, service: S) -> Result<(), String> {
    let config = |max_clients| args.config(max_clients);
    serve(name, config, service, Streams::of(args))
}

/// The settings of a server for as many clients as there are descriptors for.
fn fitted(config: impl FnOnce(usize) -> Result<Config, String>) -> Result<Config, String> {
    let most = raise_descriptor_limit().saturating_sub(RESERVED).max(1);
    let config = config(most)?;
    if config.max_clients.is_some_and(|wanted| wanted > most) {
        warn!("the limit of descriptors leaves room for only about {most} clients");
    }
    Ok(config)
}

/// Uses of the standard streams.
#[derive(Clone, Copy, Debug)]
struct Streams {
    /// True if an operator sees the clients' input, and types answers and commands.
    console: bool,
    /// True if the clients' input is shown on standard output.
    show: bool,
    /// The encoding of the clients' input.
    encoding: TextEncoding,
    /// The end of standard input, if that is published.
    publish: Option<OnEof>,
    /// True if published messages go to standard output.
    subscribe: bool,
}

impl Streams {
    /// The uses that every service has.
    fn of(args: &ServerArgs) -> Self {
        Self {
            console: args.console,
            show: args.show,
            encoding: args.encoding,
            publish: None,
            subscribe: false,
        }
    }

    /// Gives the streams to the server.
    fn attach<S: Service>(self, server: &mut Server<S>) -> Result<(), String> {
        let failed = |what: &str, e: &io::Error| format!("cannot use {what}: {e}");
        if self.subscribe {
            let result = server.print_stdout();
            result.map_err(|e| failed("standard output", &e))?;
        }
        if let Some(on_eof) = self.publish {
            let result = server.publish_stdin(on_eof);
            result.map_err(|e| failed("standard input", &e))?;
        }
        if self.console {
            let result = server.open_console(self.encoding);
            result.map_err(|e| failed("the standard streams as a console", &e))?;
        } else if self.show {
            let result = server.show(self.encoding);
            result.map_err(|e| failed("standard output", &e))?;
        }
        Ok(())
    }

    /// The failure of a run that was to end with its input. Any other server has only lost one
    /// client when a standard stream fails.
    fn judge(self, stats: &Stats) -> Result<(), String> {
        if self.publish != Some(OnEof::Stop) {
            return Ok(());
        }
        let failed = |what: &str, kind: ErrorKind| Err(format!("cannot {what}: {kind}"));
        match (stats.stdin_error, stats.stdout_error) {
            (Some(kind), _) => failed("read standard input", kind),
            (_, Some(kind)) => failed("write to standard output", kind),
            _ if stats.incomplete > 0 => Err(loss(stats)),
            _ => Ok(()),
        }
    }
}

/// The messages of a run that ends by itself which clients did not get.
fn loss(stats: &Stats) -> String {
    let messages = units::counted(stats.missed + stats.undelivered, "message");
    let readers = units::counted(stats.incomplete, "slow reader");
    format!("{readers} missed {messages}")
}

/// Binds, attaches the standard streams, says where it listens, runs, and judges the end.
fn serve<S: Service>(
    name: &str,
    config: impl FnOnce(usize) -> Result<Config, String>,
    mut service: S,
    streams: Streams,
) -> Result<(), String> {
    let starting = NoLoop::begin().map_err(cannot_catch)?;
    let config = fitted(config)?;
    let unanswered = unanswered::warning(&config, &mut service);
    let mut server = Server::bind(&config, service).map_err(|e| e.to_string())?;
    server.catch_signals().map_err(cannot_catch)?;
    drop(starting);
    log_addresses(server.bound_addresses(), &config);
    if let Some(warning) = unanswered {
        warn!("{warning}");
    }
    streams.attach(&mut server)?;
    let limit = config.max_clients;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let hint = client_command(server.bound_addresses());
    let stop = if streams.console {
        "/help lists what can be typed"
    } else {
        "Ctrl-C or SIGTERM stops it"
    };
    info!("ready: {name}, max-clients {limit}; try {hint}; {stop}");
    let stats = server
        .run()
        .map_err(|e| format!("cannot wait for events: {e}"))?;
    let _ending = NoLoop::begin(); // the log may not be read
    logger::finish_warnings();
    info!("stopped: {stats}");
    streams.judge(&stats)
}

/// Keeps job control from stopping the process, as the server itself does for its console: a terminal
/// may accept the log from the job in front alone (`tostop` in termios(3)). To be called before the log
/// is used: its thread inherits this.
pub(crate) fn stay_in_background() -> Result<(), String> {
    let signals = SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]);
    signals.thread_block().map_err(|e| cannot_catch(e.into()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_catch(error: io::Error) -> String {
    format!("cannot catch signals: {error}")
}

/// Logs each address, and in detail its options and those of the loop.
fn log_addresses(addresses: &[BoundAddress], config: &Config) {
    for BoundAddress {
        address,
        role,
        options,
    } in addresses
    {
        let role = match role {
            Role::Both => "",
            Role::Publish => " (publish only)",
            Role::Subscribe => " (subscribe only)",
        };
        info!("listening on {address}{role}");
        debug!("{address}: {options}, {}", loop_options(config));
    }
}

/// The options in force that belong to the loop and not to the kernel.
fn loop_options(config: &Config) -> String {
    let timeout = |time: Option<Duration>| time.map_or_else(|| "unlimited".to_owned(), duration);
    let idle = timeout(config.idle_timeout);
    let write = timeout(config.write_timeout);
    let spin = match config.spin {
        Duration::ZERO => "off".to_owned(),
        spin => duration(spin),
    };
    format!("idle-timeout {idle}, write-timeout {write}, spin {spin}")
}

/// A command that talks to the server, preferably at an address that sends something.
fn client_command(addresses: &[BoundAddress]) -> String {
    let sending = addresses.iter().find(|bound| bound.role != Role::Publish);
    let bound = sending.or(addresses.first());
    bound.map_or_else(String::new, |bound| netcat(&bound.address))
}

/// The command that talks to an address: netcat where it can.
fn netcat(address: &Address) -> String {
    match address.reachable() {
        Address::Tcp(address) if !is_scoped(address) => {
            format!("'nc {} {}'", address.ip(), address.port())
        }
        Address::Udp(address) if !is_scoped(address) => {
            format!("'nc -u {} {}'", address.ip(), address.port())
        }
        Address::Unix(path) if !address.is_abstract() => {
            format!("'nc -U {}'", escape(path.as_os_str().as_bytes()))
        }
        other => format!("'resound connect {other}'"),
    }
}

/// True if the address is valid only together with an interface.
fn is_scoped(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}
