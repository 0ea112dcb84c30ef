//! The server: its public face over the tick, and the ways to stop it.

mod accept;
mod console;
mod datagrams;
mod deadline;
mod heartbeat;
mod operator;
mod report;
mod stop;
mod tick;
mod timeouts;

#[cfg(test)]
mod simulation;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use log::warn;

use crate::close::Stats;
use crate::config::Config;
use crate::net::address::{Address, Role};
use crate::net::datagram::DatagramSocket;
use crate::net::error::BindError;
use crate::net::listener::Listener;
use crate::net::pipe::{Direction, Pipe};
use crate::net::{Control, Net, Poller, Socket};
use crate::service::Service;
use crate::text::encoding::TextEncoding;
use accept::Door;
use console::Console;
use heartbeat::Heart;
use tick::Tick;

/// What a server does when the standard input that it publishes has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEof {
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
    places: Vec<BoundAddress>,
}

/// Something that a server is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// Where; port 0 and host names are resolved.
    pub address: Address,
    /// For whom.
    pub role: Role,
    /// The options in force, as the kernel tells them (getsockopt(2)), and where that is not what
    /// was asked for, what was: `SO_RCVBUF 131072 (asked for 65536), TCP_NODELAY on`.
    pub options: String,
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
        let bound = Bound::all(config, service.needs().datagrams)?;
        if let Some(why) = config.sockets.without_effect() {
            warn!("{why}");
        }
        let letterboxes: Vec<Address> = bound
            .mailboxes
            .iter()
            .map(|m| m.address().clone())
            .collect();
        let mut poller = Poller::new(bound.listeners, bound.mailboxes)?;
        poller.spin_for(config.spin);
        let mut tick = Tick::new(poller, bound.doors, &letterboxes, service, config);
        tick.heart = config
            .heartbeat
            .as_ref()
            .map(|heartbeat| Heart::new(heartbeat, tick.net.now(), &tick.service));
        Ok(Self {
            tick,
            places: bound.places,
        })
    }

    /// What the server is bound to, in the order of the configuration; port 0 and host names
    /// are resolved.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Address> {
        self.places.iter().map(|p| p.address.clone()).collect()
    }

    /// The same, with what each is for and what the kernel says of its options.
    #[must_use]
    pub fn bound_addresses(&self) -> &[BoundAddress] {
        &self.places
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
    pub fn publish_stdin(&mut self, at_end: OnEof) -> io::Result<()> {
        let key = self.attach(Direction::Input)?;
        let client = &mut self.tick.clients[key];
        client.last = at_end == OnEof::Stop;
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
        let local = address.clone();
        let opened = self.tick.open(stream, address, role, &local);
        let key = opened.map_err(|(_, e)| e)?;
        // Of files the kernel doesn't tell that they can be read.
        self.tick.expect_input(key);
        Ok(key)
    }

    /// From now on an operator talks to the server, in lines on standard input and output: sees
    /// what clients send, answers them, and gives commands. What clients send is in this encoding.
    ///
    /// # Errors
    /// When one of the two can't be used.
    pub fn open_console(&mut self, encoding: TextEncoding) -> io::Result<()> {
        let input = Socket::Pipe(Pipe::open(Direction::Input)?);
        self.open_screen(Some(input), encoding)
    }

    /// From now on what clients send, in this encoding, is shown on standard output, a line a line.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn show(&mut self, encoding: TextEncoding) -> io::Result<()> {
        self.open_screen(None, encoding)
    }

    fn open_screen(&mut self, input: Option<Socket>, encoding: TextEncoding) -> io::Result<()> {
        let output = Socket::Pipe(Pipe::open(Direction::Output)?);
        let net = &mut self.tick.net;
        self.tick.console = Some(Console::open(input, output, encoding, net)?);
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

/// Everything that a configuration asks to be bound.
#[derive(Default)]
struct Bound {
    listeners: Vec<Listener>,
    doors: Vec<Door>,
    mailboxes: Vec<DatagramSocket>,
    places: Vec<BoundAddress>,
}

impl Bound {
    fn all(config: &Config, datagrams: bool) -> Result<Self, BindError> {
        let mut bound = Self::default();
        for listen in &config.listen {
            let failed = |e| BindError::new(&listen.address, e);
            if listen.address.is_datagram() && !datagrams {
                let text = "this service is not to be had over datagrams";
                return Err(failed(io::Error::new(io::ErrorKind::Unsupported, text)));
            }
            for address in listen.address.resolve().map_err(failed)? {
                let dual = listen.address.is_dual_stack();
                bound.bind(&address, dual, listen.role, config)?;
            }
        }
        Ok(bound)
    }

    fn bind(
        &mut self,
        address: &Address,
        dual: bool,
        role: Role,
        config: &Config,
    ) -> Result<(), BindError> {
        match self.try_bind(address, dual, role, config) {
            // Where there is no IPv6 there is only one family.
            Err(e) if dual && lacks_ipv6(&e) => {
                let address = address.with_ip(Ipv4Addr::UNSPECIFIED.into());
                let again = self.try_bind(&address, false, role, config);
                again.map_err(|e| BindError::new(&address, e))
            }
            result => result.map_err(|e| BindError::new(address, e)),
        }
    }

    fn try_bind(
        &mut self,
        address: &Address,
        dual: bool,
        role: Role,
        config: &Config,
    ) -> io::Result<()> {
        let sockets = &config.sockets;
        let (address, options) = if address.is_datagram() {
            let most = if config.once { 1 } else { usize::MAX };
            let mailbox = DatagramSocket::bind(address, dual, sockets, most)?;
            let address = mailbox.address().clone();
            let options = sockets.in_force(&mailbox.as_socket());
            self.mailboxes.push(mailbox);
            (address, options)
        } else {
            let listener = Listener::bind(address, dual, sockets)?;
            let address = listener.address().clone();
            let options = sockets.in_force(&listener.as_socket());
            self.doors.push(Door {
                role,
                address: address.clone(),
            });
            self.listeners.push(listener);
            (address, options)
        };
        self.places.push(BoundAddress {
            address,
            role,
            options,
        });
        Ok(())
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
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
