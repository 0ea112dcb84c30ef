//! A watched room, and actions of its clients.

use std::sync::atomic::{AtomicBool, Ordering};

use super::client::Client;
use super::running::{Running, config, listening_on, room};
use super::watched::{Watch, watched};
use super::with;
use super::{eventually, frame};
use resound::{Config, Framing, Room, Stats};

pub(crate) const FRAMINGS: [Framing; 3] = [Framing::Lines, Framing::Raw, Framing::U32];

/// A server whose service is watched, so that a test can wait for states that no client can see.
pub(crate) struct WatchedRoom {
    pub(crate) server: Running,
    pub(crate) watch: Watch,
}

impl WatchedRoom {
    #[track_caller]
    pub(crate) fn of(settings: &Room) -> Self {
        Self::with(&config(), settings)
    }

    #[track_caller]
    pub(crate) fn with(config: &Config, settings: &Room) -> Self {
        let (service, watch) = watched(room(settings));
        let server = Running::start(config, service);
        Self { server, watch }
    }

    /// A client that is in the room.
    #[track_caller]
    pub(crate) fn join(&self) -> Client {
        self.join_at(0)
    }

    /// The same through the listener of this index.
    #[track_caller]
    pub(crate) fn join_at(&self, listener: usize) -> Client {
        let before = self.watch.opened();
        let client = Client::connect(&self.server.addresses[listener]);
        eventually("the client being accepted", || self.watch.opened() > before);
        client
    }

    /// Sends bytes, and waits until the room has been given them.
    #[track_caller]
    pub(crate) fn hand_in(&self, client: &Client, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let all = self.watch.received() + bytes.len() as u64;
        client.send(bytes);
        eventually("the bytes being read", || self.watch.received() == all);
    }

    /// Waits until `count` clients in all are closed.
    #[track_caller]
    pub(crate) fn wait_for_closes(&self, count: u64) {
        eventually("clients being closed", || self.watch.closed() == count);
    }

    #[track_caller]
    pub(crate) fn stop(self) -> Stats {
        self.server.stop()
    }
}

/// The default settings with another framing.
pub(crate) fn framed(framing: Framing) -> Room {
    with(Room::default(), |room| room.framing = framing)
}

/// A message as it is on the wire, for a text of one line.
pub(crate) fn wire(framing: Framing, text: &str) -> Vec<u8> {
    match framing {
        Framing::Lines | Framing::Raw => format!("{text}\n").into_bytes(),
        Framing::U32 => frame(text),
    }
}

/// A listener for members, and one for clients that only publish and needn't read.
pub(crate) fn with_publishers() -> Config {
    listening_on(&["127.0.0.1:0", "127.0.0.1:0?role=publish"])
}

/// Raised when it is dropped: also by a test that fails, so that it doesn't hang.
pub(crate) struct Flag<'a>(pub(crate) &'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Leaves with a reset or an end, and without a whole message.
pub(crate) fn leave(client: Client, abruptly: bool) {
    if abruptly {
        client.reset();
    } else {
        client.finish();
        client.receives_end();
    }
}

#[track_caller]
pub(crate) fn number_of(line: &str) -> usize {
    let number = line.split(' ').next().and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("a torn line: {line}"))
}
