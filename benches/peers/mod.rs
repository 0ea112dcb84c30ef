//! The floor: what the cheapest loops over epoll(7) do that one would write in C, call by call.
//! Each is a server on a thread of its own, which ends with the process.

#![allow(dead_code, reason = "no bench measures itself against all of them")]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::event::epoll;
use rustix::io::{Errno, read, write};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg_addr,
};

/// Bytes read or written at a time, as many as ours are.
const BULK: usize = 256 * 1024;

/// Echoes datagrams: one recvmsg(2) and one sendmsg(2) each, until there are none.
pub(crate) fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    socket.set_nonblocking(true).expect("it can be set");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        let poll = poll(&socket, epoll::EventFlags::IN).expect("there is epoll");
        let mut buffer = vec![0; 65536];
        loop {
            wait(&poll);
            while echo_one(&socket, &mut buffer).is_ok() {}
        }
    });
    address
}

fn echo_one(socket: &UdpSocket, buffer: &mut [u8]) -> Result<(), Errno> {
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

/// Reads everything: read(2) until there is nothing or it ends.
pub(crate) fn discard() -> SocketAddr {
    serve(epoll::EventFlags::IN, |client, buffer| {
        // Once a wake-up: epoll tells of more, and of the end.
        matches!(read(client, buffer), Ok(1..) | Err(Errno::AGAIN))
    })
}

/// Writes the same bytes for ever: write(2) until nothing is taken.
pub(crate) fn chargen() -> SocketAddr {
    serve(epoll::EventFlags::OUT, |client, buffer| {
        loop {
            match write(client, buffer) {
                Ok(n) if n == buffer.len() => {}
                Ok(_) | Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    })
}

/// Serves one client after the other.
fn serve(
    interest: epoll::EventFlags,
    turn: impl Fn(&OwnedFd, &mut [u8]) -> bool + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        // From the start of a page on, as ours.
        let mut memory = vec![b'x'; BULK + 4096];
        let start = memory.as_ptr().align_offset(4096).min(4096);
        let buffer = &mut memory[start..start + BULK];
        while let Ok((client, _)) = listener.accept() {
            client.set_nonblocking(true).expect("it can be set");
            let client = OwnedFd::from(client);
            let poll = poll(&client, interest).expect("there is epoll");
            while turn(&client, buffer) {
                wait(&poll);
            }
        }
    });
    address
}

fn poll(fd: &impl AsFd, interest: epoll::EventFlags) -> io::Result<OwnedFd> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0);
    epoll::add(&poll, fd, data, interest)?;
    Ok(poll)
}

fn wait(poll: &OwnedFd) {
    let mut events = Vec::with_capacity(1);
    let spare = rustix::buffer::spare_capacity(&mut events);
    // Interrupted or not: whoever is called next finds out.
    let _ = epoll::wait(poll, spare, None);
}
