//! Guard of the datagram sockets: the filter of the datagrams that may be answered.
//!
//! The source address of a datagram may be forged. No answer may begin a loop between two services
//! (CVE-1999-0103, CVE-2024-2169), or flood a source with more than its share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::net::address::Address;

/// A check of a source: true if it may be an address of this machine.
pub(super) type IsLocal = fn(SocketAddr) -> bool;

/// Reason not to answer a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The source port is below 1024: a service, which might answer in turn.
    Reserved,
    /// The source is this server itself.
    Own,
    /// The source port is one that this server has, too: the same service elsewhere, as a rule.
    SamePort,
    /// The source is a Unix socket without a name, to which no answer can be sent.
    Unnamed,
    /// The source is a Unix socket with a relative name, which may name another socket in the
    /// server's folder.
    Relative,
    /// The source has used up its share of answers.
    TooMany,
    /// The answer is longer than the question allows.
    TooLong,
}

impl Refusal {
    /// The refusal in words, for the log.
    pub(super) fn describe(self, source: &Address) -> String {
        let source = source.name();
        match self {
            Self::Reserved => format!(
                "datagrams from {source} are not answered: ports below 1024 are those of other services"
            ),
            Self::Relative => format!(
                "datagrams from {source} are not answered: a name without its folder may mean another's socket here"
            ),
            Self::Own => {
                format!("datagrams from {source} are not answered: that is this server itself")
            }
            Self::SamePort => format!(
                "datagrams from {source} are not answered: that is also a port of this server, and two services would answer each other"
            ),
            Self::Unnamed => {
                "datagrams without a source are not answered: the sender has no address".to_owned()
            }
            Self::TooMany => {
                format!("not every datagram from {source} is answered: it sends too many a second")
            }
            Self::TooLong => {
                format!(
                    "a datagram from {source} is not answered: the answer is longer than {} bytes and {} times the question",
                    Config::UDP_ANSWER,
                    Config::UDP_FACTOR
                )
            }
        }
    }
}

/// Number of buckets, 8 bytes each. Sources whose hashes share a bucket share its rate.
const BUCKETS: usize = 64 * 1024;

/// Bytes in the longest answer to a question of this length.
fn longest_answer(question: usize) -> usize {
    let factor = question.saturating_mul(Config::UDP_FACTOR);
    factor.max(Config::UDP_ANSWER)
}

/// A filter of datagrams, in bounded memory.
#[derive(Debug)]
pub(super) struct Guard {
    /// The addresses of this server in canonical form: mapped IPv4 is IPv4.
    own: Vec<Address>,
    /// Time between two answers at an even pace; `None` is no limit.
    cost: Option<Duration>,
    /// True if answers may be much longer than questions.
    amplify: bool,
    start: Instant,
    /// By bucket: the time at which its answers so far would be due at an even pace, in nanoseconds
    /// from the start (the generic cell rate algorithm).
    due: Vec<u64>,
    hasher: RandomState,
}

/// Length of a burst: the answers for this time may be sent at once.
const BURST: Duration = Duration::from_secs(1);

impl Guard {
    /// A guard for the sockets bound to `own`, with `rate` answers a second for each source.
    /// `amplify` allows answers of any length.
    pub(super) fn new(own: &[Address], rate: Option<u32>, amplify: bool, start: Instant) -> Self {
        let cost = rate.map(|rate| BURST / rate.max(1));
        let udp = own.iter().any(|address| address.socket_addr().is_some());
        let buckets = if udp && cost.is_some() { BUCKETS } else { 0 };
        Self {
            own: own.iter().map(Address::canonical).collect(),
            cost,
            amplify,
            start,
            due: vec![0; buckets],
            hasher: RandomState::new(),
        }
    }

    /// Decides on an answer to a source, given in its canonical form; `lengths` are those of the
    /// question and of the answer. One that is admitted is taken off the source's share.
    pub(super) fn admit(
        &mut self,
        source: &Address,
        (question, answer): (usize, usize),
        now: Instant,
        is_local: IsLocal,
    ) -> Result<(), Refusal> {
        let address = match source {
            Address::Udp(address) => *address,
            Address::UnixDatagram(path) if path.as_os_str().is_empty() => {
                return Err(Refusal::Unnamed);
            }
            // Its name is resolved in the server's folder, and may name any socket there.
            Address::UnixDatagram(path) if path.is_relative() && !source.is_abstract() => {
                return Err(Refusal::Relative);
            }
            other if self.own.contains(other) => return Err(Refusal::Own),
            _ => return Ok(()),
        };
        if address.port() < 1024 {
            return Err(Refusal::Reserved);
        }
        if let Some(refusal) = self.refuse_own(address, is_local) {
            return Err(refusal);
        }
        if !self.amplify && answer > longest_answer(question) {
            return Err(Refusal::TooLong);
        }
        // A loopback source is no forgery from another machine.
        if address.ip().is_loopback() || self.is_within_rate(address.ip(), now) {
            Ok(())
        } else {
            Err(Refusal::TooMany)
        }
    }

    /// The refusal of a source whose port is one of the server's own.
    fn refuse_own(&self, source: SocketAddr, is_local: IsLocal) -> Option<Refusal> {
        let own = self.own.iter().filter_map(Address::socket_addr);
        let mut same_port = own.filter(|own| own.port() == source.port()).peekable();
        same_port.peek()?;
        let is_own = same_port
            .any(|own| own.ip() == source.ip() || own.ip().is_unspecified() && is_local(source));
        Some(if is_own {
            Refusal::Own
        } else {
            Refusal::SamePort
        })
    }

    /// Takes an answer off the share of a source. False if that is used up.
    fn is_within_rate(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(cost) = self.cost else { return true };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.start)) + nanos(BURST);
        let hash = self.hasher.hash_one(network(ip));
        let bucket = usize::try_from(hash % BUCKETS as u64).unwrap_or_default();
        let due = &mut self.due[bucket];
        let next = (*due).max(now - nanos(BURST)) + nanos(cost);
        if next > now {
            return false;
        }
        *due = next;
        true
    }
}

/// The source that an address belongs to: of IPv6 a whole /64 network (RFC 6177).
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

    /// Lengths of a question and an answer.
    const EQUAL: (usize, usize) = (1, 1);

    fn udp(text: &str) -> Address {
        Address::Udp(text.parse().unwrap()).canonical()
    }

    fn guard(own: &[&str], rate: Option<u32>) -> Guard {
        let own: Vec<Address> = own.iter().map(|text| udp(text)).collect();
        Guard::new(&own, rate, false, Instant::now())
    }

    const LOCAL: IsLocal = |address| address.ip().to_string().starts_with("127.");

    #[test]
    fn neither_services_nor_the_server_itself_are_answered() {
        let mut guard = guard(&["127.0.0.1:7007", "0.0.0.0:8000", "[::]:9000"], None);
        let now = Instant::now();
        let mut admit = |text: &str| guard.admit(&udp(text), EQUAL, now, LOCAL);
        for (source, expected) in [
            ("127.0.0.1:7", Err(Refusal::Reserved)),
            ("192.0.2.1:1023", Err(Refusal::Reserved)),
            ("[2001:db8::1]:19", Err(Refusal::Reserved)),
            ("127.0.0.1:0", Err(Refusal::Reserved)),
            ("192.0.2.1:1024", Ok(())),
            ("127.0.0.1:7007", Err(Refusal::Own)),
            ("127.0.0.2:7007", Err(Refusal::SamePort)),
            ("127.0.0.2:7008", Ok(())),
            ("127.0.0.9:8000", Err(Refusal::Own)),
            ("192.0.2.1:8000", Err(Refusal::SamePort)),
            ("192.0.2.1:7007", Err(Refusal::SamePort)),
            ("[2001:db8::1]:7007", Err(Refusal::SamePort)),
            ("[::ffff:127.0.0.1]:9000", Err(Refusal::Own)),
            ("[::ffff:127.0.0.1]:7007", Err(Refusal::Own)),
            ("[::ffff:192.0.2.1]:9000", Err(Refusal::SamePort)),
            ("[::ffff:192.0.2.1]:9001", Ok(())),
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
            let admit = |_: &i32| guard.admit(&source, EQUAL, start + at, LOCAL).is_ok();
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

    /// No other machine can claim a loopback address; a quick local client lost datagrams.
    #[test]
    fn rate_does_not_apply_to_loopback_sources() {
        let mut guard = guard(&["127.0.0.1:7007"], Some(1));
        let now = guard.start;
        for source in [
            "127.0.0.1:5000",
            "127.9.9.9:5000",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:5000",
        ] {
            let source = udp(source);
            assert!(
                (0..100).all(|_| guard.admit(&source, EQUAL, now, LOCAL).is_ok()),
                "{source}"
            );
        }
        let local = udp("192.0.2.1:5000");
        let answered = (0..100).filter(|_| guard.admit(&local, EQUAL, now, |_| true).is_ok());
        assert_eq!(answered.count(), 1, "an address that others can claim");
    }

    #[test]
    fn without_a_limit_every_source_is_answered() {
        let mut guard = guard(&["127.0.0.1:7007"], None);
        let now = guard.start;
        let source = udp("192.0.2.1:5000");
        assert!((0..100_000).all(|_| guard.admit(&source, EQUAL, now, LOCAL).is_ok()));
    }

    /// Relative names of Unix clients name other sockets in the server's folder.
    #[test]
    fn names_that_may_be_others_are_not_answered() {
        let unix = |name: &str| Address::UnixDatagram(Path::new(name).into());
        let own = [unix("/run/echo.sock"), unix("@echo")];
        let mut guard = Guard::new(&own, Some(10), false, Instant::now());
        let mut admit = |name: &str| guard.admit(&unix(name), EQUAL, Instant::now(), LOCAL);
        for name in ["echo.sock", "dev/log", "./@x"] {
            assert_eq!(admit(name), Err(Refusal::Relative), "{name}");
        }
        // It is no relative name, which was the reason given.
        assert_eq!(admit(""), Err(Refusal::Unnamed));
        let reason = Refusal::Unnamed.describe(&unix(""));
        assert!(reason.ends_with(": the sender has no address"), "{reason}");
        for name in ["/run/echo.sock", "@echo"] {
            assert_eq!(admit(name), Err(Refusal::Own), "{name}");
        }
        for name in ["/run/client", "@client"] {
            assert_eq!(admit(name), Ok(()), "{name}");
        }
    }

    /// The production check, which asks the kernel.
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

    #[test]
    fn answer_is_at_most_64_bytes_or_three_times_the_question_over_udp() {
        let now = Instant::now();
        let mut guard = Guard::new(&[], None, false, now);
        let mut amplifying = Guard::new(&[], None, true, now);
        let source = udp("192.0.2.1:5000");
        for (lengths, is_sent) in [
            ((0, 64), true),
            ((0, 65), false),
            ((21, 64), true),
            ((21, 65), false),
            ((22, 66), true),
            ((22, 67), false),
            ((usize::MAX, usize::MAX), true),
        ] {
            let admitted = guard.admit(&source, lengths, now, LOCAL);
            let expected = if is_sent {
                Ok(())
            } else {
                Err(Refusal::TooLong)
            };
            assert_eq!(admitted, expected, "{lengths:?}");
            let admitted = amplifying.admit(&source, lengths, now, LOCAL);
            assert_eq!(admitted, Ok(()), "{lengths:?}");
        }
        // The name of a Unix client is not forged.
        let unix = Address::UnixDatagram(Path::new("/s").into());
        assert_eq!(guard.admit(&unix, (0, 1400), now, LOCAL), Ok(()));
    }

    #[test]
    fn refusal_names_its_source_in_one_safe_line() {
        let source = Address::UnixDatagram(Path::new("\x1b]0;x\x07\nforged").into());
        for refusal in [
            Refusal::Reserved,
            Refusal::Own,
            Refusal::SamePort,
            Refusal::Unnamed,
            Refusal::Relative,
            Refusal::TooMany,
            Refusal::TooLong,
        ] {
            let line = refusal.describe(&source);
            assert!(crate::text::escape::tests::is_safe(&line), "{line:?}");
        }
    }
}
