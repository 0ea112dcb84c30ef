//! resound is a plain **echo** and **broadcast** service, and a small library to build similar
//! servers with: one thread, one `mio::Poll`, and memory that stays bounded whatever clients do.
//!
//! # Writing a service
//!
//! A service receives the clients' input, and returns their output. It sees no socket and no clock:
//!
//! ```
//! use resound::{Config, Outcome, Peer, Server, Service};
//!
//! /// Sends every letter back moved by 13 places.
//! struct Rot13(Vec<u8>);
//!
//! impl Service for Rot13 {
//!     type Session = ();
//!
//!     fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
//!         ((), Outcome::NOTHING)
//!     }
//!
//!     fn receive<'a>(&'a mut self, _: &'a mut (), input: &'a [u8]) -> Outcome<'a> {
//!         self.0.clear();
//!         self.0.extend(input.iter().map(|&byte| match byte {
//!             b'a'..=b'm' | b'A'..=b'M' => byte + 13,
//!             b'n'..=b'z' | b'N'..=b'Z' => byte - 13,
//!             other => other,
//!         }));
//!         Outcome::reply(&self.0)
//!     }
//! }
//!
//! # use std::io::{Read, Write};
//! let mut config = Config::default();
//! config.listen = vec!["127.0.0.1:0".parse()?];
//! let server = Server::bind(&config, Rot13(Vec::new()))?;
//! let address = server.local_addrs()[0].socket_addr().expect("it is a TCP address");
//! let handle = server.handle();
//! let thread = std::thread::spawn(move || server.run());
//!
//! let mut client = std::net::TcpStream::connect(address)?;
//! client.write_all(b"Uryyb")?;
//! client.shutdown(std::net::Shutdown::Write)?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "Hello");
//!
//! handle.stop()?;
//! let stats = thread.join().expect("the server doesn't panic")?;
//! assert_eq!((stats.clients, stats.bytes_out), (1, 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A server that stops on SIGTERM and Ctrl-C calls [`catch_signals`](Server::catch_signals) before it
//! runs:
//!
//! ```no_run
//! use resound::{Config, Echo, Server};
//!
//! let mut server = Server::bind(&Config::default(), Echo::new())?;
//! server.catch_signals()?;
//! let stats = server.run()?; // returns once pending output is delivered, or the grace is over
//! println!("{stats}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A service that publishes
//!
//! Bytes for many clients are kept once, and each client has a cursor into them. Its connection pulls
//! the bytes from the cursor on, at its own pace:
//!
//! ```
//! use resound::{Outcome, Owed, Peer, Release, Service};
//!
//! /// Counts lines, and tells every client each new number. Its log only grows; the log of
//! /// [`Broadcast`](resound::Broadcast) is freed behind the last cursor.
//! #[derive(Default)]
//! struct LineCounter {
//!     lines: u64,
//!     log: Vec<u8>,
//! }
//!
//! impl Service for LineCounter {
//!     type Session = usize; // the client's cursor: a position in the log
//!
//!     fn open(&mut self, _: &Peer<'_>) -> (usize, Outcome<'_>) {
//!         (self.log.len(), Outcome::NOTHING)
//!     }
//!
//!     fn receive<'a>(&'a mut self, _: &'a mut usize, input: &'a [u8]) -> Outcome<'a> {
//!         for _ in input.iter().filter(|byte| **byte == b'\n') {
//!             self.lines += 1;
//!             self.log.extend_from_slice(format!("{}\n", self.lines).as_bytes());
//!         }
//!         Outcome::NOTHING
//!     }
//!
//!     fn published(&self) -> u64 {
//!         self.log.len() as u64
//!     }
//!
//!     fn owed<'a>(&'a self, cursor: &'a usize) -> Owed<'a> {
//!         let next = &self.log[*cursor..];
//!         let torn = *cursor > 0 && self.log[*cursor - 1] != b'\n';
//!         let rest = next.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
//!         Owed { next: next.into(), lag: next.len() as u64, unfinished: if torn { rest } else { 0 } }
//!     }
//!
//!     fn advance(&mut self, cursor: &mut usize, written: usize) {
//!         *cursor += written;
//!     }
//!
//!     fn release(&mut self, cursor: &mut usize, release: Release) {
//!         if release != Release::Endless {
//!             *cursor = self.log.len();
//!         }
//!     }
//! }
//!
//! # use resound::{Config, Server};
//! # use std::io::{Read, Write};
//! # use std::net::TcpStream;
//! # let mut config = Config::default();
//! # config.listen = vec!["127.0.0.1:0".parse()?];
//! let server = Server::bind(&config, LineCounter::default())?;
//! # let address = server.local_addrs()[0].socket_addr().expect("it is a TCP address");
//! # let handle = server.handle();
//! # let thread = std::thread::spawn(move || server.run());
//! let (mut sender, mut reader) = (TcpStream::connect(address)?, TcpStream::connect(address)?);
//! # // Its own first number shows that the reader has been accepted.
//! # reader.write_all(b"a\n")?;
//! # reader.read_exact(&mut [0; 2])?;
//! sender.write_all(b"one\ntwo\n")?;
//! let mut numbers = [0; 4];
//! reader.read_exact(&mut numbers)?;
//! # assert_eq!(&numbers, b"2\n3\n");
//! # handle.stop()?;
//! # thread.join().expect("the server doesn't panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Testing a service
//!
//! With the feature `testing` (`cargo add --dev resound --features testing`) the `Harness` of the
//! module `resound::testing` drives a service from a test, in memory:
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use resound::{Echo, testing::Harness};
//!
//! let mut harness = Harness::new(Echo::new());
//! let client = harness.connect();
//! harness.send(client, b"hello");
//! assert_eq!(harness.received(client), b"hello");
//! # }
//! ```
//!
//! Without the default features (`cli`, `load`) the library depends on no crate that a server does
//! not need.
//!
//! # The map
//!
//! | where | what |
//! |---|---|
//! | `main.rs`, `commands/`, `cli/`, `logger/`, `report/`, `units.rs` | the binary: its entry; its commands; from arguments to checked settings; its log; results of the load tester; numbers with units |
//! | `server/` | [`Server`] and [`Handle`]; the tick and its phases; the table of clients |
//! | `connection.rs`, `peer.rs` | one client: stream, session, stage of its life; the facts of its peer |
//! | `service/` | the [`Service`] trait, one file for each service, the shared log |
//! | `client/` | `resound connect`: connecting to a server, and the relay between it and the standard streams |
//! | `load/` | `resound load`: clients that load a server and check its answers |
//! | `net/` | the kernel as the loops see it; streams, sockets and their options, addresses, the poller |
//! | `text/`, `bytes/` | templates, encodings, escapes for a terminal; two slices read as one, aligned memory |
//! | `config.rs`, `close.rs` | plain values: settings of a server; close reasons and counters |
//! | `testing/` | a service driven from a test, in memory |
//!
//! Imports point down only: `main → commands → cli, report → library`; `server → connection → service
//! → log`; `server, client, load → net`; `peer, config → text → net/address`; `bytes` knows none of
//! these. Files import in one direction, too: only a folder's `mod.rs`, which holds the type that the
//! folder is for, makes circles with its files. Two folders import from each other: texts name
//! addresses (`text → net/address`), and a link knows close reasons, which have words (`net/link →
//! close → text`).
//!
//! Reading order, with lines of code before the tests: `service/echo.rs` (40), `net/link.rs` (160),
//! `connection.rs` (450), `server/clients/` (`mod.rs` 380, `passes.rs` 190), `server/tick.rs` (300).
//!
//! | event | where to look for a change |
//! |---|---|
//! | a client is accepted | `server/accepting.rs` `accept_from`; `server/clients/mod.rs` `open` puts it into the table |
//! | a deadline is judged | `server/timers.rs` `judge`; deadlines lie in `server/clients/timeouts.rs`, `holds.rs` (the patience) and `waiting.rs`; the end of a stop: `server/stop.rs` |
//! | a line becomes a message | `service/framing.rs` `find`; `service/broadcast.rs` `publish` appends it to the log |
//! | a datagram is refused | `server/guard.rs` `admit`, which `server/datagrams.rs` asks before each answer |
//!
//! A byte of echo is read into the loop's only buffer, and written from there:
//!
//! ```text
//!            tick.rs read() → clients/passes.rs read() → connection.rs turn()
//! kernel ─▶  net/link.rs read()      one buffer for all clients
//!            service/echo.rs receive(): Outcome::reply(input)
//! kernel ◀─  net/link.rs send()      what the kernel does not take → the connection's outbox
//! ```
//!
//! A message of broadcast is copied once, into the log, and written from there to every reader:
//!
//! ```text
//! sender ─▶ turn() ─▶ broadcast.rs receive() ─▶ framing.rs find() ─▶ log/ append()
//!
//!     segment │ segment │ tail ▏             clients/passes.rs publish(), after all turns:
//!         ▲         ▲          ▲             for each client owed() → one writev → advance()
//!      cursor    cursor    cursors that are caught up
//!    (holds up the room: clients/holds.rs)
//! ```
//!
//! # Invariants
//!
//! - Events only latch readiness. Work is done in phases. Only the phase that reaps, near the end of
//!   a tick, removes clients: until then a slab key means the same client.
//! - A phase changes a connection through `Clients::touch`, or a method of `Clients` that settles
//!   the lists of the client as well. No phase knows the fields of another.
//! - A client that could be read without a further event is in the turn queue; one that has had its
//!   share of output is in the list of flushes. While one of them is not empty the poll doesn't
//!   sleep; the turn queue doesn't count while a client holds up the room.
//! - After a short read the kernel's buffer is empty; after a short write it is full. The kernel tells
//!   when that changes. Exceptions are reads once it has told of an end, and reads of Unix sockets.
//! - An idle connection owns no buffer. A busy one owns at most `high_water` bytes, the answers of one
//!   turn, and its session; after a skip or a close also the rest of a message.
//! - An error of writing ends the output. Input that had arrived before is still read.
//! - A published byte is stored once. It is freed when the last cursor has passed it and no replay
//!   wants it. A cursor may be behind by the backlog, the publications of one tick and one message;
//!   it is further behind for at most the patience.
//! - Clients that fail to catch up hold up the room for at most two patiences and a thirtieth of the
//!   time, all together.
//! - While a client holds up the room no input reaches the service and no client is admitted. Only
//!   notices of clients that left are published.
//! - Shared output is interrupted, abandoned or resumed only between messages.
//! - Standard input and output are clients. They differ from others only in their streams, and in the
//!   facts of their [`Peer`].
//! - A datagram is answered before the next batch is received, or not at all. A source that might be
//!   a service isn't answered.
//! - An idle client costs no work: each timeout has a list of clients in the order of their last
//!   activity, and its first client is the next to be late. The work of a tick is bounded by what
//!   happened in it. Every client is visited only by a publication, the eight checks of a heartbeat's
//!   period, a command of the operator and the stop; in each tick, those that hold up the room.
//! - Every connection ends with exactly one [`CloseReason`], and every session is given back to its
//!   service.
//!
//! # What is absent
//!
//! Threads (the binary's log has one), locks, `Rc<RefCell>`, callbacks, queues of messages per client,
//! `unsafe`. No interest changes after registration, except that of a datagram socket whose send
//! buffer is full. No loop reads a clock except through `net/`.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | peer, client, connection, session | the other end; the peer as the server serves it; its stream and stage of life; the service's memory of it |
//! | tick, phase, turn, budget | one pass of the loop; one kind of work in it; one client's part of the reading; the bytes that a turn may read |
//! | touch, settle | a phase's access to one connection; to put its client into the lists that it now belongs to |
//! | interest, readiness, latched | what the poller is asked for; what it has told; remembered until used up |
//! | outbox | private output that the kernel did not take yet |
//! | log, segment, cursor | the shared output; a piece of its memory; the place of one client in it |
//! | owed, lag | shared output that a client is still to be sent; bytes that are kept for it |
//! | message, framing | the unit that broadcast relays; the way in which it is found in a stream |
//! | backpressure, high-water mark | not reading a client that does not take its output; the number of unsent bytes above which that begins |
//! | backlog, hold up the room | the lag that is too much; to keep the senders waiting because of it |
//! | patience, slow consumer, skip | the time for which clients may hold up the room; a client that has not caught up by then, even if it reads all the time; to go on with the newest message |
//! | pace | reading that catches up within one patience |
//! | stuck, try | owed output that the stream does not take; a write to find out if it takes some by now |
//! | half-close, drain, linger, grace | the end of one direction; delivering all that is owed; waiting for the peer's end; the time limit of a stop |
//! | close reason | the one cause of a connection's end, in logs and counters |

mod bytes;
pub mod client;
mod close;
mod config;
mod connection;
#[cfg(feature = "load")]
pub mod load;
mod net;
mod peer;
mod server;
mod service;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;

pub use bytes::Slices;
pub use close::{CloseReason, Stats};
pub use config::{Config, Heartbeat, SlowConsumer};
pub use net::address::{Address, AddressError, Listen, ListenAddress, Role};
pub use net::error::BindError;
pub use net::options::{Keepalive, SocketOptions};
pub use peer::Peer;
pub use server::{BoundAddress, Handle, OnEof, Server};
pub use service::{
    ARRIVAL, Action, Balance, Broadcast, Chargen, Daytime, Discard, Echo, Framing, MOST_INPUT,
    Needs, Outcome, Owed, PrefixedEcho, Release, Replay, Reply, ReplyOn, Room, RoomError, Service,
    TagError, TagFormat, Time, TimeFormat, TimeFormatError, Traffic,
};
pub use text::encoding::{EncodingError, TextEncoding};
pub use text::escape::escape;
pub use text::template::{Template, TemplateError};
