//! Reply: the same text for everybody.

use std::time::SystemTime;

use super::{Outcome, Peer, Service, Then};
use crate::close::CloseReason;
use crate::template::{Speaker, Template, Who};

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

    fn answer(&mut self, who: Option<&Who>) -> Outcome<'_> {
        let then = if self.close {
            Then::Close(CloseReason::Done)
        } else {
            Then::Continue
        };
        Outcome {
            reply: [self.speaker.say(who), &[]],
            then,
        }
    }
}

/// Whom the text is about, if it is about somebody.
#[derive(Clone, Debug)]
pub struct Session(Option<Box<Who>>);

impl Service for Reply {
    type Session = Session;

    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>) {
        let about = self.speaker.template().has_places();
        let who = about.then(|| Box::new(Who::from(peer)));
        match self.on {
            On::Connect => (Session(None), self.answer(who.as_deref())),
            On::Message => (Session(who), Outcome::NOTHING),
        }
    }

    fn receive<'a>(&'a mut self, session: &'a mut Session, _: &'a [u8]) -> Outcome<'a> {
        match self.on {
            On::Connect => Outcome::NOTHING,
            On::Message => self.answer(session.0.as_deref()),
        }
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, _: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        Some([self.speaker.say(Some(&Who::from(peer))), &[]])
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
        assert!(session.0.is_none(), "nothing is kept for a fixed text");
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
