//! The client of the binary between pipes and at a terminal, and servers for it that misbehave.

use std::fmt::Debug;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use socket2::{Domain, Socket, Type};

use super::program::{Ended, Program};
use super::pty::terminal;
use super::stdio::{StdinWriter, StdoutReader, input_pipe, output_pipe};
use super::{DEADLINE, eventually};

/// A client between two pipes.
#[derive(Debug)]
pub(crate) struct Piped {
    pub(crate) program: Program,
    pub(crate) stdin: StdinWriter,
    pub(crate) stdout: StdoutReader,
}

impl Piped {
    #[track_caller]
    pub(crate) fn to(address: &str) -> Self {
        Self::with(&[address])
    }

    /// With these arguments behind `connect`.
    #[track_caller]
    pub(crate) fn with(args: &[&str]) -> Self {
        let (input, stdin) = input_pipe();
        let (stdout, output) = output_pipe();
        Self {
            program: Program::spawn_on(&[&["connect"], args].concat(), input, output),
            stdin,
            stdout,
        }
    }

    /// Ends its input, and waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        drop(self.stdin);
        self.program.wait()
    }
}

/// A client without input, whose output is captured.
#[track_caller]
pub(crate) fn connect_without_input(args: &[&str]) -> Program {
    Program::spawn_on(
        &[&["connect"], args].concat(),
        Stdio::null(),
        Stdio::piped(),
    )
}

/// A client at a terminal.
#[track_caller]
pub(crate) fn connect_at_terminal(args: &[&str]) -> (Program, StdinWriter, StdoutReader) {
    let (theirs, stdin, stdout) = terminal();
    let input = theirs.try_clone().expect("it can be shared");
    let program = Program::spawn_on(args, input, theirs);
    (program, stdin, stdout)
}

/// A server that only accepts.
#[track_caller]
pub(crate) fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it has one").to_string();
    (listener, address)
}

/// Waits for a client, and accepts it.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).expect("it can be set");
    let mut accepted = None;
    eventually("a connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, peer) = accepted.expect("it is accepted");
    stream.set_nonblocking(false).expect("it can be set");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
    (stream, peer)
}

/// Reads exactly this.
#[track_caller]
pub(crate) fn receives(stream: &mut impl Read, expected: impl AsRef<[u8]>) {
    let mut got = vec![0; expected.as_ref().len()];
    stream.read_exact(&mut got).expect("it arrives in time");
    super::assert_same(&got, expected.as_ref());
}

/// Reads to the end.
#[track_caller]
pub(crate) fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it ends in time");
    rest
}

/// A socket for datagrams, and how to connect to it.
#[track_caller]
pub(crate) fn udp_socket(ip: &str) -> (UdpSocket, String) {
    let socket = UdpSocket::bind((ip, 0)).expect("there is a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let port = socket.local_addr().expect("it has one").port();
    (socket, format!("udp://127.0.0.1:{port}"))
}

/// One datagram and its sender; of a socket of either family.
#[track_caller]
pub(crate) fn datagram<A: Debug>(
    receive: impl FnOnce(&mut [u8]) -> io::Result<(usize, A)>,
) -> (Vec<u8>, A) {
    let mut buffer = vec![0; 1 << 18];
    let (n, from) = receive(&mut buffer).expect("it arrives in time");
    buffer.truncate(n);
    (buffer, from)
}

/// A bound port without a listener, which no other process gets meanwhile: [`Socket::listen`] on it
/// makes a server of it.
#[track_caller]
pub(crate) fn unserved_port() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are descriptors");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("there is a port");
    let address = socket.local_addr().expect("it has one");
    let address = address.as_socket().expect("it is IP").to_string();
    (socket, address)
}
