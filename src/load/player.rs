//! What the loop knows of the clients: that they are told of events, and of the time.

use std::time::Instant;

use super::dialer::Wish;
use super::faults::Fault;
use super::tally::{Schedule, Tally};
use super::wire::Wire;
use crate::net::{Poller, Readiness};

/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// What clients of all kinds share.
#[derive(Debug)]
pub(super) struct Context {
    start: Instant,
    /// The time of this pass of the loop, in nanoseconds since the start.
    pub(super) now: u64,
    pub(super) tally: Tally,
    /// When messages are to be sent; none if that is when others have come back.
    pub(super) schedule: Option<Schedule>,
    pub(super) buffer: Vec<u8>,
    /// Clients that want another connection.
    pub(super) wishes: Vec<Wish>,
}

impl Context {
    pub(super) fn new(size: usize) -> Self {
        Self {
            start: Instant::now(),
            now: 0,
            tally: Tally::new(size),
            schedule: None,
            buffer: vec![0; READ],
            wishes: Vec::new(),
        }
    }

    /// The time at this moment.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The schedule's next message if its time has come.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        self.schedule.as_mut()?.next_due(self.now)
    }

    /// What a client that has gone should have sent from this message of its own on never comes.
    pub(super) fn give_up_share(&mut self, key: usize, clients: usize, first: u64, fault: Fault) {
        let Some(schedule) = &self.schedule else {
            return;
        };
        let now = self.clock();
        for time in schedule.times_of(key, clients, first) {
            self.tally.missed(fault, time, now);
        }
    }

    /// The one of so many whose turn it is to send that message.
    pub(super) fn next_due_of(&mut self, count: usize) -> Option<usize> {
        let index = self.next_due()? % count as u64;
        usize::try_from(index).ok()
    }
}

/// Clients that do the same.
pub(super) trait Player {
    /// A client's connection stands.
    fn open(&mut self, wish: Wish, wire: Wire<Poller>, cx: &mut Context);

    /// A client's connection couldn't be opened.
    fn refused(&mut self, _key: usize, _cx: &mut Context) {}

    /// A client's connection is ready for something.
    fn ready(&mut self, key: usize, ready: Readiness, cx: &mut Context);

    /// Once a pass, before they begin: whether they could; or why they never can.
    fn prepare(&mut self, _cx: &mut Context) -> Result<bool, String> {
        Ok(true)
    }

    /// Why they never could begin.
    fn obstacle(&self) -> String {
        String::new()
    }

    /// It begins.
    fn begin(&mut self, cx: &mut Context);

    /// Once a pass: what is due is sent.
    fn act(&mut self, cx: &mut Context);

    /// Whether somebody could go on without a further event.
    fn is_busy(&self) -> bool {
        false
    }

    /// Several times a timeout: nobody waits any longer for what was sent before this time.
    fn expire(&mut self, _sent_before: u64, _cx: &mut Context) {}

    /// Nothing more is begun.
    fn finish(&mut self, cx: &mut Context);

    /// Whether nothing is under way any more.
    fn is_done(&self) -> bool;

    /// What is under way never comes.
    fn give_up(&mut self, cx: &mut Context);

    /// How many clients are connected.
    fn alive(&self) -> usize;

    /// Whether those who are connected can do anything.
    fn is_alive(&self) -> bool {
        self.alive() > 0
    }
}
