//! The small services as one type, so that the server's loop is compiled once for all of them. With
//! a loop for each of them the binary is 11 % larger: 2.45 MB in place of 2.21 MB.

use std::time::SystemTime;

use resound::{
    Chargen, CloseReason, Daytime, Discard, Needs, Outcome, Owed, Peer, PrefixedEcho, Release,
    Reply, Service, Slices, Time,
};

/// Defines [`Small`] and its sessions, each with a variant for every service named.
macro_rules! small_services {
    ($($name:ident),+) => {
        /// One of the services whose speed matters less than the binary's size.
        pub(crate) enum Small {
            $($name($name)),+
        }

        /// The session of a client, of the same variant as its service.
        pub(crate) enum Session {
            $($name(<$name as Service>::Session)),+
        }

        $(impl From<$name> for Small {
            fn from(service: $name) -> Self {
                Self::$name(service)
            }
        })+

        /// Forwards every method but those for services that publish messages.
        impl Service for Small {
            type Session = Session;

            fn open(&mut self, peer: &Peer<'_>) -> (Session, Outcome<'_>) {
                match self {
                    $(Self::$name(service) => {
                        let (session, outcome) = service.open(peer);
                        (Session::$name(session), outcome)
                    })+
                }
            }

            fn needs(&self) -> Needs {
                match self {
                    $(Self::$name(service) => service.needs()),+
                }
            }

            fn receive<'a>(&'a mut self, session: &'a mut Session, input: &'a [u8]) -> Outcome<'a> {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.receive(session, input),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }

            fn end<'a>(&'a mut self, session: &'a mut Session) -> Outcome<'a> {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.end(session),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }

            fn close(&mut self, session: Session, reason: CloseReason) -> Slices<'_> {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.close(session, reason),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }

            fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
                match self {
                    $(Self::$name(service) => service.datagram(peer, input)),+
                }
            }

            fn set_time(&mut self, now: SystemTime) {
                match self {
                    $(Self::$name(service) => service.set_time(now)),+
                }
            }

            fn owed<'a>(&'a self, session: &'a Session) -> Owed<'a> {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.owed(session),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }

            fn advance(&mut self, session: &mut Session, written: usize) {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.advance(session, written),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }

            fn release(&mut self, session: &mut Session, release: Release) {
                match (self, session) {
                    $((Self::$name(service), Session::$name(session)) => service.release(session, release),)+
                    _ => unreachable!("{MISMATCH}"),
                }
            }
        }
    };
}

/// The invariant of the session matches: the server gives a session only to its service.
const MISMATCH: &str = "a session has the variant of its service";

small_services!(Discard, Reply, Daytime, Time, Chargen, PrefixedEcho);
