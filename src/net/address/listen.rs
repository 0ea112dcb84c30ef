//! Addresses to listen on or to connect to, as they are written: host names are not resolved yet.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::Address;
use crate::net::unix::abstract_name;
use crate::text::escape::escape_path;

/// An address to listen on or to connect to, as it is written; a host name is not resolved yet.
///
/// | form | meaning |
/// |---|---|
/// | `HOST:PORT`, `[IPv6]:PORT` | a TCP port; an IPv6 address may have a scope: `[fe80::1%eth0]:PORT` |
/// | `PORT` | a TCP port of 127.0.0.1 |
/// | `*:PORT` | a TCP port of every address of both families |
/// | `tcp://…` | the same forms |
/// | `udp://…` | the same forms, for datagrams |
/// | `unix:PATH`, `unixgram:PATH` | a Unix socket, for streams or datagrams (unix(7)) |
/// | `unix:@NAME`, `unixgram:@NAME` | on Linux, a Unix socket without a file (unix(7), abstract) |
///
/// With port 0 the kernel chooses one. The [`fmt::Display`] form parses to the same value, unless it is a path
/// that is not UTF-8, or has control characters.
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
    /// A TCP port of a host; a host name may have several addresses.
    Tcp {
        /// An IP address without brackets, a host name, or `*`.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// A UDP port of a host.
    Udp {
        /// An IP address without brackets, a host name, or `*`.
        host: String,
        /// 0 to 65535.
        port: u16,
    },
    /// The path of a Unix stream socket, or `@` and an abstract name.
    Unix(PathBuf),
    /// The path of a Unix datagram socket, or `@` and an abstract name.
    UnixDatagram(PathBuf),
}

/// The host that means every address of both families.
const ANY: &str = "*";

/// An address to listen on, and the role of the clients that connect to it.
///
/// It is parsed, or made [from](From) an address, which then has no role of its own.
///
/// As a text: the address, then `?role=publish`, `?role=subscribe` or `?role=both` if its role was
/// given.
///
/// ```
/// use resound::{Listen, Role};
/// let listen: Listen = "tcp://127.0.0.1:7001?role=publish".parse()?;
/// assert_eq!(listen.role, Some(Role::Publish));
/// assert_eq!(listen.address.to_string(), "127.0.0.1:7001");
/// # Ok::<(), resound::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// The address.
    pub address: ListenAddress,
    /// The role of its clients, if one was given; the library takes [`Role::Both`] otherwise.
    pub role: Option<Role>,
}

/// The part of a client in a room; services without a room ignore it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Publishes messages and receives those of others.
    #[default]
    Both,
    /// Publishes messages, and is sent none.
    Publish,
    /// Receives messages; its input is discarded.
    Subscribe,
}

impl ListenAddress {
    /// True if it means every address of both families (`*:PORT`).
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } | Self::Udp { host, .. } if host == ANY)
    }

    /// True for datagrams, false for connections.
    #[must_use]
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp { .. } | Self::UnixDatagram(_))
    }

    /// True if it is a Unix socket with a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        match self {
            Self::Unix(path) | Self::UnixDatagram(path) => abstract_name(path).is_none(),
            _ => false,
        }
    }

    /// All addresses of the host, each once; `[::]` for `*` ([`Self::is_dual_stack`]).
    ///
    /// This may block on the system's resolver (getaddrinfo(3)).
    ///
    /// # Errors
    /// Those of the resolver, and `NotFound` if a host name has no address.
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
        let role = None;
        Self { address, role }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        f.write_str(match self.role {
            None => "",
            Some(Role::Both) => "?role=both",
            Some(Role::Publish) => "?role=publish",
            Some(Role::Subscribe) => "?role=subscribe",
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", escape_path(path)),
            Self::UnixDatagram(path) => return write!(f, "unixgram:{}", escape_path(path)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn listen_survives_a_round_trip(text in "(tcp://|udp://|unix:|unixgram:)?[a-z0-9:.?=]{0,20}(\\?role=(both|publish|subscribe|x)?)?") {
            if let Ok(listen) = text.parse::<Listen>() {
                prop_assert_eq!(listen.to_string().parse(), Ok(listen));
            }
        }

        #[test]
        fn no_text_panics_and_parsed_addresses_survive_a_round_trip(text in "(udp://|tcp://)?(\\PC{0,40}|[0-9a-f:.*@\\[\\]%]{0,30})") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
