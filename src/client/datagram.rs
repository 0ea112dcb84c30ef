//! A server that is sent datagrams: each line is one.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::{UdpSocket, UnixDatagram};
use rustix::io::Errno;

use super::outgoing::Outgoing;
use super::talk::{Partner, Received};
use super::{ConnectError, lost};
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::listener::SocketFile;
use crate::net::{Poller, Readiness};

/// The longest datagram of UDP over IPv4 (RFC 768); the others are held to it, too.
const LARGEST: usize = 65_507;

/// Beyond this a line is too long in any encoding: there a letter has at least a byte, and in UTF-8
/// at most four.
const LONGEST_LINE: usize = 4 * LARGEST;

/// Datagrams sent before those that have come are received: who sends thousands at once has no room
/// for the answers.
const AT_ONCE: usize = 4;

/// What a broadcast address takes.
pub(super) const BROADCAST_HINT: &str = "a broadcast address takes --broadcast";

/// A bound socket for datagrams.
pub(super) enum Socket {
    /// With where its datagrams go, if it isn't connected.
    Udp(UdpSocket, Option<SocketAddr>),
    Unix(
        UnixDatagram,
        /// Removed when this is dropped.
        Option<SocketFile>,
    ),
}

impl Socket {
    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket, Some(to)) => socket.send_to(datagram, *to),
            Self::Udp(socket, None) => socket.send(datagram),
            Self::Unix(socket, _) => socket.send(datagram),
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket, Some(_)) => socket.recv_from(buffer).map(|(n, _)| n),
            Self::Udp(socket, None) => socket.recv(buffer),
            Self::Unix(socket, _) => socket.recv(buffer),
        }
    }
}

/// A server that is sent datagrams, and sends some.
pub(super) struct Datagrams {
    socket: Socket,
    address: Address,
    words: Outgoing,
    ready: Readiness,
    /// Datagrams that the kernel didn't take yet, and their bytes.
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(socket: Socket, address: &Address, words: Outgoing) -> Self {
        Self {
            socket,
            address: address.clone(),
            words,
            ready: Readiness {
                readable: true,
                writable: true,
                ending: false,
            },
            waiting: VecDeque::new(),
            bytes: 0,
            begun: Vec::new(),
        }
    }

    fn queue(&mut self, datagram: Vec<u8>) -> Result<(), ConnectError> {
        if datagram.len() > LARGEST {
            return Err(self.too_long(datagram.len(), &format!("the longest has {LARGEST}")));
        }
        self.bytes += datagram.len();
        self.waiting.push_back(datagram);
        Ok(())
    }

    fn too_long(&self, length: usize, cause: &str) -> ConnectError {
        let what = format!(
            "cannot send a datagram of {length} bytes to {}",
            self.address
        );
        ConnectError::new(what, cause)
    }

    /// Sends the line that has come by now, if there is some of it.
    fn queue_line(&mut self, last: bool) -> Result<(), ConnectError> {
        let line = std::mem::take(&mut self.begun);
        let datagram = self.words.convert(&line, last).into_owned();
        if datagram.is_empty() {
            return Ok(());
        }
        self.queue(datagram)
    }

    /// What an error means; of sending, so many bytes.
    fn failure(&self, error: &io::Error, sending: Option<usize>) -> ConnectError {
        let address = &self.address;
        match (error.kind(), sending) {
            (io::ErrorKind::ConnectionRefused, _) => ConnectError::new(
                format!("the server at {address} refuses"),
                "nobody listens there",
            ),
            (io::ErrorKind::PermissionDenied, Some(_)) if matches!(address, Address::Udp(_)) => {
                let cause = format!("{}; {BROADCAST_HINT}", cause(error));
                ConnectError::new(format!("cannot send to {address}"), cause)
            }
            (_, Some(length)) if Errno::from_io_error(error) == Some(Errno::MSGSIZE) => {
                self.too_long(length, "longer than the system sends")
            }
            (_, Some(_)) => ConnectError::new(format!("cannot send to {address}"), cause(error)),
            (_, None) => lost(address, cause(error)),
        }
    }
}

impl Partner for Datagrams {
    const ENDS: bool = false;

    fn register(&mut self, net: &mut Poller, key: usize) -> io::Result<()> {
        if let Socket::Unix(_, Some(_)) = self.socket {
            // So that the file goes, too, when somebody interrupts this.
            net.catch_signals()?;
        }
        match &mut self.socket {
            Socket::Udp(socket, _) => net.register_source(socket, key),
            Socket::Unix(socket, _) => net.register_source(socket, key),
        }
    }

    fn latch(&mut self, ready: Readiness) {
        self.ready.readable |= ready.readable;
        self.ready.writable |= ready.writable;
    }

    fn is_readable(&self) -> bool {
        self.ready.readable
    }

    fn can_send(&self) -> bool {
        self.ready.writable && !self.waiting.is_empty()
    }

    /// An empty datagram that waits counts, too.
    fn waiting(&self) -> usize {
        self.bytes + self.waiting.len()
    }

    fn say(&mut self, text: &[u8]) -> Result<(), ConnectError> {
        self.queue(text.to_vec())
    }

    fn take(&mut self, input: &[u8]) -> Result<(), ConnectError> {
        for part in input.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() > LONGEST_LINE {
                self.queue_line(false)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ConnectError> {
        self.queue_line(true)
    }

    fn send(&mut self) -> Result<bool, ConnectError> {
        let mut sent = false;
        for _ in 0..AT_ONCE {
            let Some(first) = self.waiting.front().filter(|_| self.ready.writable) else {
                break;
            };
            match self.socket.send(first) {
                Ok(_) => {
                    sent = true;
                    self.bytes -= first.len();
                    self.waiting.pop_front();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failure(&e, Some(first.len()))),
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError> {
        loop {
            match self.socket.receive(buffer) {
                Ok(n) => return Ok(Received::Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    return Ok(Received::Nothing);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failure(&e, None)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Connect;
    use crate::client::tests::connect;

    fn datagrams(args: fn(&mut Connect)) -> Datagrams {
        let mut connect = connect();
        args(&mut connect);
        let (ours, _) = UnixDatagram::pair().unwrap();
        let address = Address::Udp(([127, 0, 0, 1], 7).into());
        Datagrams::new(Socket::Unix(ours, None), &address, Outgoing::new(&connect))
    }

    #[test]
    fn each_line_is_a_datagram_and_so_is_what_follows_the_last() {
        let mut all = datagrams(|connect| connect.crlf = true);
        for part in ["one\ntw", "o\n\n", "thr", "ee"] {
            all.take(part.as_bytes()).unwrap();
        }
        assert_eq!(all.waiting, [&b"one\r\n"[..], b"two\r\n", b"\r\n"]);
        all.finish().unwrap();
        all.finish().unwrap();
        assert_eq!(all.waiting.len(), 4);
        assert_eq!(all.waiting[3], b"three");
        assert_eq!(all.waiting(), 5 + 5 + 2 + 5 + 4);
    }

    #[test]
    fn the_length_of_a_line_counts_in_its_encoding() {
        let line = format!("{}\n", "é".repeat(LARGEST - 1));
        let mut latin = datagrams(|connect| connect.encoding = "latin1".parse().unwrap());
        latin.take(line.as_bytes()).unwrap();
        assert_eq!(latin.waiting[0].len(), LARGEST);
        let error = datagrams(|_| {}).take(line.as_bytes()).unwrap_err();
        let text =
            "cannot send a datagram of 131013 bytes to udp://127.0.0.1:7: the longest has 65507";
        assert_eq!(error.to_string(), text);
        // It isn't waited for the end of such a line.
        let mut endless = datagrams(|_| {});
        let mut parts = (0..100).map(|_| endless.take(&[b'a'; 10_000]));
        assert!(parts.any(|taken| taken.is_err()));
    }
}
