//! The options of every server.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use resound::{Config, Keepalive, Listen, ListenAddress, SocketOptions, Template, TextEncoding};

use super::values::{
    Limit, bind_device, buffer, count_limit, defer_accept, dscp, duration, keepalive, listen, size,
    timeout, tos, unix_mode,
};

// The options that every service takes. A doc comment would replace the summary in a command's help.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub(crate) struct ServerArgs {
    /// Address to listen on: HOST:PORT, [IPv6]:PORT, *:PORT (every address), PORT (on 127.0.0.1),
    /// each optionally after tcp:// or udp://; unix:PATH, unixgram:PATH (datagrams), or unix:@NAME
    /// (abstract). A host name stands for all its addresses; with port 0 the system chooses. May be
    /// repeated [default: 127.0.0.1:9999]
    #[arg(short, long, value_name = "ADDR", value_parser = listen())]
    pub(super) listen: Vec<Listen>,

    /// Clients served at a time, or 'unlimited'; others wait [default: as many as the limit of
    /// descriptors allows]
    #[arg(long, value_name = "N", value_parser = count_limit)]
    max_clients: Option<Limit<usize>>,

    /// Do not read a client while more output than this waits for it
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = size)]
    high_water: u64,

    /// Time to deliver pending output after a stop
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    grace: Duration,

    /// Close a client after this time without a byte in either direction, or 'unlimited'
    /// [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    idle_timeout: Option<Limit<Duration>>,

    /// Reset a client that reads none of its pending output for this time, or 'unlimited'
    /// [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    write_timeout: Option<Limit<Duration>>,

    /// Send TEXT to each client when it connects
    #[arg(long, value_name = "TEXT")]
    greeting: Option<Template>,

    /// Serve one client, or answer one datagram, then exit; a client that leaves without a byte in
    /// either direction does not count
    #[arg(long)]
    once: bool,

    /// Show the clients' input on standard output, as 'ID PEER: TEXT' (datagrams have the ID 0)
    #[arg(long)]
    pub(crate) show: bool,

    /// Show the clients' input on standard output, and read texts for them and commands from
    /// standard input: /help lists them
    #[arg(long)]
    pub(crate) console: bool,

    /// Encoding of the clients: of TEXT when sent, of the input shown and of the operator's texts:
    /// gbk, big5, shift_jis, latin1 or any other label of the Encoding Standard
    #[arg(long, value_name = "LABEL", default_value_t, hide_default_value = true)]
    pub(crate) encoding: TextEncoding,

    /// Datagrams answered per second to one source that isn't on loopback (an IP address; of IPv6 a
    /// /64), or 'unlimited' [default: 10000]
    #[arg(long, value_name = "N", value_parser = count_limit)]
    udp_rate: Option<Limit<usize>>,

    /// Send UDP answers of any length: more than 64 bytes and three times the question floods the
    /// owner of a forged source address (CVE-1999-0103)
    #[arg(long)]
    pub(super) udp_amplify: bool,

    /// Keep polling for this time after the last event before sleeping, such as 50us: answers are
    /// sent sooner, and meanwhile a CPU is busy [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    spin: Option<Duration>,

    #[command(flatten)]
    sockets: SocketArgs,
}

// Options of the listeners' sockets, and of their clients'.
#[derive(Args, Debug)]
#[command(next_help_heading = "Socket options")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct SocketArgs {
    /// Connections that may wait to be accepted (the system may cap it) [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    backlog: Option<i32>,

    /// Without SO_REUSEADDR: a restart fails until the system has forgotten old connections
    #[arg(long)]
    no_reuse_addr: bool,

    /// SO_REUSEPORT: share the address with other processes that set it too
    #[arg(long)]
    reuse_port: bool,

    /// SO_RCVBUF: size of the kernel's receive buffer (Linux doubles it, up to a limit)
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    recv_buffer: Option<usize>,

    /// SO_SNDBUF: size of the kernel's send buffer (Linux doubles it, up to a limit)
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    send_buffer: Option<usize>,

    /// Without TCP_NODELAY: small writes may be delayed (Nagle's algorithm)
    #[arg(long)]
    no_nodelay: bool,

    /// SO_KEEPALIVE: probe the peer after IDLE without traffic, every INTERVAL, COUNT times; such
    /// as 60s,10s,3 [default on subscribe-only addresses: 60s,10s,6]
    #[arg(long, value_name = "IDLE[,INTERVAL[,COUNT]]", value_parser = keepalive)]
    keepalive: Option<Keepalive>,

    /// SO_LINGER: time for a client that the server closes to read its output; 0s closes it at
    /// once, and unread output is lost [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    linger: Option<Duration>,

    /// IP_TOS: type of service of the packets sent, from 0 to 255
    #[arg(long, value_name = "N", value_parser = tos)]
    tos: Option<u8>,

    /// Upper six bits of IP_TOS: a number from 0 to 63, or a name such as ef, cs1, af41
    #[arg(long, value_name = "CLASS", value_parser = dscp, conflicts_with = "tos")]
    dscp: Option<u8>,

    /// TCP_DEFER_ACCEPT: accept a client when it has sent data, or after this time in whole seconds
    /// (Linux)
    #[arg(long, value_name = "DURATION", value_parser = defer_accept)]
    defer_accept: Option<u32>,

    /// TCP_FASTOPEN: connections that may wait with data in their SYN (Linux)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535))]
    fast_open: Option<u32>,

    /// SO_BINDTODEVICE: use only this interface (Linux)
    #[arg(long, value_name = "INTERFACE", value_parser = bind_device)]
    bind_device: Option<String>,

    /// IPV6_V6ONLY: [::] does not include IPv4
    #[arg(long)]
    ipv6_only: bool,

    /// Permissions of a Unix socket's file, such as 0660
    #[arg(long, value_name = "MODE", value_parser = unix_mode)]
    unix_mode: Option<u32>,
}

impl ServerArgs {
    /// The settings of the server. `max_clients` is the default of `--max-clients`.
    pub(crate) fn config(&self, max_clients: usize) -> Result<Config, String> {
        let mut config = Config::default();
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.sockets = self.sockets.options();
        config.max_clients = match self.max_clients {
            None => Some(max_clients),
            Some(limit) => limit.value(),
        };
        config.high_water = self.high_water;
        if let Some(greeting) = self.greeting.clone() {
            config.greeting = Some(self.encoded(greeting, "--greeting")?);
        }
        config.once = self.once;
        config.idle_timeout = self.idle_timeout.and_then(Limit::value);
        config.write_timeout = self.write_timeout.and_then(Limit::value);
        config.udp_rate = match self.udp_rate {
            None => config.udp_rate,
            Some(limit) => limit.value().map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        };
        config.udp_amplify = self.udp_amplify;
        config.spin = self.spin.unwrap_or(config.spin);
        config.grace = self.grace;
        Ok(config)
    }

    /// The text of an option in the encoding of the clients.
    pub(super) fn encoded(&self, text: Template, option: &str) -> Result<Template, String> {
        let encoded = text.encoded(self.encoding);
        encoded.map_err(|e| format!("{option}: {e}"))
    }

    /// Checks that each option given fits one of the listeners.
    pub(super) fn check(&self, listeners: &[Listen]) -> Result<(), String> {
        let addresses = || listeners.iter().map(|listen| &listen.address);
        let SocketArgs { ipv6_only, .. } = self.sockets;
        if ipv6_only && let Some(address) = addresses().find(|a| a.is_dual_stack()) {
            return Err(format!(
                "--ipv6-only excludes IPv4, which is part of --listen '{address}'"
            ));
        }
        for (name, scope) in self.given() {
            if !addresses().any(|address| scope.contains(address)) {
                return Err(format!("{name} is for {scope}, and there is none"));
            }
        }
        Ok(())
    }

    /// The options given that not every socket has.
    fn given(&self) -> impl Iterator<Item = (&'static str, Scope)> {
        let own = [
            ("--greeting", Scope::Stream, self.greeting.is_some()),
            ("--max-clients", Scope::Stream, self.max_clients.is_some()),
            ("--udp-rate", Scope::Udp, self.udp_rate.is_some()),
            ("--udp-amplify", Scope::Datagram, self.udp_amplify),
            ("--idle-timeout", Scope::Stream, self.idle_timeout.is_some()),
            (
                "--write-timeout",
                Scope::Stream,
                self.write_timeout.is_some(),
            ),
        ];
        let all = own.into_iter().chain(self.sockets.given());
        let given = all.filter(|(_, _, given)| *given);
        given.map(|(name, scope, _)| (name, scope))
    }
}

/// The listeners to which an option applies.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Stream,
    Tcp,
    Udp,
    Datagram,
    Ip,
    Ipv6,
    UnixFile,
}

impl Scope {
    fn contains(self, address: &ListenAddress) -> bool {
        let tcp = matches!(address, ListenAddress::Tcp { .. });
        let udp = matches!(address, ListenAddress::Udp { .. });
        match self {
            Self::Stream => !address.is_datagram(),
            Self::Tcp => tcp,
            Self::Udp => udp,
            Self::Datagram => address.is_datagram(),
            Self::Ipv6 => match address {
                ListenAddress::Tcp { host, .. } | ListenAddress::Udp { host, .. } => {
                    host.parse::<Ipv4Addr>().is_err()
                }
                _ => false,
            },
            Self::Ip => tcp || udp,
            Self::UnixFile => address.has_file(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "listeners for connections",
            Self::Tcp => "TCP listeners",
            Self::Udp => "UDP listeners",
            Self::Datagram => "listeners for datagrams",
            Self::Ipv6 => "listeners on IPv6",
            Self::Ip => "TCP and UDP listeners",
            Self::UnixFile => "Unix sockets with a path",
        })
    }
}

impl SocketArgs {
    fn options(&self) -> SocketOptions {
        let mut options = SocketOptions::default();
        options.backlog = self.backlog.unwrap_or(options.backlog);
        options.reuse_addr = !self.no_reuse_addr;
        options.reuse_port = self.reuse_port;
        options.recv_buffer = self.recv_buffer;
        options.send_buffer = self.send_buffer;
        options.nodelay = !self.no_nodelay;
        options.keepalive = self.keepalive;
        options.linger = self.linger;
        options.tos = self.tos.or(self.dscp);
        options.defer_accept = self.defer_accept;
        options.fast_open = self.fast_open;
        options.bind_device.clone_from(&self.bind_device);
        options.ipv6_only = self.ipv6_only;
        options.unix_mode = self.unix_mode;
        options
    }

    /// The options that not every socket has; true if the option was given.
    fn given(&self) -> impl Iterator<Item = (&'static str, Scope, bool)> {
        let all = [
            ("--backlog", Scope::Stream, self.backlog.is_some()),
            ("--linger", Scope::Stream, self.linger.is_some()),
            ("--no-reuse-addr", Scope::Tcp, self.no_reuse_addr),
            ("--reuse-port", Scope::Ip, self.reuse_port),
            ("--no-nodelay", Scope::Tcp, self.no_nodelay),
            ("--keepalive", Scope::Tcp, self.keepalive.is_some()),
            ("--tos", Scope::Ip, self.tos.is_some()),
            ("--dscp", Scope::Ip, self.dscp.is_some()),
            ("--defer-accept", Scope::Tcp, self.defer_accept.is_some()),
            ("--fast-open", Scope::Tcp, self.fast_open.is_some()),
            ("--bind-device", Scope::Ip, self.bind_device.is_some()),
            ("--ipv6-only", Scope::Ipv6, self.ipv6_only),
            ("--unix-mode", Scope::UnixFile, self.unix_mode.is_some()),
        ];
        all.into_iter()
    }
}

/// Checks that the service has what the listeners are for: roles, datagrams.
pub(super) fn check_listeners(
    listeners: &[Listen],
    has_roles: bool,
    has_datagrams: bool,
) -> Result<(), String> {
    let with_role = listeners.iter().find(|listen| listen.role.is_some());
    if let Some(listen) = with_role.filter(|_| !has_roles) {
        return Err(format!("only broadcast has roles: --listen '{listen}'"));
    }
    let mut datagrams = listeners
        .iter()
        .filter(|listen| listen.address.is_datagram());
    if let Some(listen) = datagrams.next().filter(|_| !has_datagrams) {
        return Err(format!("broadcast has no datagrams: --listen '{listen}'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, with};
    use clap::Parser;

    fn discard(text: &str) -> ServerArgs {
        let args = ["resound", "discard"]
            .into_iter()
            .chain(text.split_whitespace());
        match Cli::try_parse_from(args).unwrap().command {
            Command::Discard(args) => args.server,
            _ => unreachable!(),
        }
    }

    #[test]
    fn every_option_arrives() {
        let args = discard(
            "--idle-timeout 10s --write-timeout 5s --greeting hi --once --udp-rate 7 --backlog 9 \
             --no-reuse-addr --reuse-port --recv-buffer 64KiB --send-buffer 1MiB --no-nodelay \
             --keepalive 60s,10s,3 --linger 0s --dscp ef --defer-accept 5s --fast-open 16 \
             --bind-device lo --ipv6-only --unix-mode 0660 --show --console --encoding gbk \
             --spin 50us",
        );
        let mut keepalive = Keepalive::new(Duration::from_secs(60));
        keepalive.interval = Some(Duration::from_secs(10));
        keepalive.count = Some(3);
        let sockets = with(SocketOptions::default(), |options| {
            options.backlog = 9;
            options.reuse_addr = false;
            options.reuse_port = true;
            options.recv_buffer = Some(65536);
            options.send_buffer = Some(1 << 20);
            options.nodelay = false;
            options.keepalive = Some(keepalive);
            options.linger = Some(Duration::ZERO);
            options.tos = Some(46 << 2);
            options.defer_accept = Some(5);
            options.fast_open = Some(16);
            options.bind_device = Some("lo".to_owned());
            options.ipv6_only = true;
            options.unix_mode = Some(0o660);
        });
        let gbk = "gbk".parse().unwrap();
        let expected = with(Config::default(), |config| {
            config.sockets = sockets;
            config.max_clients = Some(5);
            config.greeting = Some("hi".parse::<Template>().unwrap().encoded(gbk).unwrap());
            config.once = true;
            config.idle_timeout = Some(Duration::from_secs(10));
            config.write_timeout = Some(Duration::from_secs(5));
            config.udp_rate = Some(7);
            config.spin = Duration::from_micros(50);
        });
        assert_eq!(args.config(5), Ok(expected));
        assert_eq!((args.show, args.console, args.encoding), (true, true, gbk));
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let default = with(Config::default(), |config| config.max_clients = Some(5));
        assert_eq!(discard("").config(5), Ok(default));
        let unlimited = discard("-l udp://7 --udp-rate unlimited --idle-timeout unlimited");
        assert_eq!(unlimited.config(5).unwrap().udp_rate, None);
    }
}
