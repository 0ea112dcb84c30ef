//! Reply: one fixed text for every client.

use std::time::SystemTime;

use super::{Needs, Outcome, Service};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::text::template::{SavedRecipient, Template, TemplateRenderer};

/// The event that a [`Reply`] answers. A datagram is always answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyOn {
    /// The client's connection; its input is discarded.
    Connect,
    /// Each message: the bytes of one recv(2).
    #[default]
    Message,
}

/// A service that answers with one text.
#[derive(Clone, Debug)]
pub struct Reply {
    text: TemplateRenderer,
    on: ReplyOn,
    close: bool,
}

impl Reply {
    /// A service that answers with `text`. If `close`, the client is closed after the first answer.
    #[must_use]
    pub fn new(text: Template, on: ReplyOn, close: bool) -> Self {
        Self {
            text: TemplateRenderer::new(text),
            on,
            close,
        }
    }

    fn answer(&mut self, recipient: &SavedRecipient) -> Outcome<'_> {
        let outcome = Outcome::reply(self.text.render(recipient.get()));
        if self.close {
            outcome.then_close(CloseReason::Done)
        } else {
            outcome
        }
    }
}

impl Service for Reply {
    type Session = SavedRecipient;

    fn needs(&self) -> Needs {
        Needs::of_text(&self.text)
    }

    fn open(&mut self, peer: &Peer<'_>) -> (SavedRecipient, Outcome<'_>) {
        let recipient = self.text.save(peer);
        match self.on {
            ReplyOn::Connect => (SavedRecipient::default(), self.answer(&recipient)),
            ReplyOn::Message => (recipient, Outcome::NOTHING),
        }
    }

    fn receive<'a>(&'a mut self, recipient: &'a mut SavedRecipient, _: &'a [u8]) -> Outcome<'a> {
        match self.on {
            ReplyOn::Connect => Outcome::NOTHING,
            ReplyOn::Message => self.answer(recipient),
        }
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, _: &'a [u8]) -> Option<Slices<'a>> {
        let recipient = self.text.save(peer);
        Some(self.text.render(recipient.get()).into())
    }

    fn set_time(&mut self, now: SystemTime) {
        self.text.set_time(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;
    use crate::service::Action;

    #[track_caller]
    fn reply(text: &str, on: ReplyOn, close: bool) -> Reply {
        Reply::new(text.parse().unwrap(), on, close)
    }

    fn said<'a>(outcome: &Outcome<'a>) -> (&'a [u8], Action) {
        let [text, rest] = outcome.reply.parts();
        assert!(rest.is_empty());
        (text, outcome.action)
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
        assert!(session.get().is_none(), "nothing is kept for a fixed text");
        assert_eq!(
            said(&service.receive(&mut session, b"x")),
            (&b"ok"[..], DONE)
        );
    }

    #[test]
    fn greeted_client_gets_no_answer() {
        let address = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let mut service = reply("connected {local}", ReplyOn::Connect, true);
        let (mut session, outcome) = service.open(&peer(&address));
        assert_eq!(said(&outcome), (&b"connected 127.0.0.1:7"[..], DONE));
        let outcome = service.receive(&mut session, b"x");
        assert_eq!(said(&outcome), (&b""[..], Action::Continue));
    }
}
