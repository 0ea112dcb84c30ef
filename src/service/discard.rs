//! Discard: all input is thrown away (RFC 863).

use super::{Needs, Outcome, Service};
use crate::peer::Peer;

/// The discard service (RFC 863): it reads everything and answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Discard {
    /// A discard service.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Service for Discard {
    type Session = ();

    fn needs(&self) -> Needs {
        Needs::default().with_datagrams()
    }

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        ((), Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }
}
