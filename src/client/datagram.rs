//! A server that is reached in datagrams: each line is one.

use std::collections::VecDeque;
use std::io;

use rustix::io::Errno;

use super::dial::BROADCAST_HINT;
use super::encode::InputEncoder;
use super::relay::{Received, Transport};
use super::{ConnectError, connection_lost};
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::{Datagrams, Readiness};

/// Bytes of the longest datagram of UDP over IPv4 (RFC 768); the limit for the other kinds, too.
const MAX_DATAGRAM: usize = 65_507;

/// Bytes of input beyond which a line is too long in every encoding: a character has at most four
/// bytes in UTF-8, and at least one in any other encoding.
const MAX_LINE: usize = 4 * MAX_DATAGRAM;

/// Datagrams sent in one turn, before others are received: the answers to thousands sent at once
/// would overflow the receive buffer.
const SENDS_PER_TURN: usize = 4;

/// A server that is reached in datagrams.
pub(super) struct DatagramTransport<D> {
    socket: D,
    address: Address,
    encoder: InputEncoder,
    ready: Readiness,
    /// Datagrams not yet taken by the kernel.
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the queued datagrams.
    queued_bytes: usize,
    /// The beginning of a line that is still incomplete.
    incomplete: Vec<u8>,
    /// True if the beginning of that line was too long: its rest is dropped.
    skips_line: bool,
    /// True if sending the first of the queued datagrams has failed.
    retried: bool,
    /// The last failure, which concerns one datagram.
    failure: Option<ConnectError>,
    /// True if a datagram was sent, and none was refused since.
    expects_answer: bool,
}

impl<D: Datagrams> DatagramTransport<D> {
    pub(super) fn new(socket: D, address: &Address, encoder: InputEncoder) -> Self {
        Self {
            socket,
            address: address.clone(),
            encoder,
            ready: Readiness {
                readable: true,
                writable: true,
                ending: false,
                hung_up: false,
            },
            queue: VecDeque::new(),
            queued_bytes: 0,
            incomplete: Vec::new(),
            skips_line: false,
            retried: false,
            failure: None,
            expects_answer: false,
        }
    }

    /// Queues a datagram. One that is too long is left out: the others are sent.
    fn push(&mut self, datagram: Vec<u8>) {
        if datagram.len() > MAX_DATAGRAM {
            let cause = format!("the limit is {MAX_DATAGRAM}");
            self.failure = Some(self.too_long(datagram.len(), &cause));
        } else {
            self.queued_bytes += datagram.len();
            self.queue.push_back(datagram);
        }
    }

    /// Removes the first of the queued datagrams.
    fn pop(&mut self) {
        self.retried = false;
        let datagram = self.queue.pop_front();
        self.queued_bytes -= datagram.map_or(0, |datagram| datagram.len());
    }

    fn too_long(&self, length: usize, cause: &str) -> ConnectError {
        let what = format!(
            "cannot send a datagram of {length} bytes to {}",
            self.address
        );
        ConnectError::new(what, cause)
    }

    /// Queues the line read so far, unless it is empty.
    fn queue_line(&mut self, last: bool) {
        let line = std::mem::take(&mut self.incomplete);
        let datagram = self.encoder.convert(&line, last).into_owned();
        if !datagram.is_empty() {
            self.push(datagram);
        }
    }

    /// Remembers an error that concerns one datagram.
    fn fail(&mut self, error: &io::Error, sending: Option<usize>) {
        self.expects_answer &= !is_refused(error);
        self.failure = Some(self.failure(error, sending));
    }

    /// The failure that an error of the socket means; `sending` is the length of the datagram, or
    /// `None` if receiving has failed.
    fn failure(&self, error: &io::Error, sending: Option<usize>) -> ConnectError {
        let address = &self.address;
        match (error.kind(), sending) {
            (io::ErrorKind::ConnectionRefused, _) => {
                ConnectError::new(format!("cannot reach {address}"), "no server listens there")
            }
            (io::ErrorKind::PermissionDenied, Some(_)) if matches!(address, Address::Udp(_)) => {
                let cause = format!("{}; {BROADCAST_HINT}", cause(error));
                ConnectError::new(format!("cannot send to {address}"), cause)
            }
            (_, Some(length)) if Errno::from_io_error(error) == Some(Errno::MSGSIZE) => {
                self.too_long(length, "longer than the system allows")
            }
            (_, Some(_)) => ConnectError::new(format!("cannot send to {address}"), cause(error)),
            (_, None) => connection_lost(address, cause(error)),
        }
    }
}

impl<D: Datagrams> Transport for DatagramTransport<D> {
    const IS_STREAM: bool = false;

    fn latch(&mut self, ready: Readiness) {
        self.ready.readable |= ready.readable;
        self.ready.writable |= ready.writable;
    }

    fn is_readable(&self) -> bool {
        self.ready.readable
    }

    fn can_send(&self) -> bool {
        self.ready.writable && !self.queue.is_empty()
    }

    /// Counts an empty datagram as one byte, and each other one as one byte more than it has.
    fn unsent(&self) -> usize {
        self.queued_bytes + self.queue.len()
    }

    fn queue_text(&mut self, text: &[u8]) {
        self.push(text.to_vec());
    }

    fn queue_input(&mut self, input: &[u8]) {
        for part in input.split_inclusive(|&byte| byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if self.skips_line {
                self.skips_line = !ends;
                continue;
            }
            self.incomplete.extend_from_slice(part);
            if ends || self.incomplete.len() > MAX_LINE {
                self.skips_line = !ends;
                self.queue_line(false);
            }
        }
    }

    fn end_input(&mut self) {
        self.queue_line(true);
    }

    fn send(&mut self) -> Result<bool, ConnectError> {
        let mut sent = false;
        for _ in 0..SENDS_PER_TURN {
            let Some(first) = self.queue.front().filter(|_| self.ready.writable) else {
                break;
            };
            match self.socket.send(first) {
                Ok(_) => {
                    sent = true;
                    self.expects_answer = true;
                    self.pop();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let length = first.len();
                    self.fail(&e, Some(length));
                    // The error may be that of a datagram before this one (udp(7)).
                    if !is_refused(&e) || std::mem::replace(&mut self.retried, true) {
                        self.pop();
                    }
                }
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError> {
        loop {
            match self.socket.receive(buffer) {
                Ok(n) => return Ok(Received::Bytes(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    return Ok(Received::Nothing);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_refused(&e) => self.fail(&e, None),
                Err(e) => return Err(self.failure(&e, None)),
            }
        }
    }

    /// Datagrams have no end.
    fn is_delivered(&mut self) -> Result<bool, ConnectError> {
        Ok(true)
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn take_failure(&mut self) -> Option<ConnectError> {
        self.failure.take()
    }

    fn expects_answer(&self) -> bool {
        self.expects_answer
    }
}

/// True for the error of a datagram that no server took.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Connect;

    /// A socket that takes nothing and receives nothing.
    struct Blocked;

    impl Datagrams for Blocked {
        fn send(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn transport(change: fn(&mut Connect)) -> DatagramTransport<Blocked> {
        let mut connect = Connect::new("udp://127.0.0.1:7".parse().unwrap());
        change(&mut connect);
        let address = Address::Udp(([127, 0, 0, 1], 7).into());
        DatagramTransport::new(Blocked, &address, InputEncoder::new(&connect))
    }

    #[test]
    fn each_line_is_a_datagram_and_so_is_an_unfinished_last_line() {
        let mut all = transport(|connect| connect.crlf = true);
        for part in ["one\ntw", "o\n\n", "thr", "ee"] {
            all.queue_input(part.as_bytes());
        }
        assert_eq!(all.queue, [&b"one\r\n"[..], b"two\r\n", b"\r\n"]);
        all.end_input();
        all.end_input();
        assert_eq!(all.queue.len(), 4);
        assert_eq!(all.queue[3], b"three");
        assert_eq!(all.unsent(), 5 + 5 + 2 + 5 + 4);
    }

    #[test]
    fn the_length_of_a_line_counts_in_its_encoding() {
        let line = format!("{}\n", "é".repeat(MAX_DATAGRAM - 1));
        let mut latin = transport(|connect| connect.encoding = "latin1".parse().unwrap());
        latin.queue_input(line.as_bytes());
        assert_eq!(latin.queue[0].len(), MAX_DATAGRAM);
        let mut utf8 = transport(|_| {});
        utf8.queue_input(line.as_bytes());
        let text =
            "cannot send a datagram of 131013 bytes to udp://127.0.0.1:7: the limit is 65507";
        assert_eq!(utf8.take_failure().unwrap().to_string(), text);
    }

    /// One refused line must not swallow those after it.
    #[test]
    fn line_that_is_too_long_is_left_out_and_later_ones_are_sent() {
        let mut all = transport(|_| {});
        // The failure does not wait for the end of such a line.
        let mut parts = 0;
        while all.failure.is_none() {
            all.queue_input(&[b'a'; 10_000]);
            parts += 1;
            assert!(parts < 100);
        }
        all.queue_input(b"its rest");
        all.queue_input(b" and end\nnext\n");
        assert_eq!(all.queue, [b"next\n"]);
    }
}
