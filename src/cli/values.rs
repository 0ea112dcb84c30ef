//! The values of options: parsers that check a text, and otherwise say what they expect.

use std::ffi::OsString;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, TypedValueParser};
use resound::client::Source;
use resound::load::Rate;
use resound::{Heartbeat, Keepalive, Listen, ListenAddress, OnEof, Replay, ReplyOn, SlowConsumer};

/// A limit that may be absent, which is written `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit<T> {
    Unlimited,
    Of(T),
}

impl<T> Limit<T> {
    fn parse(text: &str, parser: fn(&str) -> Result<T, String>) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let limit = parser(text).map_err(|error| format!("{error}, or 'unlimited'"))?;
        Ok(Self::Of(limit))
    }

    /// The limit, if there is one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Of(value) => Some(value),
            Self::Unlimited => None,
        }
    }
}

/// A hundred years: a later deadline means nothing, and overflows clocks.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// A duration such as `10s`, `250ms` or `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("longer than a hundred years".to_owned()),
        Err(_) => Err("expected a duration such as 10s, 250ms or 1m30s".to_owned()),
    }
}

/// A duration that the loop can keep: a shorter timeout would close every client.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_millis(10) => Err("expected 10ms or more".to_owned()),
        time => Ok(time),
    }
}

pub(super) fn timeout(text: &str) -> Result<Limit<Duration>, String> {
    Limit::parse(text, interval)
}

pub(super) fn patience(text: &str) -> Result<Limit<Duration>, String> {
    Limit::parse(text, |text| {
        duration(text).map_err(|error| format!("{error}, 0"))
    })
}

/// A duration that the kernel counts in whole seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let is_whole = time.subsec_nanos() == 0 && (1..=32_767).contains(&time.as_secs());
    if is_whole {
        Ok(time)
    } else {
        Err("expected whole seconds, from 1s to 32767s".to_owned())
    }
}

pub(super) fn defer_accept(text: &str) -> Result<u32, String> {
    Ok(u32::try_from(seconds(text)?.as_secs()).unwrap_or(u32::MAX))
}

pub(super) fn keepalive(text: &str) -> Result<Keepalive, String> {
    let mut parts = text.splitn(3, ',');
    let idle = seconds(parts.next().unwrap_or_default())?;
    let interval = parts.next().map(seconds).transpose()?;
    let count = parts.next().map(|text| match text.parse() {
        Ok(count @ 1..=127) => Ok(count),
        _ => Err("expected a count from 1 to 127".to_owned()),
    });
    let mut keepalive = Keepalive::new(idle);
    keepalive.interval = interval;
    keepalive.count = count.transpose()?;
    Ok(keepalive)
}

/// The interval of a heartbeat, and after `=` its line.
pub(super) fn heartbeat(text: &str) -> Result<Heartbeat, String> {
    let (every, line) = text.split_once('=').unwrap_or((text, ""));
    let every = interval(every)?;
    if line.contains(['\n', '\r']) {
        return Err("the text has a line end".to_owned());
    }
    Ok(Heartbeat::new(every, line))
}

/// A number from 1 on.
pub(super) fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("expected a number from 1 on".to_owned()),
    }
}

/// A rate: a number per second, which may be a fraction, or a number and a time such as `30/m`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let (number, time) = text.split_once('/').unwrap_or((text, "s"));
    // A unit alone is one of it.
    let one = if time.starts_with(|c: char| c.is_ascii_alphabetic()) {
        "1"
    } else {
        ""
    };
    let rate = fraction(number)
        .zip(duration(&format!("{one}{time}")).ok())
        .and_then(|((count, of), per)| in_lowest_terms(count, of, per));
    rate.ok_or_else(|| "expected a rate such as 20000, 0.5, 30/m or 1/2s".to_owned())
}

/// A rate at which a load can send.
pub(super) fn send_rate(text: &str) -> Result<Rate, String> {
    match rate(text)? {
        rate if rate.is_possible() => Ok(rate),
        _ => Err(format!("more than {} a second", Rate::MOST)),
    }
}

/// A decimal number as a whole one and the power of ten that it is divided by.
fn fraction(text: &str) -> Option<(u64, u32)> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = [whole, decimals].concat();
    let has_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = digits.parse().ok().filter(|_| has_digits)?;
    let power = u32::try_from(decimals.len()).ok()?;
    Some((count, 10_u32.checked_pow(power)?))
}

/// `count / of` in a time, as a whole number in another time: 0.5 a second is 1 in two seconds.
fn in_lowest_terms(count: u64, of: u32, per: Duration) -> Option<Rate> {
    let (mut a, mut b) = (count, u64::from(of));
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let count = count.checked_div(a)?;
    let per = per.checked_mul(u32::try_from(u64::from(of).checked_div(a)?).ok()?)?;
    let is_rate = count > 0 && !per.is_zero() && per <= LONGEST;
    is_rate.then_some(Rate { count, per })
}

/// A number from 1 on, of things in memory: a larger one than fits there is the largest.
pub(super) fn count(text: &str) -> Result<usize, String> {
    number(text).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

pub(super) fn count_limit(text: &str) -> Result<Limit<usize>, String> {
    Limit::parse(text, count)
}

/// The error of a size that no option can take.
const TOO_LARGE: &str = "16EiB or larger, which 64 bits can't hold";

/// A size in bytes, such as `65536`, `64KiB` or `1MB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        // What does not fit is taken for the largest number.
        Ok(ByteSize(u64::MAX)) if text != u64::MAX.to_string() => Err(TOO_LARGE.to_owned()),
        Ok(size) => Ok(size.as_u64()),
        Err(_) if is_whole(text) => Err(TOO_LARGE.to_owned()),
        Err(_) => Err("expected a size such as 65536, 64KiB or 1MiB".to_owned()),
    }
}

/// True for a number of digits alone.
fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn max_message(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("a message has at least one byte".to_owned()),
        n if n > ByteSize::gib(1).as_u64() => Err("larger than 1GiB".to_owned()),
        n => Ok(n),
    }
}

/// The size of a kernel's buffer, which is a 32-bit number there.
pub(super) fn buffer(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("expected more than 0".to_owned()),
        n => i32::try_from(n)
            .ok()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| "2GiB or larger".to_owned()),
    }
}

/// A number of messages, or with a unit a size.
pub(super) fn replay(text: &str) -> Result<Replay, String> {
    if let Ok(messages) = text.parse() {
        return Ok(Replay::Messages(messages));
    }
    match size(text) {
        Ok(bytes) => Ok(Replay::Bytes(bytes)),
        Err(e) if e == TOO_LARGE => Err("64 bits can't hold it".to_owned()),
        Err(_) => {
            Err("expected a number of messages such as 100, or a size such as 64KiB".to_owned())
        }
    }
}

pub(super) fn slow_consumer(text: &str) -> Result<SlowConsumer, String> {
    match text {
        "close" => Ok(SlowConsumer::Close),
        "skip" => Ok(SlowConsumer::Skip),
        _ => Err("expected close or skip".to_owned()),
    }
}

pub(super) fn on_eof(text: &str) -> Result<OnEof, String> {
    match text {
        "stay" => Ok(OnEof::Stay),
        "exit" => Ok(OnEof::Stop),
        _ => Err("expected stay or exit".to_owned()),
    }
}

pub(super) fn reply_on(text: &str) -> Result<ReplyOn, String> {
    match text {
        "connect" => Ok(ReplyOn::Connect),
        "message" => Ok(ReplyOn::Message),
        _ => Err("expected connect or message".to_owned()),
    }
}

/// A byte, decimal or with `0x` hexadecimal.
fn byte(text: &str) -> Option<u8> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u8::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

pub(super) fn tos(text: &str) -> Result<u8, String> {
    byte(text).ok_or_else(|| "expected a number from 0 to 255, such as 16 or 0x10".to_owned())
}

/// A code point by its number or its name (RFC 2474, 2597, 3246, 5865), as a type of service.
pub(super) fn dscp(text: &str) -> Result<u8, String> {
    let name = text.to_ascii_lowercase();
    let digit = |at: usize, most: u8| {
        let digit = name.as_bytes().get(at)?.checked_sub(b'0')?;
        (digit <= most).then_some(digit)
    };
    let class = match (name.as_str(), name.len()) {
        ("ef", _) => Some(46),
        ("va", _) => Some(44),
        ("le", _) => Some(1),
        (name, 3) if name.starts_with("cs") => digit(2, 7).map(|class| class * 8),
        (name, 4) if name.starts_with("af") => digit(2, 4)
            .zip(digit(3, 3))
            .filter(|(class, drop)| *class > 0 && *drop > 0)
            .map(|(class, drop)| class * 8 + drop * 2),
        (name, _) => byte(name).filter(|point| *point < 64),
    };
    class.map(|point| point << 2).ok_or_else(|| {
        "expected a number from 0 to 63 or a name such as ef, cs1 or af41".to_owned()
    })
}

/// The permissions of a file, in octal.
pub(super) fn unix_mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected permissions such as 0660, in octal".to_owned())
}

pub(super) fn bind_device(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 || text.contains(['\0', '/']) {
        return Err("expected the name of an interface, such as eth0".to_owned());
    }
    Ok(text.to_owned())
}

/// An address to listen on; the path of a Unix socket may be any bytes.
pub(super) fn listen() -> impl TypedValueParser<Value = Listen> {
    OsStringValueParser::new().try_map(|text: OsString| Listen::try_from(text.as_os_str()))
}

/// An address to connect to; the path of a Unix socket may be any bytes.
pub(super) fn address() -> impl TypedValueParser<Value = ListenAddress> {
    OsStringValueParser::new().try_map(|text: OsString| ListenAddress::try_from(text.as_os_str()))
}

/// An address to connect from; the path of a Unix socket may be any bytes.
pub(super) fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().try_map(|text: OsString| Source::try_from(text.as_os_str()))
}

/// Checks that a client can connect to the address: it is one address, with a port.
pub(super) fn check_destination(to: &ListenAddress) -> Result<(), String> {
    if to.is_dual_stack() {
        return Err(format!("'{to}' is not a single address to connect to"));
    }
    if let ListenAddress::Tcp { port: 0, .. } | ListenAddress::Udp { port: 0, .. } = to {
        return Err(format!("no server listens on port 0: '{to}'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;
    use proptest::prelude::*;

    #[test]
    fn code_points_have_names() {
        for (text, tos) in [
            ("ef", 0xb8),
            ("EF", 0xb8),
            ("cs0", 0),
            ("cs7", 0xe0),
            ("af11", 0x28),
            ("af43", 0x98),
            ("46", 0xb8),
            ("0x2e", 0xb8),
            ("le", 4),
            ("63", 0xfc),
        ] {
            assert_eq!(dscp(text), Ok(tos), "{text}");
        }
        for text in ["", "64", "cs8", "af14", "af01", "af50", "af1", "best", "-1"] {
            assert!(dscp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keepalive_has_up_to_three_parts() {
        let parts = |text: &str| {
            keepalive(text).map(|k| (k.idle.as_secs(), k.interval.map(|i| i.as_secs()), k.count))
        };
        assert_eq!(parts("60s"), Ok((60, None, None)));
        assert_eq!(parts("1m,10s"), Ok((60, Some(10), None)));
        assert_eq!(parts("60s,10s,3"), Ok((60, Some(10), Some(3))));
        for text in [
            "",
            "60",
            "1s,",
            "1s,1s,",
            "1s,1s,0",
            "1s,1s,128",
            "1ms",
            "1s,1s,3,4",
            "10h",
        ] {
            assert!(keepalive(text).is_err(), "{text}");
        }
    }

    /// Rates below one a second were refused.
    #[test]
    fn rates_may_be_fractions_and_have_units() {
        let of = |count, seconds| {
            let per = Duration::from_secs(seconds);
            Ok(Rate { count, per })
        };
        for (text, expected) in [
            ("20000", of(20_000, 1)),
            ("0.5", of(1, 2)),
            (".25", of(1, 4)),
            ("1.5", of(3, 2)),
            ("2.0", of(2, 1)),
            ("30/m", of(30, 60)),
            ("30/min", of(30, 60)),
            ("0.5/m", of(1, 120)),
            ("1/2s", of(1, 2)),
            ("7/1m30s", of(7, 90)),
            ("3/h", of(3, 3600)),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
        for text in [
            "",
            ".",
            "0",
            "0.0",
            "-1",
            "+1",
            "1e3",
            "1/",
            "/s",
            "1/0s",
            "1/2",
            "1/x",
            "0.5.5",
            "1/s/s",
            "0.00000000001",
            "1/101years",
            "18446744073709551616",
            "inf",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_buffers_and_names_have_bounds() {
        assert_eq!(unix_mode("0660"), Ok(0o660));
        assert_eq!(tos("0x10"), Ok(16));
        assert_eq!(defer_accept("5s"), Ok(5));
        assert_eq!(buffer("64KiB"), Ok(65536));
        for text in ["", "0888", "1000", "+7", "u+rw"] {
            assert!(unix_mode(text).is_err(), "{text}");
        }
        for text in ["0", "2GiB", "1EiB", "-1"] {
            assert!(buffer(text).is_err(), "{text}");
        }
        for text in ["256", "0x", "0x100", "0x+1", "-1", ""] {
            assert!(tos(text).is_err(), "{text}");
        }
        for text in ["", "averylonginterfacename", "a/b"] {
            assert!(bind_device(text).is_err(), "{text}");
        }
        assert_eq!(timeout("unlimited"), Ok(Limit::Unlimited));
        assert!(timeout("0s").is_err() && timeout("1ms").is_err());
    }

    proptest! {
        /// Each parser returns a value or an error.
        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9a-z,.x+-]{0,12}") {
            let _ = (dscp(&text), tos(&text), keepalive(&text), unix_mode(&text), buffer(&text));
            let _ = (timeout(&text), defer_accept(&text), replay(&text), heartbeat(&text));
            let _ = (rate(&text), rate(&format!("1/{text}")));
            let _ = (bind_device(&text), patience(&text), max_message(&text), reply_on(&text));
        }

        /// A size that is shown can be given.
        #[test]
        fn sizes_survive_a_round_trip(bytes in 0..1_u64 << 50) {
            prop_assert_eq!(size(&units::size(bytes)), Ok(bytes));
            prop_assert_eq!(size(&units::size(bytes >> 20 << 20)), Ok(bytes >> 20 << 20));
        }

        #[test]
        fn rates_survive_a_round_trip(count in 1_u64.., millis in 1_u64..1 << 40) {
            let given = Rate { count, per: Duration::from_millis(millis) };
            prop_assert_eq!(rate(&units::rate_given(given)), Ok(given));
        }

        #[test]
        fn durations_survive_a_round_trip(millis in 0..1_u64 << 40) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&units::duration(time)), Ok(time));
        }
    }
}
