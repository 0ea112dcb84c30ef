//! UDP datagrams by the calls that every system has, one datagram a call.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::received::Datagram;
use super::replies::ReplyQueue;
use crate::net::address::Address;

/// Bytes of buffer per UDP datagram: its length is a 16-bit number (RFC 768).
const UDP_BUFFER: usize = 64 * 1024;

/// A buffer for one datagram.
pub(super) struct Batch(Vec<u8>);

impl Batch {
    pub(super) fn new(_: &socket2::Socket, _: SocketAddr, _: usize) -> io::Result<Self> {
        Ok(Self(vec![0; UDP_BUFFER]))
    }

    /// Receives one datagram; returns 1, and true because there may be more.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        each: &mut dyn FnMut(Datagram<'_>),
    ) -> io::Result<(usize, bool)> {
        let (n, from) = socket.recv_from(&mut self.0)?;
        each(Datagram {
            bytes: &self.0[..n],
            from: &Address::Udp(from),
            to: None,
        });
        Ok((1, true))
    }

    /// Sends the first reply; returns the number of replies sent.
    pub(super) fn send(&self, socket: &UdpSocket, replies: &ReplyQueue) -> io::Result<usize> {
        let Some(reply) = replies.iter().next() else {
            return Ok(0);
        };
        let Some(to) = reply.to.socket_addr() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        socket.send_to(reply.bytes, to)?;
        Ok(1)
    }
}
