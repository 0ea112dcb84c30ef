//! The addresses of a name over UDP: the one that doesn't refuse datagrams is taken.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use crate::net::Datagrams;

/// Datagrams, and bytes of them, that are kept for another address: fewer than the buffer of a socket
/// holds. With more, the present address is taken.
const MOST: usize = 64;
const MOST_BYTES: usize = 64 * 1024;

/// Sockets for the addresses of one server, in order. They are registered under the same key.
///
/// Datagrams go to the first. Until it answers they are kept: if it refuses them, the next one is
/// sent all of them.
pub(super) struct Candidates<D> {
    sockets: VecDeque<D>,
    /// Datagrams sent to the first socket, while there are others.
    sent: Vec<Box<[u8]>>,
}

impl<D: Datagrams> Candidates<D> {
    pub(super) fn new(first: D) -> Self {
        Self {
            sockets: VecDeque::from([first]),
            sent: Vec::new(),
        }
    }

    /// Adds the sockets of other addresses.
    pub(super) fn append(&mut self, more: Self) {
        self.sockets.extend(more.sockets);
    }

    /// Takes the first socket for good.
    fn decide(&mut self) {
        self.sockets.truncate(1);
        self.sent = Vec::new();
    }

    fn keep(&mut self, datagram: &[u8]) {
        if self.sockets.len() == 1 {
            return;
        }
        let bytes: usize = self.sent.iter().map(|sent| sent.len()).sum();
        if self.sent.len() == MOST || bytes + datagram.len() > MOST_BYTES {
            return self.decide();
        }
        self.sent.push(datagram.into());
    }

    /// After an error: true if there is another address, which has been sent everything.
    fn has_switched(&mut self, error: &io::Error) -> bool {
        if self.sockets.len() == 1 || !is_refusal(error) {
            return false;
        }
        self.sockets.pop_front();
        for datagram in &self.sent {
            // A refusal, by this address, of the datagram before will be told again.
            while let Err(e) = self.sockets[0].send(datagram)
                && e.kind() == ErrorKind::Interrupted
            {}
        }
        if self.sockets.len() == 1 {
            self.decide();
        }
        true
    }
}

impl<D: Datagrams> Datagrams for Candidates<D> {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        loop {
            match self.sockets[0].send(datagram) {
                Err(e) if self.has_switched(&e) => {}
                result => {
                    if result.is_ok() {
                        self.keep(datagram);
                    }
                    return result;
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.sockets[0].receive(buffer) {
                Err(e) if self.has_switched(&e) => {}
                result => {
                    if result.is_ok() {
                        self.decide();
                    }
                    return result;
                }
            }
        }
    }
}

/// True for the error of an address at which no server takes datagrams.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::net::{ConnectOptions, Dial, Poller};
    use std::net::UdpSocket;
    use std::time::Duration;

    fn bound() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let time = Duration::from_secs(10);
        socket.set_read_timeout(Some(time)).unwrap();
        socket
    }

    fn candidates(addresses: &[std::net::SocketAddr]) -> Candidates<impl Datagrams + use<>> {
        let mut net = Poller::new(Vec::new(), Vec::new()).unwrap();
        let mut open = |to: &std::net::SocketAddr| {
            let options = ConnectOptions::default();
            net.open_datagrams(&Address::Udp(*to), options).unwrap().0
        };
        let mut all = Candidates::new(open(&addresses[0]));
        for to in &addresses[1..] {
            all.append(Candidates::new(open(to)));
        }
        all
    }

    fn receive(socket: &mut impl Datagrams) -> Vec<u8> {
        let mut buffer = [0; 100];
        loop {
            match socket.receive(&mut buffer) {
                Ok(n) => return buffer[..n].to_vec(),
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// The first address of a name was taken, though no server listened there.
    #[test]
    fn address_that_refuses_is_left_for_the_next() {
        let (server, unused) = (bound(), bound());
        let addresses = [&unused, &unused, &server].map(|s| s.local_addr().unwrap());
        drop(unused);
        let mut all = candidates(&addresses);
        for text in ["one", "two", "three"] {
            all.send(text.as_bytes()).unwrap();
        }
        let mut buffer = [0; 100];
        let _ = all.receive(&mut buffer); // it may be the refusal that is told here
        for text in ["one", "two", "three"] {
            let (n, peer) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text.as_bytes());
            server.send_to(text.as_bytes(), peer).unwrap();
            assert_eq!(receive(&mut all), text.as_bytes());
        }
        assert_eq!((all.sockets.len(), all.sent.len()), (1, 0));
    }

    #[test]
    fn address_that_answers_is_taken_for_good() {
        let (server, other) = (bound(), bound());
        let mut all = candidates(&[&server, &other].map(|s| s.local_addr().unwrap()));
        all.send(b"one").unwrap();
        let (_, peer) = server.recv_from(&mut [0; 100]).unwrap();
        server.send_to(b"1", peer).unwrap();
        assert_eq!(receive(&mut all), b"1");
        drop(server);
        let refused = loop {
            if let Err(e) = all.send(b"two") {
                break e;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn last_address_that_refuses_is_an_error() {
        let unused = bound().local_addr().unwrap();
        let mut all = candidates(&[unused, unused]);
        let refused = loop {
            if let Err(e) = all.send(b"x") {
                break e;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}
