//! Reply: the same text for everybody.

use std::time::SystemTime;

use super::{Outcome, Peer, Service, Then};
use crate::close::CloseReason;
use crate::template::{About, Speaker, Template};

/// When a [`Reply`] is given. Over datagrams each of them is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// When a client has come; what it sends is discarded.
    Connect,
    /// To each message. As with recv(2) that is what one read returned.
    #[default]
    Message,
}

/// A service that says one text, on every occasion.
#[derive(Clone, Debug)]
pub struct Reply {
    speaker: Speaker,
    on: On,
    close: bool,
}

impl Reply {
    /// Says `text`, and with `close` closes the client after the first time.
    #[must_use]
    pub fn new(text: Template, on: On, close: bool) -> Self {
        Self {
            speaker: Speaker::new(text),
            on,
            close,
        }
    }

    fn answer(&mut self, about: &About) -> Outcome<'_> {
        let then = if self.close {
            Then::Close(CloseReason::Done)
        } else {
            Then::Continue
        };
        Outcome {
            reply: [self.speaker.say(about.who()), &[]],
            then,
        }
    }
}

impl Service for Reply {
    type Session = About;

    fn open(&mut self, peer: &Peer<'_>) -> (About, Outcome<'_>) {
        let about = self.speaker.about(peer);
        match self.on {
            On::Connect => (About::default(), self.answer(&about)),
            On::Message => (about, Outcome::NOTHING),
        }
    }

    fn receive<'a>(&'a mut self, about: &'a mut About, _: &'a [u8]) -> Outcome<'a> {
        match self.on {
            On::Connect => Outcome::NOTHING,
            On::Message => self.answer(about),
        }
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, _: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let about = self.speaker.about(peer);
        Some([self.speaker.say(about.who()), &[]])
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
    use crate::address::Address;
    use crate::service::tests::peer;

    #[track_caller]
    fn reply(text: &str, on: On, close: bool) -> Reply {
        Reply::new(text.parse().unwrap(), on, close)
    }

    fn said<'a>(outcome: &Outcome<'a>) -> (&'a [u8], Then) {
        assert!(outcome.reply[1].is_empty());
        (outcome.reply[0], outcome.then)
    }

    const DONE: Then = Then::Close(CloseReason::Done);

    #[test]
    fn each_message_is_answered() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let mut service = reply("信息已收到 {id} {peer}", On::Message, false);
        let (mut session, outcome) = service.open(&peer(&address));
        assert_eq!(said(&outcome), (&b""[..], Then::Continue));
        for _ in 0..2 {
            let outcome = service.receive(&mut session, b"x");
            let expected = "信息已收到 1 127.0.0.1:5000".as_bytes();
            assert_eq!(said(&outcome), (expected, Then::Continue));
        }
    }

    #[test]
    fn one_answer_and_the_end() {
        let address = Address::Stdin;
        let mut service = reply("ok", On::Message, true);
        let (mut session, _) = service.open(&peer(&address));
        assert!(session.who().is_none(), "nothing is kept for a fixed text");
        assert_eq!(
            said(&service.receive(&mut session, b"x")),
            (&b"ok"[..], DONE)
        );
    }

    #[test]
    fn who_is_greeted_is_not_answered() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let mut service = reply("connected {local}", On::Connect, true);
        let (mut session, outcome) = service.open(&peer(&address));
        assert_eq!(said(&outcome), (&b"connected 127.0.0.1:7"[..], DONE));
        let outcome = service.receive(&mut session, b"x");
        assert_eq!(said(&outcome), (&b""[..], Then::Continue));
    }
}
