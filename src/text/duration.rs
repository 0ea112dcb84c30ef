//! Durations as text.

use std::time::Duration;

/// Units in nanoseconds, the longest first. A year has 365.25 days, a month 30.44.
const UNITS: [(&str, u128); 9] = [
    ("year", 31_557_600_000_000_000),
    ("month", 2_630_016_000_000_000),
    ("day", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

/// An exact duration, such as `1m 30s` or `2days 250ms`.
pub(crate) fn duration(time: Duration) -> String {
    let mut rest = time.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in UNITS {
        let n = rest / nanos;
        rest %= nanos;
        let has_plural = unit.len() > 2;
        match n {
            0 => {}
            n if n > 1 && has_plural => parts.push(format!("{n}{unit}s")),
            n => parts.push(format!("{n}{unit}")),
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_of_zero_are_left_out() {
        for (time, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(90), "1m 30s"),
            (Duration::from_micros(1500), "1ms 500us"),
            (Duration::from_secs(86_400 * 3 + 1), "3days 1s"),
            (Duration::from_secs(31_557_600 + 2_630_016), "1year 1month"),
        ] {
            assert_eq!(duration(time), text);
        }
    }

    proptest! {
        /// The command line, which takes durations in this form, shows them in the same form.
        #[test]
        fn the_form_is_that_of_the_command_line(secs in 0..1_u64 << 40, nanos in 0..1_000_000_000_u32) {
            let time = Duration::new(secs, nanos);
            prop_assert_eq!(duration(time), humantime::format_duration(time).to_string());
        }
    }
}
