//! Progress on standard error while the load runs.

use std::time::Duration;

use resound::load::{Interval, Load};

use super::bar::Bar;
use crate::logger::{self, StandardError};
use crate::units::{bytes_rate, count, latency, rate, seconds};

/// The form of the progress.
pub(crate) enum Progress {
    Nothing,
    /// A line for each interval of a load of this duration.
    Lines(Duration),
    /// A bar that is drawn anew, of a load with this warm-up.
    Bar(Bar, Duration),
}

impl Progress {
    /// Lines if they are asked for, otherwise a bar if standard error is a terminal.
    pub(crate) fn new(load: &Load, lines: bool, quiet: bool) -> Self {
        if lines {
            return Self::Lines(load.duration);
        }
        let length = load.warmup.saturating_add(load.duration);
        let Some(bar) = Bar::new(length).filter(|_| !quiet) else {
            return Self::Nothing;
        };
        bar.draw(Duration::ZERO, "connecting");
        Self::Bar(bar, load.warmup)
    }

    pub(crate) fn show(&self, interval: &Interval) {
        match self {
            Self::Nothing => {}
            Self::Lines(duration) => {
                StandardError::print(&format!("{}\n", line(interval, *duration)));
            }
            Self::Bar(bar, warmup) => {
                bar.draw(position(interval, *warmup), &summary(interval));
            }
        }
    }

    /// Removes the bar. What is written to standard output from here on comes after the progress.
    pub(crate) fn end(&self) {
        if let Self::Bar(..) = self {
            Bar::clear();
        }
        logger::flush();
    }
}

/// Time from the start of the warm-up to the end of the interval.
fn position(interval: &Interval, warmup: Duration) -> Duration {
    let before = if interval.warmup {
        Duration::ZERO
    } else {
        warmup
    };
    before
        .saturating_add(interval.from)
        .saturating_add(interval.length)
}

/// The line of an interval, in a load of this duration.
fn line(interval: &Interval, duration: Duration) -> String {
    let counts = &interval.counts;
    let end = interval.from.saturating_add(interval.length);
    let mut parts = vec![time(end, interval.length)];
    if interval.warmup {
        parts.push("warm-up".to_owned());
    }
    if !interval.warmup && interval.from >= duration {
        // After the end the messages in flight return; they have no rate.
        parts.push(format!(
            "after the end: {} messages",
            count(counts.messages)
        ));
    } else {
        parts.extend(rates(interval));
        parts.push(bytes_rate(per_second(counts.bytes, interval.length)));
    }
    parts.extend(latencies(interval));
    parts.push(errors(interval));
    parts.join("  ")
}

/// The interval in a bar's few columns, the most important figures first.
fn summary(interval: &Interval) -> String {
    let end = interval.from.saturating_add(interval.length);
    let mut parts = vec![time(end, interval.length)];
    if interval.warmup {
        parts.push("warm-up".to_owned());
    }
    parts.extend(rates(interval));
    if interval.faults.total() > 0 {
        parts.push(errors(interval));
    }
    parts.extend(latencies(interval));
    parts.join(" ")
}

/// A time with the decimals that intervals of this length need.
fn time(time: Duration, interval: Duration) -> String {
    if interval < Duration::from_millis(950) {
        return format!("{:>7.3}s", time.as_secs_f64());
    }
    format!("{:>6}", seconds(time))
}

fn rates(interval: &Interval) -> Vec<String> {
    let counts = &interval.counts;
    let messages = rate(per_second(counts.messages, interval.length));
    let mut rates = vec![format!("{messages} msg/s")];
    if counts.deliveries != counts.messages {
        let deliveries = rate(per_second(counts.deliveries, interval.length));
        rates.push(format!("{deliveries} deliveries/s"));
    }
    rates
}

fn latencies(interval: &Interval) -> Vec<String> {
    let latencies = &interval.counts.latency;
    // Waits for answers that never arrived are no latencies.
    if latencies.is_empty() || interval.counts.messages == 0 {
        return Vec::new();
    }
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];
    let at = |(name, quantile)| {
        let at = latencies.value_at_quantile(quantile);
        format!("{name} {}", latency(at))
    };
    quantiles.map(at).into()
}

fn errors(interval: &Interval) -> String {
    format!("errors {}", count(interval.faults.total()))
}

#[expect(clippy::cast_precision_loss, reason = "it is rounded for people")]
fn per_second(n: u64, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use resound::load::Fault;

    use super::super::sample;
    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn messages_after_the_end_have_no_rate() {
        let mut interval = sample::interval();
        interval.from = Duration::from_secs(10);
        interval.length = Duration::from_micros(20);
        let line = line(&interval, Duration::from_secs(10));
        let expected = " 10.000s  after the end: 182,331 messages  p50 231us";
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn a_bar_has_rate_and_errors_first() {
        let mut interval = sample::interval();
        assert_eq!(
            summary(&interval),
            "  2.0s 182,331 msg/s p50 231us p99 3.20ms max 3.20ms"
        );
        interval.faults.add(Fault::Lost, 3);
        let summary = summary(&interval);
        assert!(
            summary.starts_with("  2.0s 182,331 msg/s errors 3 p50"),
            "{summary}"
        );
    }

    #[test]
    fn an_interval_is_a_line() {
        assert_eq!(
            line(&sample::interval(), LONG),
            "  2.0s  182,331 msg/s  11.7 MB/s  p50 231us  p99 3.20ms  max 3.20ms  errors 0"
        );
    }

    #[test]
    fn a_warm_up_is_marked_and_absent_latencies_are_left_out() {
        let mut interval = sample::interval();
        interval.warmup = true;
        let latency = interval.counts.latency.clone(); // of messages that were never answered
        interval.counts = sample::nothing();
        interval.counts.latency = latency;
        interval.from = Duration::ZERO;
        interval.length = Duration::from_millis(250);
        interval.faults.add(Fault::Refused, 1200);
        assert_eq!(
            line(&interval, LONG),
            "  0.250s  warm-up  0 msg/s  0 B/s  errors 1,200"
        );
    }

    #[test]
    fn a_fan_out_also_has_deliveries() {
        let mut interval = sample::interval();
        interval.counts.deliveries *= 100;
        let line = line(&interval, LONG);
        assert!(
            line.contains("182,331 msg/s  18,233,100 deliveries/s"),
            "{line}"
        );
    }

    #[test]
    fn the_bar_covers_warm_up_and_measurement() {
        let mut interval = sample::interval();
        let warmup = Duration::from_secs(5);
        assert_eq!(position(&interval, warmup), Duration::from_secs(7));
        interval.warmup = true;
        assert_eq!(position(&interval, warmup), Duration::from_secs(2));
    }

    #[test]
    fn without_a_terminal_there_is_no_bar() {
        assert!(matches!(
            Progress::new(&sample::load(), true, true),
            Progress::Lines(_)
        ));
        assert!(matches!(
            Progress::new(&sample::load(), false, true),
            Progress::Nothing
        ));
    }
}
