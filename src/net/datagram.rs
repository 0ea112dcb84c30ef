//! Datagram sockets: what has come is answered, some at a time.
//!
//! On Linux a batch is received by one call and answered by another (recvmmsg(2), sendmmsg(2));
//! elsewhere, and on Unix sockets, a batch is one datagram.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mio::net::{UdpSocket, UnixDatagram};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Type};

use super::address::{Address, unix_name};
use super::listener::{SocketFile, bind_unix_name, socket_name};
use super::options::SocketOptions;

/// The largest datagram, and a byte: the length of one is 16 bits (RFC 768).
const LARGEST: usize = 64 * 1024;

/// The longest datagram that is taken from a Unix socket, where the system sets no limit.
const LONGEST: usize = 256 * 1024;

/// A bound datagram socket, and the answers that it didn't take yet.
pub(crate) struct DatagramSocket {
    socket: Kind,
    address: Address,
    answers: Answers,
    /// The kernel takes nothing more for now.
    pub(crate) blocked: bool,
}

enum Kind {
    Udp(UdpSocket, Batch),
    Unix(
        #[expect(dead_code, reason = "its drop removes the file")] Option<SocketFile>,
        UnixDatagram,
        Vec<u8>,
    ),
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) from: &'a Address,
    /// To which of the machine's addresses, where that isn't clear from the socket.
    pub(crate) to: Option<IpAddr>,
}

/// Who answers a datagram: appends to the second argument, and says whether that is an answer.
pub(crate) type Answerer<'a> = dyn FnMut(Datagram<'_>, &mut Vec<u8>) -> bool + 'a;

/// What has become of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchanged {
    /// Datagrams and bytes received.
    pub(crate) received: u64,
    pub(crate) bytes_in: u64,
    /// Datagrams and bytes that the kernel took, and datagrams that it refused.
    pub(crate) sent: u64,
    pub(crate) bytes_out: u64,
    pub(crate) refused: u64,
    /// There may be more to receive.
    pub(crate) more: bool,
}

/// Answers in the order of their making, in one piece of memory.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    waiting: VecDeque<Answer>,
}

struct Answer {
    bytes: Range<usize>,
    to: Address,
    /// The address that it is sent from, where the socket has many.
    from: Option<IpAddr>,
}

impl Answers {
    fn make(&mut self, datagram: Datagram<'_>, answerer: &mut Answerer<'_>) {
        let start = self.bytes.len();
        if answerer(datagram, &mut self.bytes) {
            self.waiting.push_back(Answer {
                bytes: start..self.bytes.len(),
                to: datagram.from.clone(),
                from: datagram.to,
            });
        } else {
            self.bytes.truncate(start);
        }
    }

    /// So many of the first have been dealt with.
    fn drop_first(&mut self, count: usize) -> Vec<Answer> {
        let first = self.waiting.drain(..count).collect();
        if self.waiting.is_empty() {
            self.bytes.clear();
        }
        first
    }
}

impl DatagramSocket {
    /// Binds a UDP or a Unix datagram socket, which receives at most `most` at once; `dual`: it takes
    /// both families.
    pub(crate) fn bind(
        address: &Address,
        dual: bool,
        options: &SocketOptions,
        most: usize,
    ) -> io::Result<Self> {
        let (socket, address) = match address {
            Address::Udp(address) => bind_udp(*address, dual, options, most)?,
            Address::UnixDatagram(path) => bind_unix(path, options)?,
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        Ok(Self {
            socket,
            address,
            answers: Answers::default(),
            blocked: false,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn is_udp(&self) -> bool {
        matches!(self.socket, Kind::Udp(..))
    }

    pub(crate) fn as_socket(&self) -> SockRef<'_> {
        match &self.socket {
            Kind::Udp(socket, _) => SockRef::from(socket),
            Kind::Unix(_, socket, _) => SockRef::from(socket),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Kind::Udp(socket, _) => registry.register(socket, token, Interest::READABLE),
            Kind::Unix(_, socket, _) => registry.register(socket, token, Interest::READABLE),
        }
    }

    /// Asks to be told when the kernel takes something again, or no more.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = if self.blocked {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        match &mut self.socket {
            Kind::Udp(socket, _) => registry.reregister(socket, token, interest),
            Kind::Unix(_, socket, _) => registry.reregister(socket, token, interest),
        }
    }

    /// Sends the answers that wait, then receives a batch and answers it. Nothing is received while
    /// answers wait, so that no more than a batch ever does.
    ///
    /// # Errors
    /// Whatever a receiving call may meet, but that there is nothing to receive; what was sent is
    /// lost to the counters then, which only a failing socket makes so.
    pub(crate) fn exchange(&mut self, answerer: &mut Answerer<'_>) -> io::Result<Exchanged> {
        let mut done = Exchanged::default();
        self.send(&mut done);
        if self.blocked {
            return Ok(done);
        }
        match self.receive(answerer, &mut done) {
            Ok((count, more)) => (done.received, done.more) = (count as u64, more),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(done),
            Err(e) => return Err(e),
        }
        self.send(&mut done);
        Ok(done)
    }

    /// Receives a batch, and makes its answers; how many there were, and whether there may be more.
    fn receive(
        &mut self,
        answerer: &mut Answerer<'_>,
        done: &mut Exchanged,
    ) -> io::Result<(usize, bool)> {
        let answers = &mut self.answers;
        match &mut self.socket {
            Kind::Udp(socket, batch) => batch.receive(socket, &mut |datagram| {
                done.bytes_in += datagram.bytes.len() as u64;
                answers.make(datagram, answerer);
            }),
            Kind::Unix(_, socket, buffer) => {
                let (n, from) = socket.recv_from(buffer)?;
                let unnamed = from.is_unnamed();
                let from = address_of(&from);
                done.bytes_in += n as u64;
                if n > LONGEST {
                    done.refused += 1; // this may be a part of it
                    return Ok((1, true));
                }
                let bytes = &buffer[..n];
                let datagram = Datagram {
                    bytes,
                    from: &from,
                    to: None,
                };
                answers.make(datagram, &mut |datagram, answer| {
                    let wanted = answerer(datagram, answer);
                    // Whoever has no name can't be answered.
                    done.refused += u64::from(wanted && unnamed);
                    wanted && !unnamed
                });
                Ok((1, true))
            }
        }
    }

    /// Sends answers until there are none or the kernel takes no more; one that it will never take
    /// is left out. On Unix sockets that is also one for a client that doesn't read: it would hold up
    /// all others, and nobody is told when it reads again.
    fn send(&mut self, done: &mut Exchanged) {
        self.blocked = false;
        while !self.answers.waiting.is_empty() {
            let sent = match &mut self.socket {
                Kind::Udp(socket, batch) => batch.send(socket, &self.answers),
                Kind::Unix(_, socket, _) => send_one(socket, &self.answers),
            };
            match sent {
                Ok(count) => {
                    for answer in self.answers.drop_first(count) {
                        done.sent += 1;
                        done.bytes_out += answer.bytes.len() as u64;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && self.is_udp() => {
                    self.blocked = true;
                    return;
                }
                Err(_) => {
                    self.answers.drop_first(1);
                    done.refused += 1;
                }
            }
        }
    }
}

fn send_one(socket: &UnixDatagram, answers: &Answers) -> io::Result<usize> {
    let Some(answer) = answers.waiting.front() else {
        return Ok(0);
    };
    let Address::UnixDatagram(path) = &answer.to else {
        return Err(ErrorKind::Unsupported.into());
    };
    let bytes = &answers.bytes[answer.bytes.clone()];
    SockRef::from(socket).send_to(bytes, &socket_name(path)?)?;
    Ok(1)
}

/// The address of a client, as it is written.
fn address_of(name: &std::os::unix::net::SocketAddr) -> Address {
    #[cfg(target_os = "linux")]
    let abstract_name = std::os::linux::net::SocketAddrExt::as_abstract_name(name);
    #[cfg(not(target_os = "linux"))]
    let abstract_name = None;
    Address::UnixDatagram(unix_name(name.as_pathname(), abstract_name).into())
}

fn bind_udp(
    address: SocketAddr,
    dual: bool,
    options: &SocketOptions,
    most: usize,
) -> io::Result<(Kind, Address)> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    options.prepare(&socket, dual)?;
    let batch = Batch::new(&socket, address, most)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let socket = UdpSocket::from_std(socket.into());
    Ok((Kind::Udp(socket, batch), Address::Udp(bound)))
}

fn bind_unix(path: &Arc<Path>, options: &SocketOptions) -> io::Result<(Kind, Address)> {
    let name = socket_name(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    options.prepare(&socket, false)?;
    let file = bind_unix_name(&socket, path, &name, options)?;
    let socket = UnixDatagram::from_std(socket.into());
    let kind = Kind::Unix(file, socket, vec![0; LONGEST + 1]);
    Ok((kind, Address::UnixDatagram(Arc::clone(path))))
}

#[cfg(target_os = "linux")]
use linux::Batch;

#[cfg(target_os = "linux")]
mod linux {
    use std::array;
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::cmsg_space;
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
        sendmmsg, setsockopt, sockopt,
    };

    use super::super::address::Address;
    use super::{Answers, Datagram, LARGEST};

    /// The most datagrams in a batch.
    const BATCH: usize = 32;

    /// Room for a batch. Memory that no datagram was large enough for is never touched.
    pub(super) struct Batch {
        buffers: Vec<u8>,
        arrived: Vec<Arrived>,
        /// How many are expected next: as many as lately, and some more.
        expected: usize,
        most: usize,
        /// What is said about the addresses of the machine, if it matters.
        info: Option<Info>,
    }

    /// Which kind of information about a packet (ip(7), ipv6(7)).
    #[derive(Clone, Copy)]
    enum Info {
        V4,
        V6,
    }

    impl Info {
        /// Room for it.
        fn space(self) -> Vec<u8> {
            match self {
                Self::V4 => cmsg_space!(libc::in_pktinfo),
                Self::V6 => cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo),
            }
        }
    }

    struct Arrived {
        length: usize,
        from: Address,
        to: Option<IpAddr>,
    }

    impl Batch {
        pub(super) fn new(
            socket: &socket2::Socket,
            address: SocketAddr,
            most: usize,
        ) -> io::Result<Self> {
            let mut info = None;
            // Who has many addresses answers from the one that was asked.
            if address.ip().is_unspecified() {
                // IPv6 may take IPv4, too, of which only this tells who was meant by a broadcast.
                setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
                info = Some(if address.is_ipv4() {
                    Info::V4
                } else {
                    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                    Info::V6
                });
            }
            Ok(Self {
                buffers: vec![0; LARGEST * BATCH],
                arrived: Vec::with_capacity(BATCH),
                expected: 1,
                most: most.min(BATCH),
                info,
            })
        }

        /// Receives a batch; how many there were, and whether there may be more.
        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            each: &mut dyn FnMut(Datagram<'_>),
        ) -> io::Result<(usize, bool)> {
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = socket.as_raw_fd();
            let expected = self.expected;
            let mut headers = Headers::preallocate(expected, self.info.map(Info::space));
            let mut chunks = self.buffers.chunks_exact_mut(LARGEST);
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
                array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
            let batch = recvmmsg(fd, &mut headers, &mut slices[..expected], flags, None)?;
            self.arrived.clear();
            for message in batch {
                self.arrived.push(Arrived {
                    length: message.bytes,
                    from: Address::Udp(message.address.map_or(NOBODY, |name| address_of(&name))),
                    to: message.cmsgs()?.filter_map(|m| destination(&m)).last(),
                });
            }
            for (chunk, arrived) in self.buffers.chunks_exact(LARGEST).zip(&self.arrived) {
                each(Datagram {
                    bytes: &chunk[..arrived.length],
                    from: &arrived.from,
                    to: arrived.to,
                });
            }
            let count = self.arrived.len();
            self.expected = (2 * count).clamp(1, self.most);
            Ok((count, count == expected))
        }

        /// Sends the first answers, as many as one call takes; how many that were.
        pub(super) fn send(&self, socket: &UdpSocket, answers: &Answers) -> io::Result<usize> {
            let first = answers.waiting.front().map(|answer| answer.from);
            let from = first.flatten().filter(|_| self.info.is_some());
            // The address that they are sent from is one for all of a call.
            let waiting = answers.waiting.iter().take(BATCH);
            let count = waiting.take_while(|answer| answer.from == from).count();
            let mut next = answers.waiting.iter().take(count);
            let mut addresses = [None; BATCH];
            let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|i| {
                let answer = next.next();
                let to = answer.and_then(|answer| answer.to.socket_addr());
                addresses[i] = to.map(SockaddrStorage::from);
                [IoSlice::new(answer.map_or(&[], |answer| {
                    &answers.bytes[answer.bytes.clone()]
                }))]
            });
            let (v4, v6) = from.map(source).unwrap_or_default();
            let v4 = v4.as_ref().map(ControlMessage::Ipv4PacketInfo);
            let v6 = v6.as_ref().map(ControlMessage::Ipv6PacketInfo);
            let control = v4.or(v6);
            // Room that nothing is put into would be a message without a kind, which is an error.
            let mut headers = Headers::preallocate(count, from.map(space));
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut headers,
                &slices[..count],
                &addresses[..count],
                control.as_slice(),
                MsgFlags::MSG_DONTWAIT,
            )?;
            Ok(sent.count())
        }
    }

    /// What the calls need. It isn't kept: it may not go to another thread, as a server may.
    type Headers = MultiHeaders<SockaddrStorage>;

    const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

    fn address_of(name: &SockaddrStorage) -> SocketAddr {
        let v4 = name.as_sockaddr_in();
        let v4 = v4.map(|name| SocketAddr::V4(SocketAddrV4::from(*name)));
        let v6 = || {
            name.as_sockaddr_in6()
                .map(|name| SocketAddr::V6(SocketAddrV6::from(*name)))
        };
        v4.or_else(v6).unwrap_or(NOBODY)
    }

    /// Which of our addresses a datagram came to (ip(7), ipv6(7)); of IPv4 over IPv6 the kernel says
    /// so in both ways, the better one last.
    fn destination(message: &ControlMessageOwned) -> Option<IpAddr> {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let bytes = info.ipi_spec_dst.s_addr.to_ne_bytes();
                Some(Ipv4Addr::from(bytes).into())
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                // Of a group, or of a link whose number would be needed too, the kernel knows best.
                let special = address.is_multicast() || address.is_unicast_link_local();
                (!special).then_some(address.into())
            }
            _ => None,
        }
    }

    /// Room for what says that something is sent from this address.
    fn space(from: IpAddr) -> Vec<u8> {
        match from {
            IpAddr::V4(_) => cmsg_space!(libc::in_pktinfo),
            IpAddr::V6(_) => cmsg_space!(libc::in6_pktinfo),
        }
    }

    type Source = (Option<libc::in_pktinfo>, Option<libc::in6_pktinfo>);

    /// The same for what is sent.
    fn source(address: IpAddr) -> Source {
        match address {
            IpAddr::V4(address) => {
                let s_addr = u32::from_ne_bytes(address.octets());
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                (Some(info), None)
            }
            IpAddr::V6(address) => {
                let s6_addr = address.octets();
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr },
                    ipi6_ifindex: 0,
                };
                (None, Some(info))
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
use portable::Batch;

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::io;
    use std::net::SocketAddr;

    use mio::net::UdpSocket;

    use super::super::address::Address;
    use super::{Answers, Datagram, LARGEST};

    /// Room for one datagram.
    pub(super) struct Batch(Vec<u8>);

    impl Batch {
        pub(super) fn new(_: &socket2::Socket, _: SocketAddr, _: usize) -> io::Result<Self> {
            Ok(Self(vec![0; LARGEST]))
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            each: &mut dyn FnMut(Datagram<'_>),
        ) -> io::Result<(usize, bool)> {
            let (n, from) = socket.recv_from(&mut self.0)?;
            each(Datagram {
                bytes: &self.0[..n],
                from: &Address::Udp(from),
                to: None,
            });
            Ok((1, true))
        }

        pub(super) fn send(&mut self, socket: &UdpSocket, answers: &Answers) -> io::Result<usize> {
            let Some(answer) = answers.waiting.front() else {
                return Ok(0);
            };
            let Some(to) = answer.to.socket_addr() else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            socket.send_to(&answers.bytes[answer.bytes.clone()], to)?;
            Ok(1)
        }
    }
}
