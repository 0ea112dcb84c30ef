//! The binary: parse, start the logger, bind, run, exit code.

mod cli;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use log::{LevelFilter, info, warn};
use resound::{Address, Broadcast, Config, Echo, Server, Service};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use cli::{Cli, Command};

/// Descriptors that are not clients: the standard streams, the poller, signals, listeners.
const RESERVED: usize = 32;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    start_logger(&cli);
    let places = raise_descriptor_limit().saturating_sub(RESERVED).max(1);
    let config = |args: &cli::ServerArgs| {
        let config = args.config(places);
        if config.max_clients.is_some_and(|wanted| wanted > places) {
            warn!("the limit of descriptors leaves room for about {places} clients only");
        }
        config
    };
    let result = match &cli.command {
        Command::Echo(args) => serve("echo", &config(&args.server), Echo::new()),
        Command::Broadcast(args) => {
            let mut config = config(&args.server);
            config.patience = args.patience();
            serve("broadcast", &config, Broadcast::new(args.max_message()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

/// Binds, says where, serves, and says what that came to.
fn serve<S: Service>(name: &str, config: &Config, service: S) -> Result<(), String> {
    let mut server = Server::bind(config, service).map_err(|e| e.to_string())?;
    server
        .stop_on_signals()
        .map_err(|e| format!("cannot catch signals: {e}"))?;
    let addresses = server.local_addrs();
    for address in &addresses {
        info!("listening on {address}");
    }
    let limit = config.max_clients;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let hint = addresses.first().map_or_else(String::new, netcat);
    info!("ready: {name}, max-clients {limit}; try {hint}; Ctrl-C or SIGTERM stops it");
    let stats = server
        .run()
        .map_err(|e| format!("cannot wait for events: {e}"))?;
    info!("stopped: {stats}");
    Ok(())
}

/// The command that talks to an address.
fn netcat(address: &Address) -> String {
    match address.reachable() {
        Address::Tcp(address) => format!("'nc {} {}'", address.ip(), address.port()),
        Address::Unix(path) => format!("'nc -U {}'", path.display()),
    }
}

/// One line on standard error, which may be closed.
fn fail(error: &impl Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "resound: {error}");
    ExitCode::FAILURE
}

/// `RUST_LOG` has the last word, if it says something: a mistake in it must not silence errors.
fn start_logger(cli: &Cli) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let logger = |filter: &str| {
        env_logger::Builder::new()
            .parse_filters(filter)
            .parse_write_style(&variable("RUST_LOG_STYLE"))
            .format_target(false)
            .build()
    };
    let wanted = variable("RUST_LOG");
    let mut chosen = logger(&wanted);
    // Where nothing in it makes sense, only errors are left.
    let meant = wanted.to_ascii_lowercase().contains("error");
    if chosen.filter() == LevelFilter::Error && !meant {
        chosen = logger(cli.log_filter());
    }
    let level = chosen.filter();
    if log::set_boxed_logger(Box::new(chosen)).is_ok() {
        log::set_max_level(level);
    }
}

/// Allows as many descriptors as the system lets us (setrlimit(2)); returns how many that are.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    now.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}
