//! What is seen while it runs, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use resound::{Interval, Load};

use super::units::{bytes_rate, count, latency, rate, seconds};

/// The bar is as wide as this, what is said of the last interval as there is room.
const STYLE: &str = "[{bar:20}] {wide_msg}";

/// How it is shown.
pub(super) enum Progress {
    Nothing,
    /// A line for each interval.
    Lines,
    /// A line that changes, of a load with so long a warm-up.
    Bar(ProgressBar, Duration),
}

impl Progress {
    /// Lines if they are wanted; else a bar, if there is somebody to look at it.
    pub(super) fn new(load: &Load, lines: bool, quiet: bool) -> Self {
        if lines {
            return Self::Lines;
        }
        if quiet || !io::stderr().is_terminal() {
            return Self::Nothing;
        }
        let style = ProgressStyle::with_template(STYLE);
        let style = style.expect("the template is sound").progress_chars("=> ");
        let length = millis(load.warmup.saturating_add(load.duration));
        // Nobody but this thread draws: it moves with the intervals.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.set_message("connecting");
        bar.tick();
        Self::Bar(bar, load.warmup)
    }

    pub(super) fn show(&self, interval: &Interval) {
        match self {
            Self::Nothing => {}
            // Whoever has closed it wants no lines.
            Self::Lines => drop(writeln!(io::stderr(), "{}", line(interval))),
            Self::Bar(bar, warmup) => {
                bar.set_position(millis(position(interval, *warmup)));
                bar.set_message(line(interval));
            }
        }
    }

    /// Leaves nothing of a bar.
    pub(super) fn end(&self) {
        if let Self::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}

/// How far the end of the interval is from the start of the warm-up.
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

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What there is to say of an interval.
fn line(interval: &Interval) -> String {
    let counts = &interval.counts;
    let per_second = |n| per_second(n, interval.length);
    let (messages, bytes) = (per_second(counts.messages), per_second(counts.bytes));
    let time = seconds(interval.from.saturating_add(interval.length));
    let mut parts = vec![format!("{time:>6}")];
    if interval.warmup {
        parts.push("warm-up".to_owned());
    }
    parts.push(format!("{} msg/s", rate(messages)));
    if counts.deliveries != counts.messages {
        parts.push(format!(
            "{} deliveries/s",
            rate(per_second(counts.deliveries))
        ));
    }
    parts.push(bytes_rate(bytes));
    if !counts.latency.is_empty() {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let at = counts.latency.value_at_quantile(quantile);
            parts.push(format!("{name} {}", latency(at)));
        }
    }
    parts.push(format!("errors {}", count(interval.faults.total())));
    parts.join("  ")
}

#[expect(clippy::cast_precision_loss, reason = "it is for people")]
fn per_second(n: u64, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use resound::Fault;

    use super::super::sample;
    use super::*;

    #[test]
    fn an_interval_is_a_line() {
        assert_eq!(
            line(&sample::interval()),
            "  2.0s  182,331 msg/s  11.7 MB/s  p50 231us  p99 3.20ms  max 3.20ms  errors 0"
        );
    }

    #[test]
    fn a_warm_up_is_marked_and_what_there_is_none_of_left_out() {
        let mut interval = sample::interval();
        (interval.warmup, interval.counts) = (true, sample::nothing());
        interval.from = Duration::ZERO;
        interval.length = Duration::from_millis(250);
        interval.faults.add(Fault::Refused, 1200);
        assert_eq!(
            line(&interval),
            "0.250s  warm-up  0 msg/s  0 B/s  errors 1,200"
        );
    }

    #[test]
    fn a_fan_out_is_also_delivered() {
        let mut interval = sample::interval();
        interval.counts.deliveries *= 100;
        let line = line(&interval);
        assert!(
            line.contains("182,331 msg/s  18,233,100 deliveries/s"),
            "{line}"
        );
    }

    #[test]
    fn the_bar_is_over_the_warm_up_and_what_is_measured() {
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
            Progress::Lines
        ));
        assert!(matches!(
            Progress::new(&sample::load(), false, true),
            Progress::Nothing
        ));
    }
}
