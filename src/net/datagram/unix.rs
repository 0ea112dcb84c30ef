//! Unix datagram sockets (unix(7)), one datagram a call.

use std::io::{self, ErrorKind};
use std::path::Path;

use mio::net::UnixDatagram;
use socket2::{Domain, SockRef, Type};

use super::received::{BatchCounts, Datagram, ReplyFn};
use super::replies::ReplyQueue;
use crate::net::address::Address;
use crate::net::options::SocketOptions;
use crate::net::socket_file::{self, SocketFile};
use crate::net::unix::{self, socket_name};

/// The largest datagram taken from a Unix socket, in bytes: the system sets no limit.
const MAX_DATAGRAM: usize = 256 * 1024;

/// A bound Unix datagram socket.
pub(super) struct UnixSocket {
    /// None for an abstract name. It is removed before the socket is closed: otherwise another
    /// server could take it for a stale one, and lose its own.
    #[expect(dead_code, reason = "its drop removes the file")]
    file: Option<SocketFile>,
    pub(super) socket: UnixDatagram,
    /// One byte more than the largest datagram, to recognise a larger one.
    buffer: Vec<u8>,
}

impl UnixSocket {
    pub(super) fn bind(path: &Path, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        options.prepare(&socket, false)?;
        let file = socket_file::bind(&socket, path, options.unix_mode)?;
        Ok(Self {
            file,
            socket: UnixDatagram::from_std(socket.into()),
            buffer: vec![0; MAX_DATAGRAM + 1],
        })
    }

    /// Receives one datagram and queues the reply to it. A datagram that is too large is refused.
    pub(super) fn receive(
        &mut self,
        replies: &mut ReplyQueue,
        reply: &mut ReplyFn<'_>,
        counts: &mut BatchCounts,
    ) -> io::Result<()> {
        let (n, name) = self.socket.recv_from(&mut self.buffer)?;
        counts.received = 1;
        counts.bytes_in += n as u64;
        counts.more = true;
        if n > MAX_DATAGRAM {
            counts.refused += 1;
            return Ok(());
        }
        let from = address_of(&name);
        let datagram = Datagram {
            bytes: &self.buffer[..n],
            from: &from,
            to: None,
        };
        replies.push(datagram, reply);
        Ok(())
    }

    /// Sends the first reply; returns the number of replies sent.
    pub(super) fn send(&self, replies: &ReplyQueue) -> io::Result<usize> {
        let Some(reply) = replies.iter().next() else {
            return Ok(0);
        };
        let Address::UnixDatagram(path) = reply.to else {
            return Err(ErrorKind::Unsupported.into());
        };
        SockRef::from(&self.socket).send_to(reply.bytes, &socket_name(path)?)?;
        Ok(1)
    }
}

/// The address of a client's socket.
fn address_of(name: &std::os::unix::net::SocketAddr) -> Address {
    #[cfg(target_os = "linux")]
    let abstract_name = std::os::linux::net::SocketAddrExt::as_abstract_name(name);
    #[cfg(not(target_os = "linux"))]
    let abstract_name = None;
    Address::UnixDatagram(unix::path_of(name.as_pathname(), abstract_name).into())
}
