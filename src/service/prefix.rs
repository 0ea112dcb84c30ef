//! Echo with something in front.

use std::time::SystemTime;

use super::{Outcome, Service};
use crate::peer::Peer;
use crate::text::template::{About, Template, TemplateRenderer};

/// An echo service that puts a text in front of each message. As with recv(2) that is what one
/// read returned, or a datagram.
#[derive(Clone, Debug)]
pub struct PrefixedEcho {
    speaker: TemplateRenderer,
}

impl PrefixedEcho {
    /// An echo service with this text.
    #[must_use]
    pub fn new(prefix: Template) -> Self {
        Self {
            speaker: TemplateRenderer::new(prefix),
        }
    }
}

impl Service for PrefixedEcho {
    type Session = About;

    fn open(&mut self, peer: &Peer<'_>) -> (About, Outcome<'_>) {
        (self.speaker.about(peer), Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, about: &'a mut About, input: &'a [u8]) -> Outcome<'a> {
        Outcome {
            reply: [self.speaker.say(about.who()), input],
            ..Outcome::NOTHING
        }
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let about = self.speaker.about(peer);
        Some([self.speaker.say(about.who()), input])
    }

    fn wants_local(&self) -> bool {
        self.speaker.template().wants_local()
    }

    fn wants_time(&self) -> bool {
        self.speaker.template().wants_time()
    }

    fn set_time(&mut self, now: SystemTime) {
        self.speaker.set_time(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;

    #[test]
    fn what_is_sent_comes_back_from_where_it_lies_with_a_prefix() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        for (text, prefix) in [
            ("Echo: ", "Echo: "),
            ("{id} {peer}> ", "1 127.0.0.1:5000> "),
        ] {
            let mut service = PrefixedEcho::new(text.parse().unwrap());
            let (mut session, _) = service.open(&peer(&address));
            let input = b"abc";
            let outcome = service.receive(&mut session, input);
            assert_eq!(outcome.reply[0], prefix.as_bytes());
            assert!(std::ptr::eq(outcome.reply[1], &raw const input[..]));
            let answer = service.datagram(&peer(&address), b"abc").unwrap();
            assert_eq!(answer.concat(), format!("{prefix}abc").as_bytes());
        }
    }
}
