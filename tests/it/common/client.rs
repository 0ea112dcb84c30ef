//! A client of either family, whose every call ends within the deadline.

use std::io::{self, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use resound::Address;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{DEADLINE, assert_same, bytes};

/// A connected socket. Its methods panic when a test should fail.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: &Address) -> Self {
        Self::try_connect(address).expect("the server listens")
    }

    pub(crate) fn try_connect(address: &Address) -> io::Result<Self> {
        Self::with_buffers(address, None)
    }

    /// A client whose kernel holds little for it in either direction.
    #[track_caller]
    pub(crate) fn with_small_buffers(address: &Address) -> Self {
        Self::with_buffers(address, Some(32 * 1024)).expect("the server listens")
    }

    fn with_buffers(address: &Address, size: Option<usize>) -> io::Result<Self> {
        let (domain, name) = match address {
            Address::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            Address::Unix(path) => (Domain::UNIX, unix_name(path)?),
            stdio => panic!("{stdio} is no server"),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        if let Some(size) = size {
            socket.set_recv_buffer_size(size)?;
            socket.set_send_buffer_size(size)?;
        }
        socket.connect(&name)?;
        Ok(Self { socket })
    }

    /// The same connection, for another thread.
    pub(crate) fn twin(&self) -> Self {
        let socket = self.socket.try_clone().expect("there are descriptors");
        Self { socket }
    }

    /// The address that the server knows it by.
    pub(crate) fn name(&self) -> String {
        let name = self.socket.local_addr().expect("it is connected");
        name.as_socket().expect("it is TCP").to_string()
    }

    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let sent = self.try_send(bytes.as_ref());
        sent.expect("the server takes it");
    }

    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)
    }

    /// Sends bytes of which the last one is urgent.
    #[track_caller]
    pub(crate) fn send_urgently(&self, bytes: &[u8]) {
        let sent = self.socket.send_out_of_band(bytes);
        assert_eq!(sent.expect("the kernel takes it"), bytes.len());
    }

    /// Sends bytes with a descriptor attached, as only Unix sockets can.
    #[track_caller]
    pub(crate) fn send_with_descriptor(&self, bytes: &[u8]) {
        let descriptors = [self.socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let slices = [io::IoSlice::new(bytes)];
        let sent = sendmsg(&self.socket, &slices, &mut ancillary, SendFlags::empty());
        assert_eq!(sent.expect("it can pass descriptors"), bytes.len());
    }

    /// Sends until the kernel has taken nothing for `patience`; returns the bytes sent, at most 64 MiB.
    pub(crate) fn send_until_full(&self, patience: Duration, rng: &mut fastrand::Rng) -> Vec<u8> {
        let wait = |time| self.socket.set_write_timeout(Some(time));
        wait(patience).expect("it is not zero");
        let mut sent = Vec::new();
        while sent.len() < 64 << 20 {
            let chunk = bytes(rng, 16 * 1024);
            match (&self.socket).write(&chunk) {
                Ok(n) => sent.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("after {} bytes: {e}", sent.len()),
            }
        }
        wait(DEADLINE).expect("it is not zero");
        sent
    }

    /// Reads exactly this.
    #[track_caller]
    pub(crate) fn receives(&self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            match (&self.socket).read(&mut got[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                // A stop and a continue of this process interrupt a read that has a timeout.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let short = got[..filled.min(60)].escape_ascii();
                    panic!(
                        "{e} after {filled} of {} bytes (\"{short}\")",
                        expected.len()
                    );
                }
            }
        }
        assert_same(&got[..filled], expected);
    }

    /// Reads `length` bytes.
    #[track_caller]
    pub(crate) fn next(&self, length: usize) -> Vec<u8> {
        let mut got = vec![0; length];
        let read = (&self.socket).read_exact(&mut got);
        read.unwrap_or_else(|e| panic!("{e} within {length} bytes"));
        got
    }

    /// Appends received bytes to `got` until it contains `words`; there may be more behind them.
    #[track_caller]
    pub(crate) fn receives_until(&self, got: &mut Vec<u8>, words: &[u8]) {
        let deadline = Instant::now() + DEADLINE;
        let (mut buffer, mut from) = (vec![0; 64 * 1024], 0);
        while memchr::memmem::find(&got[from..], words).is_none() {
            from = got.len().saturating_sub(words.len());
            let read = (&self.socket).read(&mut buffer);
            let n = read.unwrap_or_else(|e| panic!("{e} after {} bytes", got.len()));
            assert!(n > 0, "the end after {} bytes", got.len());
            assert!(Instant::now() < deadline, "{} bytes of others", got.len());
            got.extend_from_slice(&buffer[..n]);
        }
    }

    /// Reads the bytes that are there, at most `most`.
    #[track_caller]
    pub(crate) fn available(&self, most: usize) -> Vec<u8> {
        let set = |on| self.socket.set_nonblocking(on);
        set(true).expect("it can be set");
        let mut got = Vec::new();
        let read = (&self.socket).take(most as u64).read_to_end(&mut got);
        set(false).expect("it can be set");
        match read {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => panic!("{e}"),
            _ => got,
        }
    }

    /// Reads to the end of the server's output.
    #[track_caller]
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = (&self.socket).read_to_end(&mut rest);
        read.expect("the server ends its output");
        rest
    }

    /// Reads to the end of the server's output, or to a reset; the second value is true for an end.
    #[track_caller]
    pub(crate) fn rest_or_cut(&self) -> (Vec<u8>, bool) {
        let mut rest = Vec::new();
        let read = (&self.socket).read_to_end(&mut rest);
        let error = read.err().map(|e| e.kind());
        assert!(matches!(error, None | Some(io::ErrorKind::ConnectionReset)));
        (rest, error.is_none())
    }

    /// Reads to where the server resets the connection.
    #[track_caller]
    pub(crate) fn rest_before_reset(&self) -> Vec<u8> {
        let (rest, ended) = self.rest_or_cut();
        assert!(!ended, "the server has ended its output");
        rest
    }

    #[track_caller]
    pub(crate) fn receives_end(&self) {
        assert_same(&self.rest(), b"");
    }

    /// Asserts that there is nothing to read, nor an end.
    #[track_caller]
    pub(crate) fn receives_nothing(&self) {
        let set = |on| self.socket.set_nonblocking(on);
        set(true).expect("it can be set");
        let read = (&self.socket).read(&mut [0; 100]);
        set(false).expect("it can be set");
        let error = read.map_err(|e| e.kind());
        assert_eq!(error, Err(io::ErrorKind::WouldBlock));
    }

    /// Reads and forgets until the connection ends in whatever way.
    pub(crate) fn drain(&self) {
        let mut buffer = vec![0; 64 * 1024];
        while (&self.socket).read(&mut buffer).is_ok_and(|n| n > 0) {}
    }

    /// A reader of the received bytes by lines.
    pub(crate) fn lines(&self) -> BufReader<Socket> {
        BufReader::new(self.twin().socket)
    }

    /// Ends its input; it can still read.
    pub(crate) fn finish(&self) {
        let shut = self.socket.shutdown(Shutdown::Write);
        shut.expect("it is connected");
    }

    /// Leaves with a reset (TCP) in place of an end.
    pub(crate) fn reset(self) {
        let set = self.socket.set_linger(Some(Duration::ZERO));
        set.expect("linger can be set");
    }
}

/// The name of a Unix socket: a path, or the text after an `@` in place of one (unix(7), abstract).
pub(crate) fn unix_name(path: &Path) -> io::Result<SockAddr> {
    match path.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(path),
    }
}

/// Connects `count` chatters of a broadcast and returns when all are in the room.
#[track_caller]
pub(crate) fn join(address: &Address, count: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count).map(|_| Client::connect(address)).collect();
    wait_until_joined(&clients);
    clients
}

/// Waits until all clients, given in the order of their connecting, are in the room. A listener's
/// clients are accepted in that order: when a message of the last is received, all are in.
#[track_caller]
pub(crate) fn wait_until_joined(clients: &[Client]) {
    wait_for_room(clients, b"all here\n");
}

/// The same by a message of another kind.
#[track_caller]
pub(crate) fn wait_for_room(clients: &[Client], message: &[u8]) {
    let (last, others) = clients.split_last().expect("there is a client");
    last.send(message);
    for client in others {
        client.receives(message);
    }
}
