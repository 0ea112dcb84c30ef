//! A server at the other end of a byte stream.

use std::io;

use super::outgoing::Outgoing;
use super::talk::{Partner, Received};
use super::{ConnectError, lost};
use crate::close::CloseReason;
use crate::net::address::Address;
use crate::net::link::Link;
use crate::net::{Net, Poller, Readiness, Socket, Stream};

/// How far what goes to the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// There may be more input.
    Some,
    /// There is none.
    All,
    /// And the server was told so.
    Over,
}

/// A server that is sent a stream, and sends one.
pub(super) struct Lines {
    link: Link<Socket>,
    address: Address,
    words: Outgoing,
    said: Said,
}

impl Lines {
    pub(super) fn new(socket: Socket, address: &Address, words: Outgoing) -> Self {
        Self {
            link: Link::new(socket),
            address: address.clone(),
            words,
            said: Said::Some,
        }
    }

    fn lost(&self, reason: CloseReason) -> ConnectError {
        lost(&self.address, reason)
    }

    /// The end of what comes: a good one, unless writing has failed before.
    fn ended(&self) -> Result<Received, ConnectError> {
        match self.link.broken {
            None => Ok(Received::End),
            Some(reason) => Err(self.lost(reason)),
        }
    }
}

impl Partner for Lines {
    const ENDS: bool = true;

    fn register(&mut self, net: &mut Poller, key: usize) -> io::Result<()> {
        net.register(&mut self.link.stream, key)
    }

    fn latch(&mut self, ready: Readiness) {
        self.link.latch(ready);
    }

    /// What the stream took no more of it will ask for.
    fn can_send(&self) -> bool {
        false
    }

    fn is_readable(&self) -> bool {
        self.link.ready.readable
    }

    fn waiting(&self) -> usize {
        self.link.outbox.len()
    }

    fn say(&mut self, text: &[u8]) -> Result<(), ConnectError> {
        self.link.outbox.extend(text);
        Ok(())
    }

    fn take(&mut self, input: &[u8]) -> Result<(), ConnectError> {
        let bytes = self.words.convert(input, false);
        self.link.outbox.extend(bytes.iter());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ConnectError> {
        let bytes = self.words.convert(b"", true);
        self.link.outbox.extend(bytes.iter());
        self.said = Said::All;
        Ok(())
    }

    /// Sends what waits, and then that there is no more.
    fn send(&mut self) -> Result<bool, ConnectError> {
        self.link.flush();
        if self.said == Said::All && self.link.outbox.is_empty() {
            self.said = Said::Over;
            // If that fails, reading tells why.
            let _ = self.link.stream.shutdown_write();
        }
        Ok(std::mem::take(&mut self.link.spoke))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError> {
        match self.link.read(buffer) {
            Ok(None) if self.link.broken.is_none() => Ok(Received::Nothing),
            Ok(None | Some(0)) => self.ended(),
            Ok(Some(n)) => Ok(Received::Some(n)),
            Err(e) => Err(self.lost(CloseReason::of(&e))),
        }
    }
}
