//! Echo, discard and chargen of the floor.

use rustix::io::{Errno, write};

use super::epoll::{BULK, Client, Service, none_if_full};

/// Writes back straight from the buffer; what isn't taken is kept, and nothing is read until it is.
pub(super) struct Echo;

impl Service for Echo {
    type State = ();

    fn turn(&mut self, client: &mut Client<()>, buffer: &mut [u8]) -> Result<(), Errno> {
        while client.readable && client.unsent.is_empty() {
            let n = client.read(BULK, &mut *buffer)?;
            if n > 0 {
                let sent = none_if_full(write(&client.socket, &buffer[..n]))?;
                client.unsent.extend_from_slice(&buffer[sent..n]);
            }
        }
        Ok(())
    }
}

/// Reads until there is nothing.
pub(super) struct Discard;

impl Service for Discard {
    type State = ();

    fn turn(&mut self, client: &mut Client<()>, buffer: &mut [u8]) -> Result<(), Errno> {
        while client.readable {
            client.read(BULK, &mut *buffer)?;
        }
        Ok(())
    }
}

/// Writes the same bytes until nothing is taken.
pub(super) struct Chargen;

impl Service for Chargen {
    type State = ();

    fn turn(&mut self, client: &mut Client<()>, buffer: &mut [u8]) -> Result<(), Errno> {
        if client.ending {
            return Err(Errno::PIPE);
        }
        while none_if_full(write(&client.socket, &*buffer))? == buffer.len() {}
        Ok(())
    }
}
