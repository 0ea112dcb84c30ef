//! Publishers and subscribers: each message reaches all the others.

use std::ops::Range;

use super::Load;
use super::dialer::Wish;
use super::faults::Fault;
use super::line::{Input, Line, read};
use super::message::{Frames, Messages, Piece, sender_and_number};
use super::player::{Context, Player};
use super::publisher::Publisher;
use super::sequence::{Seen, Sequence};
use super::wire::Wire;
use crate::net::{Poller, Readiness};

/// How long to wait for the first probe to reach everybody before another is sent; then twice as
/// long each time.
const PROBE: u64 = 10_000_000;

/// Messages are written when there is room for so large a part of the depth, so that a write has
/// some of them.
const SHARE: usize = 8;

/// The run of nobody.
const NO_RUN: (usize, Range<u64>) = (usize::MAX, 0..0);

/// Publishers, whose keys come first, and subscribers.
pub(super) struct Fanout {
    members: Vec<Option<Member>>,
    alive: usize,
    publishers: Vec<Publisher>,
    messages: Messages,
    depth: usize,
    verify: bool,
    /// The first number of this run: the room may remember others.
    base: u64,
    /// When the next probe is due, and how long that takes.
    probe: u64,
    pause: u64,
}

/// Somebody who receives, and perhaps publishes.
struct Member {
    line: Line,
    frames: Frames,
    /// What has come, by publisher; nothing before its first message.
    come: Vec<Option<Sequence>>,
}

impl Fanout {
    pub(super) fn new(load: &Load) -> Self {
        let base = fastrand::u64(0..1 << 43);
        let publisher = |_| Publisher::new(base);
        Self {
            members: std::iter::repeat_with(|| None)
                .take(load.players())
                .collect(),
            alive: 0,
            publishers: (0..load.publishers).map(publisher).collect(),
            messages: Messages::new(load.size, load.depth),
            depth: load.depth,
            verify: load.verify,
            base,
            probe: 0,
            pause: PROBE,
        }
    }

    /// How many of the others have not seen a probe, which is the first publisher's; and how many
    /// not the newest.
    fn strangers(&self) -> (usize, usize) {
        let newest = self.publishers[0].next();
        let others = || self.members.iter().skip(1).flatten();
        let seen = |member: &&Member| member.come[0].is_some();
        let seen_all = |member: &&Member| {
            let come = member.come[0].as_ref();
            come.is_some_and(|come| come.next() == newest)
        };
        let all = others().count();
        let none = all - others().filter(seen).count();
        (none, all - others().filter(seen_all).count())
    }

    /// Those who receive what this publisher sends.
    fn receivers(&self) -> u32 {
        u32::try_from(self.alive.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Sends so many messages.
    fn publish(&mut self, key: usize, count: usize) {
        let Some(member) = &mut self.members[key] else {
            return;
        };
        let first = self.publishers[key].next() - count as u64;
        let bytes = self.messages.numbered(key, first, count);
        member.line.send(bytes.into(), true);
    }

    /// Sends what is due, as far as the depth and the kernel allow.
    fn send(&mut self, key: usize, cx: &Context) {
        let receivers = self.receivers();
        loop {
            let Some(member) = &self.members[key] else {
                return;
            };
            if !member.line.outbox.is_empty() || member.line.broken.is_some() {
                return;
            }
            let publisher = &mut self.publishers[key];
            let free = publisher.room(self.depth);
            let count = publisher.due(free).min(self.messages.most());
            if count == 0
                || (cx.schedule.is_none() && free < self.depth / SHARE && !publisher.is_doubted())
            {
                return;
            }
            let publishers = self.publishers.len();
            self.publishers[key].note(key, count, publishers, receivers, cx);
            self.publish(key, count);
        }
    }

    /// Counts what has come; whether the connection has ended.
    fn receive(&mut self, key: usize, cx: &mut Context) -> bool {
        loop {
            let Some(member) = &mut self.members[key] else {
                return false;
            };
            if !member.line.ready.readable {
                return false;
            }
            let n = match read(&mut member.line, cx) {
                Input::Some(n) => n,
                Input::Nothing => return false,
                Input::End => return true,
            };
            let mut taking = Taking {
                key,
                now: cx.clock(),
                base: self.base,
                publishers: &mut self.publishers,
                come: &mut member.come,
                messages: self.verify.then_some(&self.messages),
                run: NO_RUN,
            };
            let buffer = std::mem::take(&mut cx.buffer);
            let frames = &mut member.frames;
            frames.feed(&buffer[..n], self.messages.size(), |piece| match piece {
                Piece::Message(message) => taking.take(message, cx),
                Piece::Garbage => cx.tally.faults().add(Fault::Corrupt, 1),
            });
            cx.buffer = buffer;
            taking.end_run(cx);
        }
    }

    /// A member has gone: nobody waits for what it would have received.
    fn leave(&mut self, key: usize, cx: &mut Context) {
        let Some(member) = self.members[key].take() else {
            return;
        };
        self.alive -= 1;
        for (sender, publisher) in self.publishers.iter_mut().enumerate() {
            if sender == key {
                continue;
            }
            let next = member.come[sender]
                .as_ref()
                .map_or(self.base, Sequence::next);
            let missing = next..publisher.next();
            if cx.tally.has_begun() {
                let count = missing.end.saturating_sub(missing.start);
                cx.tally.faults().add(Fault::Unanswered, count);
            }
            publisher.give_up(missing, cx.now, &mut cx.tally);
        }
    }
}

/// What is done with the messages of one read.
///
/// Most of them follow upon each other: such a run is dealt with at once.
struct Taking<'a> {
    key: usize,
    now: u64,
    base: u64,
    publishers: &'a mut [Publisher],
    come: &'a mut [Option<Sequence>],
    /// With which to check contents, if they are to be checked.
    messages: Option<&'a Messages>,
    /// The sender and the numbers of the present run, all of them expected.
    run: (usize, Range<u64>),
}

impl Taking<'_> {
    fn take(&mut self, message: &[u8], cx: &mut Context) {
        let (sender, number) = sender_and_number(message).unwrap_or((usize::MAX, 0));
        if let Some(messages) = self.messages
            && !messages.is_intact(message, sender, number)
        {
            return cx.tally.faults().add(Fault::Corrupt, 1);
        }
        let (run_sender, run) = &mut self.run;
        if sender == *run_sender && number == run.end {
            run.end += 1;
            return;
        }
        self.end_run(cx);
        self.judge(sender, number, cx);
    }

    /// A message that begins a run, or stands in none.
    fn judge(&mut self, sender: usize, number: u64, cx: &mut Context) {
        let faults = cx.tally.faults();
        let Some(publisher) = self.publishers.get_mut(sender) else {
            return faults.add(Fault::Stray, 1);
        };
        if !(self.base..publisher.next()).contains(&number) {
            return faults.add(Fault::Stray, 1);
        }
        if sender == self.key {
            return; // a room that includes the sender
        }
        let expected = if sender == 0 { number } else { self.base };
        let sequence = self.come[sender].get_or_insert_with(|| Sequence::from(expected));
        match sequence.see(number) {
            Seen::Next => {}
            Seen::After(gap) => {
                faults.add(Fault::Lost, gap.end - gap.start);
                publisher.give_up(gap, self.now, &mut cx.tally);
            }
            Seen::Late => return cx.tally.found(),
            Seen::Again => return faults.add(Fault::Doubled, 1),
        }
        // The sequence knows of the first, and hears of the others at the end.
        self.run = (sender, number..number + 1);
    }

    /// Everything in the run is delivered, as far as it was sent.
    fn end_run(&mut self, cx: &mut Context) {
        let (sender, run) = std::mem::replace(&mut self.run, NO_RUN);
        let Some(publisher) = self.publishers.get_mut(sender) else {
            return;
        };
        let sent = run.start..run.end.min(publisher.next());
        cx.tally.faults().add(Fault::Stray, run.end - sent.end);
        if let Some(sequence) = &mut self.come[sender] {
            sequence.go_on(sent.end - sent.start - 1);
        }
        publisher.deliver(sent, self.now, &mut cx.tally);
    }
}

impl Player for Fanout {
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, _: &mut Context) {
        if let Wire::Stream(socket) = wire {
            self.members[wish.key] = Some(Member {
                line: Line::new(socket),
                frames: Frames::default(),
                come: vec![None; self.publishers.len()],
            });
            self.alive += 1;
        }
    }

    fn ready(&mut self, key: usize, ready: Readiness, cx: &mut Context) {
        let Some(member) = &mut self.members[key] else {
            return;
        };
        member.line.latch(ready);
        member.line.flush();
        if self.receive(key, cx) {
            self.leave(key, cx);
        }
    }

    /// Everybody has joined when everybody has seen a probe; and when they have seen all of them
    /// nothing of that is under way any more.
    fn prepare(&mut self, cx: &mut Context) -> Result<bool, String> {
        if self.members[0].is_none() {
            let cause = cx.tally.faults().cause().unwrap_or_default();
            return Err(format!("the first publisher has gone: {cause}"));
        }
        let (none, behind) = self.strangers();
        if none > 0 && cx.now >= self.probe {
            self.pause *= 2;
            self.probe = cx.now + self.pause;
            self.publishers[0].probe();
            self.publish(0, 1);
            return Ok(false);
        }
        Ok(behind == 0)
    }

    fn obstacle(&self) -> String {
        let ((strangers, _), all) = (self.strangers(), self.members.len() - 1);
        format!(
            "{strangers} of {all} clients get nothing of what another publishes: is it a broadcast service that takes lines as long as that, and puts nothing in front of them?"
        )
    }

    fn begin(&mut self, cx: &mut Context) {
        for publisher in &mut self.publishers {
            publisher.begin(cx.schedule.is_some());
        }
    }

    fn act(&mut self, cx: &mut Context) {
        while let Some(key) = cx.next_due_of(self.publishers.len()) {
            self.publishers[key].fall_due();
        }
        for key in 0..self.publishers.len() {
            self.send(key, cx);
        }
    }

    /// Where the depth is used up one more may show that those before it were lost.
    fn expire(&mut self, sent_before: u64, cx: &mut Context) {
        for key in 0..self.publishers.len() {
            if self.publishers[key].doubt(sent_before) {
                self.send(key, cx);
            }
        }
    }

    fn finish(&mut self, cx: &mut Context) {
        for publisher in &mut self.publishers {
            publisher.finish(cx.schedule.is_some());
        }
    }

    fn is_done(&self) -> bool {
        self.publishers.iter().all(Publisher::is_done)
    }

    /// What the members who are left haven't received.
    fn give_up(&mut self, cx: &mut Context) {
        let (publishers, receivers) = (self.publishers.len(), self.receivers());
        for (sender, publisher) in self.publishers.iter_mut().enumerate() {
            publisher.note_unsent(sender, publishers, receivers, cx);
            for (key, member) in self.members.iter().enumerate() {
                let Some(member) = member.as_ref().filter(|_| key != sender) else {
                    continue;
                };
                let next = member.come[sender]
                    .as_ref()
                    .map_or(self.base, Sequence::next);
                let missing = publisher.next().saturating_sub(next);
                cx.tally.faults().add(Fault::Unanswered, missing);
            }
            publisher.give_up_all(cx.now, &mut cx.tally);
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }

    /// Somebody publishes, and somebody hears it.
    fn is_alive(&self) -> bool {
        let publishers = self.members[..self.publishers.len()].iter().flatten();
        publishers.count() > 0 && self.alive > 1
    }
}
