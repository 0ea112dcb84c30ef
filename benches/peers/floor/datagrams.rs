//! Echo of datagrams of the floor.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg_addr,
};

use super::epoll::wait;
use crate::peers::child::datagram_socket;

/// One recvmsg(2) and one sendmsg(2) for each, until there are none.
pub(super) fn serve() -> io::Result<()> {
    let socket = datagram_socket();
    socket.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &socket, EventData::new_u64(0), EventFlags::IN)?;
    let mut buffer = vec![0; 65536];
    let mut events = Vec::with_capacity(1);
    loop {
        events.clear();
        wait(&poll, &mut events)?;
        while echo_one(&socket, &mut buffer).is_ok() {}
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
