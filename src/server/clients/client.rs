//! An entry of the table of clients.

use std::time::Instant;

use log::{Level, debug, info, log_enabled, warn};

use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::Stream;
use crate::net::address::{Address, Role};
use crate::peer::Peer;
use crate::service::Service;

/// The list in which a client waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    None,
    /// The queue of those that have one in this tick.
    Turns,
    /// The list of those that have none while the room is held up.
    Parked,
}

/// A connection, and what the server keeps beside it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "membership in lists, in any combination"
)]
pub(in crate::server) struct Client<T, S: Service> {
    pub(super) connection: Connection<T, S>,
    id: u64,
    address: Address,
    role: Role,
    opened: Instant,
    pub(super) wait: Wait,
    /// True if it is in the list of clients to be written to.
    pub(super) flushing: bool,
    /// True if it holds up the room.
    pub(super) holding: bool,
    /// True if its linger time is being counted.
    pub(super) lingering: bool,
    /// True if it skipped messages and has not caught up since: it does not hold up the room again.
    pub(super) skipped: bool,
    /// True if the server stops when it is closed.
    pub(super) stops_server: bool,
    /// Heartbeat checks in a row that found nothing sent to it.
    pub(super) silence: u8,
}

impl<T: Stream, S: Service> Client<T, S> {
    pub(super) fn new(connection: Connection<T, S>, peer: &Peer<'_>, opened: Instant) -> Self {
        Self {
            connection,
            id: peer.id,
            address: peer.address.clone(),
            role: peer.role,
            opened,
            wait: Wait::None,
            flushing: false,
            holding: false,
            lingering: false,
            skipped: false,
            stops_server: false,
            silence: 0,
        }
    }

    /// The client as a peer. The address at which it was accepted is not kept: the client's own
    /// address stands in for it.
    pub(in crate::server) fn peer(&self) -> Peer<'_> {
        peer(self.id, &self.address, self.role)
    }

    /// Its connection, read-only.
    pub(in crate::server) fn connection(&self) -> &Connection<T, S> {
        &self.connection
    }

    /// Its number, which no other client had or will have.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Its connection, and the peer at the other end.
    pub(super) fn split(&mut self) -> (&mut Connection<T, S>, Peer<'_>) {
        let peer = peer(self.id, &self.address, self.role);
        (&mut self.connection, peer)
    }

    /// True if it waits for a turn.
    pub(in crate::server) fn is_queued(&self) -> bool {
        self.wait != Wait::None
    }

    #[cfg(test)]
    pub(in crate::server) fn is_flushing(&self) -> bool {
        self.flushing
    }

    pub(in crate::server) fn opened(&self) -> Instant {
        self.opened
    }

    /// Bytes that wait for it: private ones, and those of the shared output.
    pub(in crate::server) fn unsent(&self, service: &S) -> u64 {
        self.connection.waiting() as u64 + self.connection.lag(service)
    }

    /// Logs the beginning of a close, if a user should know of it without debug output.
    pub(super) fn log_closing(&self, reason: CloseReason) {
        let Self { id, address, .. } = self;
        let remote = self.peer().is_remote();
        match reason {
            CloseReason::SlowConsumer => {
                warn!("client {id} ({address}) is a slow consumer: closing it");
            }
            CloseReason::Kicked => info!("client {id} ({address}) is kicked"),
            CloseReason::Error(kind) if !remote => {
                warn!("{address} has failed ({kind}): it is used no more");
            }
            CloseReason::Reset if !remote => info!("{address} is read no more"),
            CloseReason::MessageTooLong => {
                warn!(
                    "client {id} ({address}) sent a message longer than max-message allows: closing it"
                );
            }
            CloseReason::Stalled => {
                warn!("client {id} ({address}) doesn't take what it is sent: closing it");
            }
            _ => {}
        }
    }

    /// True if it has exchanged a byte, in either direction, or is a standard stream. In a room that
    /// `announces`, the greeting of a client that has not arrived does not count.
    pub(super) fn is_used(&self, announces: bool) -> bool {
        let arrived = !(announces && self.connection.is_newcomer());
        !self.peer().is_remote() || (arrived && self.connection.traffic() != (0, 0))
    }

    /// True if it has left unused, as a health probe does.
    pub(super) fn is_probe(&self, reason: CloseReason, announces: bool) -> bool {
        let left = matches!(
            reason,
            CloseReason::PeerClosed | CloseReason::Reset | CloseReason::Error(_)
        );
        left && !self.is_used(announces)
    }

    /// Logs that the client has connected.
    pub(super) fn log_connected(&self) {
        debug!("client {} ({}) connected", self.id, self.address);
    }

    /// Logs the end of the client, and its beginning if that is not logged yet. `now` is asked for the
    /// time only if it is logged.
    pub(super) fn log_closed(&self, reason: CloseReason, now: impl Fn() -> Instant) {
        if !log_enabled!(Level::Debug) {
            return;
        }
        if self.connection.is_newcomer() && !log_enabled!(Level::Trace) {
            self.log_connected();
        }
        let Self { id, address, .. } = self;
        let (received, sent) = self.connection.traffic();
        let age = now().duration_since(self.opened).as_secs_f64();
        debug!(
            "client {id} ({address}) left after {age:.3}s: {received} bytes in, {sent} bytes out, {reason}"
        );
    }
}

fn peer(id: u64, address: &Address, role: Role) -> Peer<'_> {
    Peer {
        id,
        address,
        local: address,
        role,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Socket;
    use crate::service::{Broadcast, Echo};

    /// Bytes of a client's entry in the slab, which is as large as an `Option`.
    fn entry<S: Service>() -> usize {
        size_of::<Option<Client<Socket, S>>>()
    }

    #[test]
    fn idle_client_is_small() {
        assert!(entry::<Echo>() <= 160, "{}", entry::<Echo>());
        assert!(entry::<Broadcast>() <= 240, "{}", entry::<Broadcast>());
    }
}
