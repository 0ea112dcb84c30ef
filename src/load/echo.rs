//! Workload: messages that are echoed, over streams.

use super::Load;
use super::clients::Clients;
use super::dialer::Connection;
use super::faults::Fault;
use super::ledger::Ledger;
use super::message::{Frame, Frames, Messages, NO_SENDER, sender_and_number};
use super::mismatch::{First, FirstBytes};
use super::moment::Moment;
use super::run::{ConnectRequest, Input, Run};
use super::sequence::{Seen, Sequence};
use super::workload::Workload;
use crate::net::link::Link;
use crate::net::{Dial, Readiness, Stream};

/// Clients whose messages are echoed, in order.
pub(super) struct Echo<N: Dial> {
    clients: Clients<Client<N::Stream>>,
    shared: Shared,
}

/// The part of the state that all clients share.
struct Shared {
    /// Number of clients.
    clients: usize,
    messages: Messages,
    depth: usize,
    verify: bool,
}

struct Client<T> {
    link: Link<T>,
    /// Messages beyond the depth that may be in flight, because older ones are long overdue.
    extra: usize,
    /// Bytes of a message that was received in part.
    partial: usize,
    first: FirstBytes,
    frames: Frames,
    received: Sequence,
}

/// One client while it sends and receives.
struct Turn<'a, T> {
    key: usize,
    client: &'a mut Client<T>,
    ledger: &'a mut Ledger,
    shared: &'a mut Shared,
}

impl<T: Stream> Turn<'_, T> {
    /// Sends what is due, as far as the depth and the kernel allow.
    fn send(&mut self, run: &Run<impl Dial>) {
        let Self {
            key,
            client,
            ledger,
            shared,
        } = self;
        while client.link.outbox.is_empty() && client.link.broken.is_none() {
            let depth = shared.depth.saturating_add(client.extra);
            let count = ledger.sendable(depth).min(shared.messages.most());
            if count == 0 {
                return;
            }
            let first = ledger.next();
            let numbers = first..first + count as u64;
            ledger.send(run.send_times(*key, shared.clients, numbers));
            let bytes = if shared.verify {
                shared.messages.numbered(*key, first, count)
            } else {
                if first == 0 {
                    shared.messages.numbered(*key, 0, 1); // its answer is checked
                }
                shared.messages.plain(count)
            };
            client.link.send(bytes.into(), true);
            if first == 0 {
                shared.messages.numbered(NO_SENDER, 0, 1);
            }
        }
    }

    /// Settles the oldest message in flight; returns its send time.
    fn pop(&mut self) -> Option<Moment> {
        let sent = self.ledger.pop();
        if sent.is_some() {
            self.client.extra = 0;
        }
        sent
    }

    /// Reads until the input is drained; true if the connection has ended.
    fn receive(&mut self, run: &mut Run<impl Dial>) -> bool {
        while self.client.link.ready.readable {
            let n = match run.read(&mut self.client.link) {
                Input::Bytes(n) => n,
                Input::Nothing => return false,
                Input::End => return true,
            };
            let now = run.clock();
            let buffer = std::mem::take(&mut run.buffer);
            self.check_first(&buffer[..n], run);
            if self.shared.verify {
                self.check(&buffer[..n], run, now);
            } else {
                self.count(&buffer[..n], run, now);
            }
            run.buffer = buffer;
        }
        false
    }

    /// Compares the first message with what was sent, which also tells a server of another kind.
    fn check_first(&mut self, input: &[u8], run: &mut Run<impl Dial>) {
        let message = First {
            messages: &self.shared.messages,
            sender: self.key,
            number: 0,
            is_sent: self.ledger.next() > 0,
            is_only: false,
        };
        let Some(beginning) = self.client.first.compare(input, message) else {
            return;
        };
        if !self.shared.verify
            && let Some(fault) = beginning.fault()
        {
            run.tally.faults().add(fault, 1);
        }
        run.tally.begins(beginning);
    }

    /// Counts messages by their length.
    fn count(&mut self, input: &[u8], run: &mut Run<impl Dial>, now: Moment) {
        let size = self.shared.messages.size();
        self.client.partial += input.len();
        while self.client.partial >= size {
            self.client.partial -= size;
            match self.pop() {
                Some(sent) => run.tally.answered(sent, now),
                None => run.tally.faults().add(Fault::Stray, 1),
            }
        }
    }

    /// Compares all messages with what was sent.
    fn check(&mut self, input: &[u8], run: &mut Run<impl Dial>, now: Moment) {
        let mut frames = std::mem::take(&mut self.client.frames);
        let size = self.shared.messages.size();
        frames.feed(input, size, |frame| match frame {
            Frame::Message(message) => self.judge(message, run, now),
            Frame::Garbage => run.tally.faults().add(Fault::Corrupt, 1),
        });
        self.client.frames = frames;
    }

    fn judge(&mut self, message: &[u8], run: &mut Run<impl Dial>, now: Moment) {
        let (sender, number) = sender_and_number(message).unwrap_or_default();
        if !self.shared.messages.is_intact(message, sender, number) {
            run.tally.faults().add(Fault::Corrupt, 1);
            // Its number may be wrong, too: it is taken for the message that was expected.
            if self.pop().is_some() {
                let expected = self.client.received.next();
                self.client.received.see(expected);
            }
            return;
        }
        if sender != self.key || number >= self.ledger.next() {
            run.tally.faults().add(Fault::Stray, 1);
            return;
        }
        match self.client.received.see(number) {
            Seen::Next => {}
            Seen::After(gap) => {
                for _ in gap {
                    let sent = self.pop().unwrap_or(now);
                    run.tally.missed(Fault::Lost, sent, now);
                }
            }
            Seen::Late => return run.tally.found(),
            Seen::Again => return run.tally.faults().add(Fault::Doubled, 1),
        }
        if let Some(sent) = self.pop() {
            run.tally.answered(sent, now);
        }
    }
}

impl<N: Dial> Echo<N> {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: Clients::new(load.clients),
            shared: Shared {
                clients: load.clients,
                messages: Messages::new(load.size, load.depth),
                depth: load.depth,
                verify: load.verify,
            },
        }
    }

    /// A connected client's turn.
    fn turn(&mut self, key: usize) -> Option<Turn<'_, N::Stream>> {
        let (client, ledger) = self.clients.get_mut(key)?;
        Some(Turn {
            key,
            client,
            ledger,
            shared: &mut self.shared,
        })
    }

    /// Sends what is due to the clients that have a turn.
    fn send_due(&mut self, run: &Run<N>) {
        while let Some(key) = self.clients.next_turn() {
            if let Some(mut turn) = self.turn(key) {
                turn.send(run);
            }
        }
    }
}

impl<N: Dial> Workload<N> for Echo<N> {
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, _: &mut Run<N>) {
        if let Connection::Stream(stream) = connection {
            let client = Client {
                link: Link::new(stream),
                extra: 0,
                partial: 0,
                first: FirstBytes::default(),
                frames: Frames::default(),
                received: Sequence::starting_at(0),
            };
            self.clients.insert(request.key, client);
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, run: &mut Run<N>) {
        let Some(mut turn) = self.turn(key) else {
            return;
        };
        turn.client.link.latch(ready);
        turn.client.link.flush();
        if turn.receive(run) {
            self.clients.close(key, Fault::Unanswered, run);
        } else {
            turn.send(run);
        }
    }

    fn begin(&mut self, run: &mut Run<N>) {
        self.clients.begin(run);
        self.send_due(run);
    }

    fn advance(&mut self, run: &mut Run<N>) {
        self.clients.fall_due(self.shared.clients, run);
        self.send_due(run);
    }

    /// Sends one message more where all in flight are overdue, because it may show that those before
    /// it were lost. If it is corrupted together with them, another one follows.
    fn expire(&mut self, sent_before: Moment, run: &mut Run<N>) {
        if !self.shared.verify {
            return;
        }
        for key in 0..self.shared.clients {
            if let Some(mut turn) = self.turn(key)
                && turn.ledger.newest().is_some_and(|sent| sent < sent_before)
            {
                turn.client.extra += 1;
                turn.send(run);
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
        self.clients.give_up(Fault::Unanswered, run);
    }

    fn connected(&self) -> usize {
        self.clients.connected()
    }
}
