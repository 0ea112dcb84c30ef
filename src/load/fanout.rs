//! Workload: publishers and subscribers, where each message goes to all other clients.

use std::ops::Range;
use std::time::Duration;

use super::Load;
use super::clients::Clients;
use super::dialer::Connection;
use super::faults::Fault;
use super::message::{Frame, Frames, Messages, sender_and_number};
use super::mismatch::{Mismatch, MismatchKind, begins_with_digits};
use super::moment::Moment;
use super::publisher::Publisher;
use super::run::{ConnectRequest, Input, Run};
use super::sequence::{Seen, Sequence};
use super::workload::Workload;
use crate::net::link::Link;
use crate::net::{Dial, Readiness};

/// The time after which a second probe is sent, if the first has not reached all; it doubles with
/// each further one.
const PROBE: Duration = Duration::from_millis(10);

/// The part of the depth that must be free before messages are sent, so that a write has several.
const SHARE: usize = 8;

/// A run of no messages.
const NO_RUN: (usize, Range<u64>) = (usize::MAX, 0..0);

/// Publishers, whose keys come first, and subscribers.
pub(super) struct Fanout<N: Dial> {
    members: Clients<Member<N>>,
    publishers: Vec<Publisher>,
    messages: Messages,
    depth: usize,
    verify: bool,
    /// The first number of this load: the room may replay messages of others.
    base: u64,
    /// The time of the next probe, and the pause before it.
    next_probe: Moment,
    pause: Duration,
}

/// A client that receives, and also publishes if its key is a publisher's.
struct Member<N: Dial> {
    link: Link<N::Stream>,
    frames: Frames,
    /// Received messages, by publisher; none before its first message.
    received: Vec<Option<Sequence>>,
}

impl<N: Dial> Member<N> {
    /// The number after the highest that was received from a publisher.
    fn next_from(&self, sender: usize, base: u64) -> u64 {
        self.received[sender].as_ref().map_or(base, Sequence::next)
    }
}

impl<N: Dial> Fanout<N> {
    pub(super) fn new(load: &Load) -> Self {
        let base = fastrand::u64(0..1 << 43);
        let publisher = |_| Publisher::new(base);
        Self {
            members: Clients::new(load.active_clients()),
            publishers: (0..load.publishers).map(publisher).collect(),
            messages: Messages::new(load.size, load.depth),
            depth: load.depth,
            verify: load.verify,
            base,
            next_probe: Moment::START,
            pause: PROBE,
        }
    }

    /// Number of clients that have received no probe of the first publisher, and of those that have
    /// not received its newest.
    fn unreached(&self) -> (usize, usize) {
        let newest = self.publishers[0].next();
        let (mut unreached, mut behind) = (0, 0);
        for (_, member, _) in self.members.iter().filter(|(key, ..)| *key > 0) {
            let received = member.received[0].as_ref();
            unreached += usize::from(received.is_none());
            behind += usize::from(received.is_none_or(|received| received.next() != newest));
        }
        (unreached, behind)
    }

    /// Number of clients that receive what one of them publishes.
    fn receivers(&self) -> u32 {
        u32::try_from(self.members.connected().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Writes the newest `count` messages of a publisher.
    fn write(&mut self, key: usize, count: usize) {
        if let Some((member, _)) = self.members.get_mut(key) {
            let first = self.publishers[key].next() - count as u64;
            let bytes = self.messages.numbered(key, first, count);
            member.link.send(bytes.into(), true);
        }
    }

    /// Sends what is due, as far as the depth and the kernel allow.
    fn send(&mut self, key: usize, run: &Run<N>) {
        let (senders, receivers) = (self.publishers.len(), self.receivers());
        while let Some((member, ledger)) = self.members.get_mut(key) {
            if !member.link.outbox.is_empty() || member.link.broken.is_some() {
                return;
            }
            let publisher = &mut self.publishers[key];
            let free = publisher.room(self.depth);
            let waits = run.schedule.is_none() && free < self.depth / SHARE;
            let count = ledger.sendable(free).min(self.messages.most());
            if count == 0 || (waits && !publisher.is_suspect()) {
                return;
            }
            let numbers = ledger.next()..ledger.next() + count as u64;
            publisher.send(run.send_times(key, senders, numbers), receivers);
            ledger.settle_unsent(count as u64);
            self.write(key, count);
        }
    }

    /// Reads until the input is drained; true if the connection has ended.
    fn receive(&mut self, key: usize, run: &mut Run<N>) -> bool {
        let Some((member, _)) = self.members.get_mut(key) else {
            return false;
        };
        while member.link.ready.readable {
            let n = match run.read(&mut member.link) {
                Input::Bytes(n) => n,
                Input::Nothing => return false,
                Input::End => return true,
            };
            let mut receiver = Receiver {
                key,
                now: run.clock(),
                base: self.base,
                publishers: &mut self.publishers,
                received: &mut member.received,
                messages: self.verify.then_some(&self.messages),
                batch: NO_RUN,
            };
            let buffer = std::mem::take(&mut run.buffer);
            let is_message = !member.frames.is_at_beginning() || begins_with_digits(&buffer[..n]);
            if !is_message && !run.tally.has_begun() {
                let mismatch = Mismatch::new(MismatchKind::Greets, &buffer[..n]);
                run.tally.found_mismatch(mismatch);
            }
            let frames = &mut member.frames;
            frames.feed(&buffer[..n], self.messages.size(), |frame| match frame {
                Frame::Message(message) => receiver.take(message, run),
                Frame::Garbage => run.tally.faults().add(Fault::Corrupt, 1),
            });
            run.buffer = buffer;
            receiver.end_batch(run);
        }
        false
    }

    /// Closes a client, which will not receive what is in flight.
    fn close(&mut self, key: usize, run: &mut Run<N>) {
        let Some(member) = self.members.remove(key) else {
            return;
        };
        for (sender, publisher) in self.publishers.iter_mut().enumerate() {
            if sender == key {
                continue;
            }
            let missing = member.next_from(sender, self.base)..publisher.next();
            if run.tally.has_begun() {
                let count = missing.end.saturating_sub(missing.start);
                run.tally.faults().add(Fault::Unanswered, count);
            }
            publisher.give_up(missing, run.now, &mut run.tally);
        }
    }
}

/// A client while the messages of one read are counted.
///
/// Most of them are a batch of consecutive numbers, which is counted at once.
struct Receiver<'a> {
    key: usize,
    now: Moment,
    base: u64,
    publishers: &'a mut [Publisher],
    received: &'a mut [Option<Sequence>],
    /// The messages that contents are compared with, if they are.
    messages: Option<&'a Messages>,
    /// The sender and the numbers of the present batch, all of them expected.
    batch: (usize, Range<u64>),
}

impl Receiver<'_> {
    fn take(&mut self, message: &[u8], run: &mut Run<impl Dial>) {
        let (sender, number) = sender_and_number(message).unwrap_or((usize::MAX, 0));
        if let Some(messages) = self.messages
            && !messages.is_intact(message, sender, number)
        {
            return run.tally.faults().add(Fault::Corrupt, 1);
        }
        let (batch_sender, numbers) = &mut self.batch;
        if sender == *batch_sender && number == numbers.end {
            numbers.end += 1;
            return;
        }
        self.end_batch(run);
        self.judge(sender, number, run);
    }

    /// Counts a message that does not continue the batch; it may begin another.
    fn judge(&mut self, sender: usize, number: u64, run: &mut Run<impl Dial>) {
        let faults = run.tally.faults();
        let Some(publisher) = self.publishers.get_mut(sender) else {
            return faults.add(Fault::Stray, 1);
        };
        if !(self.base..publisher.next()).contains(&number) {
            return faults.add(Fault::Stray, 1);
        }
        if sender == self.key {
            return; // the room includes the sender
        }
        let expected = if sender == 0 { number } else { self.base };
        let sequence = self.received[sender].get_or_insert_with(|| Sequence::starting_at(expected));
        match sequence.see(number) {
            Seen::Next => {}
            Seen::After(gap) => {
                faults.add(Fault::Lost, gap.end - gap.start);
                publisher.give_up(gap, self.now, &mut run.tally);
            }
            Seen::Late => return run.tally.found(),
            Seen::Again => return faults.add(Fault::Doubled, 1),
        }
        // The sequence has the first number now, and the others when the batch ends.
        self.batch = (sender, number..number + 1);
    }

    /// Counts the batch as delivered, as far as it was sent.
    fn end_batch(&mut self, run: &mut Run<impl Dial>) {
        let (sender, numbers) = std::mem::replace(&mut self.batch, NO_RUN);
        let Some(publisher) = self.publishers.get_mut(sender) else {
            return;
        };
        let sent = numbers.start..numbers.end.min(publisher.next());
        run.tally.faults().add(Fault::Stray, numbers.end - sent.end);
        if let Some(sequence) = &mut self.received[sender] {
            sequence.advance(sent.end - sent.start - 1);
        }
        publisher.deliver(sent, self.now, &mut run.tally);
    }
}

/// The first bytes of a server that sends no messages, as a part of an error's line.
fn first_bytes<N>(run: &Run<N>) -> String {
    let mismatch = run.tally.mismatch(false);
    let text = |first: &Mismatch| format!("; the server's first bytes were {}", first.quoted());
    mismatch.map(text).unwrap_or_default()
}

impl<N: Dial> Workload<N> for Fanout<N> {
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, _: &mut Run<N>) {
        if let Connection::Stream(stream) = connection {
            let member = Member {
                link: Link::new(stream),
                frames: Frames::default(),
                received: vec![None; self.publishers.len()],
            };
            self.members.insert(request.key, member);
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, run: &mut Run<N>) {
        let Some((member, _)) = self.members.get_mut(key) else {
            return;
        };
        member.link.latch(ready);
        member.link.flush();
        if self.receive(key, run) {
            self.close(key, run);
        }
    }

    /// Sends probes until each client has received one, which shows that it has joined the room, and
    /// waits until none of them is in flight.
    fn prepare(&mut self, run: &mut Run<N>) -> Result<bool, String> {
        if self.members.get(0).is_none() {
            let first = first_bytes(run);
            let cause = run.tally.faults().cause().unwrap_or_default();
            return Err(format!(
                "the first publisher is disconnected: {cause}{first}"
            ));
        }
        let (unreached, behind) = self.unreached();
        if unreached > 0 && run.now >= self.next_probe {
            self.pause *= 2;
            self.next_probe = run.now + self.pause;
            self.publishers[0].send_probe();
            self.write(0, 1);
            return Ok(false);
        }
        Ok(behind == 0)
    }

    fn obstacle(&self, run: &Run<N>) -> String {
        let ((unreached, _), all) = (self.unreached(), self.members.len() - 1);
        let first = first_bytes(run);
        format!(
            "{unreached} of {all} clients receive nothing that another publishes{first}: is it a broadcast service at whose address clients may publish, that accepts lines of this length and adds no prefix?"
        )
    }

    fn begin(&mut self, run: &mut Run<N>) {
        self.members.begin(run);
    }

    fn advance(&mut self, run: &mut Run<N>) {
        self.members.fall_due(self.publishers.len(), run);
        // Each publisher has a turn in each pass: what others have received makes room.
        self.members.clear_turns();
        for key in 0..self.publishers.len() {
            self.send(key, run);
        }
    }

    /// Sends one message more where the depth is used up, because it may show that those before it
    /// were lost.
    fn expire(&mut self, sent_before: Moment, run: &mut Run<N>) {
        for key in 0..self.publishers.len() {
            if self.publishers[key].suspect(sent_before) {
                self.send(key, run);
            }
        }
    }

    fn finish(&mut self, run: &mut Run<N>) {
        self.members.finish(run);
    }

    fn is_settled(&self) -> bool {
        let settled = self.publishers.iter().all(Publisher::is_settled);
        settled && self.members.are_all_sent()
    }

    /// Counts what the connected clients have not received.
    fn give_up(&mut self, run: &mut Run<N>) {
        let (senders, receivers) = (self.publishers.len(), self.receivers());
        for (sender, publisher) in self.publishers.iter_mut().enumerate() {
            if run.schedule.is_some() {
                let ledger = self.members.ledger(sender);
                let unsent = ledger.next()..ledger.next() + ledger.unsent();
                publisher.send(run.send_times(sender, senders, unsent), receivers);
            }
            for (_, member, _) in self.members.iter().filter(|(key, ..)| *key != sender) {
                let next = member.next_from(sender, self.base);
                let missing = publisher.next().saturating_sub(next);
                run.tally.faults().add(Fault::Unanswered, missing);
            }
            publisher.give_up_all(run.now, &mut run.tally);
        }
    }

    fn connected(&self) -> usize {
        self.members.connected()
    }

    /// A publisher and another client are connected.
    fn can_continue(&self) -> bool {
        let publishes = (0..self.publishers.len()).any(|key| self.members.get(key).is_some());
        publishes && self.members.connected() > 1
    }
}
