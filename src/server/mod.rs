//! The server: its public face over the tick, and the ways to stop it.

mod accept;
mod deadline;
mod tick;

#[cfg(test)]
mod simulation;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::Address;
use crate::close::Stats;
use crate::config::Config;
use crate::listener::{BindError, Listener};
use crate::net::{Control, Poller};
use crate::service::Service;
use tick::Tick;

/// SIGINT and SIGTERM, which have these numbers on every Unix (POSIX, `kill`).
const SIGNALS: [i32; 2] = [2, 15];

/// A server that is bound to its addresses, and serves once it [runs](Server::run).
///
/// It is one thread's work: `run` returns when the server was stopped, through a [`Handle`] or
/// by a signal.
pub struct Server<S: Service> {
    tick: Tick<S, Poller>,
}

impl<S: Service> Server<S> {
    /// Binds every address of `config`; clients that connect from now on wait until it runs.
    ///
    /// # Errors
    /// When one of the addresses can't be resolved or bound: then none is. When there is none.
    pub fn bind(config: &Config, service: S) -> Result<Self, BindError> {
        if config.listen.is_empty() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
            return Err(error.into());
        }
        let mut listeners = Vec::new();
        for address in &config.listen {
            let resolved = address.resolve().map_err(|e| BindError::new(address, e))?;
            for bound in &resolved {
                let listener = Listener::bind(bound, config.backlog);
                listeners.push(listener.map_err(|e| BindError::new(bound, e))?);
            }
        }
        let count = listeners.len();
        let poller = Poller::new(listeners)?;
        let tick = Tick::new(poller, count, service, config.into());
        Ok(Self { tick })
    }

    /// The addresses really bound, in the order of the configuration; port 0 and host names
    /// are resolved.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Address> {
        self.tick.net.addresses().cloned().collect()
    }

    /// Something to stop the server with, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            control: self.tick.net.control(),
        }
    }

    /// From now on SIGTERM and SIGINT stop this server, as [`Handle::stop`] does.
    ///
    /// # Errors
    /// When the signals can't be caught.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        self.tick.net.stop_on(&SIGNALS)
    }

    /// Serves until the server is stopped.
    ///
    /// # Errors
    /// Only when waiting for events fails, which no client can bring about.
    pub fn run(mut self) -> io::Result<Stats> {
        while !self.tick.is_done() {
            self.tick.tick()?;
        }
        Ok(self.tick.into_stats())
    }
}

impl<S: Service> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.local_addrs();
        f.debug_tuple("Server").field(&addresses).finish()
    }
}

/// Stops a server, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
}

impl Handle {
    /// The server closes its listeners, reads each client once more (unless the room is held
    /// up), delivers what is pending for at most [`Config::grace`], and ends. The second call
    /// ends it at once.
    ///
    /// # Errors
    /// When the server can't be woken, for which the kernel gives no cause but a lack of memory.
    pub fn stop(&self) -> io::Result<()> {
        self.control.stop()
    }
}
