//! The address of a UDP server that answers, among those of its name.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::Address;

/// The datagram that each address is sent.
const PROBE: &[u8] = b"resound load: which address answers?\n";

/// A socket that has sent the probe to the address with this index.
struct Probe {
    index: usize,
    socket: UdpSocket,
}

/// The addresses, with the one in front that answers first. Without an answer within the limit it is the
/// first one that doesn't refuse datagrams: the service may answer nothing.
///
/// This blocks for at most the limit, and only if there are several addresses of UDP.
pub(crate) fn answering_first(mut addresses: Vec<Address>, limit: Duration) -> Vec<Address> {
    if addresses.len() > 1 && addresses.iter().all(|a| matches!(a, Address::Udp(_))) {
        let targets = addresses.iter().filter_map(Address::socket_addr);
        let probes = targets
            .enumerate()
            .filter_map(|(index, to)| send(index, to));
        if let Some(index) = winner(probes.collect(), limit) {
            addresses[..=index].rotate_right(1);
        }
    }
    addresses
}

/// Sends a probe, unless it can't be sent.
fn send(index: usize, to: SocketAddr) -> Option<Probe> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(to).ok()?;
    socket.send(PROBE).ok()?;
    Some(Probe { index, socket })
}

/// The index of the address that answers first, or else of the first that doesn't refuse.
fn winner(mut probes: Vec<Probe>, limit: Duration) -> Option<usize> {
    let deadline = Instant::now() + limit;
    let mut is_over = false;
    while probes.len() > 1 && !is_over {
        let left = deadline.saturating_duration_since(Instant::now());
        is_over = left.is_zero();
        wait(&probes, left);
        let mut answered = None;
        probes.retain(|probe| match probe.socket.recv(&mut [0; 1]) {
            Ok(_) => {
                answered.get_or_insert(probe.index);
                true
            }
            Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        });
        if answered.is_some() {
            return answered;
        }
    }
    probes.first().map(|probe| probe.index)
}

/// Waits for an answer or an error, for at most this time.
fn wait(probes: &[Probe], time: Duration) {
    let fds = probes.iter();
    let fds = fds.map(|probe| PollFd::new(&probe.socket, PollFlags::IN));
    let mut fds: Vec<_> = fds.collect();
    // If it fails, or is interrupted, the sockets are looked at earlier.
    let _ = poll(&mut fds, Timespec::try_from(time).ok().as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn bound() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    fn address(socket: &UdpSocket) -> Address {
        Address::Udp(socket.local_addr().unwrap())
    }

    /// An address at which nothing listens.
    fn unused() -> Address {
        address(&bound())
    }

    /// The first address of a name was taken, whether a server listened there or not.
    #[test]
    fn address_that_answers_comes_first() {
        let (silent, echo) = (bound(), bound());
        let all = vec![unused(), address(&silent), address(&echo), unused()];
        let answering = address(&echo);
        let thread = thread::spawn(move || {
            let (_, peer) = echo.recv_from(&mut [0; PROBE.len()]).unwrap();
            echo.send_to(b"!", peer).unwrap();
        });
        let found = answering_first(all.clone(), Duration::from_secs(10));
        thread.join().unwrap();
        assert_eq!(found[0], answering);
        assert_eq!(found[1..], [&all[..2], &all[3..]].concat());
    }

    #[test]
    fn address_that_refuses_comes_after_one_that_is_silent() {
        let silent = bound();
        let all = vec![unused(), address(&silent)];
        // Without a second one there is nothing to wait for.
        let found = answering_first(all.clone(), Duration::from_secs(3600));
        assert_eq!(found, [address(&silent), all[0].clone()]);
        let all = vec![unused(), unused()];
        assert_eq!(answering_first(all.clone(), Duration::from_secs(3600)), all);
        let both = vec![address(&silent), address(&silent)];
        assert_eq!(answering_first(both.clone(), Duration::ZERO), both);
    }
}
