//! The other end of a connection.

use crate::net::address::{Address, Role};
use crate::text::template::Recipient;

/// The other end of a connection, or the sender of a datagram, as a service sees it.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Number of the client, counted from 1 and never used twice. The sender of a datagram has 0.
    pub id: u64,
    /// The client's address, or the standard stream that it is.
    pub address: &'a Address,
    /// The address at which it was accepted: the listener's, exact only if the service has
    /// [`Needs::local_address`](crate::Needs::local_address).
    pub local: &'a Address,
    /// The role of its listener.
    pub role: Role,
}

impl Peer<'_> {
    /// True if its input is published.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.role != Role::Subscribe
    }

    /// True if it receives what is published.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.role != Role::Publish
    }

    /// True if it is sent the server's greeting: it listens, and is no standard stream.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.listens() && self.is_remote()
    }

    /// True if the others are told that it came and left: a standard stream is no visitor.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.is_remote()
    }

    /// True if timeouts and heartbeats apply to it: a pipe or a file is no connection to keep.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.is_remote()
    }

    /// True if it is another process's end of a connection, and not a standard stream.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !self.address.is_stdio()
    }
}

impl From<&Peer<'_>> for Recipient {
    fn from(peer: &Peer<'_>) -> Self {
        Self {
            id: peer.id,
            peer: peer.address.clone(),
            local: peer.local.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The first client, which came from this address.
    pub(crate) fn peer(address: &Address) -> Peer<'_> {
        static LOCAL: std::sync::LazyLock<Address> =
            std::sync::LazyLock::new(|| Address::Tcp(([127, 0, 0, 1], 7).into()));
        Peer {
            id: 1,
            address,
            local: &LOCAL,
            role: Role::Both,
        }
    }
}
