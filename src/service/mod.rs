//! What a server does with bytes: the [`Service`] trait, and the services that come with it.
//!
//! A service never sees a socket, a token or a clock. Input is pushed in; what a client is owed
//! comes back in one of two ways:
//!
//! - **private output** ([`Outcome::reply`]) as borrowed slices, written from where they lie;
//!   only what the kernel did not take is kept, in the connection's own outbox;
//! - **shared output** ([`Service::shared`]), the same bytes for many clients, is pulled by each
//!   connection when its stream takes more. The service keeps the bytes once, and for each client
//!   a cursor into them.
//!
//! A new service is one file here, and a variant and a match arm in the binary.

mod broadcast;
mod chargen;
mod daytime;
mod discard;
mod echo;
mod framing;
mod log;
mod plain;
mod prefix;
mod reply;
mod room;
mod tag;
mod time;

use std::time::SystemTime;

pub use broadcast::Broadcast;
pub use chargen::Chargen;
pub use daytime::{Daytime, TimeFormat, TimeFormatError};
pub use discard::Discard;
pub use echo::Echo;
pub use framing::Framing;
pub use plain::Plain;
pub use prefix::PrefixedEcho;
pub use reply::{Reply, ReplyOn};
pub use room::{Replay, Room, RoomError};
pub use tag::{TagError, TagFormat};
pub use time::Time;

use crate::close::CloseReason;
use crate::peer::Peer;

/// The most input, in bytes, that a service is given at once and that a client brings in a turn.
///
/// Larger reads make a bulk stream cheaper; beyond this they outgrow the processor's cache.
pub const MOST_INPUT: usize = 256 * 1024;

/// What has become of a service's messages, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages published.
    pub messages: u64,
    /// Messages promised to clients: one that goes to three is promised three times. What
    /// clients have left without, or were made to skip, is taken off again.
    pub promised: u64,
    /// Messages that clients were made to skip.
    pub missed: u64,
    /// The position after the newest byte of the shared output.
    pub position: u64,
    /// Bytes of shared output that are held.
    pub held: u64,
}

/// What a server does with its clients' bytes.
///
/// The methods with a default are for shared output; a service that only answers leaves them.
pub trait Service {
    /// What the service remembers about one client.
    type Session;

    /// A client has come; what is replied greets it.
    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>);

    /// A client has sent `input`, which is never empty and may be cut anywhere.
    fn receive<'a>(&'a mut self, session: &'a mut Self::Session, input: &'a [u8]) -> Outcome<'a>;

    /// A client has ended its input. It will still be sent what it is owed by now, then closed.
    fn end<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        let _ = session;
        Outcome::NOTHING
    }

    /// A datagram has come: what goes back, as one datagram too; nothing if none. A client that has
    /// a connection never sends any.
    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let _ = (peer, input);
        None
    }

    /// Whether it can be had over datagrams.
    fn takes_datagrams(&self) -> bool {
        false
    }

    /// Whether it has to know at which address of the machine a client came in, where its listener
    /// has many; that costs a call.
    fn wants_local(&self) -> bool {
        false
    }

    /// A client has gone, or is sent nothing more than what it was replied already.
    fn close(&mut self, session: Self::Session, reason: CloseReason) {
        let _ = (session, reason);
    }

    /// How many bytes of shared output there have been. When this has grown, every client
    /// is written to.
    fn published(&self) -> u64 {
        0
    }

    /// The shared output that this client is owed next, in at most two pieces. The second
    /// is empty if the first is; both are empty only if it is owed nothing.
    fn shared<'a>(&'a self, session: &'a Self::Session) -> [&'a [u8]; 2] {
        let _ = session;
        [&[], &[]]
    }

    /// The kernel took this many bytes of what [`Service::shared`] gave.
    fn advance(&mut self, session: &mut Self::Session, written: usize) {
        let _ = (session, written);
    }

    /// How many bytes of shared output are kept for this client: at least those that it is owed,
    /// and 0 if it is owed none.
    fn lag(&self, session: &Self::Session) -> u64 {
        let _ = session;
        0
    }

    /// How many bytes of shared output finish the message of which this client was sent a part;
    /// 0 between messages, where private output may go. [`Service::shared`] gives at least these.
    fn unfinished(&self, session: &Self::Session) -> usize {
        let _ = session;
        0
    }

    /// The server stops: from now on this client is owed what it was promised, and what finishes
    /// a message, of what would go on for ever.
    fn conclude(&mut self, session: &mut Self::Session) {
        let _ = session;
    }

    /// Nothing can be sent to this client any more: from now on it is owed no shared output. What
    /// it had sent may still come.
    fn deafen(&mut self, session: &mut Self::Session) {
        let _ = session;
    }

    /// This client, which lies between messages, is too slow: it is made to skip to the newest.
    fn skip(&mut self, session: &mut Self::Session) {
        let _ = session;
    }

    /// A text of the operator's, of one line, for everybody: publishes it, or says with false
    /// that it is to be sent to each of them.
    fn say(&mut self, text: &[u8]) -> bool {
        let _ = text;
        false
    }

    /// What a text of one line looks like as a message for one client.
    fn message(&self, text: &[u8]) -> Vec<u8> {
        let mut message = text.to_vec();
        message.push(b'\n');
        message
    }

    /// The most input, in bytes, that it can be given at once: for services that make much of
    /// little. At least 1; [`MOST_INPUT`] is the limit anyway.
    fn most_input(&self) -> usize {
        MOST_INPUT
    }

    /// For how many bytes of shared output there is room. When half of it is behind
    /// somebody, nobody is read; in one pass of the loop a quarter is read, and a turn.
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    /// Whether it wants to be told the time of day in each pass of the loop.
    fn wants_time(&self) -> bool {
        false
    }

    /// The time of day.
    fn set_time(&mut self, now: SystemTime) {
        let _ = now;
    }

    /// What has become of its messages; none if it has no such thing.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    /// How many messages this client was promised and not sent yet, and how many it was made
    /// to skip.
    fn owed(&self, session: &Self::Session) -> (u64, u64) {
        let _ = session;
        (0, 0)
    }
}

/// What a service makes of an event.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Private output: written in this order, each once.
    pub reply: [&'a [u8]; 2],
    /// What becomes of the client.
    pub then: Action,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays.
    Continue,
    /// It is sent what it was replied so far, then closed for this reason. Of the shared output
    /// it gets only what finishes a message.
    Close(CloseReason),
}

impl<'a> Outcome<'a> {
    /// No reply; the client stays.
    pub const NOTHING: Self = Self::reply(&[]);

    /// A reply; the client stays.
    #[must_use]
    pub const fn reply(bytes: &'a [u8]) -> Self {
        Self {
            reply: [bytes, &[]],
            then: Action::Continue,
        }
    }

    /// No reply; the client is closed.
    #[must_use]
    pub const fn close(reason: CloseReason) -> Self {
        Self {
            reply: [&[], &[]],
            then: Action::Close(reason),
        }
    }
}
