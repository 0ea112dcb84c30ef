//! A server's side of its bench, in the process of its own: it prints its address, and ends with
//! its standard input.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::thread;

/// More clients may wait to be accepted than ever do, so that none has to try again a second later.
const BACKLOG: i32 = 4096;

/// A listener on a free port, of which the bench is told.
pub(super) fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    rustix::net::listen(&listener, BACKLOG).expect("it can be said another time");
    announce(listener.local_addr().expect("it is bound"));
    listener
}

/// A socket for datagrams on a free port, of which the bench is told.
pub(super) fn datagram_socket() -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let socket = socket.expect("there is a free port");
    announce(socket.local_addr().expect("it is bound"));
    socket
}

/// Tells the bench where this server listens.
pub(super) fn announce(address: SocketAddr) {
    let mut output = io::stdout();
    let told = writeln!(output, "{address}").and_then(|()| output.flush());
    told.expect("the bench listens");
}

/// Ends this process, or calls `stop`, when the bench wants it or has ended.
pub(super) fn at_end(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        stop();
    });
}

/// For servers that know no way to end.
pub(super) fn exit_at_end() {
    at_end(|| process::exit(0));
}
