//! The binary: parse, start the logger, bind, run, exit code.

mod cli;
mod report;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use log::{LevelFilter, debug, info, warn};
use resound::{
    Address, BoundAddress, Broadcast, Config, Discard, Echo, OnEof, Plain, PrefixedEcho, Role,
    Server, Service, TextEncoding, Time,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use cli::{Cli, Command, ServerArgs};

/// Descriptors that are not clients: the standard streams, the poller, signals, listeners.
const RESERVED: usize = 32;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    start_logger(&cli);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

/// Does what the command line says.
fn run(cli: &Cli) -> Result<(), String> {
    match &cli.command {
        Command::Echo(args) => match args.prefix()? {
            None => serve_plainly("echo", &args.server, Echo::new()),
            Some(prefix) => {
                let service = Plain::Prefixed(PrefixedEcho::new(prefix));
                serve_plainly("echo", &args.server, service)
            }
        },
        Command::Discard(args) => {
            serve_plainly("discard", &args.server, Plain::Discard(Discard::new()))
        }
        Command::Reply(args) => serve_plainly("reply", &args.server, Plain::Reply(args.service()?)),
        Command::Daytime(args) => {
            serve_plainly("daytime", &args.server, Plain::Daytime(args.service()))
        }
        Command::Time(args) => serve_plainly("time", &args.server, Plain::Time(Time::new())),
        Command::Chargen(args) => {
            serve_plainly("chargen", &args.server, Plain::Chargen(args.service()))
        }
        Command::Broadcast(args) => {
            let config = checked(|places| args.config(places))?;
            let service = Broadcast::new(args.room()).map_err(|e| e.to_string())?;
            let stdio = Stdio {
                input: args.stdin(),
                output: args.stdout(),
                ..Stdio::of(&args.server)
            };
            serve("broadcast", &config, service, stdio)
        }
        Command::Connect(args) => args.connect()?.run().map_err(|e| e.to_string()),
        Command::Load(args) => {
            raise_descriptor_limit();
            report::load(args, cli.quiet)
        }
    }
}

/// The settings of a server for as many clients as there are descriptors for.
fn checked(config: impl FnOnce(usize) -> Result<Config, String>) -> Result<Config, String> {
    let places = raise_descriptor_limit().saturating_sub(RESERVED).max(1);
    let config = config(places)?;
    if config.max_clients.is_some_and(|wanted| wanted > places) {
        warn!("the limit of descriptors leaves room for about {places} clients only");
    }
    Ok(config)
}

/// What the standard streams are used for.
#[derive(Clone, Copy, Debug)]
struct Stdio {
    /// An operator sees what clients send, and types.
    console: bool,
    /// What clients send is shown.
    show: bool,
    encoding: TextEncoding,
    /// Input is published; and what then.
    input: Option<OnEof>,
    /// What is published goes to output.
    output: bool,
}

impl Stdio {
    /// What every service may use them for.
    fn of(args: &ServerArgs) -> Self {
        Self {
            console: args.console,
            show: args.show,
            encoding: args.encoding,
            input: None,
            output: false,
        }
    }
}

/// Serves with what every service takes.
fn serve_plainly<S: Service>(name: &str, args: &ServerArgs, service: S) -> Result<(), String> {
    let config = checked(|places| args.config(places))?;
    serve(name, &config, service, Stdio::of(args))
}

/// Binds, says where, serves, and says what that came to.
fn serve<S: Service>(name: &str, config: &Config, service: S, stdio: Stdio) -> Result<(), String> {
    let mut server = Server::bind(config, service).map_err(|e| e.to_string())?;
    server
        .catch_signals()
        .map_err(|e| format!("cannot catch signals: {e}"))?;
    for BoundAddress {
        address,
        role,
        options,
    } in server.places()
    {
        let role = match role {
            Role::Both => "",
            Role::Publish => " (publish only)",
            Role::Subscribe => " (subscribe only)",
        };
        info!("listening on {address}{role}");
        debug!("{address}: {options}, {}", of_the_loop(config));
    }
    attach(&mut server, stdio)?;
    let limit = config.max_clients;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let places = server.places();
    let heard = places.iter().find(|place| place.role != Role::Publish);
    let hint = heard.or(places.first());
    let hint = hint.map_or_else(String::new, |place| netcat(&place.address));
    let stop = if stdio.console {
        "/help lists what can be typed"
    } else {
        "Ctrl-C or SIGTERM stops it"
    };
    info!("ready: {name}, max-clients {limit}; try {hint}; {stop}");
    let stats = server
        .run()
        .map_err(|e| format!("cannot wait for events: {e}"))?;
    info!("stopped: {stats}");
    if stdio.input != Some(OnEof::Stop) {
        return Ok(()); // a server has only lost one client
    }
    let failed = |what: &str, kind| Err(format!("cannot {what}: {kind}"));
    match (stats.stdin_error, stats.stdout_error) {
        (Some(kind), _) => failed("read standard input", kind),
        (_, Some(kind)) => failed("write to standard output", kind),
        _ => Ok(()),
    }
}

/// Gives the server the standard streams that it is to use.
fn attach<S: Service>(server: &mut Server<S>, stdio: Stdio) -> Result<(), String> {
    let failed = |what: &str, e: &io::Error| format!("cannot use {what}: {e}");
    if stdio.output {
        let result = server.print_stdout();
        result.map_err(|e| failed("standard output", &e))?;
    }
    if let Some(at_end) = stdio.input {
        let result = server.publish_stdin(at_end);
        result.map_err(|e| failed("standard input", &e))?;
    }
    if stdio.console {
        let result = server.open_console(stdio.encoding);
        result.map_err(|e| failed("the standard streams as a console", &e))?;
    } else if stdio.show {
        let result = server.show(stdio.encoding);
        result.map_err(|e| failed("standard output", &e))?;
    }
    Ok(())
}

/// The options in force that are the loop's and not the kernel's.
fn of_the_loop(config: &Config) -> String {
    let time = |time: Option<Duration>| match time {
        Some(time) => humantime::format_duration(time).to_string(),
        None => "unlimited".to_owned(),
    };
    let (idle, write) = (time(config.idle_timeout), time(config.write_timeout));
    let spin = match config.spin {
        Duration::ZERO => "off".to_owned(),
        spin => humantime::format_duration(spin).to_string(),
    };
    format!("idle-timeout {idle}, write-timeout {write}, spin {spin}")
}

/// The command that talks to an address.
fn netcat(address: &Address) -> String {
    match address.reachable() {
        Address::Tcp(address) if !is_scoped(address) => {
            format!("'nc {} {}'", address.ip(), address.port())
        }
        Address::Udp(address) if !is_scoped(address) => {
            format!("'nc -u {} {}'", address.ip(), address.port())
        }
        Address::Unix(path) if !address.is_abstract() => format!("'nc -U {}'", path.display()),
        other => format!("'resound connect {other}'"),
    }
}

/// Whether it means something only together with an interface.
fn is_scoped(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

/// One line on standard error, which may be closed, for each reason.
fn fail(error: &str) -> ExitCode {
    for reason in error.lines() {
        let _ = writeln!(io::stderr(), "resound: {reason}");
    }
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
