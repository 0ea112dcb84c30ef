//! Datagram sockets: receive a batch, then send the replies to it.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`DatagramSocket`], over UDP or a Unix socket |
//! | `received.rs` | a received datagram, the function that replies to it, the counts of a batch |
//! | `replies.rs` | replies not yet taken by the kernel |
//! | `linux.rs` | batches of UDP datagrams in one call: recvmmsg(2), sendmmsg(2) |
//! | `portable.rs` | the same on other systems, one datagram a call |
//! | `unix.rs` | Unix datagram sockets (unix(7)), one datagram a call |

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;
mod received;
mod replies;
mod unix;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Type};

#[cfg(target_os = "linux")]
use self::linux::Batch;
#[cfg(not(target_os = "linux"))]
use self::portable::Batch;
use self::replies::ReplyQueue;
use self::unix::UnixSocket;
use super::address::Address;
use super::options::SocketOptions;

pub(crate) use self::received::{BatchCounts, Datagram, ReplyFn};

/// A bound datagram socket and the replies that it has not taken yet.
///
/// Nothing is received while replies are queued, so the queue never holds more than one batch.
pub(crate) struct DatagramSocket {
    socket: Kind,
    address: Address,
    replies: ReplyQueue,
    blocked: bool,
}

enum Kind {
    Udp(UdpSocket, Batch),
    Unix(UnixSocket),
}

impl DatagramSocket {
    /// Binds a UDP or a Unix datagram socket that receives at most `max_batch` datagrams a call.
    /// With `dual_stack`, an IPv6 socket takes IPv4 too.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2) and bind(2); `Unsupported` for any other kind of address.
    pub(crate) fn bind(
        address: &Address,
        dual_stack: bool,
        options: &SocketOptions,
        max_batch: usize,
    ) -> io::Result<Self> {
        let (socket, address) = match address {
            Address::Udp(address) => bind_udp(*address, dual_stack, options, max_batch)?,
            Address::UnixDatagram(path) => {
                let socket = UnixSocket::bind(path, options)?;
                (Kind::Unix(socket), address.clone())
            }
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        Ok(Self {
            socket,
            address,
            replies: ReplyQueue::default(),
            blocked: false,
        })
    }

    /// The bound address, with the port that the kernel chose for port 0.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// True if the kernel takes no more replies for now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match &self.socket {
            Kind::Udp(socket, _) => SockRef::from(socket),
            Kind::Unix(unix) => SockRef::from(&unix.socket),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Kind::Udp(socket, _) => registry.register(socket, token, Interest::READABLE),
            Kind::Unix(unix) => registry.register(&mut unix.socket, token, Interest::READABLE),
        }
    }

    /// Changes the interest to whether the socket is blocked: writable only while it is.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = if self.blocked {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        match &mut self.socket {
            Kind::Udp(socket, _) => registry.reregister(socket, token, interest),
            Kind::Unix(unix) => registry.reregister(&mut unix.socket, token, interest),
        }
    }

    /// Sends the queued replies, then receives a batch and sends the replies to it.
    ///
    /// # Errors
    /// Those of recvmmsg(2) or recvfrom(2), except `WouldBlock`: then the counts say that nothing
    /// was received. An error discards the counts of this call.
    pub(crate) fn receive_and_reply(&mut self, reply: &mut ReplyFn<'_>) -> io::Result<BatchCounts> {
        let mut counts = BatchCounts::default();
        self.send(&mut counts);
        if self.blocked {
            return Ok(counts);
        }
        match self.receive(reply, &mut counts) {
            Ok(()) => self.send(&mut counts),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        Ok(counts)
    }

    /// Receives a batch and queues the replies to it.
    fn receive(&mut self, reply: &mut ReplyFn<'_>, counts: &mut BatchCounts) -> io::Result<()> {
        let replies = &mut self.replies;
        match &mut self.socket {
            Kind::Udp(socket, batch) => {
                let (count, more) = batch.receive(socket, &mut |datagram| {
                    counts.bytes_in += datagram.bytes.len() as u64;
                    replies.push(datagram, reply);
                })?;
                (counts.received, counts.more) = (count as u64, more);
                Ok(())
            }
            Kind::Unix(unix) => unix.receive(replies, reply, counts),
        }
    }

    /// Sends replies until the queue is empty or the kernel takes no more.
    ///
    /// A reply that the kernel refuses is dropped and counted. On Unix sockets that includes one for
    /// a client whose receive queue is full: it would hold up the replies to all other clients, and
    /// no event tells when that queue has room again.
    fn send(&mut self, counts: &mut BatchCounts) {
        self.blocked = false;
        while !self.replies.is_empty() {
            let sent = match &mut self.socket {
                Kind::Udp(socket, batch) => batch.send(socket, &self.replies),
                Kind::Unix(unix) => unix.send(&self.replies),
            };
            match sent {
                Ok(count) => {
                    counts.sent += count as u64;
                    counts.bytes_out += self.replies.remove_first(count);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && self.is_udp() => {
                    self.blocked = true;
                    return;
                }
                Err(_) => {
                    self.replies.remove_first(1);
                    counts.refused += 1;
                }
            }
        }
    }

    fn is_udp(&self) -> bool {
        matches!(self.socket, Kind::Udp(..))
    }
}

fn bind_udp(
    address: SocketAddr,
    dual_stack: bool,
    options: &SocketOptions,
    max_batch: usize,
) -> io::Result<(Kind, Address)> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    options.prepare(&socket, dual_stack)?;
    let batch = Batch::new(&socket, address, max_batch)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let socket = UdpSocket::from_std(socket.into());
    Ok((Kind::Udp(socket, batch), Address::Udp(bound)))
}
