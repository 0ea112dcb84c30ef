//! Batches of UDP datagrams, each in one call: recvmmsg(2) and sendmmsg(2).

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, setsockopt, sockopt,
};

use super::received::Datagram;
use super::replies::ReplyQueue;
use crate::net::address::Address;

/// Bytes of buffer per UDP datagram: its length is a 16-bit number (RFC 768).
const UDP_BUFFER: usize = 64 * 1024;

/// The most datagrams in a batch.
const MAX_BATCH: usize = 32;

/// Buffers for a batch. Pages that no datagram reaches into are never touched.
pub(super) struct Batch {
    buffers: Vec<u8>,
    received: Vec<Received>,
    /// Datagrams to ask for next: twice as many as last time.
    expected: usize,
    max: usize,
    /// The packet information that the kernel adds, if the socket is bound to several addresses.
    info: Option<PacketInfo>,
}

/// The kind of control message that names the destination of a datagram (ip(7), ipv6(7)).
#[derive(Clone, Copy)]
enum PacketInfo {
    V4,
    V6,
}

impl PacketInfo {
    /// A buffer for the control messages of one datagram.
    fn buffer(self) -> Vec<u8> {
        match self {
            Self::V4 => cmsg_space!(libc::in_pktinfo),
            Self::V6 => cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo),
        }
    }
}

/// A datagram in its buffer.
struct Received {
    length: usize,
    from: Address,
    to: Option<IpAddr>,
}

impl Batch {
    /// Sets up a socket that is about to be bound to `address`.
    pub(super) fn new(
        socket: &socket2::Socket,
        address: SocketAddr,
        max: usize,
    ) -> io::Result<Self> {
        let mut info = None;
        // A reply must come from the address that the datagram was sent to.
        if address.ip().is_unspecified() {
            // A dual-stack socket takes IPv4 too, and only IP_PKTINFO names our own address when
            // a datagram was sent to a broadcast address.
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
            info = Some(if address.is_ipv4() {
                PacketInfo::V4
            } else {
                setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                PacketInfo::V6
            });
        }
        Ok(Self {
            buffers: vec![0; UDP_BUFFER * MAX_BATCH],
            received: Vec::with_capacity(MAX_BATCH),
            expected: 1,
            max: max.min(MAX_BATCH),
            info,
        })
    }

    /// Receives a batch; returns the number of datagrams, and true if there may be more.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        each: &mut dyn FnMut(Datagram<'_>),
    ) -> io::Result<(usize, bool)> {
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = socket.as_raw_fd();
        let expected = self.expected;
        let mut headers = Headers::preallocate(expected, self.info.map(PacketInfo::buffer));
        let mut chunks = self.buffers.chunks_exact_mut(UDP_BUFFER);
        let mut slices: [[IoSliceMut<'_>; 1]; MAX_BATCH] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let batch = recvmmsg(fd, &mut headers, &mut slices[..expected], flags, None)?;
        self.received.clear();
        for message in batch {
            let from = message.address.map_or(UNKNOWN_PEER, |name| peer_of(&name));
            self.received.push(Received {
                length: message.bytes,
                from: Address::Udp(from),
                to: message.cmsgs()?.filter_map(|m| destination(&m)).last(),
            });
        }
        for (chunk, received) in self.buffers.chunks_exact(UDP_BUFFER).zip(&self.received) {
            each(Datagram {
                bytes: &chunk[..received.length],
                from: &received.from,
                to: received.to,
            });
        }
        let count = self.received.len();
        self.expected = (2 * count).clamp(1, self.max);
        Ok((count, count == expected))
    }

    /// Sends the first replies, as many as one call takes; returns their number.
    pub(super) fn send(&self, socket: &UdpSocket, replies: &ReplyQueue) -> io::Result<usize> {
        let first = replies.iter().next().and_then(|reply| reply.from);
        let from = first.filter(|_| self.info.is_some());
        // One call sends from one address.
        let same_source = replies.iter().take_while(|reply| reply.from == from);
        let count = same_source.take(MAX_BATCH).count();
        let mut next = replies.iter().take(count);
        let mut addresses = [None; MAX_BATCH];
        let slices: [[IoSlice<'_>; 1]; MAX_BATCH] = array::from_fn(|i| {
            let reply = next.next();
            let to = reply.as_ref().and_then(|reply| reply.to.socket_addr());
            addresses[i] = to.map(SockaddrStorage::from);
            [IoSlice::new(reply.map_or(&[], |reply| reply.bytes))]
        });
        let (v4, v6) = from.map(source).unwrap_or_default();
        let v4 = v4.as_ref().map(ControlMessage::Ipv4PacketInfo);
        let v6 = v6.as_ref().map(ControlMessage::Ipv6PacketInfo);
        let control = v4.or(v6);
        // An unused control buffer would be a message of kind 0, which is an error.
        let mut headers = Headers::preallocate(count, from.map(source_buffer));
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices[..count],
            &addresses[..count],
            control.as_slice(),
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }
}

/// The headers of a call. They are not kept, because they are not `Send` and a server is.
type Headers = MultiHeaders<SockaddrStorage>;

/// The sender of a datagram whose address the kernel does not tell.
const UNKNOWN_PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

fn peer_of(name: &SockaddrStorage) -> SocketAddr {
    let v4 = name.as_sockaddr_in();
    let v4 = v4.map(|name| SocketAddr::V4(SocketAddrV4::from(*name)));
    let v6 = || {
        name.as_sockaddr_in6()
            .map(|name| SocketAddr::V6(SocketAddrV6::from(*name)))
    };
    v4.or_else(v6).unwrap_or(UNKNOWN_PEER)
}

/// The local address that a datagram was sent to (ip(7), ipv6(7)). For IPv4 on a dual-stack socket
/// the kernel adds both kinds of message, the more exact one last.
fn destination(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let bytes = info.ipi_spec_dst.s_addr.to_ne_bytes();
            Some(Ipv4Addr::from(bytes).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // A multicast address is no source, and a link-local one would need its interface too:
            // there the kernel chooses the source.
            let special = address.is_multicast() || address.is_unicast_link_local();
            (!special).then_some(address.into())
        }
        _ => None,
    }
}

/// A buffer for the control message that sets the source address.
fn source_buffer(from: IpAddr) -> Vec<u8> {
    match from {
        IpAddr::V4(_) => cmsg_space!(libc::in_pktinfo),
        IpAddr::V6(_) => cmsg_space!(libc::in6_pktinfo),
    }
}

/// The control message that sets the source address, of one family or the other.
type Source = (Option<libc::in_pktinfo>, Option<libc::in6_pktinfo>);

fn source(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(address) => {
            let s_addr = u32::from_ne_bytes(address.octets());
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            (Some(info), None)
        }
        IpAddr::V6(address) => {
            let s6_addr = address.octets();
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr },
                ipi6_ifindex: 0,
            };
            (None, Some(info))
        }
    }
}
