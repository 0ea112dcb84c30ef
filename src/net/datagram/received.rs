//! A received datagram, the function that replies to it, and the counts of a batch.

use std::net::IpAddr;

use crate::net::address::Address;

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    /// The sender's address.
    pub(crate) from: &'a Address,
    /// The local IP address that it was sent to, if the socket is bound to several.
    pub(crate) to: Option<IpAddr>,
}

/// Appends the reply to a datagram to the second argument; true if there is a reply.
pub(crate) type ReplyFn<'a> = dyn FnMut(Datagram<'_>, &mut Vec<u8>) -> bool + 'a;

/// Counts of one call to [`DatagramSocket::receive_and_reply`](super::DatagramSocket::receive_and_reply).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchCounts {
    /// Datagrams received.
    pub(crate) received: u64,
    /// Bytes received.
    pub(crate) bytes_in: u64,
    /// Replies taken by the kernel.
    pub(crate) sent: u64,
    /// Bytes of these replies.
    pub(crate) bytes_out: u64,
    /// Replies refused by the kernel, and datagrams that cannot be replied to.
    pub(crate) refused: u64,
    /// True if there may be more datagrams to receive.
    pub(crate) more: bool,
}
