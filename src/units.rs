//! Numbers and their units as text, for people.

use std::time::Duration;

use resound::load::Rate;

/// A count with separators: `182,331`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 client`, `1,200 clients`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(n))
}

/// A number per second, with one decimal below 100, and three below 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is rounded, and no rate is below 0"
)]
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 0.9995 && per_second > 0.0 {
        let text = format!("{per_second:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    if per_second < 99.95 && per_second.fract() != 0.0 {
        return format!("{per_second:.1}");
    }
    count(per_second.round() as u64)
}

/// A rate, as the command line takes it: `20000`, `30/m`, `1/2s`.
pub(crate) fn rate_given(rate: Rate) -> String {
    if rate.per == Duration::from_secs(1) {
        return rate.count.to_string();
    }
    let per = duration(rate.per);
    let unit = per
        .strip_prefix('1')
        .filter(|unit| unit.bytes().all(|b| b.is_ascii_alphabetic()));
    format!("{}/{}", rate.count, unit.unwrap_or(&per))
}

/// Bytes per second, in decimal units: `11.7 MB/s`.
pub(crate) fn bytes_rate(per_second: f64) -> String {
    let [number, unit] = scaled(per_second, ["B/s", "kB/s", "MB/s", "GB/s"]);
    format!("{number} {unit}")
}

/// An exact size, as the command line takes it: `64B`, `1280KiB`, `4MiB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}MiB", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    }
}

/// An exact duration, as the command line takes it: `1m 30s`.
pub(crate) fn duration(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// Nanoseconds as a latency of three digits: `812ns`, `23.1us`, `1.24ms`, `12.3s`.
#[expect(clippy::cast_precision_loss, reason = "it has three digits")]
pub(crate) fn latency(nanos: u64) -> String {
    scaled(nanos as f64, ["ns", "us", "ms", "s"]).concat()
}

/// A time in seconds with one decimal, below one second with three.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.95 {
        return format!("{seconds:.3}s");
    }
    format!("{seconds:.1}s")
}

/// A number of three digits and its unit. Each unit is a thousand of the one before it; the first
/// has no decimals.
fn scaled(n: f64, units: [&str; 4]) -> [String; 2] {
    let [first, others @ ..] = units;
    let (mut n, mut unit) = (n, first);
    for other in others {
        if n < 999.5 {
            break;
        }
        (n, unit) = (n / 1000.0, other);
    }
    let number = match n {
        n if unit == first || n >= 99.95 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    };
    [number, unit.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (182_331, "182,331"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(n), text);
        }
        assert_eq!(counted(1, "client"), "1 client");
        assert_eq!(counted(1200, "client"), "1,200 clients");
    }

    #[test]
    fn rates_have_a_unit_that_fits() {
        for (n, text) in [
            (0.0, "0"),
            (3.21, "3.2"),
            (0.5, "0.5"),
            (0.016_67, "0.017"),
            (0.9999, "1.0"),
            (99.96, "100"),
            (1234.5, "1,235"),
            (2e5, "200,000"),
        ] {
            assert_eq!(rate(n), text);
        }
        for (n, text) in [
            (0.0, "0 B/s"),
            (999.6, "1.00 kB/s"),
            (11_669_184.0, "11.7 MB/s"),
            (2.5e9, "2.50 GB/s"),
            (1e13, "10000 GB/s"),
        ] {
            assert_eq!(bytes_rate(n), text);
        }
    }

    #[test]
    fn given_rates_are_as_the_command_line_takes_them() {
        let given = |count, seconds| {
            let per = Duration::from_secs(seconds);
            rate_given(Rate { count, per })
        };
        assert_eq!(given(20_000, 1), "20000");
        assert_eq!([given(1, 2), given(30, 60)], ["1/2s", "30/m"]);
        assert_eq!([given(1, 90), given(5, 100)], ["1/1m 30s", "5/1m 40s"]);
    }

    #[test]
    fn latencies_have_three_digits() {
        for (n, text) in [
            (0, "0ns"),
            (812, "812ns"),
            (1000, "1.00us"),
            (23_100, "23.1us"),
            (99_960, "100us"),
            (999_600, "1.00ms"),
            (1_240_000, "1.24ms"),
            (12_345_678_901, "12.3s"),
            (3_600_000_000_000, "3600s"),
        ] {
            assert_eq!(latency(n), text);
        }
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(seconds(Duration::from_millis(300)), "0.300s");
        assert_eq!(seconds(Duration::from_millis(10_004)), "10.0s");
        assert_eq!(duration(Duration::from_secs(90)), "1m 30s");
        assert_eq!(size(64), "64B");
        assert_eq!(size(65_536), "64KiB");
        assert_eq!(size(3 << 20), "3MiB");
        assert_eq!(size(0), "0B");
    }
}
