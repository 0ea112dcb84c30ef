//! Addresses: as written on the command line, and as the kernel knows them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::unix::abstract_name;

/// Where to listen, as a person writes it; a host name is not resolved yet.
///
/// Forms: `HOST:PORT`, `[IPv6]:PORT` (with a scope as in `[fe80::1%eth0]:PORT`), `PORT` (on
/// 127.0.0.1) and `*:PORT` (every address of both families), each with or without `tcp://` in front,
/// or with `udp://` for datagrams; `unix:PATH` for streams and `unixgram:PATH` for datagrams. On Linux a
/// path that begins with `@` is a name without a file (unix(7), abstract). Port 0 lets the kernel
/// choose. [`fmt::Display`] gives back a text that parses to the same value.
///
/// ```
/// use resound::ListenAddress;
/// let address: ListenAddress = "[::1]:7000".parse()?;
/// assert_eq!(address.to_string(), "[::1]:7000");
/// assert_eq!("9999".parse::<ListenAddress>()?.to_string(), "127.0.0.1:9999");
/// # Ok::<(), resound::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port of a host; a name may stand for several addresses.
    Tcp {
        /// An address or a name, without brackets, or `*`.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// A UDP port of a host, in the same terms.
    Udp {
        /// An address or a name, without brackets, or `*`.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// The path of a Unix stream socket (unix(7)).
    Unix(PathBuf),
    /// The path of a Unix datagram socket.
    UnixDatagram(PathBuf),
}

/// The host that stands for every address of both families.
const ANY: &str = "*";

/// An address to listen on, and the role of the clients that connect to it.
///
/// It is parsed, or made [from](From) an address, which gives [`Role::Both`].
///
/// As a text: the address, then `?role=publish` or `?role=subscribe` if it has that role.
///
/// ```
/// use resound::{Listen, Role};
/// let listen: Listen = "tcp://127.0.0.1:7001?role=publish".parse()?;
/// assert_eq!(listen.role, Role::Publish);
/// assert_eq!(listen.address.to_string(), "127.0.0.1:7001");
/// # Ok::<(), resound::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// Where.
    pub address: ListenAddress,
    /// For whom.
    pub role: Role,
}

/// What a client may do in a room; services without one treat all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It publishes and hears.
    #[default]
    Both,
    /// It publishes, and is sent nothing.
    Publish,
    /// It hears; what it sends is discarded.
    Subscribe,
}

/// Why a text is not a [`Listen`] or a [`ListenAddress`]: one line, without the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl ListenAddress {
    /// Whether it stands for every address of both families (`*:PORT`).
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } | Self::Udp { host, .. } if host == ANY)
    }

    /// Whether datagrams go there, and no connections.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp { .. } | Self::UnixDatagram(_))
    }

    /// Whether it is a Unix socket with a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        match self {
            Self::Unix(path) | Self::UnixDatagram(path) => abstract_name(path).is_none(),
            _ => false,
        }
    }

    /// All addresses that this one stands for; [`ListenAddress::is_dual_stack`] is `[::]`.
    ///
    /// # Errors
    /// Those of the resolver, when a host name means nothing to it.
    pub fn resolve(&self) -> io::Result<Vec<Address>> {
        type Kind = fn(SocketAddr) -> Address;
        let (host, port, kind): (_, _, Kind) = match self {
            Self::Unix(path) => return Ok(vec![Address::Unix(path.as_path().into())]),
            Self::UnixDatagram(path) => {
                return Ok(vec![Address::UnixDatagram(path.as_path().into())]);
            }
            Self::Tcp { host, port } => (host.as_str(), *port, Address::Tcp),
            Self::Udp { host, port } => (host.as_str(), *port, Address::Udp),
        };
        if host == ANY {
            return Ok(vec![kind((Ipv6Addr::UNSPECIFIED, port).into())]);
        }
        let mut all: Vec<Address> = Vec::new();
        for address in (host, port).to_socket_addrs()? {
            let address = kind(address);
            if !all.contains(&address) {
                all.push(address);
            }
        }
        if all.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(all)
    }
}

impl From<ListenAddress> for Listen {
    fn from(address: ListenAddress) -> Self {
        let role = Role::Both;
        Self { address, role }
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, role) = match text.rsplit_once('?') {
            Some((address, "role=publish")) => (address, Role::Publish),
            Some((address, "role=subscribe")) => (address, Role::Subscribe),
            // A path may have a question mark of its own.
            Some((path, rest)) if path.starts_with("unix") && !rest.starts_with("role=") => {
                (text, Role::Both)
            }
            Some(_) => {
                return Err(error(
                    "behind an address only ?role=publish or ?role=subscribe may follow",
                ));
            }
            None => (text, Role::Both),
        };
        let address = address.parse()?;
        Ok(Self { address, role })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        f.write_str(match self.role {
            Role::Both => "",
            Role::Publish => "?role=publish",
            Role::Subscribe => "?role=subscribe",
        })
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(Self::Unix);
        }
        if let Some(path) = text.strip_prefix("unixgram:") {
            return unix(path).map(Self::UnixDatagram);
        }
        if let Some(text) = text.strip_prefix("udp://") {
            return host_and_port(text).map(|(host, port)| Self::Udp { host, port });
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        host_and_port(text).map(|(host, port)| Self::Tcp { host, port })
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return checked(&Ipv4Addr::LOCALHOST.to_string(), text);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once("]:")
            .ok_or_else(|| error("expected [IPv6]:PORT"))?;
        let plain = host
            .split_once('%')
            .map_or(host, |(address, _scope)| address);
        if plain.parse::<Ipv6Addr>().is_err() {
            return Err(error(format!("'{host}' is not an IPv6 address")));
        }
        return checked(host, port);
    }
    match text.rsplit_once(':') {
        Some(_) if text.contains("://") => {
            Err(error("only tcp:// or udp:// may be in front of HOST:PORT"))
        }
        None => Err(error(
            "expected HOST:PORT, [IPv6]:PORT, PORT, udp://HOST:PORT or unix:PATH",
        )),
        Some((host, _)) if matches!(host.split(':').next(), Some("tcp" | "udp")) => {
            Err(error("a scheme is written tcp:// or udp://"))
        }
        Some((host, _)) if host.contains(':') => {
            Err(error("an IPv6 address goes in brackets, as in [::1]:7000"))
        }
        Some((host, port)) => checked(host, port),
    }
}

fn unix(path: &str) -> Result<PathBuf, AddressError> {
    if path.is_empty() {
        return Err(error("expected a path after the colon"));
    }
    if path == "@" {
        return Err(error("expected a name after '@'"));
    }
    if path.contains('\0') {
        return Err(error("a path has no NUL byte"));
    }
    Ok(PathBuf::from(path))
}

fn checked(host: &str, port: &str) -> Result<(String, u16), AddressError> {
    if host.is_empty() {
        return Err(error("the host is missing; * stands for every address"));
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c)) {
        return Err(error(format!("'{}' is not a host", host.escape_debug())));
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error(format!("'{}' is not a port", port.escape_debug())));
    }
    let port = port
        .parse()
        .map_err(|_| error(format!("port {port} is out of range (0 to 65535)")))?;
    Ok((host.to_owned(), port))
}

fn error(text: impl Into<String>) -> AddressError {
    AddressError(text.into())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::UnixDatagram(path) => return write!(f, "unixgram:{}", path.display()),
            Self::Udp { host, port } => {
                f.write_str("udp://")?;
                (host, port)
            }
            Self::Tcp { host, port } => (host, port),
        };
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// One end of a connection, or what a listener is bound to.
///
/// Clients of a Unix socket have no name of their own: their address is their listener's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// An IP address and a UDP port.
    Udp(SocketAddr),
    /// The path of a Unix stream socket, or a name that begins with `@`.
    Unix(Arc<Path>),
    /// The path of a Unix datagram socket; empty for one without a name.
    UnixDatagram(Arc<Path>),
    /// The server's own standard input.
    Stdin,
    /// The server's own standard output.
    Stdout,
}

impl Address {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::UnixDatagram(_) | Self::Stdin | Self::Stdout => None,
        }
    }

    /// Whether datagrams go there, and no connections.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixDatagram(_))
    }

    /// Whether it is a Unix socket without a file (unix(7), abstract).
    #[must_use]
    pub fn is_abstract(&self) -> bool {
        match self {
            Self::Unix(path) | Self::UnixDatagram(path) => abstract_name(path).is_some(),
            _ => false,
        }
    }

    /// Whether it stands for every address of the machine: 0.0.0.0 or `[::]`.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.socket_addr().is_some_and(|a| a.ip().is_unspecified())
    }

    /// The same without the form in which IPv4 comes to sockets of IPv6 (`::ffff:127.0.0.1`).
    #[must_use]
    pub(crate) fn canonical(&self) -> Self {
        match self.socket_addr().map(|address| address.ip()) {
            Some(IpAddr::V6(ip)) => ip.to_ipv4_mapped().map(|ip| self.with_ip(ip.into())),
            _ => None,
        }
        .unwrap_or_else(|| self.clone())
    }

    /// The same with another IP address, if it has one.
    #[must_use]
    pub(crate) fn with_ip(&self, ip: IpAddr) -> Self {
        match self {
            Self::Tcp(address) => Self::Tcp(SocketAddr::new(ip, address.port())),
            Self::Udp(address) => Self::Udp(SocketAddr::new(ip, address.port())),
            other => other.clone(),
        }
    }

    /// Whether it is one of the server's own standard streams.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdin | Self::Stdout)
    }

    /// Who it is, for people: without what a peer of datagrams has in front.
    pub(crate) fn name(&self) -> Name<'_> {
        Name(self)
    }

    /// The same, with an address that can be connected to in place of 0.0.0.0 and `[::]`.
    #[must_use]
    pub fn reachable(&self) -> Self {
        match self.socket_addr().map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => self.with_ip(Ipv4Addr::LOCALHOST.into()),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => self.with_ip(Ipv6Addr::LOCALHOST.into()),
            _ => self.clone(),
        }
    }
}

/// An address as it is shown to people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a>(&'a Address);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Address::Udp(address) => address.fmt(f),
            other => other.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixDatagram(path) if path.as_os_str().is_empty() => f.write_str("unixgram"),
            Self::UnixDatagram(path) => write!(f, "unixgram:{}", path.display()),
            Self::Stdin => f.write_str("stdin"),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<String, String> {
        let parsed = text.parse::<ListenAddress>();
        parsed.map(|a| a.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_documented_form_is_understood() {
        for text in [
            "127.0.0.1:0",
            "localhost:7000",
            "[::1]:65535",
            "[fe80::1%eth0]:1",
            "unix:/run/x.sock",
            "unix:x",
            "unix:@name",
            "unixgram:/run/x.sock",
            "udp://127.0.0.1:7007",
            "udp://[::1]:7007",
            "*:9000",
            "udp://*:9000",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse("9999").as_deref(), Ok("127.0.0.1:9999"));
        assert_eq!(parse("tcp://[::1]:5").as_deref(), Ok("[::1]:5"));
        assert_eq!(parse("udp://53").as_deref(), Ok("udp://127.0.0.1:53"));
    }

    #[test]
    fn a_role_comes_behind_the_address() {
        let parse = |text: &str| text.parse::<Listen>().map(|l| (l.role, l.to_string()));
        let ok = |role, text: &str| Ok((role, text.to_owned()));
        assert_eq!(parse("7000"), ok(Role::Both, "127.0.0.1:7000"));
        assert_eq!(
            parse("tcp://127.0.0.1:7001?role=publish"),
            ok(Role::Publish, "127.0.0.1:7001?role=publish")
        );
        assert_eq!(
            parse("unix:/s?role=subscribe"),
            ok(Role::Subscribe, "unix:/s?role=subscribe")
        );
        assert_eq!(parse("unix:/what?"), ok(Role::Both, "unix:/what?"));
        for text in ["1?role=operator", "1?rule=publish", "unix:/s?role="] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains("?role=publish or ?role=subscribe"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, cause) in [
            ("", "expected HOST:PORT"),
            ("localhost", "expected HOST:PORT"),
            ("127.0.0.1:", "'' is not a port"),
            ("127.0.0.1:x", "'x' is not a port"),
            ("127.0.0.1:+1", "'+1' is not a port"),
            ("127.0.0.1:70000", "port 70000 is out of range"),
            ("70000", "port 70000 is out of range"),
            (":7000", "the host is missing"),
            ("::1:7000", "goes in brackets"),
            ("[::1]", "expected [IPv6]:PORT"),
            ("[::g]:1", "'::g' is not an IPv6 address"),
            ("unix:", "expected a path"),
            ("http://a:1", "only tcp:// or udp://"),
            ("udp://", "expected HOST:PORT"),
            ("udp://tcp://a:1", "only tcp:// or udp://"),
            ("unixgram:", "expected a path"),
            ("unix:@", "expected a name after '@'"),
            ("udp:7000", "written tcp:// or udp://"),
            ("tcp:127.0.0.1:7000", "written tcp:// or udp://"),
            ("1?role=publish", "expected HOST:PORT"),
            ("a b:1", "'a b' is not a host"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(cause), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_wildcard_is_reached_through_loopback() {
        let reach = |text: &str| Address::Tcp(text.parse().unwrap()).reachable().to_string();
        assert_eq!(reach("0.0.0.0:5"), "127.0.0.1:5");
        assert_eq!(reach("[::]:5"), "[::1]:5");
        assert_eq!(reach("127.0.0.2:5"), "127.0.0.2:5");
    }

    proptest! {
        #[test]
        fn what_listens_survives_a_round_trip(text in "(tcp://|udp://|unix:|unixgram:)?[a-z0-9:.?=]{0,20}(\\?role=(publish|subscribe|x)?)?") {
            if let Ok(listen) = text.parse::<Listen>() {
                prop_assert_eq!(listen.to_string().parse(), Ok(listen));
            }
        }

        #[test]
        fn no_text_panics_and_what_parses_survives_a_round_trip(text in "(udp://|tcp://)?(\\PC{0,40}|[0-9a-f:.*@\\[\\]%]{0,30})") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
