//! Workload: messages as datagrams, which are echoed or only sent.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::clients::Clients;
use super::dialer::Connection;
use super::faults::Fault;
use super::ledger::{Answer, Ledger};
use super::message::{Messages, sender_and_number};
use super::mismatch::{Beginning, First, Mismatch, MismatchKind};
use super::moment::Moment;
use super::run::{ConnectRequest, Run};
use super::workload::Workload;
use super::{Load, LoadMode};
use crate::net::error::cause;
use crate::net::{Datagrams as Socket, Dial, Readiness};

/// Datagrams sent or received in a turn.
const TURN: usize = 32;

/// Datagrams that were given up and may still arrive, of which each client remembers the newest.
const MOST_LATE: usize = 1024;

/// Clients that send datagrams.
pub(super) struct Datagrams<N: Dial> {
    clients: Clients<Client<N::Datagrams>>,
    shared: Shared,
}

/// The part of the state that all clients share.
struct Shared {
    /// Number of clients.
    clients: usize,
    messages: Messages,
    depth: usize,
    verify: bool,
    /// True if datagrams are echoed.
    echoes: bool,
}

struct Client<T> {
    socket: T,
    ready: Readiness,
    /// The newest datagrams that were given up.
    late: VecDeque<u64>,
    /// The number of the first that was sent after the last check for late ones.
    unchecked: u64,
}

/// One client while it sends and receives.
struct Turn<'a, T> {
    key: usize,
    client: &'a mut Client<T>,
    ledger: &'a mut Ledger,
    shared: &'a mut Shared,
}

impl<T: Socket> Turn<'_, T> {
    /// Receives and sends some datagrams.
    fn receive_and_send(&mut self, run: &mut Run<impl Dial>) -> io::Result<()> {
        self.receive(run)?;
        self.send(run)
    }

    /// True if another turn may achieve something.
    fn can_go_on(&self) -> bool {
        self.client.ready.readable || self.can_send()
    }

    fn can_send(&self) -> bool {
        self.client.ready.writable && self.ledger.sendable(self.shared.depth) > 0
    }

    fn receive(&mut self, run: &mut Run<impl Dial>) -> io::Result<()> {
        for _ in 0..TURN {
            if !self.client.ready.readable {
                return Ok(());
            }
            match self.client.socket.receive(&mut run.buffer) {
                Ok(n) => {
                    run.has_received = true;
                    self.judge(n, run);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.client.ready.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Counts the datagram of this length at the beginning of the buffer.
    fn judge(&mut self, length: usize, run: &mut Run<impl Dial>) {
        if self.shared.echoes && !run.tally.has_right() {
            self.check_first(length, run);
        }
        let now = run.clock();
        let datagram = &run.buffer[..length];
        let messages = &self.shared.messages;
        let known = sender_and_number(datagram).filter(|_| length == messages.size());
        let Some((sender, number)) = known else {
            return run.tally.faults().add(Fault::Corrupt, 1);
        };
        let is_checked = self.shared.verify || !run.tally.has_right();
        if is_checked && !messages.is_intact(datagram, sender, number) {
            return run.tally.faults().add(Fault::Corrupt, 1);
        }
        if sender != self.key || !self.shared.echoes {
            return run.tally.faults().add(Fault::Stray, 1);
        }
        match self.ledger.answer(number) {
            Answer::InFlight(sent) => {
                run.tally.answered(sent, now);
                run.tally.begins(Beginning::Right);
            }
            Answer::Unsent => run.tally.faults().add(Fault::Stray, 1),
            Answer::Settled => {
                let late = &mut self.client.late;
                if let Some(at) = late.iter().position(|late| *late == number) {
                    // It has taken too long, and stays lost.
                    late.remove(at);
                } else {
                    run.tally.faults().add(Fault::Doubled, 1);
                }
            }
        }
    }

    /// Tells a server of another kind by a datagram that is no message of this client.
    fn check_first(&self, length: usize, run: &mut Run<impl Dial>) {
        let message = First {
            messages: &self.shared.messages,
            sender: self.key,
            number: 0,
            is_sent: true,
            is_only: false,
        };
        let datagram = &run.buffer[..length];
        let known = sender_and_number(datagram).filter(|known| known.0 == self.key);
        let is_own = |number| message.messages.is_intact(datagram, self.key, number);
        if known.is_some_and(|(_, number)| is_own(number)) {
            return;
        }
        let kind = message.kind_of(datagram).unwrap_or(MismatchKind::Alters);
        run.tally.found_mismatch(Mismatch::new(kind, datagram));
    }

    fn send(&mut self, run: &mut Run<impl Dial>) -> io::Result<()> {
        let senders = self.shared.clients;
        for _ in 0..TURN {
            if !self.can_send() {
                return Ok(());
            }
            let number = self.ledger.next();
            // Before it is sent: the answer may arrive during the call.
            let mut times = run.send_times(self.key, senders, number..number + 1);
            let datagram = self.shared.messages.numbered(self.key, number, 1);
            match self.client.socket.send(datagram) {
                Ok(n) if self.shared.echoes => {
                    debug_assert_eq!(n, self.shared.messages.size());
                    self.ledger.send(&mut times);
                }
                Ok(n) => {
                    drop(times);
                    self.ledger.settle_unsent(1);
                    run.tally.moved(n as u64, 1, run.now);
                }
                Err(e) if is_full(&e) => self.client.ready.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Counts datagrams as lost that were sent before this time, which makes room for others. While
    /// there is more to read, answers may be among it; those that were due before and sent just now
    /// can have none yet.
    fn expire(&mut self, sent_before: Moment, run: &mut Run<impl Dial>) {
        if self.client.ready.readable {
            return;
        }
        let unchecked = std::mem::replace(&mut self.client.unchecked, self.ledger.next());
        while let Some(sent) = self.ledger.oldest()
            && sent < sent_before
            && self.ledger.first() < unchecked
        {
            let late = &mut self.client.late;
            if late.len() == MOST_LATE {
                late.pop_front();
            }
            late.push_back(self.ledger.first());
            self.ledger.pop();
            self.ledger.skip_answered();
            let now = run.clock();
            run.tally.missed(Fault::Lost, sent, now);
        }
        // The kernel may not tell when a full buffer has room again.
        self.client.ready.writable = true;
    }
}

/// True if a datagram was not sent because buffers are full.
fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || Errno::from_io_error(error) == Some(Errno::NOBUFS)
}

impl<N: Dial> Datagrams<N> {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: Clients::new(load.clients),
            shared: Shared {
                clients: load.clients,
                messages: Messages::new(load.size, 1),
                depth: load.depth,
                verify: load.verify,
                echoes: load.mode != LoadMode::Sink,
            },
        }
    }

    /// A connected client's turn.
    fn turn(&mut self, key: usize) -> Option<Turn<'_, N::Datagrams>> {
        let (client, ledger) = self.clients.get_mut(key)?;
        Some(Turn {
            key,
            client,
            ledger,
            shared: &mut self.shared,
        })
    }

    /// Gives a client its turn; it is closed if its socket fails.
    fn take_turn(&mut self, key: usize, run: &mut Run<N>) {
        let Some(mut turn) = self.turn(key) else {
            return;
        };
        match turn.receive_and_send(run) {
            Ok(()) if turn.can_go_on() => self.clients.push_turn(key),
            Ok(()) => {}
            Err(e) => self.close(key, &e, run),
        }
    }

    fn close(&mut self, key: usize, error: &io::Error, run: &mut Run<N>) {
        let fault = match error.kind() {
            ErrorKind::ConnectionRefused => Fault::Refused,
            _ => Fault::Reset,
        };
        run.tally.faults().lose(fault, || cause(error));
        if self.shared.echoes {
            self.clients.close(key, Fault::Lost, run);
        } else {
            self.clients.remove(key);
        }
    }
}

impl<N: Dial> Workload<N> for Datagrams<N> {
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, _: &mut Run<N>) {
        if let Connection::Datagrams(socket) = connection {
            let client = Client {
                socket,
                ready: Readiness::default(),
                late: VecDeque::new(),
                unchecked: 0,
            };
            self.clients.insert(request.key, client);
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, _: &mut Run<N>) {
        if let Some((client, _)) = self.clients.get_mut(key) {
            client.ready.readable |= ready.readable;
            client.ready.writable |= ready.writable;
            self.clients.push_turn(key);
        }
    }

    fn begin(&mut self, run: &mut Run<N>) {
        self.clients.begin(run);
    }

    fn advance(&mut self, run: &mut Run<N>) {
        self.clients.fall_due(self.shared.clients, run);
        for _ in 0..self.clients.turns() {
            if let Some(key) = self.clients.next_turn() {
                self.take_turn(key, run);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.clients.turns() > 0
    }

    fn expire(&mut self, sent_before: Moment, run: &mut Run<N>) {
        for key in 0..self.shared.clients {
            if let Some(mut turn) = self.turn(key) {
                turn.expire(sent_before, run);
                self.clients.push_turn(key);
            }
        }
    }

    fn finish(&mut self, run: &mut Run<N>) {
        self.clients.finish(run);
    }

    fn is_settled(&self) -> bool {
        self.clients.are_settled()
    }

    fn give_up(&mut self, run: &mut Run<N>) {
        if self.shared.echoes {
            self.clients.give_up(Fault::Lost, run);
        }
    }

    fn connected(&self) -> usize {
        self.clients.connected()
    }
}
