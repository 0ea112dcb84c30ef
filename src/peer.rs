//! The other end of a connection.

use crate::net::address::{Address, Role};

/// The other end of a connection, or the sender of a datagram, as a service sees it.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Counts the server's clients from 1; never used twice. The sender of a datagram has 0.
    pub id: u64,
    /// Where it connected from.
    pub address: &'a Address,
    /// Where it came in: the listener's address, exact if [`Service::wants_local`].
    pub local: &'a Address,
    /// What its listener is for.
    pub role: Role,
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
