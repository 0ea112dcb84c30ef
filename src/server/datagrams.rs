//! Datagrams: the phase of the tick in which received datagrams are answered.

use std::io::{self, ErrorKind};
use std::time::Instant;

use log::{debug, trace};

use super::clients::Clients;
use super::console::Console;
use super::guard::{Guard, IsLocal, Refusal};
use super::throttle::LogThrottle;
use crate::close::Stats;
use crate::config::Config;
use crate::net::address::{Address, Role};
use crate::net::datagram::{BatchCounts, Datagram};
use crate::net::error::cause;
use crate::net::{Net, Stream};
use crate::peer::Peer;
use crate::service::Service;
use crate::text::plural;

/// The most batches of one socket in a tick: clients must not wait for a flood.
const BATCHES: usize = 4;
/// The most passes over the sockets when the server stops: enough for a full receive buffer of the
/// default size, and a bound on a flood.
const LAST_PASSES: usize = 16;

/// The phase, and what it remembers between ticks.
#[derive(Debug)]
pub(super) struct Datagrams {
    sockets: Vec<Socket>,
    guard: Guard,
    throttle: LogThrottle,
    counts: BatchCounts,
    /// Datagrams that the guard refused.
    refused: u64,
    /// True if the server stops after the first datagram that is not refused.
    once: bool,
}

#[derive(Debug)]
struct Socket {
    /// The address that it is bound to.
    address: Address,
    /// True if there may be something to receive or to send.
    latched: bool,
}

impl Datagrams {
    /// The phase for sockets that are bound to these addresses.
    pub(super) fn new(addresses: Vec<Address>, config: &Config, start: Instant) -> Self {
        let guard = Guard::new(&addresses, config.udp_rate, config.udp_amplify, start);
        let socket = |address| Socket {
            address,
            latched: false,
        };
        Self {
            sockets: addresses.into_iter().map(socket).collect(),
            guard,
            throttle: LogThrottle::default(),
            counts: BatchCounts::default(),
            refused: 0,
            once: config.once,
        }
    }

    /// Remembers that a socket may have something to receive, or takes replies again.
    pub(super) fn latch(&mut self, socket: usize) {
        if let Some(socket) = self.sockets.get_mut(socket) {
            socket.latched = true;
        }
    }

    /// True if the phase could go on without another event.
    pub(super) fn has_work(&self) -> bool {
        self.sockets.iter().any(|socket| socket.latched)
    }

    /// Answers the received datagrams. True if one of them was the datagram after which the server
    /// stops.
    pub(super) fn run<S: Service, N: Net>(
        &mut self,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
        console: &mut Option<Console<N::Stream>>,
    ) -> bool {
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].latched && self.serve(socket, net, clients, console) {
                return true;
            }
        }
        false
    }

    /// Answers the datagrams that were received before a stop, within bounds; a server for one
    /// datagram answers no more.
    pub(super) fn run_last<S: Service, N: Net>(
        &mut self,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
        console: &mut Option<Console<N::Stream>>,
    ) {
        if self.once {
            return;
        }
        self.sockets.iter_mut().for_each(|s| s.latched = true);
        for _ in 0..LAST_PASSES {
            if self.has_work() {
                self.run(net, clients, console);
            }
        }
    }

    /// Forgets the sockets, which are closed.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
    }

    /// Adds the counters of this phase.
    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.datagrams += self.counts.received;
        stats.answers += self.counts.sent;
        stats.bytes_in += self.counts.bytes_in;
        stats.bytes_out += self.counts.bytes_out;
        stats.unanswered += self.counts.refused + self.refused;
    }

    /// Serves one socket. True if it received the datagram after which the server stops.
    fn serve<S: Service, N: Net>(
        &mut self,
        socket: usize,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
        console: &mut Option<Console<N::Stream>>,
    ) -> bool {
        let now = net.now();
        for _ in 0..BATCHES {
            let before = self.served();
            let more = self.serve_batch(socket, now, net, clients, console);
            if self.once && self.served() > before {
                return true;
            }
            if !more {
                self.sockets[socket].latched = false;
                return false;
            }
        }
        false
    }

    /// Number of datagrams that were not refused.
    fn served(&self) -> u64 {
        self.counts.received - self.counts.refused - self.refused
    }

    /// Receives and answers one batch. True if there may be more without another event.
    fn serve_batch<S: Service, N: Net>(
        &mut self,
        socket: usize,
        now: Instant,
        net: &mut N,
        clients: &mut Clients<S, N::Stream>,
        console: &mut Option<Console<N::Stream>>,
    ) -> bool {
        let bound = &self.sockets[socket].address;
        let mut responder = Responder {
            service: clients.service_mut(),
            console: console.as_mut(),
            guard: &mut self.guard,
            bound,
            now,
            is_local: N::is_local,
            refused: 0,
            first_refused: None,
        };
        let result = net.receive_and_reply(socket, &mut |datagram, answer| {
            responder.answer(datagram, answer)
        });
        let (refused, first) = (responder.refused, responder.first_refused);
        let more = self.count(socket, result);
        self.refused += refused;
        if let Some((source, refusal)) = first {
            let refused = self.refused + self.counts.refused;
            self.throttle.warn_of_total(now, || {
                let count = plural(refused, "datagram");
                format!("{} ({count} so far)", refusal.describe(&source))
            });
        }
        more
    }

    /// Adds the counts of a batch. True if there may be more without another event.
    fn count(&mut self, socket: usize, result: io::Result<BatchCounts>) -> bool {
        let bound = &self.sockets[socket].address;
        match result {
            Ok(batch) => {
                if batch.received + batch.sent > 0 {
                    let received = plural(batch.received, "datagram");
                    trace!("{bound}: {received}, {} sent", plural(batch.sent, "answer"));
                }
                self.counts.received += batch.received;
                self.counts.sent += batch.sent;
                self.counts.bytes_in += batch.bytes_in;
                self.counts.bytes_out += batch.bytes_out;
                self.counts.refused += batch.refused;
                batch.more
            }
            Err(e) => {
                // Most errors concern an earlier answer, not the datagrams that wait.
                if e.kind() != ErrorKind::Interrupted {
                    debug!("{bound}: {}", cause(&e));
                }
                true
            }
        }
    }
}

/// The means to answer the datagrams of one socket.
struct Responder<'a, S, T> {
    service: &'a mut S,
    console: Option<&'a mut Console<T>>,
    guard: &'a mut Guard,
    bound: &'a Address,
    now: Instant,
    is_local: IsLocal,
    refused: u64,
    /// The first datagram that was refused, and the reason.
    first_refused: Option<(Address, Refusal)>,
}

impl<S: Service, T: Stream> Responder<'_, S, T> {
    /// Appends the answer to a datagram to `answer`. False if there is none.
    fn answer(&mut self, datagram: Datagram<'_>, answer: &mut Vec<u8>) -> bool {
        let from = datagram.from.canonical();
        if let Some(console) = &mut self.console {
            console.show_datagram(&from, datagram.bytes);
        }
        let local = datagram.to.filter(|_| self.bound.is_unspecified());
        let local = local.map_or_else(|| self.bound.clone(), |ip| self.bound.with_ip(ip));
        let peer = Peer {
            id: 0,
            address: &from,
            local: &local.canonical(),
            role: Role::Both,
        };
        let Some(reply) = self.service.datagram(&peer, datagram.bytes) else {
            return false;
        };
        let lengths = (datagram.bytes.len(), reply.len());
        let admitted = self.guard.admit(&from, lengths, self.now, self.is_local);
        if let Err(refusal) = admitted {
            self.refused += 1;
            self.first_refused.get_or_insert((from, refusal));
            return false;
        }
        for part in reply.parts() {
            answer.extend_from_slice(part);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Discard, Echo};

    /// A kernel that has received datagrams from these sources.
    fn received(sources: &[&str]) -> TestNet {
        let mut net = TestNet::new();
        let datagram = |source: &&str| (b"abc".to_vec(), source.parse().unwrap());
        net.datagrams = sources.iter().map(datagram).collect();
        net
    }

    fn datagrams(once: bool, net: &TestNet) -> Datagrams {
        let address = Address::Udp(([127, 0, 0, 1], 7007).into());
        let config = Config {
            udp_rate: Some(2),
            once,
            ..Config::default()
        };
        let mut datagrams = Datagrams::new(vec![address], &config, net.now.get());
        datagrams.latch(0);
        datagrams
    }

    /// Runs the phase until it has no work; returns the counters.
    fn run<S: Service>(datagrams: &mut Datagrams, net: &mut TestNet, service: S) -> Stats {
        let mut clients = fixture::clients(service, &Config::default(), net);
        while datagrams.has_work() && !datagrams.run(net, &mut clients, &mut None) {}
        let mut stats = Stats::default();
        datagrams.add_to(&mut stats);
        stats
    }

    #[test]
    fn datagrams_are_answered_but_those_of_services_of_the_server_and_of_a_flood() {
        let sources = [
            "192.0.2.1:5000",
            "192.0.2.1:19",
            "127.0.0.1:7007",
            "192.0.2.1:5001",
            "192.0.2.1:5002",
        ];
        let mut net = received(&sources);
        let mut datagrams = datagrams(false, &net);
        let stats = run(&mut datagrams, &mut net, Echo::new());
        assert_eq!(
            (stats.datagrams, stats.answers, stats.unanswered),
            (5, 2, 3)
        );
        assert_eq!(net.replies, [b"abc", b"abc"]);
    }

    #[test]
    fn datagram_without_an_answer_is_not_refused() {
        let mut net = received(&["192.0.2.1:19"]);
        let mut datagrams = datagrams(false, &net);
        let stats = run(&mut datagrams, &mut net, Discard::new());
        assert_eq!(
            (stats.datagrams, stats.answers, stats.unanswered),
            (1, 0, 0)
        );
    }

    #[test]
    fn flood_leaves_the_clients_their_time() {
        let mut net = received(&["192.0.2.1:5000"; 10]);
        let mut datagrams = datagrams(false, &net);
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        datagrams.run(&mut net, &mut clients, &mut None);
        assert_eq!((net.datagrams.len(), datagrams.has_work()), (6, true));
    }

    #[test]
    fn server_for_one_datagram_is_done_after_the_first_that_it_does_not_refuse() {
        let mut net = received(&["192.0.2.1:19", "192.0.2.1:5000", "192.0.2.1:5000"]);
        let mut datagrams = datagrams(true, &net);
        let stats = run(&mut datagrams, &mut net, Echo::new());
        assert_eq!((stats.datagrams, stats.answers), (2, 1));
        assert_eq!(net.datagrams.len(), 1);
    }

    #[test]
    fn stop_answers_what_was_received_within_bounds() {
        let mut net = received(&["192.0.2.1:19"; 100]);
        let mut datagrams = datagrams(false, &net);
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        datagrams.run_last(&mut net, &mut clients, &mut None);
        assert_eq!(net.datagrams.len(), 100 - LAST_PASSES * BATCHES);
        datagrams.close();
        assert!(!datagrams.has_work());
    }
}
