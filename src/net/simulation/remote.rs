//! The connections as a remote end and the checks of a test have them.

use super::connection::{ALL, Connecting, History};
use super::world::World;
use crate::net::Readiness;

/// Facts for the checks of a test.
impl World {
    pub(crate) fn history(&self, id: usize) -> History {
        self.connections[id].history
    }

    /// True if the outcome of connecting was never known.
    pub(crate) fn is_undecided(&self, id: usize) -> bool {
        matches!(self.connections[id].connecting, Connecting::Pending(_))
    }

    /// Bytes that the loop has written and the remote end has not received.
    pub(crate) fn in_flight(&self, id: usize) -> Vec<u8> {
        self.connections[id]
            .to_remote
            .data
            .iter()
            .copied()
            .collect()
    }

    /// True if the loop would read bytes, the end, or an error.
    pub(crate) fn is_readable(&self, id: usize) -> bool {
        self.connections[id].level().readable
    }

    /// True if the kernel took less than the loop has written, and has no room since.
    pub(crate) fn is_starved(&self, id: usize) -> bool {
        self.connections[id].starved
    }
}

/// The calls of a remote end.
impl World {
    /// All connections that there ever were are numbered from 0 on.
    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// True if a connection was made, whatever has happened since.
    pub(crate) fn is_connected(&self, id: usize) -> bool {
        self.connections[id].connecting == Connecting::Connected
    }

    /// True if the remote end has closed or reset the connection.
    pub(crate) fn is_closed(&self, id: usize) -> bool {
        self.connections[id].closed
    }

    /// True if the loop has dropped the connection.
    pub(crate) fn is_dropped(&self, id: usize) -> bool {
        self.connections[id].dropped
    }

    /// Bytes that the kernel would take for the loop.
    pub(crate) fn room(&self, id: usize) -> usize {
        let connection = &self.connections[id];
        if connection.to_loop.ended || connection.dropped || connection.reset {
            0
        } else {
            connection.to_loop.room()
        }
    }

    /// True if [`receive`](Self::receive) would return bytes or the end.
    pub(crate) fn has_input(&self, id: usize) -> bool {
        let connection = &self.connections[id];
        !connection.to_remote.data.is_empty() || connection.to_remote.ended || connection.cut
    }

    /// At most `most` bytes from the loop; true if the stream has ended after them.
    pub(crate) fn receive(&mut self, id: usize, most: usize) -> (Vec<u8>, bool) {
        let connection = &mut self.connections[id];
        let bytes = connection.to_remote.take(most);
        let ended = connection.to_remote.data.is_empty() && connection.to_remote.ended;
        self.tell_of_room(id);
        if ended && self.connections[id].to_loop.ended {
            self.raise(id, ALL); // both directions have ended
        }
        (bytes, ended || self.connections[id].cut)
    }

    /// The next datagram from the loop.
    pub(crate) fn receive_datagram(&mut self, id: usize) -> Option<Vec<u8>> {
        let datagram = self.connections[id].to_remote.take_datagram();
        self.tell_of_room(id);
        datagram
    }

    /// As Linux does it: not for every byte, but when a good part is free.
    fn tell_of_room(&mut self, id: usize) {
        let connection = &mut self.connections[id];
        let pipe = &connection.to_remote;
        if connection.starved && pipe.room() * 3 >= pipe.capacity {
            connection.starved = false;
            let edge = Readiness {
                writable: true,
                ..Readiness::default()
            };
            self.raise(id, edge);
        }
    }

    /// Sends as many bytes as there is [`room`](Self::room) for; returns how many these were.
    pub(crate) fn send(&mut self, id: usize, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room(id));
        if n > 0 {
            self.connections[id].to_loop.data.extend(&bytes[..n]);
            self.raise_input(id, false);
        }
        n
    }

    /// Sends a datagram, which is lost if there is no room for it; false if it is.
    pub(crate) fn send_datagram(&mut self, id: usize, datagram: &[u8]) -> bool {
        let connection = &mut self.connections[id];
        let sent = !connection.dropped && connection.to_loop.put_datagram(datagram);
        if sent {
            self.raise_input(id, false);
        }
        sent
    }

    /// Ends the output to the loop.
    pub(crate) fn half_close(&mut self, id: usize) {
        self.connections[id].to_loop.ended = true;
        self.raise_input(id, true);
    }

    /// Closes the connection; what the loop sends from now on is answered with a reset.
    pub(crate) fn close(&mut self, id: usize) {
        self.connections[id].closed = true;
        self.half_close(id);
    }

    /// Resets the connection; bytes in the kernel may be lost.
    pub(crate) fn reset(&mut self, id: usize) {
        let keeps = self.rng.bool();
        let connection = &mut self.connections[id];
        connection.reset = true;
        connection.closed = true;
        if !keeps {
            connection.to_loop.data.clear();
            connection.to_loop.lengths.clear();
        }
        self.raise(id, ALL);
    }

    fn raise_input(&mut self, id: usize, ending: bool) {
        let edge = Readiness {
            readable: true,
            writable: false,
            ending,
            hung_up: false,
        };
        self.raise(id, edge);
    }
}
