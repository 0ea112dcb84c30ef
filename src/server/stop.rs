//! Stop: no more clients, a last turn for each, then all that is pending goes out.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::clients::Clients;
use crate::net::{Net, Stream};
use crate::service::Service;
use crate::text::plural;

/// The stop of a server, and its settings.
#[derive(Debug)]
pub(super) struct Stop {
    stage: Stage,
    grace: Duration,
}

/// Stage of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server serves.
    Serving,
    /// Every client has one more turn, and this many turns are left.
    LastTurns(usize, Request),
    /// No client is served any more; what is pending goes out.
    Draining(Request),
}

/// Cause and limit of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    /// True if the stop was asked for, and has not just come about by itself.
    explicit: bool,
    /// End of the grace; `None` if the stop takes as long as it takes.
    deadline: Option<Instant>,
}

impl Stop {
    /// No stop yet. Once one is asked for it may take `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            stage: Stage::Serving,
            grace,
        }
    }

    /// True if the server is stopping.
    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// True if a stop was asked for: another one is the end.
    pub(super) fn is_explicit(&self) -> bool {
        self.request().is_some_and(|request| request.explicit)
    }

    /// Begins the stop: gives every client a last turn, so that the input that had arrived is
    /// answered.
    pub(super) fn begin<S: Service, T: Stream>(&mut self, clients: &mut Clients<S, T>) {
        let turns = clients.queue_last_turns();
        let request = Request {
            explicit: false,
            deadline: None,
        };
        self.stage = Stage::LastTurns(turns, request);
        if turns == 0 {
            self.drain(clients);
        }
    }

    /// Notes that the stop was asked for. It may have begun without a limit, or long ago: the grace
    /// starts now.
    pub(super) fn make_explicit(&mut self, net: &impl Net) {
        self.limit(net);
        if let Some(request) = self.request_mut() {
            request.explicit = true;
        }
    }

    /// Limits the stop to the grace, from now on.
    pub(super) fn limit(&mut self, net: &impl Net) {
        let deadline = net.now().checked_add(self.grace);
        if let Some(request) = self.request_mut() {
            request.deadline = deadline;
        }
    }

    /// The most turns of the next pass: the last turns that are left, if those are counted.
    pub(super) fn most_turns(&self) -> usize {
        match self.stage {
            Stage::LastTurns(left, _) => left,
            Stage::Serving | Stage::Draining(_) => usize::MAX,
        }
    }

    /// Counts the turns of a pass. After the last one no client is served any more.
    pub(super) fn count_turns<S: Service, T: Stream>(
        &mut self,
        turns: usize,
        clients: &mut Clients<S, T>,
    ) {
        let Stage::LastTurns(left, _) = &mut self.stage else {
            return;
        };
        *left = left.saturating_sub(turns);
        // Without a turn to come the others have left before theirs, or can't be read.
        if *left == 0 || !clients.has_turns() {
            self.drain(clients);
        }
    }

    /// True while the next pass must not wait for an event.
    pub(super) fn has_work(&self) -> bool {
        matches!(self.stage, Stage::LastTurns(..))
    }

    /// End of the grace.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.request()?.deadline
    }

    /// True if the grace is over.
    pub(super) fn is_overdue(&self, net: &impl Net) -> bool {
        let deadline = self.deadline();
        deadline.is_some_and(|deadline| net.now() >= deadline)
    }

    /// Takes no more input. No client holds up the room any more, and only the grace limits the
    /// time that the slow ones take.
    fn drain<S: Service, T: Stream>(&mut self, clients: &mut Clients<S, T>) {
        if let Some(request) = self.request() {
            self.stage = Stage::Draining(request);
            clients.drain_all();
        }
    }

    fn request(&self) -> Option<Request> {
        match self.stage {
            Stage::Serving => None,
            Stage::LastTurns(_, request) | Stage::Draining(request) => Some(request),
        }
    }

    fn request_mut(&mut self) -> Option<&mut Request> {
        match &mut self.stage {
            Stage::Serving => None,
            Stage::LastTurns(_, request) | Stage::Draining(request) => Some(request),
        }
    }
}

/// Closes every client at once.
pub(super) fn abort_all<S: Service, T: Stream>(clients: &mut Clients<S, T>) {
    let owed = clients.abort_all();
    if owed > 0 {
        warn!("closing {} with something pending", plural(owed, "client"));
    }
}

/// Logs the end of the grace.
pub(super) fn log_overdue() {
    info!("the grace is over");
}
