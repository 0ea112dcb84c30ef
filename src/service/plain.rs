//! The small services as one: the loop, which is compiled for each service anew, is compiled once
//! for all of them, which makes the binary a tenth smaller. Echo and broadcast have their own.

use std::time::SystemTime;

use super::{
    Chargen, Daytime, Discard, Needs, Outcome, Owed, PrefixedEcho, Release, Reply, Service, Time,
    chargen,
};
use crate::bytes::Slices;
use crate::peer::Peer;
use crate::text::template::About;

/// One of the services of which speed isn't all.
#[derive(Debug)]
pub enum Plain {
    /// See [`Discard`].
    Discard(Discard),
    /// See [`Reply`].
    Reply(Reply),
    /// See [`Daytime`].
    Daytime(Daytime),
    /// See [`Time`].
    Time(Time),
    /// See [`Chargen`].
    Chargen(Chargen),
    /// See [`PrefixedEcho`].
    Prefixed(PrefixedEcho),
}

impl From<Discard> for Plain {
    fn from(service: Discard) -> Self {
        Self::Discard(service)
    }
}

impl From<Reply> for Plain {
    fn from(service: Reply) -> Self {
        Self::Reply(service)
    }
}

impl From<Daytime> for Plain {
    fn from(service: Daytime) -> Self {
        Self::Daytime(service)
    }
}

impl From<Time> for Plain {
    fn from(service: Time) -> Self {
        Self::Time(service)
    }
}

impl From<Chargen> for Plain {
    fn from(service: Chargen) -> Self {
        Self::Chargen(service)
    }
}

impl From<PrefixedEcho> for Plain {
    fn from(service: PrefixedEcho) -> Self {
        Self::Prefixed(service)
    }
}

/// What the service in force remembers about one client.
#[derive(Debug)]
pub struct Session(Kept);

#[derive(Debug)]
enum Kept {
    Nothing,
    About(About),
    Chargen(chargen::Session),
}

/// Asks whichever service it is.
macro_rules! ask {
    ($plain:expr, $service:ident => $answer:expr) => {
        match $plain {
            Plain::Discard($service) => $answer,
            Plain::Reply($service) => $answer,
            Plain::Daytime($service) => $answer,
            Plain::Time($service) => $answer,
            Plain::Chargen($service) => $answer,
            Plain::Prefixed($service) => $answer,
        }
    };
}

impl Service for Plain {
    type Session = Session;

    fn open(&mut self, peer: &Peer<'_>) -> (Session, Outcome<'_>) {
        let (kept, outcome) = match self {
            Self::Discard(service) => (Kept::Nothing, service.open(peer).1),
            Self::Daytime(service) => (Kept::Nothing, service.open(peer).1),
            Self::Time(service) => (Kept::Nothing, service.open(peer).1),
            Self::Reply(service) => {
                let (session, outcome) = service.open(peer);
                (Kept::About(session), outcome)
            }
            Self::Prefixed(service) => {
                let (session, outcome) = service.open(peer);
                (Kept::About(session), outcome)
            }
            Self::Chargen(service) => {
                let (session, outcome) = service.open(peer);
                (Kept::Chargen(session), outcome)
            }
        };
        (Session(kept), outcome)
    }

    fn receive<'a>(&'a mut self, session: &'a mut Session, input: &'a [u8]) -> Outcome<'a> {
        match (self, &mut session.0) {
            (Self::Reply(service), Kept::About(session)) => service.receive(session, input),
            (Self::Prefixed(service), Kept::About(session)) => service.receive(session, input),
            _ => Outcome::NOTHING, // the others discard it
        }
    }

    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
        ask!(self, service => service.datagram(peer, input))
    }

    fn needs(&self) -> Needs {
        ask!(self, service => service.needs())
    }

    fn set_time(&mut self, now: SystemTime) {
        ask!(self, service => service.set_time(now));
    }

    fn owed<'a>(&'a self, session: &'a Session) -> Owed<'a> {
        match (self, &session.0) {
            (Self::Chargen(service), Kept::Chargen(session)) => service.owed(session),
            _ => Owed::NOTHING,
        }
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        if let (Self::Chargen(service), Kept::Chargen(session)) = (self, &mut session.0) {
            service.advance(session, written);
        }
    }

    fn release(&mut self, session: &mut Session, release: Release) {
        if let (Self::Chargen(service), Kept::Chargen(session)) = (self, &mut session.0) {
            service.release(session, release);
        }
    }
}
