//! The floor: what the cheapest loops over epoll(7) do that one would write in C, call by call.
//! They trust their clients: none limits what a client may send, or when it is next.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::{Buffer, spare_capacity};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, read, write};
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, accept_with,
    recvmsg, sendmsg_addr,
};

use super::{Kind, floor_room, listener, mailbox};
use crate::common::server::exit_at_end;

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

pub(super) fn serve(kind: Kind) {
    exit_at_end();
    let served = match kind {
        Kind::Echo => serve_clients(Echo),
        Kind::Broadcast | Kind::Skipping => serve_clients(floor_room::Room::default()),
        Kind::Datagrams => datagrams(&mailbox()),
        Kind::Discard => serve_clients(Discard),
        Kind::Chargen => serve_clients(Chargen),
    };
    served.expect("epoll doesn't fail");
}

/// One connection: its socket, and what the service knows of it.
pub(super) struct Client<T> {
    pub(super) socket: OwnedFd,
    pub(super) readable: bool,
    /// A short read doesn't say that there is no more: the end is.
    pub(super) ending: bool,
    pub(super) unsent: Vec<u8>,
    pub(super) state: T,
}

/// What the loop calls: for each client with an event, and when all have been.
pub(super) trait Service {
    type State: Default;

    /// A failure ends the client.
    fn turn(&mut self, client: &mut Client<Self::State>, buffer: &mut [u8]) -> Result<(), Errno>;

    fn after(&mut self, _: &mut [Option<Client<Self::State>>]) {}
}

fn serve_clients<S: Service>(mut service: S) -> io::Result<()> {
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

    /// Reads what there is into a buffer with so much room; the end is an error, no input is none.
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

/// What a write has taken.
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

fn wait(poll: &OwnedFd, events: &mut Vec<Event>) -> Result<(), Errno> {
    match epoll::wait(poll, spare_capacity(events), None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Writes back straight from the buffer; what isn't taken is kept, and nothing is read until it is.
struct Echo;

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
struct Discard;

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
struct Chargen;

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

/// One recvmsg(2) and one sendmsg(2) for each, until there are none.
fn datagrams(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, socket, EventData::new_u64(0), EventFlags::IN)?;
    let mut buffer = vec![0; 65536];
    let mut events = Vec::with_capacity(1);
    loop {
        events.clear();
        wait(&poll, &mut events)?;
        while echo_one(socket, &mut buffer).is_ok() {}
    }
}

fn echo_one(socket: &impl AsFd, buffer: &mut [u8]) -> Result<(), Errno> {
    let flags = RecvFlags::empty();
    let mut slices = [IoSliceMut::new(buffer)];
    let mut nothing = RecvAncillaryBuffer::default();
    let got = recvmsg(socket, &mut slices, &mut nothing, flags)?;
    let from = got.address.expect("every datagram has a sender");
    let answer = [IoSlice::new(&buffer[..got.bytes])];
    let mut nothing = SendAncillaryBuffer::default();
    sendmsg_addr(socket, &from, &answer, &mut nothing, SendFlags::empty())?;
    Ok(())
}
