//! The network: the kernel as the loops see it, in production and in tests.
//!
//! | file | content |
//! |---|---|
//! | `kernel.rs` | the traits [`Net`] and [`Dial`] and their [`Event`]s: all that a loop knows of the outside |
//! | `poller.rs`, `connect.rs` | [`Poller`], which implements them over `mio::Poll`; its way to open connections |
//! | `simulation/` | the same for the tests, over a kernel made up from a seed |
//! | `stream.rs`, `link.rs` | the trait [`Stream`]; a stream with its readiness and its outbox |
//! | `socket.rs`, `pipe.rs` | streams of the kernel: connected sockets; standard input and output |
//! | `signals.rs`, `retry.rs` | signals as requests to a loop, job control; a timer for the input of a terminal |
//! | `probe.rs` | the address of a UDP server that answers |
//! | `listener.rs`, `accept_error.rs` | listening sockets; errors of accepting |
//! | `datagram/` | datagram sockets that receive and reply in batches |
//! | `unix.rs`, `options/`, `address/` | names of Unix sockets; socket options; addresses |
//! | `spin.rs`, `error.rs` | busy polling; messages of errors |
//!
//! Arrows point down: `connect → poller → kernel, listener → datagram, socket → options, unix, address →
//! error`.

pub(crate) mod accept_error;
pub(crate) mod address;
mod connect;
pub(crate) mod datagram;
pub(crate) mod error;
mod kernel;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod options;
pub(crate) mod pipe;
mod poller;
#[cfg(feature = "load")]
pub(crate) mod probe;
#[cfg(target_os = "linux")]
mod retry;
pub(crate) mod signals;
#[cfg(test)]
pub(crate) mod simulation;
mod socket;
mod socket_file;
mod spin;
mod stream;
pub(crate) mod unix;

pub(crate) use kernel::{ConnectOptions, Datagrams, Dial, Event, FOREVER, Net};
pub(crate) use poller::{Control, EVENTS_PER_WAIT, Poller};
pub(crate) use socket::Socket;
pub(crate) use stream::{Readiness, Stream};
