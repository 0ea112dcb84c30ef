//! Servers that misbehave on purpose: once, at a known message.
//!
//! Messages have one length, and are lines. The victim is the first client accepted, over datagrams
//! every client. The defect shows at the message of a given number, counted from 0 in the messages for
//! the victim.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{DEADLINE, eventually};

/// The time for which it stalls.
pub(crate) const STALL: Duration = Duration::from_millis(50);

/// The fault that a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Nothing.
    None,
    /// The message isn't sent.
    Drop,
    /// The message is sent twice, in one go.
    Double,
    /// A digit of its number becomes something else.
    Undigit,
    /// A digit of its number becomes another one: it is a message that no client has sent.
    Renumber,
    /// A byte of its filler is changed.
    Filler,
    /// The message has no newline.
    Newline,
    /// The message is sent after the next one.
    Swap,
    /// The next one is sent before it, twice.
    Overtake,
    /// Its end isn't sent.
    Cut,
    /// Bytes in its middle aren't sent.
    Lose,
    /// From here on nothing is sent, but read.
    Stop,
    /// The connection is reset.
    Reset,
    /// The connection is ended, after which all is read.
    Close,
    /// The message goes to the second client.
    Misdeliver,
    /// Nothing at all happens for [`STALL`].
    Stall,
}

/// The response to a message.
enum Response {
    /// These are sent.
    Send(Vec<Vec<u8>>),
    Reset,
    Close,
    Misdeliver,
}

/// A defect, and its place in the messages.
struct Script {
    defect: Defect,
    at: u64,
    seen: u64,
    held: Vec<u8>,
}

impl Script {
    fn new(defect: Defect, at: u64) -> Self {
        Self {
            defect,
            at,
            seen: 0,
            held: Vec::new(),
        }
    }

    fn respond(&mut self, message: &[u8]) -> Response {
        let number = self.seen;
        self.seen += 1;
        let late = match self.defect {
            Defect::Swap | Defect::Overtake => number == self.at + 1,
            Defect::Stop | Defect::Close => number > self.at,
            _ => false,
        };
        if number != self.at && !late {
            return Response::Send(vec![message.to_vec()]);
        }
        let mut changed = message.to_vec();
        let middle = message.len() / 2;
        match self.defect {
            Defect::None => {}
            Defect::Swap if late => return Response::Send(vec![changed, self.held.clone()]),
            Defect::Overtake if late => {
                return Response::Send(vec![changed.clone(), changed, self.held.clone()]);
            }
            Defect::Swap | Defect::Overtake => {
                self.held = changed;
                return Response::Send(Vec::new());
            }
            Defect::Drop | Defect::Stop => return Response::Send(Vec::new()),
            Defect::Close if late => return Response::Send(Vec::new()),
            Defect::Double => return Response::Send(vec![changed.clone(), changed]),
            Defect::Undigit => changed[15] = b'?',
            Defect::Renumber => changed[6] = if changed[6] == b'7' { b'5' } else { b'7' },
            Defect::Filler => changed[20] ^= 1,
            Defect::Newline => changed[message.len() - 1] = b'x',
            Defect::Cut => changed.truncate(middle),
            Defect::Lose => drop(changed.drain(middle..middle + 3)),
            Defect::Reset => return Response::Reset,
            Defect::Close => return Response::Close,
            Defect::Misdeliver => return Response::Misdeliver,
            Defect::Stall => thread::sleep(STALL),
        }
        Response::Send(vec![changed])
    }
}

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Sender,
    Others,
}

/// A client, as its server sees it.
struct Connected {
    stream: TcpStream,
    script: Script,
}

/// The clients of a server over TCP; those that were reset have left a gap.
struct Clients {
    to: To,
    size: usize,
    defect: Defect,
    at: u64,
    connected: Mutex<Vec<Option<Connected>>>,
    peers: Mutex<Vec<IpAddr>>,
    stopped: AtomicBool,
}

impl Clients {
    fn connected(&self) -> MutexGuard<'_, Vec<Option<Connected>>> {
        self.connected.lock().expect("no holder panics")
    }

    /// Accepts clients until it is stopped.
    fn open(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, peer)) = listener.accept() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let mut peers = self.peers.lock().expect("no holder panics");
            peers.push(peer.ip());
            let clients = Arc::clone(self);
            let key = clients.admit(&stream);
            thread::spawn(move || clients.serve(key, stream));
        }
    }

    fn admit(&self, stream: &TcpStream) -> usize {
        let set = stream.set_read_timeout(Some(DEADLINE));
        set.and_then(|()| stream.set_write_timeout(Some(DEADLINE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("they can be set");
        let mut connected = self.connected();
        let key = connected.len();
        let defect = if key == 0 { self.defect } else { Defect::None };
        connected.push(Some(Connected {
            stream: stream.try_clone().expect("there are descriptors"),
            script: Script::new(defect, self.at),
        }));
        key
    }

    /// Reads messages until the client leaves, or its connection is reset.
    fn serve(&self, key: usize, stream: TcpStream) {
        let mut input = BufReader::new(stream);
        let mut message = vec![0; self.size];
        while input.read_exact(&mut message).is_ok() {
            if self.defect == Defect::Misdeliver {
                eventually("the second client", || self.connected().len() > 1);
            }
            let mut connected = self.connected();
            for to in 0..connected.len() {
                if (to == key) == (self.to == To::Sender) {
                    give(&mut connected, to, &message);
                }
            }
            if connected[key].is_none() {
                return;
            }
        }
    }
}

/// Sends a message to a member as its script says. A member that was reset is sent nothing.
fn give(connected: &mut [Option<Connected>], to: usize, message: &[u8]) {
    let Some(member) = &mut connected[to] else {
        return;
    };
    match member.script.respond(message) {
        Response::Send(pieces) => drop(member.stream.write_all(&pieces.concat())),
        Response::Close => drop(member.stream.shutdown(Shutdown::Write)),
        Response::Reset => {
            let set = SockRef::from(&member.stream).set_linger(Some(Duration::ZERO));
            set.expect("it can be set");
            connected[to] = None; // the reader's copy is the last one
        }
        Response::Misdeliver => {
            if let Some(Some(other)) = connected.get_mut(1) {
                drop(other.stream.write_all(message));
            }
        }
    }
}

/// A server over TCP; it is stopped when dropped.
pub(crate) struct Misbehaving {
    pub(crate) address: SocketAddr,
    clients: Arc<Clients>,
}

impl Misbehaving {
    /// A server that returns messages of `size` bytes to their senders.
    #[track_caller]
    pub(crate) fn echo(size: usize, defect: Defect, at: u64) -> Self {
        Self::start(To::Sender, size, defect, at)
    }

    /// A server that sends messages of `size` bytes to all other clients.
    #[track_caller]
    pub(crate) fn broadcast(size: usize, defect: Defect, at: u64) -> Self {
        Self::start(To::Others, size, defect, at)
    }

    #[track_caller]
    fn start(to: To, size: usize, defect: Defect, at: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let clients = Arc::new(Clients {
            to,
            size,
            defect,
            at,
            connected: Mutex::default(),
            peers: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let host = Arc::clone(&clients);
        thread::spawn(move || host.open(&listener));
        Self { address, clients }
    }

    /// The addresses of the clients, in the order of their connecting.
    pub(crate) fn peers(&self) -> Vec<IpAddr> {
        let peers = self.clients.peers.lock();
        peers.expect("no holder panics").clone()
    }

    /// Messages that the victim would have been sent.
    pub(crate) fn owed(&self) -> u64 {
        let connected = self.clients.connected();
        let victim = connected.first().and_then(Option::as_ref);
        victim.map_or(0, |victim| victim.script.seen)
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.clients.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // it wakes up
        if let Ok(connected) = self.clients.connected.lock() {
            for member in connected.iter().flatten() {
                let _ = member.stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// An echo over UDP; it is stopped when dropped.
pub(crate) struct MisbehavingDatagrams {
    pub(crate) address: String,
    stopped: Arc<AtomicBool>,
}

impl MisbehavingDatagrams {
    #[track_caller]
    pub(crate) fn echo(defect: Defect, at: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        let set = socket.set_read_timeout(Some(Duration::from_millis(20)));
        set.expect("it is not zero");
        let address = format!("udp://{}", socket.local_addr().expect("it is bound"));
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        thread::spawn(move || answer(&socket, Script::new(defect, at), &flag));
        Self { address, stopped }
    }
}

impl Drop for MisbehavingDatagrams {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

fn answer(socket: &UdpSocket, mut script: Script, stopped: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    let mut peers = Vec::new();
    let until = Instant::now() + DEADLINE;
    while !stopped.load(Ordering::SeqCst) && Instant::now() < until {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue; // nothing was received, or an answered client was closed
        };
        if !peers.contains(&peer) {
            peers.push(peer);
        }
        match script.respond(&buffer[..length]) {
            Response::Send(pieces) => {
                for piece in pieces {
                    let _ = socket.send_to(&piece, peer);
                }
            }
            Response::Misdeliver => {
                let other = peers.iter().find(|other| **other != peer);
                let other = other.expect("there are two clients by now");
                let _ = socket.send_to(&buffer[..length], other);
            }
            Response::Reset | Response::Close => panic!("there is no connection"),
        }
    }
}
