//! The results as a table, for people.

use std::fmt::Write;

use resound::load::{Fault, Faults, Latencies, Load, LoadEnd, LoadMode, LoadOutcome};

use super::bars::bars;
use crate::units::{bytes_rate, count, counted, latency, rate, rate_given, seconds, size};

/// The quantiles shown, beside the maximum.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A headline, the table and the histogram.
pub(crate) fn text(load: &Load, outcome: &LoadOutcome) -> String {
    let mut text = format!("{}\n\n", headline(load, outcome));
    for (label, value) in rows(load, outcome) {
        let _ = writeln!(text, "{label:<16}{value}"); // a String takes everything
    }
    let bars = bars(&outcome.counts.latency);
    // Waits for answers that never arrived are no latencies.
    if !bars.is_empty() && outcome.counts.messages > 0 {
        let _ = write!(text, "\n{bars}");
    }
    text
}

/// The load and its length.
fn headline(load: &Load, outcome: &LoadOutcome) -> String {
    let mut parts = vec![
        clients(load),
        format!("{} a message", size(load.size as u64)),
    ];
    if has_depth(load.mode) {
        parts.push(match load.depth {
            usize::MAX => "depth unlimited".to_owned(),
            depth => format!("depth {depth}"),
        });
    }
    if let Some(rate) = load.rate {
        parts.push(match rate_given(rate) {
            given if given.contains('/') => format!("{given} wanted"),
            _ => format!("{}/s wanted", count(rate.count)),
        });
    }
    if load.verify {
        parts.push("verified".to_owned());
    }
    if !load.spin {
        parts.push("sleeping".to_owned());
    }
    let end = match outcome.end {
        LoadEnd::Duration => "",
        LoadEnd::Interrupted => ", interrupted",
        LoadEnd::Abandoned => ", no client was left",
    };
    parts.push(format!("{}{end}", seconds(outcome.elapsed)));
    let (mode, parts) = (load.mode.name(), parts.join(", "));
    format!("{mode} {}: {parts}", load.to)
}

/// True if messages of the mode are in flight until they have returned.
pub(super) fn has_depth(mode: LoadMode) -> bool {
    matches!(mode, LoadMode::Echo | LoadMode::Stream | LoadMode::Fanout)
}

fn clients(load: &Load) -> String {
    match load.mode {
        LoadMode::Fanout => {
            let from = counted(load.publishers as u64, "publisher");
            format!("{from} to {}", counted(load.clients as u64, "subscriber"))
        }
        _ => counted(load.clients as u64, "client"),
    }
}

/// The rows: labels and values.
fn rows(load: &Load, outcome: &LoadOutcome) -> Vec<(&'static str, String)> {
    let mut rows = throughput(load.mode, outcome);
    rows.push(("clients", connected(load, outcome)));
    if load.slow > 0 {
        let (slow, closed) = (counted(load.slow as u64, "client"), outcome.slow_closed);
        rows.push((
            "slow readers",
            format!("{slow}, of which the server has closed {closed}"),
        ));
    }
    let counts = &outcome.counts;
    let (all, last) = match load.mode {
        LoadMode::Fanout => ("first receiver", "last receiver"),
        _ => ("", "latency"),
    };
    let latencies = [
        (all, &counts.first),
        (last, &counts.latency),
        ("connecting", &counts.connect),
    ];
    // Waits for answers that never arrived are no latencies.
    let is_shown = |label| match counts.messages {
        0 => label != last && counts.deliveries > 0,
        _ => true,
    };
    let mut latencies: Vec<_> = latencies
        .iter()
        .filter(|(label, latencies)| !latencies.is_empty() && is_shown(*label))
        .map(|(label, latencies)| (*label, quantiles(latencies)))
        .collect();
    if !latencies.is_empty() {
        latencies.insert(0, ("", quantile_names()));
    }
    rows.extend(latencies);
    rows.push(("errors", errors(&outcome.faults)));
    rows
}

/// Messages and bytes, in all and per second.
fn throughput(mode: LoadMode, outcome: &LoadOutcome) -> Vec<(&'static str, String)> {
    let counts = &outcome.counts;
    let row = |n: u64, noun: &str| {
        let per_second = rate(outcome.per_second(n));
        format!("{per_second} {noun}/s ({} in all)", count(n))
    };
    let mut rows = match mode {
        LoadMode::Fanout => vec![
            ("published", row(counts.messages, "messages")),
            ("delivered", row(counts.deliveries, "messages")),
        ],
        LoadMode::Churn => vec![("throughput", row(counts.messages, "connections"))],
        _ => vec![("throughput", row(counts.messages, "messages"))],
    };
    let bytes = bytes_rate(outcome.per_second(counts.bytes));
    rows.push(("", format!("{bytes} ({} bytes)", count(counts.bytes))));
    rows
}

fn connected(load: &Load, outcome: &LoadOutcome) -> String {
    let wanted = load.clients + load.publishers;
    let at_most = outcome.clients;
    format!("{at_most} of {wanted} connected at the same time")
}

fn quantile_names() -> String {
    let names = QUANTILES.iter().map(|(name, _)| *name).chain(["max"]);
    columns(names.map(str::to_owned))
}

fn quantiles(latencies: &Latencies) -> String {
    let values = QUANTILES.iter();
    let values = values.map(|(_, quantile)| latencies.value_at_quantile(*quantile));
    columns(values.chain([latencies.max()]).map(latency))
}

fn columns(values: impl Iterator<Item = String>) -> String {
    let columns: Vec<String> = values.map(|value| format!("{value:<10}")).collect();
    columns.concat().trim_end().to_owned()
}

/// The count of each kind of error, and the cause of the first lost connection.
fn errors(faults: &Faults) -> String {
    let kinds = Fault::ALL.iter().filter(|kind| faults.count(**kind) > 0);
    let kinds = kinds.map(|kind| format!("{} {}", count(faults.count(*kind)), kind.name()));
    let kinds: Vec<String> = kinds.collect();
    match (kinds.is_empty(), faults.cause()) {
        (true, _) => "none".to_owned(),
        (false, None) => kinds.join(", "),
        (false, Some(cause)) => format!("{} ({cause})", kinds.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// The text without the bars.
    fn above_the_bars(load: &Load, outcome: &LoadOutcome) -> String {
        let text = text(load, outcome);
        let mut parts = text.split("\n\n");
        let parts = [parts.next(), parts.next()].map(Option::unwrap_or_default);
        parts.map(|part| part.trim_end().to_owned()).join("\n")
    }

    #[test]
    fn an_echo_has_messages_and_latencies() {
        assert_eq!(
            above_the_bars(&sample::load(), &sample::outcome()),
            "\
echo 127.0.0.1:9999: 50 clients, 64B a message, depth 1, 10.0s
throughput      182,331 messages/s (1,823,310 in all)
                11.7 MB/s (116,691,840 bytes)
clients         50 of 50 connected at the same time
                p50       p90       p99       p99.9     max
latency         231us     231us     3.20ms    3.20ms    3.20ms
connecting      52.0us    52.0us    52.0us    52.0us    52.0us
errors          none"
        );
    }

    #[test]
    fn a_fan_out_has_two_rates_and_two_latencies() {
        let (load, mut outcome) = sample::fanout();
        outcome.end = LoadEnd::Interrupted;
        outcome.faults.add(Fault::Lost, 1200);
        outcome.faults.add(Fault::Reset, 1);
        assert_eq!(
            above_the_bars(&load, &outcome),
            "\
fanout 127.0.0.1:9999: 1 publisher to 100 subscribers, 64B a message, depth unlimited, \
20,000/s wanted, 10.0s, interrupted
published       182,331 messages/s (1,823,310 in all)
delivered       18,233,100 messages/s (182,331,000 in all)
                1.17 GB/s (11,669,184,000 bytes)
clients         101 of 101 connected at the same time
slow readers    3 clients, of which the server has closed 2
                p50       p90       p99       p99.9     max
first receiver  81.2us    81.2us    81.2us    81.2us    81.2us
last receiver   231us     231us     3.20ms    3.20ms    3.20ms
connecting      52.0us    52.0us    52.0us    52.0us    52.0us
errors          1 reset, 1,200 lost"
        );
    }

    #[test]
    fn absent_figures_have_no_row() {
        let mut load = sample::load();
        load.mode = LoadMode::Sink;
        load.clients = 1;
        load.verify = true;
        let outcome = LoadOutcome {
            end: LoadEnd::Abandoned,
            counts: sample::nothing(),
            clients: 1,
            ..sample::outcome()
        };
        assert_eq!(
            text(&load, &outcome),
            "\
sink 127.0.0.1:9999: 1 client, 64B a message, verified, 10.0s, no client was left

throughput      0 messages/s (0 in all)
                0 B/s (0 bytes)
clients         1 of 1 connected at the same time
errors          none
"
        );
    }

    /// A table and a histogram of messages that were never answered were shown.
    #[test]
    fn waits_without_an_answer_are_no_latencies() {
        let mut outcome = sample::outcome();
        outcome.counts.messages = 0;
        outcome.counts.deliveries = 0;
        outcome.counts.bytes = 0;
        outcome.faults.add(Fault::Unanswered, 50);
        assert_eq!(
            text(&sample::load(), &outcome),
            "\
echo 127.0.0.1:9999: 50 clients, 64B a message, depth 1, 10.0s

throughput      0 messages/s (0 in all)
                0 B/s (0 bytes)
clients         50 of 50 connected at the same time
errors          50 unanswered
"
        );
        // In fan-out some receivers may have got what others have not.
        let (load, mut outcome) = sample::fanout();
        outcome.counts.messages = 0;
        let text = text(&load, &outcome);
        assert!(text.contains("first receiver  81.2us"), "{text}");
        assert!(
            !text.contains("last receiver") && !text.contains('#'),
            "{text}"
        );
    }

    #[test]
    fn churn_counts_connections() {
        let mut load = sample::load();
        load.mode = LoadMode::Churn;
        let text = text(&load, &sample::outcome());
        assert!(text.contains("182,331 connections/s"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 79), "{text}");
    }
}
