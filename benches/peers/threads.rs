//! A thread a client, as in the tutorials: blocking reads and writes. For broadcast the clients are
//! a list behind a lock; a thread that has read lines holds it while it writes them to all the others.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::child::{datagram_socket, exit_at_end, listener};
use super::kind::Kind;

/// Eight times as much as `std::io::copy` takes at a time: less is slower in bulk and in floods.
const BUFFER: usize = 64 * 1024;

pub(super) fn serve(kind: Kind) {
    exit_at_end();
    match kind {
        Kind::Datagrams => datagrams(),
        Kind::Broadcast | Kind::Skipping => room(&listener()),
        Kind::Echo | Kind::Discard | Kind::Chargen => clients(&listener()),
    }
}

fn clients(listener: &TcpListener) {
    for client in listener.incoming().flatten() {
        thread::spawn(move || echo(&client));
    }
}

fn echo(mut client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            n => client.write_all(&buffer[..n])?,
        }
    }
}

type Members = Mutex<HashMap<usize, TcpStream>>;

fn room(listener: &TcpListener) {
    let members = Arc::new(Members::default());
    for (number, client) in listener.incoming().flatten().enumerate() {
        let members = Arc::clone(&members);
        thread::spawn(move || {
            let _ = join(number, &client, &members);
            lock(&members).remove(&number);
        });
    }
}

fn join(number: usize, mut client: &TcpStream, members: &Members) -> io::Result<()> {
    client.set_nodelay(true)?;
    lock(members).insert(number, client.try_clone()?);
    let mut buffer = vec![0; BUFFER];
    // Bytes at the start of the buffer that begin a line.
    let mut kept = 0;
    loop {
        let n = client.read(&mut buffer[kept..])?;
        if n == 0 {
            return Ok(());
        }
        let end = kept + n;
        let lines = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |newline| newline + 1);
        tell(number, &buffer[..lines], members);
        buffer.copy_within(lines..end, 0);
        kept = end - lines;
    }
}

fn tell(sender: usize, lines: &[u8], members: &Members) {
    if !lines.is_empty() {
        lock(members).retain(|&number, mut member: &mut TcpStream| {
            number == sender || (&mut member).write_all(lines).is_ok()
        });
    }
}

fn lock(members: &Members) -> impl std::ops::DerefMut<Target = HashMap<usize, TcpStream>> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

fn datagrams() {
    let socket = datagram_socket();
    let mut buffer = vec![0; 65536];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..n], from);
    }
}
