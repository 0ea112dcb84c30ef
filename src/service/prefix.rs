//! Echo with a text in front of each message.

use std::time::SystemTime;

use super::{Needs, Outcome, Service};
use crate::bytes::Slices;
use crate::peer::Peer;
use crate::text::template::{SavedRecipient, Template, TemplateRenderer};

/// An echo service that puts a text in front of each message. A message is the bytes of one
/// recv(2), or a datagram.
#[derive(Clone, Debug)]
pub struct PrefixedEcho {
    prefix: TemplateRenderer,
}

impl PrefixedEcho {
    /// An echo service with this text.
    #[must_use]
    pub fn new(prefix: Template) -> Self {
        Self {
            prefix: TemplateRenderer::new(prefix),
        }
    }
}

impl Service for PrefixedEcho {
    type Session = SavedRecipient;

    fn needs(&self) -> Needs {
        Needs::of_text(&self.prefix)
    }

    fn open(&mut self, peer: &Peer<'_>) -> (SavedRecipient, Outcome<'_>) {
        (self.prefix.save(peer), Outcome::NOTHING)
    }

    fn receive<'a>(
        &'a mut self,
        recipient: &'a mut SavedRecipient,
        input: &'a [u8],
    ) -> Outcome<'a> {
        Outcome::reply_both(self.prefix.render(recipient.get()), input)
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
        let recipient = self.prefix.save(peer);
        Some(Slices::new(self.prefix.render(recipient.get()), input))
    }

    fn set_time(&mut self, now: SystemTime) {
        self.prefix.set_time(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;

    #[test]
    fn input_is_returned_without_a_copy_behind_the_prefix() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        for (text, prefix) in [
            ("Echo: ", "Echo: "),
            ("{id} {peer}> ", "1 127.0.0.1:5000> "),
        ] {
            let mut service = PrefixedEcho::new(text.parse().unwrap());
            let (mut session, _) = service.open(&peer(&address));
            let input = b"abc";
            let outcome = service.receive(&mut session, input);
            let [first, second] = outcome.reply.parts();
            assert_eq!(first, prefix.as_bytes());
            assert!(std::ptr::eq(second, &raw const input[..]));
            let answer = service.datagram(&peer(&address), b"abc").unwrap();
            assert_eq!(answer.to_vec(), format!("{prefix}abc").as_bytes());
        }
    }
}
