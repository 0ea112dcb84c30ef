//! A publisher's messages under way.

use std::collections::VecDeque;
use std::ops::Range;

use super::player::Context;
use super::tally::Tally;

/// Messages of a publisher that not everybody has yet.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The number of the oldest of them.
    first: u64,
    under_way: VecDeque<UnderWay>,
    /// Messages sent so far, probes not counted, and those that should have been.
    sent: u64,
    due: u64,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// When it was, or was to be, sent.
    sent: u64,
    /// How many have yet to receive it.
    left: u32,
    /// Somebody has it.
    arrived: bool,
    /// Somebody will never have it.
    spoilt: bool,
}

impl Publisher {
    pub(super) fn new(base: u64) -> Self {
        Self {
            first: base,
            under_way: VecDeque::new(),
            sent: 0,
            due: 0,
        }
    }

    /// The number of the message that is sent next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.under_way.len() as u64
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A message that doesn't count is sent.
    pub(super) fn probe(&mut self) {
        self.first += 1;
    }

    pub(super) fn begin(&mut self, scheduled: bool) {
        self.due = if scheduled { 0 } else { u64::MAX };
    }

    pub(super) fn fall_due(&mut self) {
        self.due += 1;
    }

    /// How many messages are to be sent by now, if there is room for so many.
    pub(super) fn due(&self, free: usize) -> usize {
        let due = self.due.saturating_sub(self.sent);
        free.min(usize::try_from(due).unwrap_or(usize::MAX))
    }

    /// The next messages are sent, to so many receivers.
    pub(super) fn note(
        &mut self,
        key: usize,
        count: usize,
        publishers: u64,
        receivers: u32,
        cx: &Context,
    ) {
        let now = cx.clock();
        for _ in 0..count {
            let sent = match &cx.schedule {
                Some(schedule) => schedule.time(self.sent * publishers + key as u64),
                None => now,
            };
            self.sent += 1;
            self.under_way.push_back(UnderWay {
                sent,
                left: receivers,
                arrived: false,
                spoilt: false,
            });
        }
        self.settle();
    }

    /// A message has reached one of its receivers.
    pub(super) fn deliver(&mut self, number: u64, now: u64, tally: &mut Tally) {
        let Some(message) = self.find(number) else {
            return;
        };
        let UnderWay { sent, spoilt, .. } = *message;
        if !std::mem::replace(&mut message.arrived, true) {
            tally.first(sent, now);
        }
        message.left = message.left.saturating_sub(1);
        if message.left == 0 {
            if !spoilt {
                tally.complete(sent, now);
            }
            self.settle();
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut UnderWay> {
        let index = number.checked_sub(self.first)?;
        self.under_way.get_mut(usize::try_from(index).ok()?)
    }

    /// Somebody will never receive these.
    pub(super) fn give_up(&mut self, numbers: Range<u64>) {
        for number in numbers.start.max(self.first)..numbers.end {
            if let Some(message) = self.find(number) {
                message.spoilt = true;
                message.left = message.left.saturating_sub(1);
            }
        }
        self.settle();
    }

    /// Forgets what everybody has, from the oldest on.
    fn settle(&mut self) {
        while self
            .under_way
            .front()
            .is_some_and(|message| message.left == 0)
        {
            self.under_way.pop_front();
            self.first += 1;
        }
    }

    /// Nobody waits any longer for what was sent before this time.
    pub(super) fn expire(&mut self, sent_before: u64, cx: &mut Context) {
        let now = cx.clock();
        while let Some(message) = self.under_way.front()
            && message.sent < sent_before
        {
            if !message.spoilt {
                cx.tally.spoilt(message.sent, now);
            }
            self.under_way.pop_front();
            self.first += 1;
        }
    }

    /// No more falls due.
    pub(super) fn finish(&mut self, scheduled: bool) {
        if !scheduled {
            self.due = self.sent;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.under_way.is_empty() && self.due <= self.sent
    }
}
