//! Property tests of connections and a room, without a tick and in each framing, against the naive
//! model. Any interleaving of joins, leaves, input in parts, output in parts, private texts and skips.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use proptest::prelude::*;

use super::HEARTBEAT;
use super::checked::{Checked, CheckedService};
use super::checks::{Position, Private, follow};
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::address::{Address, Role};
use crate::net::{Readiness, Stream};
use crate::peer::Peer;
use crate::service::{Broadcast, Framing, Replay, Room, Service};

/// A stream whose remote end is the test.
#[derive(Clone, Debug, Default)]
struct TestStream(Rc<RefCell<RemoteEnd>>);

/// The remote end of a stream.
#[derive(Debug, Default)]
struct RemoteEnd {
    /// Bytes sent that the server has not read.
    input: VecDeque<u8>,
    ended: bool,
    /// Bytes that the server may write now.
    room: usize,
    /// All bytes that the server has written.
    written: Vec<u8>,
}

impl Read for TestStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut remote = self.0.borrow_mut();
        if remote.input.is_empty() && !remote.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        remote.input.read(buffer)
    }
}

impl Write for TestStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut remote = self.0.borrow_mut();
        let n = bytes.len().min(remote.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        remote.room -= n;
        remote.written.extend(&bytes[..n]);
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

impl Stream for TestStream {
    fn short_read_drains(&self) -> bool {
        false
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) {}
}

const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    ending: true,
    hung_up: false,
};
const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    ending: false,
    hung_up: false,
};

type CheckedRoom = Checked<Broadcast>;

#[derive(Debug)]
struct Client {
    id: usize,
    stream: TestStream,
    connection: Connection<TestStream, CheckedRoom>,
}

/// A room with its clients.
#[derive(Debug)]
struct TestRoom {
    service: CheckedRoom,
    clients: Vec<Client>,
    /// Clients that were closed.
    closed: Vec<Client>,
    buffer: Vec<u8>,
}

/// An event and the index of its client, modulo the number of clients.
type Step = (usize, Event);

#[derive(Clone, Debug)]
enum Event {
    Join(Role),
    /// The client sends bytes.
    Send(Vec<u8>),
    /// The client makes room for this number of bytes.
    Receive(usize),
    /// The server sends a private text.
    PrivateText,
    /// The server makes the client skip, if it can.
    Skip,
    /// The client arrives without input.
    Arrive,
    /// The client half-closes.
    End,
    /// The client resets the connection.
    Leave,
}

impl TestRoom {
    fn new(room: Room, segment: usize) -> Self {
        let inner = Broadcast::with_segments(room.clone(), segment);
        let service = Checked::new(inner, room);
        Self {
            buffer: vec![0; service.needs().most_input.min(1000)],
            service,
            clients: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn join(&mut self, role: Role) {
        let id = self.clients.len() + self.closed.len();
        let port = u16::try_from(id).unwrap();
        let local = Address::Stdin;
        let peer = Peer {
            id: id as u64,
            address: &Address::Tcp(([127, 0, 0, 1], port).into()),
            local: &local,
            role,
        };
        let stream = TestStream::default();
        let mut connection = Connection::open(stream.clone(), &mut self.service, &peer, b"");
        if self.service.needs().arrivals {
            connection.await_arrival();
        }
        self.clients.push(Client {
            id,
            stream,
            connection,
        });
    }

    fn apply(&mut self, index: usize, event: &Event) {
        let Some(index) = index.checked_rem(self.clients.len()) else {
            return;
        };
        let service = &mut self.service;
        let client = &mut self.clients[index];
        let (stream, connection) = (&client.stream, &mut client.connection);
        match event {
            Event::Send(bytes) if !stream.0.borrow().ended => {
                stream.0.borrow_mut().input.extend(bytes);
            }
            Event::End => stream.0.borrow_mut().ended = true,
            Event::Receive(n) => {
                stream.0.borrow_mut().room += n;
                connection.latch(WRITABLE);
                connection.flush(service);
            }
            Event::PrivateText => {
                stream.0.borrow_mut().room += 3;
                connection.latch(WRITABLE);
                connection.tell(service, &service.frame_line(HEARTBEAT));
                connection.flush(service);
            }
            Event::Arrive => connection.arrive(service),
            Event::Skip if connection.lag(service) > 0 => connection.skip(service),
            Event::Leave => connection.abort(service, CloseReason::Reset),
            _ => {}
        }
        connection.latch(READABLE);
        connection.turn(service, &mut self.buffer, 10_000, u64::MAX, |_| {});
        if connection.finish(service).is_some() {
            self.closed.push(self.clients.swap_remove(index));
        }
    }

    /// Checks that each client was sent the bytes that it is owed, and no others.
    fn check(&self) {
        for client in self.clients.iter().chain(&self.closed) {
            self.position(client);
            if let Some(session) = client.connection.session() {
                self.service.balance(session); // compares with the model
            }
        }
        self.service.traffic(); // and so does this
    }

    /// The end of a client's output, and the number of messages that it should have been sent.
    fn position(&self, client: &Client) -> (Position, usize) {
        let owed = self.service.expected(client.id);
        let model = self.service.model.borrow();
        let record = &model.records[&client.id];
        let heartbeat = self.service.frame_line(HEARTBEAT);
        let private = Private {
            first: &record.greeting,
            between: &heartbeat,
            last: &record.last,
        };
        let remote = client.stream.0.borrow();
        (follow(&remote.written, private, &owed), owed.len())
    }

    /// Lets each client receive all it is owed, and then leave.
    fn finish(mut self) {
        // Clients that end in the first round may publish a last message, received in the second.
        for _ in 0..2 {
            for index in (0..self.clients.len()).rev() {
                self.apply(index, &Event::Receive(1 << 20));
            }
        }
        self.check();
        for client in self.clients.iter().chain(&self.closed) {
            let (position, all) = self.position(client);
            let reason = self.service.model.borrow().records[&client.id].reason;
            if matches!(reason, None | Some(CloseReason::PeerClosed)) {
                assert_eq!(position, Position::Between(all));
            }
        }
        while !self.clients.is_empty() {
            self.apply(0, &Event::Leave);
        }
        self.check();
    }
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![2 => Just(b'\n'), 3 => Just(0), 1 => Just(3), 5 => b'a'..=b'z'];
    let bytes = prop::collection::vec(byte, 1..30);
    let role =
        prop_oneof![4 => Just(Role::Both), 1 => Just(Role::Publish), 1 => Just(Role::Subscribe)];
    let event = prop_oneof![
        2 => role.prop_map(Event::Join),
        6 => bytes.prop_map(Event::Send),
        6 => (0..40usize).prop_map(Event::Receive),
        1 => Just(Event::PrivateText),
        1 => Just(Event::Skip),
        1 => Just(Event::Arrive),
        1 => Just(Event::End),
        1 => Just(Event::Leave),
    ];
    (any::<usize>(), event)
}

fn room() -> impl Strategy<Value = Room> {
    let framing = prop_oneof![Just(Framing::Lines), Just(Framing::Raw), Just(Framing::U32)];
    let replay = prop_oneof![
        Just(Replay::None),
        (0..9u64).prop_map(Replay::Messages),
        (0..200u64).prop_map(Replay::Bytes),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (framing, replay, flags, 1..60usize, 0..900u64).prop_map(
        |(framing, replay, (include_sender, tag, announce), max_message, log_size)| Room {
            framing,
            max_message,
            include_sender,
            line_timeout: None,
            log_size,
            replay,
            tag: tag.then(|| "{id}>".parse().unwrap()),
            announce,
        },
    )
}

proptest! {
    #[test]
    fn each_client_gets_the_messages_of_a_queue_of_its_own(
        room in room(),
        power in 0..7u32,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut room = TestRoom::new(room, 1 << power);
        for (index, event) in steps {
            match event {
                Event::Join(role) => room.join(role),
                event => room.apply(index, &event),
            }
            room.check();
        }
        room.finish();
    }
}
