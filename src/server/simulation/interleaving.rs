//! Property tests of connections and a room, without a loop: any interleaving of what clients
//! send, in parts, of joins and leaves, of streams that take a few bytes, of private texts and of
//! skips, in each framing, against the naive model.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use proptest::prelude::*;

use super::model::{Subject, Watched};
use super::{HEARTBEAT, Place, follow};
use crate::close::CloseReason;
use crate::connection::Connection;
use crate::net::address::{Address, Role};
use crate::net::{Readiness, Stream};
use crate::peer::Peer;
use crate::service::{Broadcast, Framing, Replay, Room, Service};

/// The far end of a stream: what has come for the server, and what it may send.
#[derive(Debug, Default)]
struct Far {
    input: VecDeque<u8>,
    ended: bool,
    room: usize,
    taken: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Line(Rc<RefCell<Far>>);

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut far = self.0.borrow_mut();
        if far.input.is_empty() && !far.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        far.input.read(buffer)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut far = self.0.borrow_mut();
        let n = bytes.len().min(far.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        far.room -= n;
        far.taken.extend(&bytes[..n]);
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

impl Stream for Line {
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
};
const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    ending: false,
};

type Watch = Watched<Broadcast>;

#[derive(Debug)]
struct Client {
    id: usize,
    line: Line,
    connection: Connection<Line, Watch>,
}

/// A room and everybody who was ever in it.
#[derive(Debug)]
struct House {
    service: Watch,
    clients: Vec<Client>,
    gone: Vec<Client>,
    buffer: Vec<u8>,
}

/// What happens, and to whom.
type Step = (usize, Event);

#[derive(Clone, Debug)]
enum Event {
    Join(Role),
    Send(Vec<u8>),
    Take(usize),
    Tell,
    Skip,
    End,
    Leave,
}

impl House {
    fn new(room: Room, segment: usize) -> Self {
        let inner = Broadcast::with_segments(room.clone(), segment);
        let service = Watched::new(inner, room);
        Self {
            buffer: vec![0; service.needs().most_input.min(1000)],
            service,
            clients: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn join(&mut self, role: Role) {
        let id = self.clients.len() + self.gone.len();
        let port = u16::try_from(id).unwrap();
        let local = Address::Stdin;
        let peer = Peer {
            id: id as u64,
            address: &Address::Tcp(([127, 0, 0, 1], port).into()),
            local: &local,
            role,
        };
        let line = Line::default();
        let connection = Connection::open(line.clone(), &mut self.service, &peer, b"");
        self.clients.push(Client {
            id,
            line,
            connection,
        });
    }

    fn apply(&mut self, who: usize, event: &Event) {
        let Some(who) = who.checked_rem(self.clients.len()) else {
            return;
        };
        let service = &mut self.service;
        let client = &mut self.clients[who];
        let (line, connection) = (&client.line, &mut client.connection);
        match event {
            Event::Send(bytes) if !line.0.borrow().ended => {
                line.0.borrow_mut().input.extend(bytes);
            }
            Event::End => line.0.borrow_mut().ended = true,
            Event::Take(n) => {
                line.0.borrow_mut().room += n;
                connection.latch(WRITABLE);
                connection.flush(service);
            }
            Event::Tell => {
                line.0.borrow_mut().room += 3;
                connection.latch(WRITABLE);
                connection.tell(service, &service.frame_line(HEARTBEAT));
                connection.flush(service);
            }
            Event::Skip if connection.lag(service) > 0 => connection.skip(service),
            Event::Leave => connection.abort(service, CloseReason::Reset),
            _ => {}
        }
        connection.latch(READABLE);
        connection.turn(service, &mut self.buffer, 10_000, u64::MAX, |_| {});
        if connection.finish(service).is_some() {
            self.gone.push(self.clients.swap_remove(who));
        }
    }

    /// Everybody has been sent what it should have so far, and nothing else.
    fn check(&self) {
        for client in self.clients.iter().chain(&self.gone) {
            self.place(client);
            if let Some(session) = client.connection.session() {
                self.service.balance(session); // compares with the model
            }
        }
        self.service.traffic(); // and so does this
    }

    fn place(&self, client: &Client) -> (Place, usize) {
        let owed = self.service.expected(client.id);
        let model = self.service.model.borrow();
        let greeting = &model.seen[&client.id].greeting;
        let private = self.service.frame_line(HEARTBEAT);
        let far = client.line.0.borrow();
        (follow(&far.taken, greeting, &private, &owed), owed.len())
    }

    /// In the end everybody takes everything, and then leaves.
    fn finish(mut self) {
        // The second time what those have left behind who went in the first.
        for _ in 0..2 {
            for who in (0..self.clients.len()).rev() {
                self.apply(who, &Event::Take(1 << 20));
            }
        }
        self.check();
        for client in self.clients.iter().chain(&self.gone) {
            let (place, all) = self.place(client);
            let reason = self.service.model.borrow().seen[&client.id].reason;
            if matches!(reason, None | Some(CloseReason::PeerClosed)) {
                assert_eq!(place, Place::Between(all));
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
        6 => (0..40usize).prop_map(Event::Take),
        1 => Just(Event::Tell),
        1 => Just(Event::Skip),
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
            log_size,
            replay,
            tag: tag.then(|| "{id}>".parse().unwrap()),
            announce,
        },
    )
}

proptest! {
    #[test]
    fn everybody_gets_what_a_queue_of_its_own_would_hold(
        room in room(),
        power in 0..7u32,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut house = House::new(room, 1 << power);
        for (who, event) in steps {
            match event {
                Event::Join(role) => house.join(role),
                event => house.apply(who, &event),
            }
            house.check();
        }
        house.finish();
    }
}
