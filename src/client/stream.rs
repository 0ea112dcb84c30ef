//! A server at the other end of a byte stream.

use super::encode::InputEncoder;
use super::relay::{Received, Transport};
use super::{ConnectError, connection_lost};
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
    state: SendState,
}

impl<S: Stream> StreamTransport<S> {
    pub(super) fn new(stream: S, address: &Address, encoder: InputEncoder) -> Self {
        Self {
            link: Link::new(stream),
            address: address.clone(),
            encoder,
            state: SendState::Open,
        }
    }

    fn lost(&self, reason: CloseReason) -> ConnectError {
        connection_lost(&self.address, reason)
    }

    /// The end of the server's output: an orderly one, unless writing has failed before.
    fn end_of_output(&self) -> Result<Received, ConnectError> {
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
        self.link.outbox.len()
    }

    fn queue_text(&mut self, text: &[u8]) -> Result<(), ConnectError> {
        self.link.outbox.extend(text);
        Ok(())
    }

    fn queue_input(&mut self, input: &[u8]) -> Result<(), ConnectError> {
        let bytes = self.encoder.convert(input, false);
        self.link.outbox.extend(bytes.iter());
        Ok(())
    }

    fn end_input(&mut self) -> Result<(), ConnectError> {
        let bytes = self.encoder.convert(b"", true);
        self.link.outbox.extend(bytes.iter());
        self.state = SendState::InputEnded;
        Ok(())
    }

    /// Sends what the kernel takes, and after the last byte the end (half-close).
    fn send(&mut self) -> Result<bool, ConnectError> {
        self.link.flush();
        if self.state == SendState::InputEnded && self.link.outbox.is_empty() {
            self.state = SendState::ShutDown;
            // If that fails, reading returns the cause.
            let _ = self.link.stream.shutdown_write();
        }
        Ok(std::mem::take(&mut self.link.written_since_heartbeat))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError> {
        match self.link.read(buffer) {
            Ok(None) if self.link.broken.is_none() => Ok(Received::Nothing),
            Ok(None | Some(0)) => self.end_of_output(),
            Ok(Some(n)) => Ok(Received::Bytes(n)),
            Err(e) => Err(self.lost(CloseReason::of(&e))),
        }
    }
}
