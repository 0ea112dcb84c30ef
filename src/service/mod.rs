//! The [`Service`] trait, and the services that come with it.
//!
//! A service never sees a socket or a clock. Input is pushed in; a client's output comes
//! back in one of two ways:
//!
//! - **private output** ([`Outcome::reply`]) as borrowed slices, written from where they lie. Only
//!   the bytes that the kernel did not take are copied, into the connection's own outbox;
//! - **shared output** ([`Service::owed`]), the same bytes for many clients. Each connection pulls
//!   them when its stream takes more. The service keeps the bytes once, and a cursor for each client.
//!
//! | file | content |
//! |---|---|
//! | `echo.rs`, `discard.rs`, `prefix.rs`, `reply.rs`, `daytime.rs`, `time.rs`, `chargen.rs` | one service each |
//! | `broadcast.rs` | the room: messages of one client are appended to the log, and owed to the others |
//! | `log/`, `own.rs` | the shared byte log, with the position of each message's end; the parts of it that their sender does not get |
//! | `room.rs`, `framing.rs`, `tag.rs` | settings of a room; the form of messages; the text in front of each |
//!
//! A new service is one file here, and a variant and a match arm in the binary.

mod broadcast;
mod chargen;
mod daytime;
mod discard;
mod echo;
mod framing;
mod log;
mod own;
mod prefix;
mod reply;
mod room;
mod tag;
mod time;

use std::time::{Duration, SystemTime};

pub use broadcast::Broadcast;
pub use chargen::Chargen;
pub use daytime::{Daytime, TimeFormat, TimeFormatError};
pub use discard::Discard;
pub use echo::Echo;
pub use framing::Framing;
pub use prefix::PrefixedEcho;
pub use reply::{Reply, ReplyOn};
pub use room::{Replay, Room, RoomError};
pub use tag::{TagError, TagFormat};
pub use time::Time;

use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::text::template::TemplateRenderer;

/// The most input, in bytes, that a service is given at once and that a client brings in a turn.
///
/// Larger reads make a bulk stream cheaper; beyond this they outgrow the processor's cache.
pub const MOST_INPUT: usize = 256 * 1024;

/// The time after which a client that has sent nothing counts as arrived: longer than a health probe
/// stays.
pub const ARRIVAL: Duration = Duration::from_secs(1);

/// The part of a server that receives the clients' input and provides their output.
///
/// A plain service, which answers each client from what that client sent, implements
/// [`open`](Service::open) and [`receive`](Service::receive), and further methods of the first
/// section if it needs them. The second section is for services that publish bytes to many clients.
///
/// Every method is called from the server's one thread, and must not block.
pub trait Service {
    /// The service's memory of one client, from [`open`](Service::open) to
    /// [`close`](Service::close).
    type Session;

    // ---- For every service ----

    /// Facts that the server asks for once, before it serves.
    ///
    /// Default: TCP and Unix streams only, no clock, no bound on shared output.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Begins the session of a client that was accepted. The reply greets it.
    fn open(&mut self, peer: &Peer<'_>) -> (Self::Session, Outcome<'_>);

    /// Called once for a client, only with [`Needs::arrivals`]: before its first input, or when it has
    /// been here for [`ARRIVAL`] without any. A connection that comes and goes meanwhile, as a
    /// health probe does, never arrives. Standard streams do not either.
    ///
    /// Default: ignored.
    fn arrive(&mut self, session: &mut Self::Session) {
        let _ = session;
    }

    /// Takes `input` from a client: never empty, cut anywhere, at most [`Needs::most_input`] bytes.
    fn receive<'a>(&'a mut self, session: &'a mut Self::Session, input: &'a [u8]) -> Outcome<'a>;

    /// True if the beginning of a message waits for its rest. Asked after each turn of the client,
    /// only with [`Needs::partial_timeout`].
    ///
    /// Default: never.
    fn has_partial(&self, session: &Self::Session) -> bool {
        let _ = session;
        false
    }

    /// Called when the beginning of a message has waited for its rest for
    /// [`Needs::partial_timeout`], and no input of the client is there to be read.
    ///
    /// Default: no reply. Override it to complete the message without its rest.
    fn complete_partial<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        let _ = session;
        Outcome::NOTHING
    }

    /// Called once, when a client has ended its input (half-close). The client is closed as soon as
    /// it is owed nothing.
    ///
    /// Default: no reply. Override it to complete a message that has no end yet, or to limit what
    /// the client is owed to what was published so far.
    fn end<'a>(&'a mut self, session: &'a mut Self::Session) -> Outcome<'a> {
        let _ = session;
        Outcome::NOTHING
    }

    /// Ends a session. The client is closed, or closes once its waiting private output is sent: in
    /// that case the returned bytes are sent last.
    ///
    /// Default: the session is dropped, and nothing is sent.
    fn close(&mut self, session: Self::Session, reason: CloseReason) -> Slices<'_> {
        let _ = (session, reason);
        Slices::EMPTY
    }

    /// Answers a datagram with one datagram; `None` sends nothing. A datagram belongs to no
    /// session. Called only with [`Needs::datagrams`].
    ///
    /// Default: no answer.
    fn datagram<'a>(&'a mut self, peer: &Peer<'_>, input: &'a [u8]) -> Option<Slices<'a>> {
        let _ = (peer, input);
        None
    }

    /// Tells the time of day. Called at the start of each pass of the loop, only with
    /// [`Needs::time`].
    ///
    /// Default: ignored.
    fn set_time(&mut self, now: SystemTime) {
        let _ = now;
    }

    // ---- For services that publish ----

    /// Number of bytes published since the service began. When it grows, every client is written to
    /// in the same pass of the loop.
    ///
    /// Default: 0. A service that leaves it publishes nothing.
    fn published(&self) -> u64 {
        0
    }

    /// The shared output that a client is owed. Asked before each write to it.
    ///
    /// Default: nothing.
    fn owed<'a>(&'a self, session: &'a Self::Session) -> Owed<'a> {
        let _ = session;
        Owed::NOTHING
    }

    /// Moves a client's cursor past the first `written` bytes of [`Owed::next`]: the connection has
    /// sent them, or has copied them to its outbox.
    ///
    /// Default: ignored. A service with an [`owed`](Service::owed) of its own must override it.
    fn advance(&mut self, session: &mut Self::Session, written: usize) {
        let _ = (session, written);
    }

    /// Takes some of the shared output off what a client is owed. Called when the client is made to
    /// skip, when its output has failed, and when the server stops.
    ///
    /// Default: ignored, which fits a service without shared output.
    fn release(&mut self, session: &mut Self::Session, release: Release) {
        let _ = (session, release);
    }

    /// Publishes a text of one line, without its newline. Called when the server's operator says
    /// something to all clients. False if it does not publish: the server then sends the text to
    /// each client.
    ///
    /// Default: false.
    fn publish_line(&mut self, text: &[u8]) -> bool {
        let _ = text;
        false
    }

    /// A text of one line, without its newline, as a private message for one client. Called for
    /// heartbeats, once, and for each text of the operator.
    ///
    /// Default: the text and a newline.
    fn frame_line(&self, text: &[u8]) -> Vec<u8> {
        [text, b"\n"].concat()
    }

    /// Counters of the messages since the service began. Called for reports, and at the end.
    ///
    /// Default: `None`, for a service whose bytes are no messages.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    /// Counters of one client's messages. Called for reports, for each client.
    ///
    /// Default: zeros.
    fn balance(&self, session: &Self::Session) -> Balance {
        let _ = session;
        Balance::default()
    }
}

/// Facts about a service, asked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "needs, in any combination")]
pub struct Needs {
    /// True if the service answers datagrams: it may be bound to UDP and Unix datagram sockets.
    pub datagrams: bool,
    /// True if [`Peer::local`] must be exact where a listener has many addresses. Costs a system
    /// call a client.
    pub local_address: bool,
    /// True if the service wants [`Service::set_time`].
    pub time: bool,
    /// True if the service wants [`Service::arrive`].
    pub arrivals: bool,
    /// The time that the beginning of a message waits for its rest until
    /// [`Service::complete_partial`] is called; `None` if it waits for ever.
    pub partial_timeout: Option<Duration>,
    /// The most input, in bytes, that it takes at once: for services that make much output of
    /// little input. At least 1; [`MOST_INPUT`] is the limit in any case.
    pub most_input: usize,
    /// Room for shared output, in bytes. While a client is more than half of it behind, no client is
    /// read. In one pass of the loop turns begin until a quarter of it is published.
    pub capacity: u64,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            datagrams: false,
            local_address: false,
            time: false,
            arrivals: false,
            partial_timeout: None,
            most_input: MOST_INPUT,
            capacity: u64::MAX,
        }
    }
}

impl Needs {
    /// The same with [`Needs::datagrams`].
    #[must_use]
    pub const fn with_datagrams(mut self) -> Self {
        self.datagrams = true;
        self
    }

    /// The needs of a service that answers connections and datagrams with a rendered text.
    fn of_text(text: &TemplateRenderer) -> Self {
        Self {
            datagrams: true,
            local_address: text.template().wants_local(),
            time: text.template().wants_time(),
            ..Self::default()
        }
    }

    /// The same with [`Needs::time`].
    #[must_use]
    pub const fn with_time(mut self) -> Self {
        self.time = true;
        self
    }
}

/// Shared output that one client is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed<'a> {
    /// The bytes that go next. Empty only if the client is owed nothing; the first slice is empty
    /// only if both are.
    pub next: Slices<'a>,
    /// Bytes of shared output kept for this client: at least those that it is owed, and 0 if it is
    /// owed none.
    pub lag: u64,
    /// Number of bytes that finish a message sent in part; 0 between messages, where private output
    /// may go. [`next`](Owed::next) begins with these bytes.
    pub unfinished: usize,
}

impl Owed<'_> {
    /// No shared output.
    pub const NOTHING: Self = Self {
        next: Slices::EMPTY,
        lag: 0,
        unfinished: 0,
    };
}

/// Shared output that a client does not get after all, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Output without an end, because the server stops. The client is still owed every message of a
    /// finite output; of an endless one it is owed the rest of a message sent in part.
    Endless,
    /// The backlog of a client that is too slow: it goes on with the newest message. Its cursor lies
    /// between two messages.
    Backlog,
    /// Everything: nothing can be sent to the client any more. Its input may still be received.
    All,
}

/// Counters of a service's messages, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages published.
    pub messages: u64,
    /// Messages sent or owed to clients: one message for three clients counts three times. A message
    /// is taken off again if a client skips it, or is closed without it.
    pub promised: u64,
    /// Messages that clients skipped.
    pub missed: u64,
    /// Messages that clients were still owed when the server closed them.
    pub undelivered: u64,
    /// Clients, closed by now, that skipped messages or were closed without some.
    pub incomplete: u64,
    /// Position after the newest byte of the shared output.
    pub position: u64,
    /// Bytes of shared output in memory.
    pub held: u64,
}

/// Counters of one client's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Messages that it is owed.
    pub owed: u64,
    /// Messages that it skipped.
    pub missed: u64,
}

/// A service's answer to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Private output, sent once.
    pub reply: Slices<'a>,
    /// The consequence for the client: it stays, or is closed.
    pub action: Action,
}

/// The consequence of an event for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays. Returned by [`Service::end`]: it is sent what it is owed by now, and closed then.
    Continue,
    /// It stays although its input has ended, as its input means nothing: until it closes or resets
    /// the connection, or a write to it fails. Returned by [`Service::end`] alone; elsewhere the
    /// same as [`Continue`](Self::Continue).
    Stay,
    /// It is sent the replies so far, then closed for this reason. Of the shared output it gets
    /// only the rest of a message that it was sent in part.
    Close(CloseReason),
}

impl<'a> Outcome<'a> {
    /// No reply; the client stays.
    pub const NOTHING: Self = Self::reply(&[]);

    /// A reply; the client stays.
    #[must_use]
    pub const fn reply(bytes: &'a [u8]) -> Self {
        Self::reply_both(bytes, &[])
    }

    /// A reply in two pieces, `first` before `second`; the client stays.
    #[must_use]
    pub const fn reply_both(first: &'a [u8], second: &'a [u8]) -> Self {
        Self {
            reply: Slices::new(first, second),
            action: Action::Continue,
        }
    }

    /// The same reply; the client stays although its input has ended.
    #[must_use]
    pub const fn then_stay(mut self) -> Self {
        self.action = Action::Stay;
        self
    }

    /// The same reply; after it the client is closed.
    ///
    /// ```
    /// use resound::{CloseReason, Outcome};
    /// let outcome = Outcome::reply(b"bye\n").then_close(CloseReason::Done);
    /// assert_eq!(outcome.reply.to_vec(), b"bye\n");
    /// ```
    #[must_use]
    pub const fn then_close(mut self, reason: CloseReason) -> Self {
        self.action = Action::Close(reason);
        self
    }
}
