//! A histogram of latencies, as bars of text.

use std::fmt::Write;

use resound::load::Latencies;

use crate::units::{count, latency};

/// Maximum number of rows.
const ROWS: usize = 14;

/// Characters of the longest bar; with its labels a row has at most 79.
const LONGEST: u64 = 36;

/// A histogram whose rows grow in width by the same factor; empty without latencies.
pub(super) fn bars(latencies: &Latencies) -> String {
    let mut text = String::new();
    let rows = rows(latencies);
    let most = rows.iter().map(|row| row.count).max().unwrap_or(0);
    for Row { from, to, count: n } in rows {
        // A row with at least one latency has a bar.
        let length = n.saturating_mul(LONGEST).div_ceil(most.max(1));
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        let share = percent(n, latencies.len());
        let (from, to, n) = (latency(from), latency(to), count(n));
        let row = format!("{from:>7} .. {to:<7} {bar:<36} {n:>14} {share:>5.1}%");
        let _ = writeln!(text, "{row}"); // a String takes everything
    }
    text
}

/// The number of latencies between two bounds, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Row {
    from: u64,
    to: u64,
    count: u64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are for people, and lie between the least and the largest"
)]
fn rows(latencies: &Latencies) -> Vec<Row> {
    let recorded: Vec<(u64, u64)> = latencies
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .collect();
    let (least, largest) = (latencies.min().max(1), latencies.max().max(1));
    let n = ROWS.min(recorded.len());
    let step = root(largest as f64 / least as f64, n.max(1));
    let bound = |at: usize| match at {
        0 => least,
        at if at == n => largest,
        at => (0..at).fold(least as f64, |bound, _| bound * step).round() as u64,
    };
    let mut rows: Vec<Row> = (0..n)
        .map(|at| (bound(at), bound(at + 1)))
        .map(|(from, to)| Row { from, to, count: 0 })
        .collect();
    for (nanos, count) in recorded {
        let found = rows.iter_mut().find(|row| nanos <= row.to);
        if let Some(row) = found {
            row.count += count;
        }
    }
    rows
}

/// The `n`th root of `x`, which is at least 1, by Newton's method.
///
/// `powf` would be the only function of libm: each start of a server would map 300 KiB for it.
#[expect(clippy::cast_precision_loss, reason = "there are few rows")]
fn root(x: f64, n: usize) -> f64 {
    let mut root = x;
    loop {
        let power = (1..n).fold(1.0, |power, _| power * root);
        let next = root - (root - x / power) / n as f64;
        if next >= root {
            return root;
        }
        root = next;
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
fn percent(n: u64, of: u64) -> f64 {
    n as f64 * 100.0 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::sample::latencies;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_latencies_have_no_rows() {
        assert_eq!(bars(&latencies(&[])), "");
    }

    #[test]
    fn root_is_as_exact_as_a_number_is() {
        for x in [1.0, 1.000_001, 2.0, 1e6, 1.8e19_f64] {
            for n in 1..=20_u8 {
                let expected = x.powf(f64::from(n).recip());
                let error = (root(x, n.into()) / expected - 1.0).abs();
                assert!(error < 1e-14, "{x} {n}: {error}");
            }
        }
    }

    #[test]
    fn one_latency_is_one_bar() {
        let text = bars(&latencies(&[(231_000, 1200)]));
        let bar = "#".repeat(36);
        assert_eq!(
            text,
            format!("  231us .. 231us   {bar}          1,200 100.0%\n")
        );
    }

    #[test]
    fn bounds_grow_by_a_factor_and_rare_latencies_show() {
        // Ten values in each doubling, every second of them frequent.
        let all: Vec<(u64, u64)> = (0..140)
            .map(|n| ((100 << (n / 10)) * (10 + n % 10), 1 + 10_000 * (n % 2)))
            .collect();
        let text = bars(&latencies(&all));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS, "{text}");
        assert!(lines[0].starts_with(" 1.00us .. 1.99us "), "{text}");
        assert!(lines[ROWS - 1].contains(".. 15.6ms"), "{text}");
        assert!(lines.iter().all(|line| line.contains('#')), "{text}");
    }

    proptest! {
        /// Each latency is counted once, and each row fits a terminal.
        #[test]
        fn rows_count_every_latency(
            all in prop::collection::vec((0..4_000_000_000_000_u64, 1..1_000_000_u64), 0..50),
        ) {
            let latencies = latencies(&all);
            let rows = rows(&latencies);
            let sum: u64 = rows.iter().map(|row| row.count).sum();
            prop_assert_eq!(sum, latencies.len());
            prop_assert!(rows.len() <= ROWS);
            let text = bars(&latencies);
            prop_assert!(text.is_ascii());
            prop_assert!(text.lines().all(|line| line.len() <= 79), "{}", text);
        }
    }
}
