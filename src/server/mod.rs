//! The server: the public types over the tick, and the ways to stop it.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Server`]: bind, attach standard streams, run; [`Handle`]: stop |
//! | `bind.rs`, `limits.rs` | from a configuration to sockets, and to bounds |
//! | `tick.rs` | one pass of the loop: the phases and their order |
//! | `clients/` | the table of clients, the service, and every list a client can be in |
//! | `accepting.rs`, `datagrams.rs`, `timers.rs`, `heartbeat.rs`, `console.rs`, `stop.rs` | the phases, each with its own state |
//! | `guard.rs` | the filter of the datagrams that may be answered |
//! | `operator.rs`, `report.rs`, `throttle.rs` | commands at the console; statistics in words; warnings at most once a minute |
//! | `fixture.rs`, `simulation/` | tests: a scripted kernel for one phase; the production tick over a kernel made up from a seed |
//!
//! `mod → tick → phases → clients → connection`: a phase knows the clients and the kernel, but no
//! other phase. One exception: datagrams are shown on the console.

mod accepting;
mod bind;
mod clients;
mod console;
mod datagrams;
mod guard;
mod heartbeat;
mod limits;
mod operator;
mod report;
mod stop;
mod throttle;
mod tick;
mod timers;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod simulation;

use std::fmt;
use std::io;
use std::sync::Arc;

use log::warn;

use crate::close::Stats;
use crate::config::Config;
use crate::net::address::{Address, Role};
use crate::net::error::BindError;
use crate::net::pipe::{Direction, Pipe};
use crate::net::signals::block_terminal_stops;
use crate::net::{Control, Poller, Socket};
use crate::service::Service;
use crate::text::encoding::TextEncoding;
use bind::Bound;
pub use bind::BoundAddress;
use console::Console;
use limits::Limits;
use tick::Tick;

/// Reaction of a server to the end of the standard input that it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEof {
    /// It goes on.
    Stay,
    /// It stops, as [`Handle::stop`] makes it. With unlimited patience ([`Config::patience`]) it
    /// delivers what is pending without a time limit.
    Stop,
}

/// A server that is bound to its addresses, and serves once it [runs](Server::run).
///
/// One thread runs it: `run` returns when the server was stopped, through a [`Handle`] or by a
/// signal.
pub struct Server<S: Service> {
    tick: Tick<S, Poller>,
    bound: Vec<BoundAddress>,
}

impl<S: Service> Server<S> {
    /// Binds every address of `config`. Clients that connect from now on wait until the server runs.
    ///
    /// # Errors
    /// If there is no address; if one can't be resolved or bound, or is a datagram address and the
    /// service does not answer datagrams. Then none is bound.
    pub fn bind(config: &Config, service: S) -> Result<Self, BindError> {
        if config.listen.is_empty() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
            return Err(error.into());
        }
        let needs = service.needs();
        let bound = Bound::all(config, needs.datagrams)?;
        if let Some(why) = config.sockets.without_effect() {
            warn!("{why}");
        }
        let sockets = bound.datagram_sockets.iter();
        let datagram_addresses = sockets.map(|socket| socket.address().clone()).collect();
        let mut poller = Poller::new(bound.listeners, bound.datagram_sockets)?;
        poller.spin_for(config.spin);
        Ok(Self {
            tick: Tick::new(
                poller,
                bound.listener_infos,
                datagram_addresses,
                service,
                config,
                Limits::new(config, needs),
            ),
            bound: bound.addresses,
        })
    }

    /// The addresses that the server is bound to, in the order of the configuration; port 0 and
    /// host names are resolved.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Address> {
        self.bound.iter().map(|p| p.address.clone()).collect()
    }

    /// The same addresses, each with its role and the socket options in force.
    #[must_use]
    pub fn bound_addresses(&self) -> &[BoundAddress] {
        &self.bound
    }

    /// A handle to stop the server with, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            control: self.tick.net.control(),
        }
    }

    /// Makes SIGTERM, SIGINT and SIGHUP stop this server, as [`Handle::stop`] does, and SIGUSR1 write
    /// its statistics to the log. It does so whatever the process has inherited of them: the signals
    /// are unblocked in this thread. Only a SIGHUP that is ignored stays ignored (nohup(1)), and
    /// where the system has no `/proc` to tell, SIGHUP is left alone.
    ///
    /// # Errors
    /// If the signals can't be caught.
    pub fn catch_signals(&mut self) -> io::Result<()> {
        self.tick.net.catch_signals()
    }

    /// Makes standard input a client that publishes: its lines are messages. It is read at the
    /// room's pace. While another job of the shell is in front of a terminal, the server goes on without
    /// its input; job control doesn't stop this thread.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn publish_stdin(&mut self, on_eof: OnEof) -> io::Result<()> {
        let key = self.attach(Direction::Input)?;
        if on_eof == OnEof::Stop {
            self.tick.clients.stop_after(key);
        }
        Ok(())
    }

    /// Makes standard output a client that is sent what is published. A slow reader makes it a slow
    /// consumer; a reader that closes it ends it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn print_stdout(&mut self) -> io::Result<()> {
        self.attach(Direction::Output).map(drop)
    }

    /// Admits one of the standard streams as a client, beyond the limit of clients.
    fn attach(&mut self, direction: Direction) -> io::Result<usize> {
        let (address, role) = match direction {
            Direction::Input => (Address::Stdin, Role::Publish),
            Direction::Output => (Address::Stdout, Role::Subscribe),
        };
        let stream = open_standard(direction)?;
        let local = address.clone();
        let Tick { net, clients, .. } = &mut self.tick;
        clients.reserve_one();
        let opened = clients.open(net, stream, address, role, &local);
        let key = opened.map_err(|(_, e)| e)?;
        // The kernel sends no event for a file that can be read.
        clients.touch(key, |connection, _| connection.expect_input());
        Ok(key)
    }

    /// Makes standard input and output an operator's console: the operator sees the clients' input,
    /// in this encoding, answers it, and gives commands. While another job of the shell is in front of
    /// the terminal, the server goes on without its input; job control doesn't stop this thread.
    ///
    /// # Errors
    /// If one of the two can't be used.
    pub fn open_console(&mut self, encoding: TextEncoding) -> io::Result<()> {
        let input = open_standard(Direction::Input)?;
        self.start_console(Some(input), encoding)
    }

    /// Shows the clients' input, in this encoding, on standard output, line by line.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn show(&mut self, encoding: TextEncoding) -> io::Result<()> {
        self.start_console(None, encoding)
    }

    fn start_console(&mut self, input: Option<Socket>, encoding: TextEncoding) -> io::Result<()> {
        let output = open_standard(Direction::Output)?;
        let net = &mut self.tick.net;
        self.tick.console = Some(Console::open(input, output, encoding, net)?);
        Ok(())
    }

    /// Serves until the server is stopped, and returns its counters.
    ///
    /// # Errors
    /// If waiting for events fails, which no client can cause.
    pub fn run(mut self) -> io::Result<Stats> {
        while !self.tick.is_done() {
            self.tick.tick()?;
        }
        Ok(self.tick.stats())
    }
}

/// Opens a standard stream. If it is a terminal, job control doesn't stop the server, which serves
/// others: in the background it goes on, and reads the terminal again when it is in front.
fn open_standard(direction: Direction) -> io::Result<Socket> {
    block_terminal_stops()?;
    Pipe::open(direction).map(Socket::Pipe)
}

impl<S: Service> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.local_addrs();
        f.debug_tuple("Server").field(&addresses).finish()
    }
}

/// A handle that stops a server, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
}

impl Handle {
    /// Stops the server: it closes its listeners, reads each client once more (unless the room is
    /// held up), delivers what is pending for at most [`Config::grace`], and ends. The second call
    /// ends it at once.
    ///
    /// # Errors
    /// If the server can't be woken: the kernel is out of memory.
    pub fn stop(&self) -> io::Result<()> {
        self.control.stop()
    }
}
