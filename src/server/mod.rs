//! The server: its public face over the tick, and the ways to stop it.

mod accept;
mod console;
mod deadline;
mod heartbeat;
mod operator;
mod report;
mod stop;
mod tick;

#[cfg(test)]
mod simulation;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::{Address, Role};
use crate::close::Stats;
use crate::config::Config;
use crate::listener::{BindError, Listener};
use crate::net::{Control, Net, Poller, Socket};
use crate::pipe::{Direction, Pipe};
use crate::service::Service;
use console::Console;
use heartbeat::Heart;
use tick::{Limits, Tick};

/// What a server does when the standard input that it publishes has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It goes on.
    Stay,
    /// It stops, as [`Handle::stop`] would have it; with unlimited patience ([`Config::patience`])
    /// it takes as long as its clients do to deliver what is pending.
    Stop,
}

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
        let (mut listeners, mut roles) = (Vec::new(), Vec::new());
        for listen in &config.listen {
            let resolved = listen.address.resolve();
            let resolved = resolved.map_err(|e| BindError::new(&listen.address, e))?;
            for bound in &resolved {
                let listener = Listener::bind(bound, config.backlog);
                listeners.push(listener.map_err(|e| BindError::new(bound, e))?);
                roles.push(listen.role);
            }
        }
        let poller = Poller::new(listeners)?;
        let limits = Limits::new(config, &service);
        let mut tick = Tick::new(poller, roles, service, limits);
        tick.heart = config
            .heartbeat
            .as_ref()
            .map(|heartbeat| Heart::new(heartbeat, tick.net.now(), &tick.service));
        Ok(Self { tick })
    }

    /// The addresses really bound, in the order of the configuration; port 0 and host names
    /// are resolved.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Address> {
        self.tick.net.addresses().cloned().collect()
    }

    /// What the listeners are for, in the same order.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        self.tick.acceptor.roles()
    }

    /// Something to stop the server with, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            control: self.tick.net.control(),
        }
    }

    /// From now on SIGTERM and SIGINT stop this server, as [`Handle::stop`] does, and SIGUSR1
    /// makes it write what it has done so far to the log.
    ///
    /// # Errors
    /// When the signals can't be caught.
    pub fn catch_signals(&mut self) -> io::Result<()> {
        self.tick.net.catch_signals()
    }

    /// From now on standard input is a client that publishes: its lines are messages. It is
    /// read at the room's pace.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn publish_stdin(&mut self, at_end: AtEnd) -> io::Result<()> {
        let key = self.attach(Direction::Input)?;
        let client = &mut self.tick.clients[key];
        client.last = at_end == AtEnd::Stop;
        Ok(())
    }

    /// From now on standard output is a client that hears what is published: if its reader is slow
    /// it is a slow consumer, if its reader goes it is closed.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn print_stdout(&mut self) -> io::Result<()> {
        self.attach(Direction::Output).map(drop)
    }

    /// Takes in one of the standard streams as a client, beside those that there may be.
    fn attach(&mut self, direction: Direction) -> io::Result<usize> {
        let (address, role) = match direction {
            Direction::Input => (Address::Stdin, Role::Publish),
            Direction::Output => (Address::Stdout, Role::Subscribe),
        };
        let limits = &mut self.tick.limits;
        limits.max_clients = limits.max_clients.saturating_add(1);
        let stream = Socket::Pipe(Pipe::open(direction)?);
        let opened = self.tick.open(stream, address, role);
        let key = opened.map_err(|(_, e)| e)?;
        // Of files the kernel doesn't tell that they can be read.
        self.tick.expect_input(key);
        Ok(key)
    }

    /// From now on an operator talks to the server, in lines on standard input and output: sees
    /// what clients send, answers them, and gives commands.
    ///
    /// # Errors
    /// When one of the two can't be used.
    pub fn open_console(&mut self) -> io::Result<()> {
        let input = Socket::Pipe(Pipe::open(Direction::Input)?);
        let output = Socket::Pipe(Pipe::open(Direction::Output)?);
        self.tick.console = Some(Console::open(input, output, &mut self.tick.net)?);
        Ok(())
    }

    /// Serves until the server is stopped.
    ///
    /// # Errors
    /// Only when waiting for events fails, which no client can bring about.
    pub fn run(mut self) -> io::Result<Stats> {
        while !self.tick.is_done() {
            self.tick.tick()?;
        }
        Ok(self.tick.stats())
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
