//! A server that already runs somewhere: its kind is found out by probes.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use super::client::{Client, give_up};
use crate::peers::Kind;

/// The variable with its address.
const VARIABLE: &str = "RESOUND_ADDR";

/// The message that finds out its kind: an echo sends it back, a broadcast to another client.
const PROBE: &[u8] = b"resound's benches ask who is there\n";

/// The number of probes, and the time to wait for each answer.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes after which a server is taken for one that sends unasked and does not answer.
const TALKATIVE: usize = 64 * 1024;

pub(crate) struct Remote {
    /// As it was given.
    name: String,
    pub(crate) address: SocketAddr,
}

impl Remote {
    pub(crate) fn name(&self) -> String {
        format!("server at {}", self.name)
    }

    /// True if this is of the kind that a bench needs; prints a line if not.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        let found = match kind {
            Kind::Datagrams => self.over_udp().ok(),
            _ => self.over_tcp(),
        };
        let fits = found == Some(kind);
        if !fits {
            let (name, wanted) = (&self.name, kind.name());
            eprintln!("{name} doesn't do what the bench of {wanted} is for, which is left out");
        }
        fits
    }

    fn over_tcp(&self) -> Option<Kind> {
        let (mut one, mut other) = (Client::connect(self.address), Client::connect(self.address));
        let (mut back, mut on) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            one.send(PROBE);
            for (kind, client, got) in [
                (Kind::Broadcast, &mut other, &mut on),
                (Kind::Echo, &mut one, &mut back),
            ] {
                if receives_probe(client, got) {
                    return Some(kind);
                }
            }
        }
        None
    }

    fn over_udp(&self) -> io::Result<Kind> {
        let any = if self.address.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(PAUSE))?;
        let mut answer = [0; 2 * PROBE.len()];
        for _ in 0..TRIES {
            socket.send(PROBE)?;
            if let Ok(n) = socket.recv(&mut answer)
                && answer[..n] == *PROBE
            {
                return Ok(Kind::Datagrams);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// True if a client is sent the probe, maybe after something else, such as a greeting.
fn receives_probe(client: &mut Client, got: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    while got.len() < TALKATIVE && client.has_input(PAUSE) {
        match client.read(&mut buffer) {
            0 => give_up("the server has closed a connection"),
            n => got.extend_from_slice(&buffer[..n]),
        }
        if memchr::memmem::find(got, PROBE).is_some() {
            return true;
        }
    }
    false
}

/// Of the addresses of a host, that on which something listens, or the first.
fn best(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let listens = |address: &&SocketAddr| TcpStream::connect_timeout(address, PAUSE).is_ok();
    let found = match addresses {
        [_, _, ..] => addresses.iter().find(listens),
        _ => None,
    };
    found.or(addresses.first()).copied()
}

/// The server that runs elsewhere, if that is what shall be measured.
pub(crate) fn remote() -> Option<&'static Remote> {
    static REMOTE: OnceLock<Option<Remote>> = OnceLock::new();
    let found = REMOTE.get_or_init(|| {
        let name = env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let addresses: Vec<SocketAddr> = match name.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(e) => give_up(format_args!("{VARIABLE}={name} is no HOST:PORT: {e}")),
        };
        let address = best(&addresses);
        let address =
            address.unwrap_or_else(|| give_up(format_args!("{VARIABLE}={name}: no such host")));
        Some(Remote { name, address })
    });
    found.as_ref()
}
