//! resound is a plain **echo** and **broadcast** service, and a small library to build others
//! like them: one thread, one `mio::Poll`, memory bounded whatever clients do.
//!
//! # Writing a service
//!
//! A service is told what clients send and says what they get. It sees no socket and no clock:
//!
//! ```
//! use resound::{Config, Outcome, Peer, Server, Service};
//!
//! /// Every letter comes back moved by 13 places.
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
//! # The map
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs`, `cli/` | the binary: arguments to a checked [`Config`], [`Connect`] or [`Load`], the logger, the exit code |
//! | `show/mod.rs`, `show/verdict.rs` | the binary's load tester: runs a [`Load`], judges what it has come to |
//! | `show/{table,bars,units}.rs`, `show/progress.rs` | that for people: at the end, and while it runs |
//! | `show/{json,hdr}.rs` | the same for machines |
//! | `config.rs`, `address.rs`, `close.rs` | plain values: settings, addresses, reasons and counters |
//! | `options.rs` | socket options: set, and read back |
//! | `template.rs`, `places.rs`, `encoding.rs` | texts of the server's own, with places in braces; encodings |
//! | `server/mod.rs` | [`Server`] and [`Handle`]: bind, run, stop |
//! | `server/tick.rs` | the loop: wait, accept, deliver, flush, read, publish, expire, beat, reap, converse |
//! | `server/accept.rs`, `server/datagrams.rs`, `server/deadline.rs`, `server/timeouts.rs`, `server/heartbeat.rs`, `server/console.rs` | phases of it, with what they remember |
//! | `server/operator.rs`, `server/stop.rs`, `server/report.rs` | the operator's commands; how it stops; what it says of itself |
//! | `connection.rs` | one client: link, session; its endings |
//! | `link.rs`, `slices.rs` | a stream, its latched readiness, the outbox; two slices as one text |
//! | `net.rs`, `spin.rs` | the kernel as the tick sees it; its production form over `mio::Poll`; waiting awake |
//! | `listener.rs`, `mailbox.rs`, `pipe.rs` | listening sockets and the errors of accepting; sockets for datagrams; standard input and output |
//! | `service/mod.rs` | the [`Service`] trait |
//! | `service/{echo,prefix,discard,reply,daytime,time,chargen,broadcast}.rs` | a service each |
//! | `service/plain.rs` | the small ones of these as one |
//! | `service/log.rs` | the shared byte log of broadcast, which knows where messages end |
//! | `service/room.rs`, `service/framing.rs`, `service/tag.rs` | its settings; how messages are found; what goes in front of them |
//! | `client/mod.rs`, `client/dial.rs`, `client/source.rs` | the client: [`Connect`]; the way to a server |
//! | `client/talk.rs`, `client/stream.rs`, `client/datagram.rs` | its loop, over a stream or datagrams |
//! | `client/stdio.rs`, `client/incoming.rs`, `client/outgoing.rs` | its standard streams, and what becomes of the text |
//! | `load/mod.rs`, `load/engine.rs`, `load/player.rs` | the load tester: [`Load`]; its loop; what the loop knows of its clients |
//! | `load/{echo,datagrams,churn,fanout,one_way,slow}.rs` | clients that do the same, a file each |
//! | `load/message.rs`, `load/sequence.rs`, `load/publisher.rs` | what they send, and how it is known again |
//! | `load/turns.rs` | whose turn it is |
//! | `load/dialer.rs`, `load/wire.rs`, `load/line.rs` | their connections |
//! | `load/tally.rs`, `load/faults.rs`, `load/outcome.rs` | what is counted, and what it comes to |
//! | `text.rs` | text from outside on its way to a terminal |
//! | `aligned.rs` | the memory that bulk is read into and written from |
//! | `server/simulation/` | tests: a kernel made up from a seed, and clients that misbehave |
//!
//! Who knows whom: `main → show → cli`; `server → connection → service → log`; `connection → link`;
//! `server → net → listener, mailbox, pipe, spin`; `client → link, net`; `load → link, net`.
//!
//! # What always holds
//!
//! - Events only latch readiness. Work is done in phases, and clients are removed in the last one
//!   alone: within a tick a slab key means one client.
//! - A client that could progress without a further event is in the turn queue, and while the
//!   queue is not empty the poll doesn't sleep, unless the room is held up. Nobody else is in it.
//! - A short read or write means that the kernel's buffer is empty or full, and that it will
//!   tell when that changes; except for reads where it has told of an end already, and on Unix
//!   sockets.
//! - An idle connection owns no buffer. One that isn't idle owns at most `high_water` and a
//!   turn's answers, and what its service keeps for it; on the way out also the rest of a message.
//! - An error of writing ends the output; what had arrived before is still read.
//! - A published byte is stored once. It is freed when the last cursor has passed it and no
//!   replay wants it, and no cursor is further behind than the backlog, a tick's publications
//!   and a message for longer than the patience.
//! - While somebody holds up the room nobody is read or let in: nothing is published but that
//!   somebody has left.
//! - Shared output is only interrupted, left or taken up between messages.
//! - Standard input and output are clients: nothing is true of them alone but how they are read
//!   and written.
//! - A datagram is answered before the next batch is received, or not at all; who might be a service
//!   isn't answered.
//! - For a client to whom nothing happens nothing is done: timeouts are lists in the order of the
//!   last event, and the first of a list is the next to be late.
//! - Every connection ends with exactly one [`CloseReason`], and every session is given back
//!   to its service.
//!
//! # What is absent
//!
//! No threads, no locks, no `Rc<RefCell>`, no callbacks, no queue of messages per client, no
//! change of interest after registration (but of a socket for datagrams whose buffer is full), no clock outside `net.rs` but those of
//! the client's tries to connect and of the load tester, no `unsafe`.

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
    Action, Balance, Broadcast, Chargen, Daytime, Discard, Echo, Framing, MOST_INPUT, Needs,
    Outcome, Owed, PrefixedEcho, Release, Replay, Reply, ReplyOn, Room, RoomError, Service,
    TagError, TagFormat, Time, TimeFormat, TimeFormatError, Traffic,
};
pub use text::encoding::{EncodingError, TextEncoding};
pub use text::template::{Template, TemplateError};
