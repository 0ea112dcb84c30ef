//! A server at the other end of a byte stream.

use std::collections::VecDeque;

use super::encode::InputEncoder;
use super::relay::{Received, Transport};
use super::{ConnectError, connection_lost};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::net::address::Address;
use crate::net::link::Link;
use crate::net::{Readiness, Stream};

/// The state of the direction to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    /// More input may follow.
    Open,
    /// The input has ended; some of it may be unsent.
    InputEnded,
    /// All is sent, and the server was told of the end.
    ShutDown,
}

/// A server at the other end of a byte stream.
pub(super) struct StreamTransport<S> {
    link: Link<S>,
    address: Address,
    encoder: InputEncoder,
    /// Bytes not yet taken by the kernel. The link's own would be dropped after an error.
    outbox: VecDeque<u8>,
    state: SendState,
    /// True after the end of the server's output.
    server_ended: bool,
    /// True if bytes were sent after that.
    sent_since: bool,
}

impl<S: Stream> StreamTransport<S> {
    pub(super) fn new(stream: S, address: &Address, encoder: InputEncoder) -> Self {
        Self {
            link: Link::new(stream),
            address: address.clone(),
            encoder,
            outbox: VecDeque::new(),
            state: SendState::Open,
            server_ended: false,
            sent_since: false,
        }
    }

    fn lost(&self, reason: CloseReason) -> ConnectError {
        connection_lost(&self.address, reason)
    }

    /// One write from the outbox.
    fn send_once(&mut self) {
        let (first, second) = self.outbox.as_slices();
        let taken = self.link.write(Slices::new(first, second));
        if self.link.broken.is_none() {
            self.outbox.drain(..taken);
        }
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new(); // an idle client owns no buffer
        }
    }

    /// The end of the server's output: an orderly one, unless writing has failed before.
    fn end_of_output(&mut self) -> Result<Received, ConnectError> {
        self.server_ended = true;
        match self.link.broken {
            None => Ok(Received::End),
            Some(reason) => Err(self.lost(reason)),
        }
    }
}

impl<S: Stream> Transport for StreamTransport<S> {
    const IS_STREAM: bool = true;

    fn latch(&mut self, ready: Readiness) {
        self.link.latch(ready);
    }

    /// False: `send` stops only where the kernel takes no more, and an event follows.
    fn can_send(&self) -> bool {
        false
    }

    fn is_readable(&self) -> bool {
        self.link.ready.readable
    }

    fn unsent(&self) -> usize {
        self.outbox.len()
    }

    fn queue_text(&mut self, text: &[u8]) {
        self.outbox.extend(text);
    }

    fn queue_input(&mut self, input: &[u8]) {
        let bytes = self.encoder.convert(input, false);
        self.outbox.extend(bytes.iter());
    }

    fn end_input(&mut self) {
        if self.state == SendState::Open {
            let bytes = self.encoder.convert(b"", true);
            self.outbox.extend(bytes.iter());
            self.state = SendState::InputEnded;
        }
    }

    /// Sends what the kernel takes, and after the last byte the end (half-close).
    fn send(&mut self) -> Result<bool, ConnectError> {
        while self.link.ready.writable && !self.outbox.is_empty() && self.link.broken.is_none() {
            self.send_once();
        }
        if self.state == SendState::InputEnded && self.outbox.is_empty() {
            self.state = SendState::ShutDown;
            // If that fails, reading returns the cause.
            let _ = self.link.stream.shutdown_write();
        }
        let sent = std::mem::take(&mut self.link.written_since_heartbeat);
        self.sent_since |= sent && self.server_ended;
        Ok(sent)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError> {
        match self.link.read(buffer) {
            Ok(None) if self.link.broken.is_none() => Ok(Received::Nothing),
            Ok(None | Some(0)) => self.end_of_output(),
            Ok(Some(n)) => Ok(Received::Bytes(n)),
            Err(e) => Err(self.lost(CloseReason::of(&e))),
        }
    }

    /// True also while nothing was sent since: the server that ended its output last of all needs to
    /// confirm nothing. Otherwise the kernel has to have the confirmation of its bytes: a server that
    /// has closed answers them with a reset.
    fn is_delivered(&mut self) -> Result<bool, ConnectError> {
        if self.link.ready.readable {
            // An event since the end: it may be a reset.
            self.link.ready.readable = false;
            let checked = self.link.stream.check_connection();
            checked.map_err(|e| self.lost(CloseReason::of(&e)))?;
        }
        if let Some(reason) = self.link.broken {
            return Err(self.lost(reason));
        }
        if !self.outbox.is_empty() || !self.sent_since {
            return Ok(self.outbox.is_empty());
        }
        if self.state != SendState::ShutDown {
            return Ok(false);
        }
        let delivered = self.link.stream.is_delivered();
        delivered.map_err(|e| self.lost(CloseReason::of(&e)))
    }

    /// Only Unix sockets tell it: over TCP a server that has closed looks like one that has ended its
    /// output, until something is sent to it.
    fn is_gone(&self) -> bool {
        self.link.ready.hung_up && self.state != SendState::ShutDown
    }

    fn take_failure(&mut self) -> Option<ConnectError> {
        None
    }

    fn expects_answer(&self) -> bool {
        true
    }
}
