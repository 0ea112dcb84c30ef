//! Connections that come, have a message echoed, and go.

use std::collections::VecDeque;

use super::Load;
use super::dialer::Wish;
use super::faults::Fault;
use super::line::{Input, Line, read};
use super::message::Messages;
use super::player::{Context, Player};
use super::wire::Wire;
use crate::net::{Poller, Readiness};

/// Clients that come and go.
pub(super) struct Churn {
    visits: Vec<Option<Visit>>,
    messages: Messages,
    verify: bool,
    /// With a schedule: clients that are free, and visits that nobody has begun.
    free: Vec<usize>,
    due: VecDeque<u64>,
    /// Connections that are asked for.
    asked: usize,
    under_way: usize,
    finished: bool,
    /// The number of the next message.
    number: u64,
}

/// A connection, and when it was to begin.
struct Visit {
    line: Line,
    since: u64,
    number: u64,
    come: Vec<u8>,
}

impl Churn {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            visits: std::iter::repeat_with(|| None).take(load.clients).collect(),
            messages: Messages::new(load.size, 1),
            verify: load.verify,
            free: (0..load.clients).collect(),
            due: VecDeque::new(),
            asked: 0,
            under_way: 0,
            finished: false,
            number: 0,
        }
    }

    /// A client has nothing to do: it comes again.
    fn again(&mut self, key: usize, cx: &mut Context) {
        self.free.push(key);
        self.ask(cx);
    }

    /// As many visits begin as may.
    fn ask(&mut self, cx: &mut Context) {
        while !self.free.is_empty() {
            let since = match &cx.schedule {
                Some(_) => self.due.pop_front(),
                None => (!self.finished).then(|| cx.clock()),
            };
            // In this order: a client that nothing is due for stays free.
            let Some(since) = since else {
                return;
            };
            let Some(key) = self.free.pop() else {
                return;
            };
            cx.wishes.push(Wish { key, since });
            self.asked += 1;
        }
    }

    /// Whether the answer has come, or the connection ended.
    fn receive(&mut self, key: usize, cx: &mut Context) -> Option<Ended> {
        let visit = self.visits[key].as_mut()?;
        while visit.line.ready.readable {
            match read(&mut visit.line, cx) {
                Input::Some(n) => visit.come.extend_from_slice(&cx.buffer[..n]),
                Input::Nothing => return None,
                Input::End => return Some(Ended::Lost),
            }
            if visit.come.len() >= self.messages.size() {
                return Some(Ended::Answered);
            }
        }
        None
    }

    fn judge(&self, visit: &Visit, cx: &mut Context) {
        let (now, size) = (cx.clock(), self.messages.size());
        let (answer, more) = visit.come.split_at(size);
        if !more.is_empty() {
            cx.tally.faults().add(Fault::Stray, 1);
        }
        if self.verify && !self.messages.is_intact(answer, 0, visit.number) {
            cx.tally.faults().add(Fault::Corrupt, 1);
        }
        cx.tally.answered(visit.since, now);
    }
}

enum Ended {
    Answered,
    Lost,
}

impl Player for Churn {
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, _: &mut Context) {
        self.asked -= 1;
        let Wire::Stream(socket) = wire else {
            return;
        };
        let mut line = Line::new(socket);
        let number = self.number;
        self.number += 1;
        line.send(self.messages.numbered(0, number, 1).into(), true);
        self.under_way += 1;
        self.visits[wish.key] = Some(Visit {
            line,
            since: wish.since,
            number,
            come: Vec::new(),
        });
    }

    fn refused(&mut self, key: usize, cx: &mut Context) {
        self.asked -= 1;
        self.again(key, cx);
    }

    fn ready(&mut self, key: usize, ready: Readiness, cx: &mut Context) {
        let Some(visit) = &mut self.visits[key] else {
            return;
        };
        visit.line.latch(ready);
        visit.line.flush();
        let Some(ended) = self.receive(key, cx) else {
            return;
        };
        if let Some(visit) = self.visits[key].take() {
            self.under_way -= 1;
            match ended {
                Ended::Answered => self.judge(&visit, cx),
                Ended::Lost => {
                    let now = cx.clock();
                    cx.tally.missed(Fault::Unanswered, visit.since, now);
                }
            }
        }
        self.again(key, cx);
    }

    fn begin(&mut self, cx: &mut Context) {
        self.ask(cx);
    }

    fn act(&mut self, cx: &mut Context) {
        let before = self.due.len();
        while let Some(index) = cx.next_due() {
            let schedule = cx.schedule.as_ref();
            self.due
                .extend(schedule.map(|schedule| schedule.time(index)));
        }
        if self.due.len() > before {
            self.ask(cx);
        }
    }

    /// A visit that has no answer for so long is over.
    fn expire(&mut self, sent_before: u64, cx: &mut Context) {
        for key in 0..self.visits.len() {
            let late = |visit: &mut Visit| visit.since < sent_before;
            if let Some(visit) = self.visits[key].take_if(late) {
                self.under_way -= 1;
                let now = cx.clock();
                cx.tally.missed(Fault::Unanswered, visit.since, now);
                self.again(key, cx);
            }
        }
    }

    fn finish(&mut self, cx: &mut Context) {
        self.finished = true;
        if cx.schedule.is_none() {
            self.asked = 0; // nobody dials any more
        }
    }

    fn is_done(&self) -> bool {
        self.under_way == 0 && self.asked == 0 && self.due.is_empty()
    }

    fn give_up(&mut self, cx: &mut Context) {
        let now = cx.clock();
        // Those whose connection doesn't stand yet.
        cx.tally.faults().add(Fault::Unanswered, self.asked as u64);
        let visits = self.visits.iter_mut().filter_map(Option::take);
        for since in visits.map(|visit| visit.since).chain(self.due.drain(..)) {
            cx.tally.missed(Fault::Unanswered, since, now);
        }
    }

    fn alive(&self) -> usize {
        self.under_way
    }

    /// Somebody always comes.
    fn is_alive(&self) -> bool {
        true
    }
}
