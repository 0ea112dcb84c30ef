//! The state of a run that the loop and all workloads share.

use std::io;
use std::ops::Range;
use std::time::Instant;

use super::faults::Fault;
use super::moment::Moment;
use super::schedule::Schedule;
use super::tally::Tally;
use crate::close::CloseReason;
use crate::net::error::cause;
use crate::net::link::Link;
use crate::net::{Dial, Stream};

/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// A client's request for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectRequest {
    pub(super) key: usize,
    /// The time at which the connection was due, or asked for.
    pub(super) since: Moment,
}

/// The state of a run that the loop and all workloads share.
pub(super) struct Run<N> {
    pub(super) net: N,
    start: Instant,
    /// The time of this pass of the loop.
    pub(super) now: Moment,
    pub(super) tally: Tally,
    /// The times at which messages are to be sent (open loop); none if each is sent when another
    /// is answered (closed loop).
    pub(super) schedule: Option<Schedule>,
    pub(super) buffer: Vec<u8>,
    /// True if anything was received.
    pub(super) has_received: bool,
    /// Connections that clients have asked for.
    pub(super) requests: Vec<ConnectRequest>,
}

/// The result of a read.
pub(super) enum Input {
    /// A number of bytes, which are at the beginning of the buffer.
    Bytes(usize),
    /// Nothing, for the time being.
    Nothing,
    /// The end of the connection, which is counted as a fault already.
    End,
}

impl<N: Dial> Run<N> {
    /// A run that starts now, with messages of `size` bytes.
    pub(super) fn new(net: N, size: usize) -> Self {
        Self {
            start: net.now(),
            net,
            now: Moment::START,
            tally: Tally::new(size),
            schedule: None,
            buffer: vec![0; READ],
            has_received: false,
            requests: Vec::new(),
        }
    }

    /// Reads the clock.
    pub(super) fn clock(&self) -> Moment {
        Moment::between(self.start, self.net.now())
    }

    /// The index of the schedule's next message, if that is due.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        self.schedule.as_mut()?.next_due(self.now)
    }

    /// The send times of messages of one client: their times in the schedule of `senders` clients,
    /// or else now.
    pub(super) fn send_times(
        &self,
        key: usize,
        senders: usize,
        numbers: Range<u64>,
    ) -> impl Iterator<Item = Moment> {
        let now = match self.schedule {
            Some(_) => self.now,
            None => self.clock(),
        };
        numbers.map(move |number| match &self.schedule {
            Some(schedule) => schedule.time_of(key, senders, number),
            None => now,
        })
    }

    /// One read into the buffer.
    pub(super) fn read(&mut self, link: &mut Link<impl Stream>) -> Input {
        match link.read(&mut self.buffer) {
            Ok(Some(0)) => self.lose(link.broken, None),
            Ok(Some(n)) => {
                self.has_received = true;
                Input::Bytes(n)
            }
            Ok(None) => Input::Nothing,
            Err(e) => self.lose(link.broken, Some(&e)),
        }
    }

    /// Counts the end of a connection.
    fn lose(&mut self, broken: Option<CloseReason>, error: Option<&io::Error>) -> Input {
        let faults = self.tally.faults();
        match (error, broken) {
            (Some(error), _) => faults.lose(Fault::Reset, || cause(error)),
            (None, Some(_)) => faults.lose(Fault::Reset, || NOT_TAKEN.to_owned()),
            (None, None) => faults.lose(Fault::Closed, || "the server has closed it".to_owned()),
        }
        Input::End
    }
}

/// The cause of a connection's end if the kernel takes no more output.
pub(super) const NOT_TAKEN: &str = "the server takes no more";
