//! The floor of broadcast: what all clients have sent in a tick is one text, and each is sent its
//! share of it in one call.

use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, writev};

use super::epoll::{BULK, Client, Service, none_if_full};

/// Unsent bytes beyond which a client misses further messages.
const MOST_UNSENT: usize = 1024 * 1024;

/// The lines of this tick.
#[derive(Default)]
pub(super) struct Room(Vec<u8>);

#[derive(Default)]
pub(super) struct Member {
    /// The beginning of a line.
    begun: Vec<u8>,
    /// The part of the tick's text that is its own: one range, for it has one turn a tick.
    own: Range<usize>,
}

impl Service for Room {
    type State = Member;

    /// Reads to where the text ends, and leaves only whole lines there.
    fn turn(&mut self, client: &mut Client<Member>, _: &mut [u8]) -> Result<(), Errno> {
        let start = self.0.len();
        self.0.append(&mut client.state.begun);
        let read = self.read(client);
        let lines = memchr::memrchr(b'\n', &self.0[start..]).map_or(0, |newline| newline + 1);
        let end = start + lines;
        client.state.begun.extend_from_slice(&self.0[end..]);
        self.0.truncate(end);
        client.state.own = start..end;
        read
    }

    fn after(&mut self, clients: &mut [Option<Client<Member>>]) {
        if self.0.is_empty() {
            return;
        }
        for client in clients.iter_mut().flatten() {
            // A lost client also causes an event.
            let _ = self.send(client);
        }
        self.0.clear();
    }
}

impl Room {
    fn read(&mut self, client: &mut Client<Member>) -> Result<(), Errno> {
        while client.readable {
            self.0.reserve(BULK);
            let room = self.0.capacity() - self.0.len();
            client.read(room, spare_capacity(&mut self.0))?;
        }
        Ok(())
    }

    fn send(&self, client: &mut Client<Member>) -> Result<(), Errno> {
        let own = mem::take(&mut client.state.own);
        let (before, after) = (&self.0[..own.start], &self.0[own.end..]);
        // Without lines of its own that is everything, in one piece.
        let owed = before.len() + after.len();
        if owed == 0 {
            return Ok(());
        }
        if client.unsent.is_empty() {
            let pieces = [IoSlice::new(before), IoSlice::new(after)];
            let sent = none_if_full(writev(&client.socket, &pieces))?;
            client.keep(&before[sent.min(before.len())..]);
            client.keep(&after[sent.saturating_sub(before.len())..]);
        } else if client.unsent.len() + owed <= MOST_UNSENT {
            client.keep(before);
            client.keep(after);
        }
        Ok(())
    }
}

impl Client<Member> {
    fn keep(&mut self, unsent: &[u8]) {
        self.unsent.extend_from_slice(unsent);
    }
}
