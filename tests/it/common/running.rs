//! A server of this process, on a thread of its own.

use std::io;
use std::thread::{self, JoinHandle};

use resound::{Address, Broadcast, Config, Echo, Handle, Room, Server, Service, Stats};

use super::client::Client;
use super::eventually;
use super::with;

/// The default settings, on a port of loopback that the kernel chooses.
pub(crate) fn config() -> Config {
    listening_on(&["127.0.0.1:0"])
}

/// The default settings on these addresses.
pub(crate) fn listening_on(addresses: &[&str]) -> Config {
    let parse = |text: &&str| text.parse().expect("it is an address");
    with(Config::default(), |config| {
        config.listen = addresses.iter().map(parse).collect();
    })
}

/// A broadcast service with these settings.
#[track_caller]
pub(crate) fn room(room: &Room) -> Broadcast {
    Broadcast::new(room.clone()).unwrap_or_else(|e| panic!("{e}"))
}

/// The same with messages of at most `max_message` bytes.
#[track_caller]
pub(crate) fn room_of(max_message: usize) -> Broadcast {
    room(&with(Room::default(), |room| {
        room.max_message = max_message;
    }))
}

/// A running server; it is stopped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) addresses: Vec<Address>,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<io::Result<Stats>>>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start<S: Service + Send + 'static>(config: &Config, service: S) -> Self
    where
        S::Session: Send,
    {
        let server = Server::bind(config, service).unwrap_or_else(|e| panic!("{e}"));
        Self {
            addresses: server.local_addrs(),
            handle: server.handle(),
            thread: Some(thread::spawn(|| server.run())),
        }
    }

    pub(crate) fn echo() -> Self {
        Self::start(&config(), Echo::new())
    }

    pub(crate) fn broadcast() -> Self {
        Self::start(&config(), room(&Room::default()))
    }

    /// The first address.
    pub(crate) fn address(&self) -> &Address {
        &self.addresses[0]
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    #[track_caller]
    pub(crate) fn stop(self) -> Stats {
        self.handle.stop().expect("it can be woken");
        self.end()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Waits for a server that was stopped.
    #[track_caller]
    pub(crate) fn end(mut self) -> Stats {
        eventually("the server's end", || !self.is_running());
        let thread = self.thread.take().expect("it is taken only here");
        let result = thread.join().expect("the server doesn't panic");
        result.expect("waiting for events doesn't fail")
    }
}

impl Drop for Running {
    /// The second stop ends it at once. It isn't waited for, so that no failure hangs.
    fn drop(&mut self) {
        let _ = self.handle.stop();
        let _ = self.handle.stop();
    }
}
