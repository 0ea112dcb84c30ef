//! UDP datagrams that are too short for their answers, for the warning at the start of a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use resound::{Address, Config, ListenAddress, Peer, Role, Service, Slices};

use crate::units;

const UNASKED: usize = Config::UDP_ANSWER;
const FACTOR: usize = Config::UDP_FACTOR;

/// The length of the longest datagram to which no answer may have more than [`UNASKED`] bytes.
const LONGEST_SHORT: usize = UNASKED / FACTOR;

/// The warning that short datagrams are not answered, if that is so.
pub(super) fn warning<S: Service>(config: &Config, service: &mut S) -> Option<String> {
    let from = longest_source(config)?;
    let needs = service.needs();
    if !needs.datagrams || config.udp_amplify {
        return None;
    }
    if needs.time {
        service.set_time(SystemTime::now());
    }
    // An answer is a text alone, or a text and the datagram.
    let text = answer_length(service, &from, 0);
    let echoed = usize::from(answer_length(service, &from, LONGEST_SHORT) > text);
    if text + echoed * LONGEST_SHORT <= UNASKED {
        return None;
    }
    let first = (UNASKED + 1).saturating_sub(text) * echoed;
    let last = (text - 1) / (FACTOR - echoed);
    let lengths = if first == last {
        units::counted(last as u64, "byte")
    } else {
        format!("{first} to {last} bytes")
    };
    let longest = text + echoed * last;
    Some(format!(
        "short UDP datagrams, of {lengths}, are not answered: answers of up to {longest} bytes are over {UNASKED} and {FACTOR} times the datagram (--udp-amplify answers all)"
    ))
}

/// The source of a datagram whose text is the longest, so that `{peer}` and `{local}` are, too; `None`
/// without a UDP address to listen on. A host name may mean an IPv6 address.
fn longest_source(config: &Config) -> Option<Address> {
    let ip = |address: &ListenAddress| match address {
        ListenAddress::Udp { host, .. } if host.parse::<Ipv4Addr>().is_ok() => {
            Some(IpAddr::V4(Ipv4Addr::BROADCAST))
        }
        ListenAddress::Udp { .. } => Some(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))),
        _ => None,
    };
    let ips = config
        .listen
        .iter()
        .filter_map(|listen| ip(&listen.address));
    let longest = ips.max()?; // any IPv6 address is above all of IPv4
    Some(Address::Udp(SocketAddr::new(longest, u16::MAX)))
}

/// Bytes of the answer to a datagram of this length.
fn answer_length<S: Service>(service: &mut S, from: &Address, length: usize) -> usize {
    let peer = Peer {
        id: 0, // as every sender of a datagram
        address: from,
        local: from,
        role: Role::Both,
    };
    let datagram = vec![b'x'; length];
    let answer = service.datagram(&peer, &datagram);
    answer.map_or(0, Slices::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resound::{Discard, Echo, PrefixedEcho, Reply, ReplyOn};

    fn config(listen: &[&str]) -> Config {
        let mut config = Config::default();
        config.listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        config
    }

    fn on_ipv4() -> Config {
        config(&["udp://127.0.0.1:7"])
    }

    fn prefixed(text: &str) -> PrefixedEcho {
        PrefixedEcho::new(text.parse().unwrap())
    }

    fn reply(text: &str) -> Reply {
        Reply::new(text.parse().unwrap(), ReplyOn::Message, false)
    }

    /// The first and the last length that the library refuses to answer, each tried.
    fn refused(answer: impl Fn(usize) -> usize) -> Option<(usize, usize)> {
        let mut lengths = (0..2000).filter(|&n| answer(n) > UNASKED.max(FACTOR * n));
        let first = lengths.next()?;
        Some((first, lengths.last().unwrap_or(first)))
    }

    #[track_caller]
    fn assert_warned(warning: Option<&str>, expected: Option<(usize, usize)>) {
        let lengths = expected.map(|(first, last)| match last {
            _ if first < last => format!("datagrams, of {first} to {last} bytes, are not answered"),
            1 => "datagrams, of 1 byte, are not answered".to_owned(),
            _ => format!("datagrams, of {last} bytes, are not answered"),
        });
        match (warning, lengths) {
            (Some(warning), Some(lengths)) => assert!(warning.contains(&lengths), "{warning}"),
            (warning, lengths) => assert_eq!(warning, lengths.as_deref()),
        }
    }

    /// Only the answer to an empty datagram was looked at: a prefix of 44 to 64 bytes made no warning,
    /// and from a longer one it named wrong figures.
    #[test]
    fn lengths_without_an_answer_are_those_that_the_library_refuses() {
        for length in 1..200 {
            let text = "x".repeat(length);
            let expected = refused(|n| length + n);
            assert_eq!(expected.is_some(), length >= 44);
            assert_warned(
                warning(&on_ipv4(), &mut prefixed(&text)).as_deref(),
                expected,
            );
            let expected = refused(|_| length);
            assert_eq!(expected.is_some(), length > UNASKED);
            assert_warned(warning(&on_ipv4(), &mut reply(&text)).as_deref(), expected);
        }
    }

    /// The source was an IPv4 address, and its number one that no sender of a datagram has.
    #[test]
    fn placeholders_are_judged_at_their_longest() {
        let any = config(&["udp://*:7"]);
        let both = config(&["7", "udp://[::1]:7", "udp://127.0.0.1:7"]);
        for (config, longest) in [(on_ipv4(), 21), (any, 47), (both, 47)] {
            for place in ["{peer}", "{local}"] {
                let text = |length: usize| format!("{place}{}", "x".repeat(length - longest));
                assert_warned(warning(&config, &mut reply(&text(64))).as_deref(), None);
                assert_warned(
                    warning(&config, &mut reply(&text(65))).as_deref(),
                    Some((0, 21)),
                );
                assert_warned(
                    warning(&config, &mut prefixed(&text(64))).as_deref(),
                    Some((1, 31)),
                );
            }
            let text = format!("{{id}}{}", "x".repeat(63));
            assert_warned(warning(&config, &mut reply(&text)).as_deref(), None);
        }
    }

    #[test]
    fn other_addresses_services_and_a_permission_make_no_warning() {
        let text = "x".repeat(1400);
        let streams = config(&["7", "unix:/s", "unixgram:/d"]);
        assert_warned(warning(&streams, &mut reply(&text)).as_deref(), None);
        let mut permitted = on_ipv4();
        permitted.udp_amplify = true;
        assert_warned(warning(&permitted, &mut reply(&text)).as_deref(), None);
        assert_warned(warning(&on_ipv4(), &mut Discard::new()).as_deref(), None);
        assert_warned(warning(&on_ipv4(), &mut Echo::new()).as_deref(), None);
    }
}
