//! Accepting: the phase of the tick in which new clients come in.

use std::io;
use std::time::{Duration, Instant};

use super::clients::Clients;
use super::throttle::LogThrottle;
use crate::net::Net;
use crate::net::accept_error::AcceptError;
use crate::net::address::{Address, Role};
use crate::net::error::cause;
use crate::service::Service;
use crate::text::plural;

/// The most clients accepted from one listener in a tick: a crowd of newcomers must not keep the
/// present clients waiting.
const BATCH: usize = 256;
/// Passes over the listeners when the server stops: enough for the longest accept queue that a
/// system allows by default, but not for as long as newcomers arrive.
const LAST_PASSES: usize = 32;
/// Pause of the phase when the system has run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The phase, and what it remembers between ticks.
#[derive(Debug)]
pub(super) struct Accepting {
    listeners: Vec<ListenerInfo>,
    /// By listener: true if its accept queue may hold a client.
    latched: Vec<bool>,
    paused_until: Option<Instant>,
    throttle: LogThrottle,
    /// True if the server stops after one client.
    once: bool,
}

/// A listener's address, and the role of its clients.
#[derive(Clone, Debug)]
pub(super) struct ListenerInfo {
    pub(super) role: Role,
    pub(super) address: Address,
}

impl Accepting {
    pub(super) fn new(listeners: Vec<ListenerInfo>, once: bool) -> Self {
        Self {
            latched: vec![false; listeners.len()],
            listeners,
            paused_until: None,
            throttle: LogThrottle::default(),
            once,
        }
    }

    /// Remembers that a listener's accept queue is not empty.
    pub(super) fn latch(&mut self, listener: usize) {
        if let Some(latched) = self.latched.get_mut(listener) {
            *latched = true;
        }
    }

    /// Accepts clients from the queues that are not empty.
    pub(super) fn run<S: Service, N: Net>(
        &mut self,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
    ) {
        // While the room is held up it takes no newcomer.
        if self.is_latched() && !clients.is_held() && !self.is_paused(net) {
            self.pass(net, clients);
        }
    }

    /// One pass over the listeners.
    fn pass<S: Service, N: Net>(&mut self, net: &mut N, clients: &mut Clients<S, N::Stream>) {
        for listener in 0..self.latched.len() {
            if self.latched[listener] {
                self.accept_from(listener, net, clients);
            }
        }
    }

    /// True if the server is for one client, and its listeners are open still: a client that leaves
    /// without a byte does not count.
    pub(super) fn expects_only_client(&self) -> bool {
        self.once && !self.latched.is_empty()
    }

    /// Ends a pause: a client has left, which may have made room.
    pub(super) fn wake(&mut self) {
        self.paused_until = None;
    }

    /// Accepts the clients that the kernel has accepted already, before the listeners are closed:
    /// that would reset them. A room that is held up takes them, too.
    pub(super) fn run_last<S: Service, N: Net>(
        &mut self,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
    ) {
        self.latched.fill(true);
        for _ in 0..LAST_PASSES {
            if self.is_latched() && !self.is_paused(net) {
                self.pass(net, clients);
            }
        }
    }

    /// Forgets the listeners, which are closed.
    pub(super) fn close(&mut self) {
        self.latched.clear();
        self.paused_until = None;
    }

    /// End of the present pause.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused_until
    }

    /// True if an accept queue may hold a client.
    pub(super) fn is_latched(&self) -> bool {
        self.latched.contains(&true)
    }

    /// True if the phase could accept a client without another event.
    pub(super) fn has_work(&self) -> bool {
        self.is_latched() && self.paused_until.is_none()
    }

    fn is_paused(&mut self, net: &impl Net) -> bool {
        let paused = self.paused_until.is_some_and(|until| net.now() < until);
        if !paused {
            self.paused_until = None;
        }
        paused
    }

    /// Accepts a batch from one listener.
    fn accept_from<S: Service, N: Net>(
        &mut self,
        listener: usize,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
    ) {
        for _ in 0..BATCH {
            if clients.is_full() {
                return self.warn_of_limit(net, clients.limits().max_clients);
            }
            match net.accept(listener) {
                Ok((stream, address)) => self.admit(listener, stream, address, net, clients),
                Err(e) => match AcceptError::of(&e) {
                    AcceptError::Retry => {}
                    AcceptError::Drained => {
                        self.latched[listener] = false;
                        return;
                    }
                    AcceptError::Exhausted => return self.pause(&e, net, clients.len()),
                },
            }
        }
    }

    /// Admits a client, unless its stream can't be registered with the kernel.
    fn admit<S: Service, N: Net>(
        &mut self,
        listener: usize,
        stream: N::Stream,
        address: Address,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
    ) {
        let ListenerInfo {
            role,
            address: local,
        } = self.listeners[listener].clone();
        let local = if clients.wants_local_address() {
            net.local_address(listener, &stream)
        } else {
            local
        };
        match clients.open(net, stream, address, role, &local) {
            Ok(key) if self.once => clients.stop_after(key),
            Ok(_) => {}
            Err((address, e)) => {
                let now = net.now();
                let text = || format!("cannot serve {address}: {}", cause(&e));
                self.throttle.warn(now, text);
            }
        }
    }

    /// Warns that newcomers wait, unless the server is for one client anyway.
    fn warn_of_limit(&mut self, net: &impl Net, limit: usize) {
        if self.once {
            return;
        }
        self.throttle.warn(net.now(), || {
            let limit = plural(limit as u64, "client");
            format!("the limit of {limit} is reached: newcomers wait until one leaves")
        });
    }

    /// Begins a pause after an error, until a client leaves or [`PAUSE`] is over. The accept queue
    /// stays latched.
    fn pause(&mut self, error: &io::Error, net: &impl Net, clients: usize) {
        let now = net.now();
        self.paused_until = Some(now + PAUSE);
        self.throttle.warn(now, || {
            let (clients, cause) = (plural(clients as u64, "client"), cause(error));
            format!("cannot accept more than {clients}: {cause}; newcomers wait until one leaves")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::server::clients::Reaped;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Echo, Room};
    use crate::testing::{Answer, Script};
    use rustix::io::Errno;

    fn accepting(once: bool) -> Accepting {
        let info = ListenerInfo {
            role: Role::Both,
            address: Address::Stdin,
        };
        let mut accepting = Accepting::new(vec![info], once);
        accepting.latch(0);
        accepting
    }

    /// A kernel with this many connections in its accept queue.
    fn queue(length: usize) -> TestNet {
        let mut net = TestNet::new();
        net.accepts = (0..length).map(|_| Ok(Script::default())).collect();
        net
    }

    #[test]
    fn queue_is_accepted_until_it_is_empty() {
        let (mut net, mut accepting) = (queue(3), accepting(false));
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), accepting.has_work()), (3, false));
        accepting.latch(7); // no such listener
        assert!(!accepting.has_work());
    }

    #[test]
    fn long_queue_is_accepted_in_batches() {
        let (mut net, mut accepting) = (queue(BATCH + 1), accepting(false));
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), accepting.has_work()), (BATCH, true));
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), accepting.has_work()), (BATCH + 1, false));
    }

    #[test]
    fn connection_that_has_failed_already_is_passed_over() {
        let (mut net, mut accepting) = (queue(1), accepting(false));
        net.accepts.push_front(Err(Errno::CONNABORTED.into()));
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        accepting.run(&mut net, &mut clients);
        assert_eq!(clients.len(), 1);
    }

    #[test]
    fn without_descriptors_accepting_pauses_until_a_client_leaves_or_100_ms_pass() {
        let (mut net, mut accepting) = (queue(0), accepting(false));
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        for wakes in [true, false] {
            net.accepts.push_back(Err(Errno::MFILE.into()));
            net.accepts.push_back(Ok(Script::default()));
            accepting.latch(0);
            accepting.run(&mut net, &mut clients);
            assert_eq!(accepting.deadline(), Some(net.now.get() + PAUSE));
            accepting.run(&mut net, &mut clients);
            assert_eq!(net.accepts.len(), 1, "it pauses");
            if wakes {
                accepting.wake();
            } else {
                net.pass(PAUSE);
            }
            accepting.run(&mut net, &mut clients);
            assert_eq!((net.accepts.len(), accepting.deadline()), (0, None));
        }
    }

    #[test]
    fn limit_of_clients_leaves_the_others_in_the_queue() {
        let (mut net, mut accepting) = (queue(3), accepting(false));
        let config = Config {
            max_clients: Some(2),
            ..Config::default()
        };
        let mut clients = fixture::clients(Echo::new(), &config, &net);
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (2, 1));
        assert!(accepting.is_latched(), "a client that leaves makes room");
    }

    #[test]
    fn newcomers_wait_while_a_client_holds_up_the_room() {
        let (mut net, mut accepting) = (queue(1), accepting(false));
        let service = Broadcast::with_segments(Room::default(), 1 << 10);
        let mut clients = fixture::clients(service, &Config::default(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Both, false);
        fixture::admit(&mut clients, &mut net, Role::Both, true);
        while !clients.is_held() {
            fixture::send(&mut clients, sender, &[b'\n'; 10_000]);
        }
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (2, 1));
        accepting.run_last(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (3, 0), "at a stop");
    }

    /// A fault of the kind "stopped before accepted": the kernel resets what it has accepted.
    #[test]
    fn stop_accepts_the_clients_in_the_queue_within_bounds() {
        let (mut net, mut accepting) = (queue(BATCH * LAST_PASSES + 1), accepting(false));
        accepting.latched.fill(false);
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        accepting.run_last(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (BATCH * LAST_PASSES, 1));
    }

    #[test]
    fn server_for_one_client_has_one_at_a_time_until_one_has_exchanged_a_byte() {
        let (mut net, mut accepting) = (queue(3), accepting(true));
        let once = Config {
            once: true,
            ..Config::default()
        };
        let mut clients = fixture::clients(Echo::new(), &once, &net);
        accepting.run(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (1, 2));
        assert!(accepting.expects_only_client() && !clients.has_used_final());
        // A probe: it leaves without a byte.
        clients.touch(0, |connection, _| {
            connection.stream_mut().on_read(Answer::End);
            connection.expect_input();
        });
        clients.read(usize::MAX, false, |_, _, _| {});
        assert_eq!(clients.reap(Instant::now, |_| {}), Reaped::Clients);
        accepting.run_last(&mut net, &mut clients);
        assert_eq!((clients.len(), net.accepts.len()), (1, 1));
        fixture::send(&mut clients, 0, b"hi");
        assert!(clients.has_used_final());
        accepting.close();
        assert!(!accepting.expects_only_client());
        accepting.run_last(&mut net, &mut clients);
        assert_eq!(net.accepts.len(), 1, "one client was enough");
    }
}
