//! Addresses: as the kernel has them (here), as they are written (`listen.rs`), and how that is
//! parsed (`parse.rs`).

mod listen;
mod parse;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::unix::abstract_name;
use crate::text::escape::escape_path;

pub use listen::{Listen, ListenAddress, Role};
pub use parse::AddressError;

/// The address of a socket: one end of a connection, the sender of a datagram, or a listener's.
///
/// Clients of a Unix socket are unnamed as a rule: their address is that of their listener.
///
/// It is shown on one line without control characters: a peer chooses its own name ([`escape`](crate::escape)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// An IP address and a UDP port.
    Udp(SocketAddr),
    /// The path of a Unix stream socket, or `@` and an abstract name (unix(7)).
    Unix(Arc<Path>),
    /// The path of a Unix datagram socket, or `@` and an abstract name; empty if it is unnamed.
    UnixDatagram(Arc<Path>),
    /// The server's own standard input.
    Stdin,
    /// The server's own standard output.
    Stdout,
}

impl Address {
    /// The IP address and port of a TCP or UDP socket.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::UnixDatagram(_) | Self::Stdin | Self::Stdout => None,
        }
    }

    /// True for datagrams, false for connections.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixDatagram(_))
    }

    /// True if it is a Unix socket without a file (unix(7), abstract).
    #[must_use]
    pub fn is_abstract(&self) -> bool {
        match self {
            Self::Unix(path) | Self::UnixDatagram(path) => abstract_name(path).is_some(),
            _ => false,
        }
    }

    /// True for 0.0.0.0 and `[::]`, which mean every address of the machine.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.socket_addr().is_some_and(|a| a.ip().is_unspecified())
    }

    /// The same address, as IPv4 if it is an IPv4 address mapped to IPv6 (`::ffff:127.0.0.1`).
    #[must_use]
    pub(crate) fn canonical(&self) -> Self {
        match self.socket_addr().map(|address| address.ip()) {
            Some(IpAddr::V6(ip)) => ip.to_ipv4_mapped().map(|ip| self.with_ip(ip.into())),
            _ => None,
        }
        .unwrap_or_else(|| self.clone())
    }

    /// The same address with another IP address, if it has one.
    #[must_use]
    pub(crate) fn with_ip(&self, ip: IpAddr) -> Self {
        match self {
            Self::Tcp(address) => Self::Tcp(SocketAddr::new(ip, address.port())),
            Self::Udp(address) => Self::Udp(SocketAddr::new(ip, address.port())),
            other => other.clone(),
        }
    }

    /// True if it is one of the server's own standard streams.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdin | Self::Stdout)
    }

    /// The address for people: without the `udp://` of a datagram's sender.
    pub(crate) fn name(&self) -> Name<'_> {
        Name(self)
    }

    /// The same address, with a loopback address in place of 0.0.0.0 and `[::]`, to connect to.
    #[must_use]
    pub fn reachable(&self) -> Self {
        match self.socket_addr().map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => self.with_ip(Ipv4Addr::LOCALHOST.into()),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => self.with_ip(Ipv6Addr::LOCALHOST.into()),
            _ => self.clone(),
        }
    }
}

/// An address for people ([`Address::name`]).
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
            Self::Unix(path) => write!(f, "unix:{}", escape_path(path)),
            Self::UnixDatagram(path) if path.as_os_str().is_empty() => f.write_str("unixgram"),
            Self::UnixDatagram(path) => write!(f, "unixgram:{}", escape_path(path)),
            Self::Stdin => f.write_str("stdin"),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::escape::tests::is_safe;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn wildcard_is_reached_through_loopback() {
        let reach = |text: &str| Address::Tcp(text.parse().unwrap()).reachable().to_string();
        assert_eq!(reach("0.0.0.0:5"), "127.0.0.1:5");
        assert_eq!(reach("[::]:5"), "[::1]:5");
        assert_eq!(reach("127.0.0.2:5"), "127.0.0.2:5");
    }

    proptest! {
        /// A datagram's sender chooses its own name, and whoever starts a server that of a path: each
        /// place that shows one shows one line, and nothing that a terminal obeys.
        #[test]
        fn name_of_any_bytes_is_shown_in_one_safe_line(bytes in vec(1..=255_u8, 0..100)) {
            let path = Path::new(OsStr::from_bytes(&bytes));
            let unix = Address::Unix(path.into());
            let datagram = Address::UnixDatagram(path.into());
            let mut shown = vec![unix.to_string(), datagram.to_string(), datagram.name().to_string()];
            for prefix in [&b"unix:"[..], b"unixgram:", b"", b"[", b"udp://"] {
                let text = [prefix, &bytes].concat();
                let text = OsStr::from_bytes(&text);
                shown.push(match ListenAddress::try_from(text) {
                    Ok(address) => address.to_string(),
                    Err(e) => e.to_string(),
                });
                shown.push(match Listen::try_from(text) {
                    Ok(listen) => listen.to_string(),
                    Err(e) => e.to_string(),
                });
            }
            for line in shown {
                prop_assert!(is_safe(&line.replace('\t', "")), "{line:?}");
            }
        }
    }

    #[test]
    fn ordinary_path_is_shown_as_it_is() {
        for text in [
            "unix:/run/na\u{ef}ve \u{4f60}.sock",
            "unixgram:@name",
            "unixgram:/a\\b",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }
}
