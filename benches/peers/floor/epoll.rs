//! The loop over epoll(7) of the services over TCP.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::buffer::{Buffer, spare_capacity};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, read, write};
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketFlags, accept_with};

use crate::peers::child::listener;

/// Bytes read or written at a time, as many as ours are.
pub(super) const BULK: usize = 256 * 1024;

/// Events taken at a time.
const EVENTS: usize = 1024;

/// Both directions, told once when they change, and the end of input.
const INTEREST: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// Says that the input has ended, or the connection has.
const ENDS: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// One connection: its socket, and what the service knows of it.
pub(super) struct Client<T> {
    pub(super) socket: OwnedFd,
    pub(super) readable: bool,
    /// A short read doesn't say that there is no more: the end is.
    pub(super) ending: bool,
    pub(super) unsent: Vec<u8>,
    pub(super) state: T,
}

/// Calls of the loop: for each client with an event, and after all of them.
pub(super) trait Service {
    type State: Default;

    /// A failure ends the client.
    fn turn(&mut self, client: &mut Client<Self::State>, buffer: &mut [u8]) -> Result<(), Errno>;

    fn after(&mut self, _: &mut [Option<Client<Self::State>>]) {}
}

pub(super) fn serve_clients<S: Service>(mut service: S) -> io::Result<()> {
    let listener = listener();
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(u64::MAX),
        EventFlags::IN,
    )?;
    let mut clients = Vec::new();
    let mut free = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    // From the start of a page on, as ours.
    let mut memory = vec![b'x'; BULK + 4096];
    let start = memory.as_ptr().align_offset(4096).min(4096);
    let buffer = &mut memory[start..start + BULK];
    loop {
        wait(&poll, &mut events)?;
        for event in events.drain(..) {
            let flags = event.flags;
            let Ok(number) = usize::try_from(event.data.u64()) else {
                continue;
            };
            let Some(slot) = clients.get_mut(number) else {
                accept(&poll, &listener, &mut clients, &mut free);
                continue;
            };
            if let Some(client) = slot
                && turn(&mut service, client, flags, buffer).is_err()
            {
                *slot = None;
                free.push(number);
            }
        }
        service.after(&mut clients);
    }
}

fn turn<S: Service>(
    service: &mut S,
    client: &mut Client<S::State>,
    flags: EventFlags,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    client.readable |= flags.contains(EventFlags::IN);
    client.ending |= flags.intersects(ENDS);
    client.flush()?;
    service.turn(client, buffer)
}

impl<T> Client<T> {
    /// Writes what an earlier write has left.
    fn flush(&mut self) -> Result<(), Errno> {
        if !self.unsent.is_empty() {
            let sent = none_if_full(write(&self.socket, &self.unsent))?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Reads into a buffer with `room` bytes; the end of input is an error, no input is 0.
    pub(super) fn read(
        &mut self,
        room: usize,
        buffer: impl Buffer<u8, Output = usize>,
    ) -> Result<usize, Errno> {
        match read(&self.socket, buffer) {
            Ok(0) => Err(Errno::PIPE),
            Ok(n) => {
                self.readable = n == room || self.ending;
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(e) => Err(e),
        }
    }
}

/// The bytes that a write has taken: 0 if the kernel's buffer is full.
pub(super) fn none_if_full(written: Result<usize, Errno>) -> Result<usize, Errno> {
    match written {
        Err(Errno::AGAIN) => Ok(0),
        other => other,
    }
}

/// Accepts until there are none; a client's number is its place in the list.
fn accept<T: Default>(
    poll: &OwnedFd,
    listener: &TcpListener,
    clients: &mut Vec<Option<Client<T>>>,
    free: &mut Vec<usize>,
) {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        let number = free.pop().unwrap_or_else(|| {
            clients.push(None);
            clients.len() - 1
        });
        let data = EventData::new_u64(number as u64);
        let _ = set_tcp_nodelay(&socket, true);
        if epoll::add(poll, &socket, data, INTEREST).is_ok() {
            clients[number] = Some(Client {
                socket,
                readable: false,
                ending: false,
                unsent: Vec::new(),
                state: T::default(),
            });
        }
    }
}

pub(super) fn wait(poll: &OwnedFd, events: &mut Vec<Event>) -> Result<(), Errno> {
    match epoll::wait(poll, spare_capacity(events), None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}
