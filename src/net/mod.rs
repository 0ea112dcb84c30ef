//! The network: addresses, sockets and their options, streams, and the poller over them.

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
#[cfg(test)]
pub(crate) mod simulation;
mod socket;
mod spin;
mod stream;
pub(crate) mod unix;

#[cfg(feature = "load")]
pub(crate) use connect::DatagramClient;
pub(crate) use kernel::{ConnectOptions, Datagrams, Dial, Event, FOREVER, Net};
pub(crate) use poller::{Control, Poller};
pub(crate) use socket::Socket;
pub(crate) use stream::{Readiness, Stream};
