//! Datagrams: a phase of the tick in which those that have come are answered.
//!
//! Whoever sends a datagram may claim to be another. Nothing is answered that could begin a loop
//! between two services (CVE-1999-0103, CVE-2024-2169), and nobody is sent more than so much.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use log::{debug, trace, warn};

use super::console::Console;
use super::report::Seldom;
use super::tick::Tick;
use crate::close::Stats;
use crate::config::Config;
use crate::net::Net;
use crate::net::address::{Address, Role};
use crate::net::datagram::Datagram;
use crate::net::error::cause;
use crate::peer::Peer;
use crate::service::Service;
use crate::text::plural;

/// Batches of a socket in a tick, so that clients don't wait for a flood.
const BATCHES: usize = 4;

/// What is remembered between ticks about datagrams.
#[derive(Debug)]
pub(super) struct Mail {
    /// For each socket, whether there may be something to do.
    latched: Vec<bool>,
    guard: Guard,
    warned: Seldom,
}

impl Mail {
    /// Mail for sockets that are bound to these addresses.
    pub(super) fn new(config: &Config, addresses: &[Address], start: Instant) -> Self {
        Self {
            latched: vec![false; addresses.len()],
            guard: Guard::new(addresses, config.udp_rate, start),
            warned: Seldom::default(),
        }
    }

    pub(super) fn latch(&mut self, mailbox: usize) {
        if let Some(latched) = self.latched.get_mut(mailbox) {
            *latched = true;
        }
    }

    pub(super) fn is_latched(&self) -> bool {
        self.latched.contains(&true)
    }

    pub(super) fn latch_all(&mut self) {
        self.latched.fill(true);
    }

    pub(super) fn close(&mut self) {
        self.latched.clear();
    }
}

/// Whether an address may be one of this machine's.
type IsLocal = fn(SocketAddr) -> bool;

/// What the answering of one socket's datagrams needs.
struct Desk<'a, S, T> {
    service: &'a mut S,
    console: Option<&'a mut Console<T>>,
    guard: &'a mut Guard,
    stats: &'a mut Stats,
    /// What the socket is bound to.
    bound: Address,
    now: Instant,
    is_local: IsLocal,
    /// The first datagram that wasn't answered, and why not.
    refused: Option<(Address, Refusal)>,
}

impl<S: Service, T: crate::net::Stream> Desk<'_, S, T> {
    fn answer(&mut self, datagram: Datagram<'_>, answer: &mut Vec<u8>) -> bool {
        let from = datagram.from.canonical();
        if let Some(console) = &mut self.console {
            console.hear_datagram(&from, datagram.bytes);
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
        if let Err(refusal) = self.guard.admit(&from, self.now, self.is_local) {
            self.stats.unanswered += 1;
            self.refused.get_or_insert((from, refusal));
            return false;
        }
        for part in reply.parts() {
            answer.extend_from_slice(part);
        }
        true
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Answers the datagrams that have come.
    pub(super) fn deliver(&mut self) {
        for mailbox in 0..self.mail.latched.len() {
            // It may have been the only one.
            if self.mail.latched.get(mailbox) == Some(&true) {
                self.deliver_from(mailbox);
            }
        }
    }

    fn deliver_from(&mut self, mailbox: usize) {
        let now = self.net.now();
        for _ in 0..BATCHES {
            let served = |stats: &Stats| stats.datagrams - stats.unanswered;
            let before = served(&self.stats);
            let more = self.deliver_batch(mailbox, now);
            if self.limits.once && served(&self.stats) > before {
                return self.stop_by_itself();
            }
            if !more {
                self.mail.latched[mailbox] = false;
                return;
            }
        }
    }

    /// One batch; whether there may be more without another event.
    fn deliver_batch(&mut self, mailbox: usize, now: Instant) -> bool {
        let bound = self.net.datagram_address(mailbox).clone();
        let mut desk = Desk {
            service: &mut self.service,
            console: self.console.as_mut(),
            guard: &mut self.mail.guard,
            stats: &mut self.stats,
            bound,
            now,
            is_local: N::is_local,
            refused: None,
        };
        let mut answerer =
            |datagram: Datagram<'_>, answer: &mut Vec<u8>| desk.answer(datagram, answer);
        let result = self.net.receive_and_reply(mailbox, &mut answerer);
        let refused = desk.refused.take();
        let bound = desk.bound;
        if let Some((address, refusal)) = refused {
            self.tell_of(&address, refusal, now);
        }
        match result {
            Ok(done) => {
                let stats = &mut self.stats;
                stats.datagrams += done.received;
                stats.answers += done.sent;
                stats.bytes_in += done.bytes_in;
                stats.bytes_out += done.bytes_out;
                stats.unanswered += done.refused;
                if done.received + done.sent > 0 {
                    trace!(
                        "{bound}: {}, {} sent",
                        plural(done.received, "datagram"),
                        plural(done.sent, "answer")
                    );
                }
                done.more
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => true,
            Err(e) => {
                // Of a datagram that was answered before; the next one may be all right.
                debug!("{bound}: {}", cause(&e));
                true
            }
        }
    }

    /// Tells of a datagram that wasn't answered, now and then.
    fn tell_of(&mut self, address: &Address, refusal: Refusal, now: Instant) {
        if !self.mail.warned.is_due(now) {
            return;
        }
        let address = address.name();
        let why = match refusal {
            Refusal::Reserved => format!(
                "datagrams from {address} are not answered: ports below 1024 are those of other services"
            ),
            Refusal::Relative => format!(
                "datagrams from {address} are not answered: a name without its folder may mean another's socket here"
            ),
            Refusal::Own => {
                format!("datagrams from {address} are not answered: that is this server itself")
            }
            Refusal::TooMany => {
                format!("not every datagram from {address} is answered: it sends too many a second")
            }
        };
        let count = plural(self.stats.unanswered, "datagram");
        warn!("{why} ({count} so far)");
    }
}

/// Why a datagram isn't answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Behind ports below 1024 are services, which might answer in their turn.
    Reserved,
    /// The answer would come back to this server.
    Own,
    /// It is a Unix socket whose name means another one where the server runs.
    Relative,
    /// It has been answered as often as is allowed.
    TooMany,
}

/// Sources that are told apart; each has a place of 8 bytes, and those that happen to have the same
/// place share what they are allowed.
const PLACES: usize = 64 * 1024;

/// Decides which datagrams are answered, in bounded memory.
#[derive(Debug)]
struct Guard {
    /// The addresses of this server, in the form in which IPv4 is IPv4.
    own: Vec<Address>,
    /// What an answer costs of the time.
    cost: Option<Duration>,
    start: Instant,
    /// For each place, when all that was answered would have been allowed at an even pace, in
    /// nanoseconds from the start (the generic cell rate algorithm).
    paid: Vec<u64>,
    hasher: RandomState,
}

/// As much as is allowed in this time may come at once.
const BURST: Duration = Duration::from_secs(1);

impl Guard {
    fn new(own: &[Address], rate: Option<u32>, start: Instant) -> Self {
        let cost = rate.map(|rate| BURST / rate.max(1));
        let udp = own.iter().any(|address| address.socket_addr().is_some());
        let places = if udp && cost.is_some() { PLACES } else { 0 };
        Self {
            own: own.iter().map(Address::canonical).collect(),
            cost,
            start,
            paid: vec![0; places],
            hasher: RandomState::new(),
        }
    }

    /// Whether a source may be answered, in the form in which IPv4 is IPv4.
    fn admit(&mut self, source: &Address, now: Instant, is_local: IsLocal) -> Result<(), Refusal> {
        let address = match source {
            Address::Udp(address) => *address,
            // Its name is resolved where the server runs, and may be anything.
            Address::UnixDatagram(path) if path.is_relative() && !source.is_abstract() => {
                return Err(Refusal::Relative);
            }
            other if self.own.contains(other) => return Err(Refusal::Own),
            _ => return Ok(()),
        };
        if address.port() < 1024 {
            return Err(Refusal::Reserved);
        }
        if self.is_own(address, is_local) {
            return Err(Refusal::Own);
        }
        if self.pay(address.ip(), now) {
            Ok(())
        } else {
            Err(Refusal::TooMany)
        }
    }

    fn is_own(&self, source: SocketAddr, is_local: IsLocal) -> bool {
        let own = self.own.iter().filter_map(Address::socket_addr);
        let mut same_port = own.filter(|own| own.port() == source.port());
        same_port
            .any(|own| own.ip() == source.ip() || own.ip().is_unspecified() && is_local(source))
    }

    /// Takes the cost of an answer from what a source is allowed, if that is enough.
    fn pay(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(cost) = self.cost else { return true };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.start)) + nanos(BURST);
        let hash = self.hasher.hash_one(network(ip));
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        let paid = &mut self.paid[place];
        let next = (*paid).max(now - nanos(BURST)) + nanos(cost);
        if next > now {
            return false;
        }
        *paid = next;
        true
    }
}

/// Whom an address belongs to: of IPv6 everybody has a whole network (RFC 6177).
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn udp(text: &str) -> Address {
        Address::Udp(text.parse().unwrap()).canonical()
    }

    fn guard(own: &[&str], rate: Option<u32>) -> Guard {
        let own: Vec<Address> = own.iter().map(|text| udp(text)).collect();
        Guard::new(&own, rate, Instant::now())
    }

    const LOCAL: IsLocal = |address| address.ip().to_string().starts_with("127.");

    #[test]
    fn neither_services_nor_the_server_itself_are_answered() {
        let mut guard = guard(&["127.0.0.1:7007", "0.0.0.0:8000", "[::]:9000"], None);
        let now = Instant::now();
        let mut admit = |text: &str| guard.admit(&udp(text), now, LOCAL);
        for (source, expected) in [
            ("127.0.0.1:7", Err(Refusal::Reserved)),
            ("192.0.2.1:1023", Err(Refusal::Reserved)),
            ("[2001:db8::1]:19", Err(Refusal::Reserved)),
            ("127.0.0.1:0", Err(Refusal::Reserved)),
            ("192.0.2.1:1024", Ok(())),
            ("127.0.0.1:7007", Err(Refusal::Own)),
            ("127.0.0.2:7007", Ok(())),
            ("127.0.0.9:8000", Err(Refusal::Own)),
            ("192.0.2.1:8000", Ok(())),
            ("[::ffff:127.0.0.1]:9000", Err(Refusal::Own)),
            ("[::ffff:127.0.0.1]:7007", Err(Refusal::Own)),
            ("[::ffff:192.0.2.1]:9000", Ok(())),
        ] {
            assert_eq!(admit(source), expected, "{source}");
        }
    }

    #[test]
    fn each_source_has_its_share_and_a_burst_of_it() {
        let mut guard = guard(&["127.0.0.1:7007"], Some(100));
        let start = guard.start;
        let mut count = |source: &str, at: Duration| {
            let source = udp(source);
            let admit = |_: &i32| guard.admit(&source, start + at, LOCAL).is_ok();
            (0..1000).filter(admit).count()
        };
        let second = Duration::from_secs;
        assert_eq!(count("192.0.2.1:5000", second(0)), 100);
        assert_eq!(count("192.0.2.1:5001", second(0)), 0, "a port is no source");
        assert_eq!(count("192.0.2.2:5000", second(0)), 100);
        assert_eq!(count("192.0.2.1:5000", Duration::from_millis(500)), 50);
        assert_eq!(count("192.0.2.1:5000", second(100)), 100);
        assert_eq!(count("[2001:db8::1]:5000", second(100)), 100);
        assert_eq!(
            count("[2001:db8::2]:5000", second(100)),
            0,
            "the same network"
        );
        assert_eq!(count("[2001:db8:0:1::2]:5000", second(100)), 100);
    }

    #[test]
    fn without_a_limit_everybody_is_answered() {
        let mut guard = guard(&["127.0.0.1:7007"], None);
        let now = guard.start;
        let source = udp("192.0.2.1:5000");
        assert!((0..100_000).all(|_| guard.admit(&source, now, LOCAL).is_ok()));
    }

    /// The names of Unix clients mean something else where the server runs.
    #[test]
    fn names_that_may_be_others_are_not_answered() {
        let unix = |name: &str| Address::UnixDatagram(Path::new(name).into());
        let own = [unix("/run/echo.sock"), unix("@echo")];
        let mut guard = Guard::new(&own, Some(10), Instant::now());
        let mut admit = |name: &str| guard.admit(&unix(name), Instant::now(), LOCAL);
        for name in ["echo.sock", "dev/log", "./@x", ""] {
            assert_eq!(admit(name), Err(Refusal::Relative), "{name}");
        }
        for name in ["/run/echo.sock", "@echo"] {
            assert_eq!(admit(name), Err(Refusal::Own), "{name}");
        }
        for name in ["/run/client", "@client"] {
            assert_eq!(admit(name), Ok(()), "{name}");
        }
    }

    /// What the kernel says of addresses, by its own means.
    #[test]
    fn every_address_of_this_machine_is_local_and_no_other() {
        use crate::net::{Net, Poller};
        for text in ["127.0.0.1:7", "127.9.9.9:70"] {
            assert!(Poller::is_local(text.parse().unwrap()), "{text}");
        }
        for text in ["192.0.2.1:7", "198.51.100.7:7"] {
            assert!(!Poller::is_local(text.parse().unwrap()), "{text}");
        }
        // Without its link such an address can't be told from another's.
        assert!(Poller::is_local("[fe80::1]:7".parse().unwrap()));
    }
}
