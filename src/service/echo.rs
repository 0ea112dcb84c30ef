//! Echo: every byte back, in order (RFC 862).

use super::{Outcome, Service};
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

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        ((), Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), input: &'a [u8]) -> Outcome<'a> {
        Outcome::reply(input)
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, input: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        Some([input, &[]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_comes_back_from_where_it_lies() {
        let input = b"abc";
        let mut session = ();
        let mut echo = Echo::new();
        let outcome = echo.receive(&mut session, input);
        assert!(std::ptr::eq(outcome.reply[0], &raw const input[..]));
        assert!(outcome.reply[1].is_empty());
    }
}
