//! Reply: the same text for everybody.

use std::time::SystemTime;

use super::{Action, Outcome, Service};
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::text::template::{About, Template, TemplateRenderer};

/// When a [`Reply`] is given. Over datagrams each of them is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyOn {
    /// When a client has come; what it sends is discarded.
    Connect,
    /// To each message. As with recv(2) that is what one read returned.
    #[default]
    Message,
}

/// A service that says one text, on every occasion.
#[derive(Clone, Debug)]
pub struct Reply {
    speaker: TemplateRenderer,
    on: ReplyOn,
    close: bool,
}

impl Reply {
    /// Says `text`, and with `close` closes the client after the first time.
    #[must_use]
    pub fn new(text: Template, on: ReplyOn, close: bool) -> Self {
        Self {
            speaker: TemplateRenderer::new(text),
            on,
            close,
        }
    }

    fn answer(&mut self, about: &About) -> Outcome<'_> {
        let then = if self.close {
            Action::Close(CloseReason::Done)
        } else {
            Action::Continue
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
            ReplyOn::Connect => (About::default(), self.answer(&about)),
            ReplyOn::Message => (about, Outcome::NOTHING),
        }
    }

    fn receive<'a>(&'a mut self, about: &'a mut About, _: &'a [u8]) -> Outcome<'a> {
        match self.on {
            ReplyOn::Connect => Outcome::NOTHING,
            ReplyOn::Message => self.answer(about),
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
    use crate::net::address::Address;
    use crate::peer::tests::peer;

    #[track_caller]
    fn reply(text: &str, on: ReplyOn, close: bool) -> Reply {
        Reply::new(text.parse().unwrap(), on, close)
    }

    fn said<'a>(outcome: &Outcome<'a>) -> (&'a [u8], Action) {
        assert!(outcome.reply[1].is_empty());
        (outcome.reply[0], outcome.then)
    }

    const DONE: Action = Action::Close(CloseReason::Done);

    #[test]
    fn each_message_is_answered() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let mut service = reply("信息已收到 {id} {peer}", ReplyOn::Message, false);
        let (mut session, outcome) = service.open(&peer(&address));
        assert_eq!(said(&outcome), (&b""[..], Action::Continue));
        for _ in 0..2 {
            let outcome = service.receive(&mut session, b"x");
            let expected = "信息已收到 1 127.0.0.1:5000".as_bytes();
            assert_eq!(said(&outcome), (expected, Action::Continue));
        }
    }

    #[test]
    fn one_answer_and_the_end() {
        let address = Address::Stdin;
        let mut service = reply("ok", ReplyOn::Message, true);
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
        let mut service = reply("connected {local}", ReplyOn::Connect, true);
        let (mut session, outcome) = service.open(&peer(&address));
        assert_eq!(said(&outcome), (&b"connected 127.0.0.1:7"[..], DONE));
        let outcome = service.receive(&mut session, b"x");
        assert_eq!(said(&outcome), (&b""[..], Action::Continue));
    }
}
