//! Stop: no more clients are accepted, each client has a last turn, then all that is pending goes out.

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
    /// True if the stop was requested, false if the server stops by itself.
    explicit: bool,
    /// End of the grace; `None` if the stop has no time limit.
    deadline: Option<Instant>,
}

impl Stop {
    /// No stop yet. A requested stop may take `grace`.
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

    /// True if the stop was requested: another request ends the server at once.
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

    /// Notes that the stop was requested. The grace starts now, even if the stop began earlier by
    /// itself.
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

    /// Puts off the end of the grace by a time in which the process was held up.
    pub(super) fn excuse(&mut self, time: Duration) {
        if let Some(request) = self.request_mut() {
            request.deadline = request.deadline.and_then(|at| at.checked_add(time));
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
        // Without a turn to come the others have left before theirs, or the room is held up.
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
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let deadline = self.deadline();
        deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Takes no more input. No client holds up the room any more: only the grace limits the time
    /// of slow clients.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::address::Role;
    use crate::server::fixture::{self, TestNet};
    use crate::service::Echo;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn every_client_has_one_turn_and_then_none_is_served() {
        let mut net = TestNet::new();
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let keys = [(); 3].map(|()| fixture::admit(&mut clients, &mut net, Role::Both, false));
        let mut stop = Stop::new(GRACE);
        assert_eq!((stop.has_begun(), stop.most_turns()), (false, usize::MAX));
        stop.begin(&mut clients);
        assert_eq!((stop.most_turns(), stop.has_work()), (3, true));
        stop.count_turns(2, &mut clients);
        let serving = |clients: &Clients<_, _>| {
            let mut connections = keys.iter().map(|key| clients.get(*key).connection());
            connections.all(crate::connection::Connection::is_serving)
        };
        assert!(serving(&clients));
        stop.count_turns(1, &mut clients);
        assert!(!serving(&clients) && !stop.has_work());
        assert_eq!(stop.most_turns(), usize::MAX);
    }

    #[test]
    fn stop_by_itself_has_no_limit_until_one_is_set() {
        let net = TestNet::new();
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let mut stop = Stop::new(GRACE);
        stop.begin(&mut clients);
        assert_eq!((stop.has_begun(), stop.is_explicit()), (true, false));
        assert_eq!(
            (stop.deadline(), stop.is_overdue(net.now.get())),
            (None, false)
        );
        net.pass(GRACE);
        stop.make_explicit(&net);
        assert_eq!(
            (stop.is_explicit(), stop.is_overdue(net.now.get())),
            (true, false)
        );
        net.pass(GRACE);
        assert!(stop.is_overdue(net.now.get()));
        // The process was held up for as long.
        stop.excuse(GRACE);
        assert!(!stop.is_overdue(net.now.get()));
        net.pass(GRACE);
        assert!(stop.is_overdue(net.now.get()));
    }

    #[test]
    fn abort_closes_every_client() {
        let mut net = TestNet::new();
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let keys = [true, false].map(|s| fixture::admit(&mut clients, &mut net, Role::Both, s));
        fixture::send(&mut clients, keys[0], b"x");
        assert_eq!(clients.abort_all(), 1, "one is owed something");
        for key in keys {
            assert!(clients.get(key).connection().is_closed());
        }
    }
}
