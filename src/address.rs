//! Addresses: as written on the command line, and as the kernel knows them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Where to listen, as a person writes it; a host name is not resolved yet.
///
/// Forms: `HOST:PORT`, `[IPv6]:PORT`, `PORT` (on 127.0.0.1), each with or without `tcp://` in
/// front, and `unix:PATH`. Port 0 lets the kernel choose. [`fmt::Display`] gives back a text that parses to the same value.
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
        /// An address or a name, without brackets.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// The path of a Unix stream socket (unix(7)).
    Unix(PathBuf),
}

/// An address to listen on, and what the clients that come there may do.
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
    /// All addresses that this one stands for.
    ///
    /// # Errors
    /// Those of the resolver, when a host name means nothing to it.
    pub fn resolve(&self) -> io::Result<Vec<Address>> {
        let (host, port) = match self {
            Self::Unix(path) => return Ok(vec![Address::Unix(path.as_path().into())]),
            Self::Tcp { host, port } => (host.as_str(), *port),
        };
        let mut all: Vec<Address> = Vec::new();
        for address in (host, port).to_socket_addrs()? {
            let address = Address::Tcp(address);
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
            Some((path, rest)) if path.starts_with("unix:") && !rest.starts_with("role=") => {
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
            return unix(path);
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return tcp(&Ipv4Addr::LOCALHOST.to_string(), text);
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
            return tcp(host, port);
        }
        match text.rsplit_once(':') {
            Some(_) if text.contains("://") => {
                Err(error("only tcp:// may be in front of HOST:PORT"))
            }
            None => Err(error("expected HOST:PORT, [IPv6]:PORT, PORT or unix:PATH")),
            Some((host, _)) if host.contains(':') => {
                Err(error("an IPv6 address goes in brackets, as in [::1]:7000"))
            }
            Some((host, port)) => tcp(host, port),
        }
    }
}

fn unix(path: &str) -> Result<ListenAddress, AddressError> {
    if path.is_empty() {
        return Err(error("expected a path after 'unix:'"));
    }
    if path.contains('\0') {
        return Err(error("a path has no NUL byte"));
    }
    Ok(ListenAddress::Unix(PathBuf::from(path)))
}

fn tcp(host: &str, port: &str) -> Result<ListenAddress, AddressError> {
    if host.is_empty() {
        return Err(error(
            "the host is missing; 0.0.0.0 or [::] stands for every address",
        ));
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
    let host = host.to_owned();
    Ok(ListenAddress::Tcp { host, port })
}

fn error(text: impl Into<String>) -> AddressError {
    AddressError(text.into())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<Path>),
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
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Stdin | Self::Stdout => None,
        }
    }

    /// Whether it is one of the server's own standard streams.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdin | Self::Stdout)
    }

    /// The same, with an address that can be connected to in place of 0.0.0.0 and `[::]`.
    #[must_use]
    pub fn reachable(&self) -> Self {
        match self {
            Self::Tcp(address) if address.ip().is_unspecified() => {
                let ip = match address.ip() {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                };
                Self::Tcp(SocketAddr::new(ip, address.port()))
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse("9999").as_deref(), Ok("127.0.0.1:9999"));
        assert_eq!(parse("tcp://[::1]:5").as_deref(), Ok("[::1]:5"));
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
            ("http://a:1", "only tcp://"),
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
        fn what_listens_survives_a_round_trip(text in "(tcp://|unix:)?[a-z0-9:.?=]{0,20}(\\?role=(publish|subscribe|x)?)?") {
            if let Ok(listen) = text.parse::<Listen>() {
                prop_assert_eq!(listen.to_string().parse(), Ok(listen));
            }
        }

        #[test]
        fn no_text_panics_and_what_parses_survives_a_round_trip(text in "\\PC{0,40}|[0-9a-f:.\\[\\]%]{0,30}") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
