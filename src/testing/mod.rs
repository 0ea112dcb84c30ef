//! A service driven from a test, in memory: no sockets, no threads, no waiting.
//!
//! A [`Harness`] owns the service and plays its clients over scripted streams. What it drives is
//! the server's own connection code: half-close, backpressure and closes behave as in production.
//! It has no timers and no bounds on memory.
//!
//! ```
//! use resound::testing::Harness;
//! use resound::{Broadcast, CloseReason, Room};
//!
//! let mut harness = Harness::new(Broadcast::new(Room::default())?);
//! let (alice, bob) = (harness.connect(), harness.connect());
//! harness.send(alice, b"hel");
//! assert_eq!(harness.received(bob), b"", "half a line is no message");
//! harness.send(alice, b"lo\n");
//! assert_eq!(harness.received(bob), b"hello\n");
//! harness.end(alice);
//! assert_eq!(harness.closed(alice), Some(CloseReason::PeerClosed));
//! # Ok::<(), resound::RoomError>(())
//! ```

mod script;
#[cfg(test)]
pub(crate) mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::Readiness;
use crate::net::address::{Address, Role};
use crate::peer::Peer;
use crate::service::{MOST_INPUT, Service};
pub use script::{Answer, Script};

/// The readiness of a stream that may have input, its end, and room for output.
const READY: Readiness = Readiness {
    readable: true,
    writable: true,
    ending: true,
    hung_up: false,
};

/// A client of a [`Harness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(usize);

/// A service, and its clients.
pub struct Harness<S: Service> {
    service: S,
    clients: Vec<Client<S>>,
    buffer: Vec<u8>,
}

struct Client<S: Service> {
    connection: Connection<Script, S>,
    closed: Option<CloseReason>,
}

impl<S: Service> Harness<S> {
    /// A harness around a service, without clients.
    #[must_use]
    pub fn new(service: S) -> Self {
        let buffer = vec![0; service.needs().most_input.clamp(1, MOST_INPUT)];
        Self {
            service,
            clients: Vec::new(),
            buffer,
        }
    }

    /// Connects a client from 127.0.0.1, with a port of its own, counted from 50001.
    pub fn connect(&mut self) -> ClientId {
        self.connect_as(Role::Both)
    }

    /// Connects a client to a listener with this role. It [arrives](Service::arrive) at once.
    pub fn connect_as(&mut self, role: Role) -> ClientId {
        let client = self.connect_quietly_as(role);
        self.arrive(client);
        client
    }

    /// The same, but the client arrives with its first input, or by [`arrive`](Self::arrive).
    pub fn connect_quietly_as(&mut self, role: Role) -> ClientId {
        let id = self.clients.len() as u64 + 1;
        let port = u16::try_from(50_000 + id % 15_000).unwrap_or(u16::MAX);
        let local = |port| Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let peer = Peer {
            id,
            address: &local(port),
            local: &local(7),
            role,
        };
        let mut connection = Connection::open(Script::default(), &mut self.service, &peer, b"");
        if self.service.needs().arrivals {
            connection.await_arrival();
        }
        self.clients.push(Client {
            connection,
            closed: None,
        });
        self.settle();
        ClientId(self.clients.len() - 1)
    }

    /// Lets the time pass after which a quiet client [arrives](crate::ARRIVAL).
    pub fn arrive(&mut self, client: ClientId) {
        let connection = &mut self.clients[client.0].connection;
        connection.arrive(&mut self.service);
        self.settle();
    }

    /// Sends bytes from a client, and [runs](Self::run) it. One read returns them, or several if they
    /// exceed [`Needs::most_input`](crate::Needs::most_input).
    pub fn send(&mut self, client: ClientId, bytes: &[u8]) {
        self.script(client).on_read(Answer::Give(bytes.to_vec()));
        self.run(client);
    }

    /// Ends a client's input (half-close).
    pub fn end(&mut self, client: ClientId) {
        self.script(client).on_read(Answer::End);
        self.run(client);
    }

    /// Lets the time pass for which the beginning of a message may wait for its rest
    /// ([`Needs::partial_timeout`](crate::Needs::partial_timeout)).
    pub fn complete_partial(&mut self, client: ClientId) {
        let connection = &mut self.clients[client.0].connection;
        connection.complete_partial(&mut self.service);
        self.settle();
    }

    /// Resets a client's connection.
    pub fn reset(&mut self, client: ClientId) {
        let reset = std::io::ErrorKind::ConnectionReset;
        self.script(client).on_read(Answer::Fail(reset));
        self.run(client);
    }

    /// Makes a client take nothing more, or everything again.
    pub fn stall(&mut self, client: ClientId, stalled: bool) {
        self.script(client).stall(stalled);
        self.run(client);
    }

    /// Closes a client, as an operator's `/kick` does.
    pub fn kick(&mut self, client: ClientId) {
        let connection = &mut self.clients[client.0].connection;
        connection.close(&mut self.service, CloseReason::Kicked);
        self.settle();
    }

    /// Takes out the bytes that a client was sent since the last call.
    pub fn received(&mut self, client: ClientId) -> Vec<u8> {
        self.script(client).take_sent()
    }

    /// The reason for which a client was closed; `None` if it is connected.
    #[must_use]
    pub fn closed(&self, client: ClientId) -> Option<CloseReason> {
        self.clients[client.0].closed
    }

    /// The stream of a client, to script answers that the other methods do not. They take effect in
    /// the next [`run`](Self::run).
    pub fn script(&mut self, client: ClientId) -> &mut Script {
        self.clients[client.0].connection.stream_mut()
    }

    /// Lets a client's stream be read and written until it has nothing more, then writes what was
    /// published to all clients.
    pub fn run(&mut self, client: ClientId) {
        let connection = &mut self.clients[client.0].connection;
        connection.latch(READY);
        let budget = self.buffer.len();
        while connection.wants_turn(&self.service, u64::MAX) {
            connection.turn(
                &mut self.service,
                &mut self.buffer,
                budget,
                u64::MAX,
                |_| {},
            );
        }
        self.settle();
    }

    /// The service's answer to a datagram from 127.0.0.1:50000; `None` if it sends none.
    pub fn datagram(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let local = |port| Address::Udp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let peer = Peer {
            id: 0,
            address: &local(50_000),
            local: &local(7),
            role: Role::Both,
        };
        let answer = self.service.datagram(&peer, bytes);
        answer.map(crate::bytes::Slices::to_vec)
    }

    /// Tells the service the time of day.
    pub fn set_time(&mut self, now: SystemTime) {
        self.service.set_time(now);
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The service, for changes.
    pub fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// Writes to every client, again and again until a round publishes nothing new. Of endless
    /// output each client gets one share a round.
    fn settle(&mut self) {
        loop {
            let before = self.service.published();
            for client in &mut self.clients {
                if client.closed.is_none() {
                    client.connection.flush(&mut self.service);
                    client.closed = client.connection.finish(&mut self.service);
                }
            }
            if self.service.published() == before {
                return;
            }
        }
    }
}

impl<S: Service> std::fmt::Debug for Harness<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clients = self.clients.len();
        f.debug_struct("Harness")
            .field("clients", &clients)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Broadcast, Chargen, Echo, Room};
    use std::time::Duration;

    #[test]
    fn echo_is_right_under_half_close_and_a_stalled_reader() {
        let mut harness = Harness::new(Echo::new());
        let client = harness.connect();
        harness.stall(client, true);
        harness.send(client, b"abc");
        harness.end(client);
        assert_eq!(
            (harness.received(client), harness.closed(client)),
            (vec![], None)
        );
        harness.stall(client, false);
        assert_eq!(harness.received(client), b"abc");
        assert_eq!(harness.closed(client), Some(CloseReason::PeerClosed));
        assert_eq!(harness.datagram(b"x").as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn notice_of_a_reset_client_reaches_the_others() {
        let room = Room {
            announce: true,
            ..Room::default()
        };
        let mut harness = Harness::new(Broadcast::new(room).unwrap());
        let (first, second) = (harness.connect(), harness.connect());
        harness.received(second);
        harness.reset(first);
        assert_eq!(harness.closed(first), Some(CloseReason::Reset));
        let notice = b"* client 1 (127.0.0.1:50001) left: reset\n";
        assert_eq!(harness.received(second), notice);
    }

    #[test]
    fn kicked_client_reads_its_end_and_is_closed_when_it_ends_too() {
        let mut harness = Harness::new(Echo::new());
        let client = harness.connect();
        harness.kick(client);
        assert!(harness.script(client).is_shut());
        assert_eq!(harness.closed(client), None);
        harness.end(client);
        assert_eq!(harness.closed(client), Some(CloseReason::Kicked));
    }

    #[test]
    fn text_without_a_newline_is_published_after_the_line_timeout_alone() {
        for (line_timeout, expected) in [(None, ""), (Some(Duration::from_secs(1)), "hi\n")] {
            let room = Room {
                line_timeout,
                ..Room::default()
            };
            let mut harness = Harness::new(Broadcast::new(room).unwrap());
            let (sender, reader) = (harness.connect(), harness.connect());
            harness.send(sender, b"hi");
            assert_eq!(harness.received(reader), b"");
            harness.complete_partial(sender);
            harness.complete_partial(sender);
            assert_eq!(harness.received(reader), expected.as_bytes());
        }
    }

    #[test]
    fn endless_output_is_received_in_shares() {
        let mut harness = Harness::new(Chargen::new(false));
        let client = harness.connect();
        assert!(harness.received(client).len() >= 1 << 20);
    }
}
