//! The arguments of every server.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use resound::{
    Config, Keepalive, Listen, ListenAddress, Role, SocketOptions, Template, TextEncoding,
};

use super::values::{
    Count, Limit, Time, bind_device, buffer, defer_accept, dscp, keepalive, size, timeout, tos,
    unix_mode,
};

/// What every service takes.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Where to listen: HOST:PORT, [IPv6]:PORT, *:PORT (every address), PORT (on 127.0.0.1),
    /// each perhaps with tcp:// in front, or with udp://; unix:PATH, unixgram:PATH (datagrams), or
    /// unix:@NAME (abstract). A name stands for all its addresses; port 0 lets the system
    /// choose. May be given more than once [default: 127.0.0.1:9999]
    #[arg(short, long, value_name = "ADDR")]
    pub(super) listen: Vec<Listen>,

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

    /// Close a client that sent nothing and was sent nothing for so long, or 'unlimited'
    /// [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    idle_timeout: Option<Limit<Time>>,

    /// Reset a client that takes nothing of what it is sent for so long, or 'unlimited'
    /// [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    write_timeout: Option<Limit<Time>>,

    /// Send each client TEXT when it comes
    #[arg(long, value_name = "TEXT")]
    greeting: Option<Template>,

    /// Serve one client, or answer one datagram, then exit
    #[arg(long)]
    once: bool,

    /// Show what clients send on standard output, as 'ID PEER: TEXT' (datagrams have the ID 0)
    #[arg(long)]
    pub(crate) show: bool,

    /// Show what clients send on standard output, and take texts for them and commands from
    /// standard input: /help lists them
    #[arg(long)]
    pub(crate) console: bool,

    /// The encoding of TEXT as it is sent, of what is shown and of what an operator types: gbk,
    /// big5, shift_jis, latin1 or any other label of the Encoding Standard
    #[arg(long, value_name = "LABEL", default_value_t, hide_default_value = true)]
    pub(crate) encoding: TextEncoding,

    /// Datagrams that are answered to one source (an IP address; of IPv6 a /64) in a second, or
    /// 'unlimited' [default: 10000]
    #[arg(long, value_name = "N")]
    udp_rate: Option<Limit<Count>>,

    /// Go on polling for so long after the last event before sleeping, such as 50us: answers
    /// come sooner, and meanwhile a CPU is busy [default: 0s]
    #[arg(long, value_name = "DURATION")]
    spin: Option<Time>,

    #[command(flatten)]
    sockets: SocketArgs,
}

/// Options of the sockets: those of the listeners and of their clients.
#[derive(Args, Debug)]
#[command(next_help_heading = "Socket options")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct SocketArgs {
    /// Connections that may wait to be accepted (the system may cap it) [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    backlog: Option<i32>,

    /// Without SO_REUSEADDR: a restart is refused until old connections are forgotten
    #[arg(long)]
    no_reuse_addr: bool,

    /// SO_REUSEPORT: share the address with other processes that set it too
    #[arg(long)]
    reuse_port: bool,

    /// SO_RCVBUF: what the kernel keeps of input (Linux doubles it, and has a limit)
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    recv_buffer: Option<usize>,

    /// SO_SNDBUF: what the kernel keeps of output (Linux doubles it, and has a limit)
    #[arg(long, value_name = "SIZE", value_parser = buffer)]
    send_buffer: Option<usize>,

    /// Without TCP_NODELAY: small writes may wait for others (Nagle)
    #[arg(long)]
    no_nodelay: bool,

    /// SO_KEEPALIVE: after IDLE of silence ask the peer for a sign of life, every INTERVAL, COUNT
    /// times; such as 60s,10s,3
    #[arg(long, value_name = "IDLE[,INTERVAL[,COUNT]]", value_parser = keepalive)]
    keepalive: Option<Keepalive>,

    /// How long a client that the server closes may take for what it was sent (SO_LINGER); 0s
    /// closes it at once, and what it hasn't taken is lost [default: 1s]
    #[arg(long, value_name = "DURATION")]
    linger: Option<Time>,

    /// IP_TOS: the type of service of what is sent, from 0 to 255
    #[arg(long, value_name = "N", value_parser = tos)]
    tos: Option<u8>,

    /// The same by its upper six bits: a number from 0 to 63, or a name such as ef, cs1, af41
    #[arg(long, value_name = "CLASS", value_parser = dscp, conflicts_with = "tos")]
    dscp: Option<u8>,

    /// TCP_DEFER_ACCEPT: who sends nothing isn't accepted for so long, in whole seconds (Linux)
    #[arg(long, value_name = "DURATION", value_parser = defer_accept)]
    defer_accept: Option<u32>,

    /// TCP_FASTOPEN: so many may wait that have sent data with their SYN (Linux)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535))]
    fast_open: Option<u32>,

    /// SO_BINDTODEVICE: only what comes through this interface (Linux)
    #[arg(long, value_name = "INTERFACE", value_parser = bind_device)]
    bind_device: Option<String>,

    /// IPV6_V6ONLY: [::] doesn't take IPv4, too
    #[arg(long)]
    ipv6_only: bool,

    /// The permissions of the file of a Unix socket, such as 0660
    #[arg(long, value_name = "MODE", value_parser = unix_mode)]
    unix_mode: Option<u32>,
}

impl ServerArgs {
    /// The settings; without `--max-clients` there may be `max_clients`.
    pub(crate) fn config(&self, max_clients: usize) -> Result<Config, String> {
        let mut config = Config::default();
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.sockets = self.sockets.options();
        config.max_clients = match self.max_clients {
            None => Some(max_clients),
            Some(Limit::Of(Count(n))) => Some(n),
            Some(Limit::Unlimited) => None,
        };
        config.high_water = self.high_water;
        if let Some(greeting) = self.greeting.clone() {
            config.greeting = Some(self.encoded(greeting, "--greeting")?);
        }
        config.once = self.once;
        config.idle_timeout = self.idle_timeout.and_then(Limit::time);
        config.write_timeout = self.write_timeout.and_then(Limit::time);
        config.udp_rate = match self.udp_rate {
            None => config.udp_rate,
            Some(Limit::Of(Count(n))) => Some(u32::try_from(n).unwrap_or(u32::MAX)),
            Some(Limit::Unlimited) => None,
        };
        if let Some(Time(spin)) = self.spin {
            config.spin = spin;
        }
        config.grace = self.grace.0;
        Ok(config)
    }

    /// A text in the encoding of the clients.
    pub(super) fn encoded(&self, text: Template, what: &str) -> Result<Template, String> {
        let encoded = text.encoded(self.encoding);
        encoded.map_err(|e| format!("{what}: {e}"))
    }

    /// What is wrong with the options, given where the server listens.
    pub(super) fn check(&self, listens: &[Listen]) -> Result<(), String> {
        let addresses = || listens.iter().map(|listen| &listen.address);
        let SocketArgs { ipv6_only, .. } = self.sockets;
        if ipv6_only && let Some(address) = addresses().find(|a| a.is_dual_stack()) {
            return Err(format!(
                "--ipv6-only leaves nothing of both families: --listen '{address}'"
            ));
        }
        for (name, fits) in self.given() {
            if !addresses().any(|address| fits.fit(address)) {
                return Err(format!("{name} is for {fits}, and there is none"));
            }
        }
        Ok(())
    }

    /// The options that were given and that not every socket has.
    fn given(&self) -> impl Iterator<Item = (&'static str, Fits)> {
        let own = [
            ("--greeting", Fits::Stream, self.greeting.is_some()),
            ("--max-clients", Fits::Stream, self.max_clients.is_some()),
            ("--udp-rate", Fits::Udp, self.udp_rate.is_some()),
            ("--idle-timeout", Fits::Stream, self.idle_timeout.is_some()),
            (
                "--write-timeout",
                Fits::Stream,
                self.write_timeout.is_some(),
            ),
        ];
        let all = own.into_iter().chain(self.sockets.given());
        let given = all.filter(|(_, _, given)| *given);
        given.map(|(name, fits, _)| (name, fits))
    }
}

/// The sockets that have an option.
#[derive(Clone, Copy, Debug)]
enum Fits {
    Stream,
    Tcp,
    Udp,
    Ip,
    Ipv6,
    UnixFile,
}

impl Fits {
    fn fit(self, address: &ListenAddress) -> bool {
        let tcp = matches!(address, ListenAddress::Tcp { .. });
        let udp = matches!(address, ListenAddress::Udp { .. });
        match self {
            Self::Stream => !address.is_datagram(),
            Self::Tcp => tcp,
            Self::Udp => udp,
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

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "listeners for connections",
            Self::Tcp => "TCP listeners",
            Self::Udp => "UDP listeners",
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
        options.linger = self.linger.map(|Time(time)| time);
        options.tos = self.tos.or(self.dscp);
        options.defer_accept = self.defer_accept;
        options.fast_open = self.fast_open;
        options.bind_device.clone_from(&self.bind_device);
        options.ipv6_only = self.ipv6_only;
        options.unix_mode = self.unix_mode;
        options
    }

    /// The options that not every socket has, and whether they were given.
    fn given(&self) -> impl Iterator<Item = (&'static str, Fits, bool)> {
        let all = [
            ("--backlog", Fits::Stream, self.backlog.is_some()),
            ("--linger", Fits::Stream, self.linger.is_some()),
            ("--no-reuse-addr", Fits::Tcp, self.no_reuse_addr),
            ("--reuse-port", Fits::Ip, self.reuse_port),
            ("--no-nodelay", Fits::Tcp, self.no_nodelay),
            ("--keepalive", Fits::Tcp, self.keepalive.is_some()),
            ("--tos", Fits::Ip, self.tos.is_some()),
            ("--dscp", Fits::Ip, self.dscp.is_some()),
            ("--defer-accept", Fits::Tcp, self.defer_accept.is_some()),
            ("--fast-open", Fits::Tcp, self.fast_open.is_some()),
            ("--bind-device", Fits::Ip, self.bind_device.is_some()),
            ("--ipv6-only", Fits::Ipv6, self.ipv6_only),
            ("--unix-mode", Fits::UnixFile, self.unix_mode.is_some()),
        ];
        all.into_iter()
    }
}

impl Limit<Time> {
    /// The time, if there is a limit.
    fn time(self) -> Option<Duration> {
        match self {
            Self::Of(Time(time)) => Some(time),
            Self::Unlimited => None,
        }
    }
}

/// Why these listeners are not for this service, if they aren't.
pub(super) fn misplaced(listens: &[Listen], roles: bool, datagrams: bool) -> Result<(), String> {
    let role = listens.iter().find(|listen| listen.role != Role::Both);
    if let Some(listen) = role.filter(|_| !roles) {
        return Err(format!("only broadcast has roles: --listen '{listen}'"));
    }
    let datagram = listens.iter().find(|listen| listen.address.is_datagram());
    if let Some(listen) = datagram.filter(|_| !datagrams) {
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
