//! The kernel as the server has it.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::world::World;
use crate::net::address::Address;
use crate::net::datagram::{BatchCounts, Datagram, ReplyFn};
use crate::net::{Event, Net, Stream};

/// The address that the server's datagram socket is bound to.
pub(super) static DATAGRAM_ADDRESS: Address =
    Address::Udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7007));

/// Most datagrams in a batch.
const BATCH: usize = 4;

/// The kernel as the server has it.
#[derive(Debug)]
pub(super) struct SimNet(pub(super) Rc<RefCell<World>>);

/// The server's end of a connection.
pub(super) struct SimStream {
    world: Rc<RefCell<World>>,
    id: usize,
}

impl Net for SimNet {
    type Stream = SimStream;

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.0.borrow_mut().wait(timeout, events);
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> io::Result<(SimStream, Address)> {
        let kernel = &mut self.0.borrow_mut().kernel;
        kernel.calls += 1;
        let odds = kernel.odds;
        if kernel.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut queue = kernel.accept_queue.iter();
        let Some(index) = queue.position(|id| kernel.conns[*id].listener == listener) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        if kernel.open >= odds.descriptors {
            return Err(Errno::MFILE.into());
        }
        let aborted = kernel.chance(odds.aborted_accept);
        let id = kernel.accept_queue.remove(index).expect("it is queued");
        if aborted {
            kernel.conns[id].reset_by_server = true;
            kernel.conns[id].dropped = true;
            return Err(Errno::CONNABORTED.into());
        }
        kernel.open += 1;
        kernel.conns[id].history.active_at = Some(kernel.now);
        let world = Rc::clone(&self.0);
        let port = u16::try_from(id).expect("connections are few");
        let address = if kernel.conns[id].is_stdin {
            Address::Stdin
        } else {
            Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        Ok((SimStream { world, id }, address))
    }

    fn register(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
        let kernel = &mut self.0.borrow_mut().kernel;
        let mut conns = kernel.conns.iter();
        let reused = conns.any(|c| c.key == Some(key) && !c.dropped);
        assert!(!reused, "two connections under one key");
        kernel.conns[stream.id].key = Some(key);
        let level = kernel.conns[stream.id].level();
        kernel.raise(stream.id, level);
        Ok(())
    }

    fn local_address(&self, _: usize, _: &SimStream) -> Address {
        Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 7)))
    }

    fn receive_and_reply(&mut self, _: usize, reply: &mut ReplyFn<'_>) -> io::Result<BatchCounts> {
        let kernel = &mut self.0.borrow_mut().kernel;
        kernel.calls += 1;
        let mut counts = BatchCounts::default();
        for _ in 0..BATCH {
            let Some((bytes, source)) = kernel.datagrams.pop_front() else {
                break;
            };
            counts.received += 1;
            let mut bytes_back = Vec::new();
            let datagram = Datagram {
                bytes: &bytes,
                from: &Address::Udp(source),
                to: None,
            };
            if reply(datagram, &mut bytes_back) {
                counts.sent += 1;
                kernel.replies.push((bytes_back, source));
            }
        }
        counts.more = !kernel.datagrams.is_empty();
        Ok(counts)
    }

    fn is_local(address: SocketAddr) -> bool {
        address.ip().is_loopback()
    }

    fn close_listeners(&mut self) {
        let kernel = &mut self.0.borrow_mut().kernel;
        kernel.listening = false;
        while let Some(id) = kernel.accept_queue.pop_front() {
            kernel.conns[id].reset_by_server = true;
            kernel.conns[id].dropped = true;
        }
    }

    fn now(&self) -> Instant {
        self.0.borrow().kernel.now
    }

    fn time_of_day(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl SimStream {
    /// The index of the connection.
    pub(super) fn id(&self) -> usize {
        self.id
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({})", self.id)
    }
}

impl Read for SimStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kernel = &mut self.world.borrow_mut().kernel;
        kernel.calls += 1;
        let odds = kernel.odds;
        if kernel.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let conn = &mut kernel.conns[self.id];
        if !conn.has_unread() {
            conn.history.end_read = conn.reset_by_client || conn.to_server.ended;
            return match (conn.reset_by_client, conn.to_server.ended) {
                (true, _) => Err(ErrorKind::ConnectionReset.into()),
                (false, true) => Ok(0),
                (false, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        // Not `VecDeque::read`, which stops where the deque wraps: a short read means drained.
        let n = buffer.len().min(conn.to_server.data.len());
        let n = if odds.cuts_reads {
            kernel.rng.usize(1..=n)
        } else {
            n
        };
        for (to, from) in buffer.iter_mut().zip(conn.to_server.data.drain(..n)) {
            *to = from;
        }
        conn.history.record_activity(kernel.now);
        Ok(n)
    }
}

impl Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kernel = &mut self.world.borrow_mut().kernel;
        kernel.calls += 1;
        if kernel.chance(kernel.odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = kernel.now;
        let conn = &mut kernel.conns[self.id];
        let history = &mut conn.history;
        assert!(
            history.shut_at.is_none(),
            "a write after the output was shut"
        );
        if conn.reset_by_client {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(conn.to_client.room());
        conn.write_blocked |= n < bytes.len();
        if n == 0 {
            history.blocked_since.get_or_insert(now);
            return Err(ErrorKind::WouldBlock.into());
        }
        conn.to_client.data.extend(&bytes[..n]);
        history.written.extend(&bytes[..n]);
        history.written_at = Some(now);
        history.blocked_since = (n < bytes.len()).then_some(now);
        history.record_activity(now);
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SimStream {
    fn short_read_drains(&self) -> bool {
        !self.world.borrow().kernel.odds.cuts_reads
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let kernel = &mut self.world.borrow_mut().kernel;
        kernel.calls += 1;
        let conn = &mut kernel.conns[self.id];
        let history = &mut conn.history;
        assert!(history.shut_at.is_none(), "the output is shut twice");
        history.shut_at = Some(kernel.now);
        history.record_activity(kernel.now);
        conn.to_client.ended = true;
        if conn.reset_by_client {
            Err(ErrorKind::NotConnected.into())
        } else {
            Ok(())
        }
    }

    fn reset_on_close(&mut self) {
        self.world.borrow_mut().kernel.conns[self.id].resets_on_close = true;
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let kernel = &mut self.world.borrow_mut().kernel;
        kernel.calls += 1;
        kernel.open -= 1;
        let conn = &mut kernel.conns[self.id];
        conn.dropped = true;
        conn.history.dropped_at = Some(kernel.now);
        conn.history.record_activity(kernel.now);
        conn.to_client.ended = true;
        if conn.resets_on_close || conn.has_unread() {
            conn.reset_by_server = true;
        }
    }
}
