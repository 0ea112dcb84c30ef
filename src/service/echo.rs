//! Echo: every byte back, in order (RFC 862).

use super::{Needs, Outcome, Service};
use crate::bytes::Slices;
use crate::peer::Peer;

/// The echo service: each client gets back what it sent. It remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Echo {
    /// An echo service.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Service for Echo {
    type Session = ();

    fn needs(&self) -> Needs {
        Needs::default().with_datagrams()
    }

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        ((), Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), input: &'a [u8]) -> Outcome<'a> {
        Outcome::reply(input)
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
        Some(input.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_returned_without_a_copy() {
        let input = b"abc";
        let mut session = ();
        let mut echo = Echo::new();
        let [first, second] = echo.receive(&mut session, input).reply.parts();
        assert!(std::ptr::eq(first, &raw const input[..]));
        assert!(second.is_empty());
    }
}
