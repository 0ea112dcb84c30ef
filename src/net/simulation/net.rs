//! The kernel as the loop under test has it.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::connection::Connecting;
use super::world::World;
use crate::net::address::Address;
use crate::net::datagram::{BatchCounts, ReplyFn};
use crate::net::{ConnectOptions, Datagrams, Dial, Event, Net, Stream};

/// The local address of every connection.
static LOCAL: Address = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000));

/// The kernel as the loop under test has it.
#[derive(Clone)]
pub(crate) struct SimNet(pub(crate) Rc<RefCell<World>>);

/// The loop's end of a connection.
pub(crate) struct SimStream {
    world: Rc<RefCell<World>>,
    id: usize,
}

/// The loop's end of a connection for datagrams.
pub(crate) struct SimDatagrams(SimStream);

impl SimNet {
    pub(crate) fn new(world: World) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    /// The stream of [`World::open_connected`].
    pub(crate) fn stream(&self, id: usize) -> SimStream {
        let world = Rc::clone(&self.0);
        SimStream { world, id }
    }
}

impl Dial for SimNet {
    type Datagrams = SimDatagrams;

    fn connect(&mut self, to: &Address, _: ConnectOptions<'_>) -> io::Result<SimStream> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        let is_unix = matches!(to, Address::Unix(_));
        if is_unix && world.chance(odds.queue_full) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let id = if is_unix {
            if world.chance(odds.refused) {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            world.add(Connecting::Connected)
        } else {
            let outcome = world.outcome();
            world.add(outcome)
        };
        drop(world);
        Ok(self.stream(id))
    }

    fn finish_connect(&mut self, stream: &SimStream, _: &Address) -> io::Result<Address> {
        match self.0.borrow().connections[stream.id].connecting {
            Connecting::Connected => Ok(LOCAL.clone()),
            Connecting::Failed(kind) => Err(kind.into()),
            Connecting::Pending(_) => panic!("the outcome isn't known yet"),
        }
    }

    fn open_datagrams(
        &mut self,
        _: &Address,
        _: ConnectOptions<'_>,
    ) -> io::Result<(SimDatagrams, Address)> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let id = world.add(Connecting::Connected);
        drop(world);
        Ok((SimDatagrams(self.stream(id)), LOCAL.clone()))
    }

    fn register_datagrams(&mut self, socket: &mut SimDatagrams, key: usize) -> io::Result<()> {
        // The addresses of one name share a key.
        self.0.borrow_mut().register(socket.0.id, key);
        Ok(())
    }
}

impl Net for SimNet {
    type Stream = SimStream;

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.0.borrow_mut().wait(timeout, events);
        Ok(())
    }

    fn accept(&mut self, _: usize) -> io::Result<(SimStream, Address)> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn register(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        let mut others = world.connections.iter();
        let reused = others.any(|c| c.key == Some(key) && !c.dropped);
        assert!(!reused, "two connections under one key");
        world.register(stream.id, key);
        Ok(())
    }

    fn local_address(&self, _: usize, _: &SimStream) -> Address {
        LOCAL.clone()
    }

    fn receive_and_reply(&mut self, _: usize, _: &mut ReplyFn<'_>) -> io::Result<BatchCounts> {
        Ok(BatchCounts::default())
    }

    fn is_local(address: SocketAddr) -> bool {
        address.ip().is_loopback()
    }

    fn close_listeners(&mut self) {}

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn time_of_day(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Read for SimStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = world.now;
        let connection = &mut world.connections[self.id];
        let most = buffer.len().min(connection.to_loop.data.len());
        if most == 0 {
            if connection.to_loop.ended && !connection.reset {
                connection.history.end_read = Some(now);
            }
            return match (connection.reset, connection.to_loop.ended) {
                (true, _) => Err(ErrorKind::ConnectionReset.into()),
                (false, true) => Ok(0),
                (false, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let n = if odds.cuts_reads {
            world.rng.usize(1..=most)
        } else {
            most
        };
        let connection = &mut world.connections[self.id];
        buffer[..n].copy_from_slice(&connection.to_loop.take(n));
        connection.history.bytes_read += n;
        connection.history.moved = Some(now);
        Ok(n)
    }
}

impl Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = world.now;
        let connection = &mut world.connections[self.id];
        if let Some(error) = connection.write_error {
            return Err(error.into());
        }
        assert_eq!(connection.connecting, Connecting::Connected);
        assert!(
            !connection.to_remote.ended,
            "a write after the end of output"
        );
        if connection.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if connection.closed {
            world.reset(self.id);
            return Ok(bytes.len());
        }
        let n = bytes.len().min(connection.to_remote.room());
        connection.starved |= n < bytes.len();
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        connection.to_remote.data.extend(&bytes[..n]);
        connection.history.moved = Some(now);
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
        let world = self.world.borrow();
        !world.odds.cuts_reads && !world.connections[self.id].is_file
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let connection = &mut world.connections[self.id];
        assert!(!connection.to_remote.ended, "the output is ended twice");
        connection.to_remote.ended = true;
        if connection.reset {
            Err(ErrorKind::NotConnected.into())
        } else {
            Ok(())
        }
    }

    fn is_delivered(&mut self) -> io::Result<bool> {
        self.check_connection()?;
        let world = self.world.borrow();
        let connection = &world.connections[self.id];
        assert!(connection.to_remote.ended && connection.to_loop.ended);
        Ok(connection.to_remote.data.is_empty())
    }

    fn check_connection(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        if world.connections[self.id].reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.world.borrow_mut().connections[self.id].cut = true;
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.calls += 1;
        let now = world.now;
        let connection = &mut world.connections[self.id];
        connection.dropped = true;
        connection.history.dropped = Some(now);
        connection.to_remote.ended = true;
        connection.cut |= !connection.to_loop.data.is_empty();
    }
}

impl Datagrams for SimDatagrams {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let mut world = self.0.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let connection = &mut world.connections[self.0.id];
        if std::mem::take(&mut connection.reset) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        if !connection.to_remote.put_datagram(datagram) {
            connection.starved = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(datagram.len())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.world.borrow_mut();
        world.calls += 1;
        let odds = world.odds;
        if world.chance(odds.interrupted) {
            return Err(ErrorKind::Interrupted.into());
        }
        let connection = &mut world.connections[self.0.id];
        if std::mem::take(&mut connection.reset) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let Some(datagram) = connection.to_loop.take_datagram() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let n = datagram.len().min(buffer.len());
        buffer[..n].copy_from_slice(&datagram[..n]);
        Ok(n)
    }
}
