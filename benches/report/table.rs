//! Tables, which are read in a terminal as well as in a README: Markdown, in columns.

use std::fmt::Write;

use super::results::{Measured, Moved};

/// The other programs, in the order of the columns.
pub(crate) const PEERS: [&str; 3] = ["floor", "tokio", "threads"];

/// The cell of a program that was not measured.
const NOTHING: &str = "–";

/// The order of the benches; others follow.
const BENCHES: [&str; 4] = ["echo", "broadcast", "udp", "bulk"];

/// For each group the throughput of `subject`, and how many times that of each peer it is. Empty
/// if `subject` wasn't measured.
pub(crate) fn speed(measured: &[Measured], subject: &str) -> String {
    let ours = || measured.iter().filter(|one| one.function == subject);
    let mut groups: Vec<&str> = ours().map(|one| one.group.as_str()).collect();
    groups.sort_by_cached_key(|group| natural(group));
    groups.dedup();
    if groups.is_empty() {
        return String::new();
    }
    let header = ["", subject, "an iteration"].map(String::from).into_iter();
    let header = header.chain(PEERS.map(|peer| format!("÷ {peer}")));
    let mut rows = vec![header.collect()];
    for group in groups {
        let mut rounds: Vec<&Measured> = ours().filter(|one| one.group == group).collect();
        let peers = PEERS.map(|peer| ratio(&rounds, measured, peer));
        rounds.sort_by(|one, other| one.median.total_cmp(&other.median));
        let middle = rounds[rounds.len() / 2];
        let mut row = vec![
            group.to_string(),
            throughput(middle),
            duration(middle.median),
        ];
        row.extend(peers);
        rows.push(row);
    }
    markdown(&rows)
}

/// The ratio of our speed to a peer's: of one round with the confidence intervals of both, of several
/// the middle one with half of what lies between the least and the most.
fn ratio(rounds: &[&Measured], measured: &[Measured], peer: &str) -> String {
    let pairs = rounds.iter().filter_map(|one| {
        let same =
            |m: &&Measured| m.group == one.group && m.function == peer && m.round == one.round;
        Some((*one, measured.iter().find(same)?))
    });
    let ratio = |(one, other): (&Measured, &Measured)| {
        let ratio = other.median / one.median;
        (ratio, ratio * one.spread.hypot(other.spread))
    };
    let mut ratios: Vec<(f64, f64)> = pairs.map(ratio).collect();
    ratios.sort_by(|one, other| one.0.total_cmp(&other.0));
    match ratios[..] {
        [] => NOTHING.to_string(),
        [(ratio, spread)] => format!("{ratio:.2} ± {spread:.2}"),
        [(least, _), .., (most, _)] => {
            let (middle, _) = ratios[ratios.len() / 2];
            format!("{middle:.2} ± {:.2}", (most - least) / 2.0)
        }
    }
}

fn throughput(one: &Measured) -> String {
    let per_second = |count: u64| {
        #[allow(clippy::cast_precision_loss, reason = "three digits of it are shown")]
        let count = count as f64;
        count * 1e9 / one.median
    };
    match one.moved {
        Moved::Messages(count) => format!(
            "{} messages/s",
            short(per_second(count), 1000.0, ["", " k", " M"])
        ),
        Moved::Bytes(count) => format!(
            "{}B/s",
            short(per_second(count), 1024.0, [" ", " Ki", " Mi"])
        ),
    }
}

fn duration(nanoseconds: f64) -> String {
    let [small, middle, large] = [" µs", " ms", " s"];
    short(nanoseconds / 1e3, 1000.0, [small, middle, large])
}

/// Three digits or more of a number, in the largest of three units of which it has one.
fn short(number: f64, base: f64, units: [&str; 3]) -> String {
    let [small, middle, large] = units;
    let (number, unit) = if number < base {
        (number, small)
    } else if number < base * base {
        (number / base, middle)
    } else {
        (number / base / base, large)
    };
    let places = match number {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{number:.places$}{unit}")
}

/// The first row is the header; the first column is text, the others are numbers.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        line(&mut text, row, &widths);
        if number == 0 {
            rule(&mut text, &widths);
        }
    }
    text
}

fn line(text: &mut String, row: &[String], widths: &[usize]) {
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let written = if column == 0 {
            write!(text, "| {cell:width$} ")
        } else {
            write!(text, "| {cell:>width$} ")
        };
        written.expect("a string takes everything");
    }
    text.push_str("|\n");
}

fn rule(text: &mut String, widths: &[usize]) {
    for (column, width) in widths.iter().enumerate() {
        let colon = if column == 0 { "-" } else { ":" };
        text.push_str("|-");
        text.push_str(&"-".repeat(*width));
        text.push_str(colon);
    }
    text.push_str("|\n");
}

/// By bench, then as a person would sort: 50 before 1,000, 64 B before 4 KiB.
fn natural(group: &str) -> (usize, Vec<(String, u64)>) {
    let bench = group.split('/').next().unwrap_or(group);
    let place = BENCHES.iter().position(|&name| name == bench);
    let mut key = Vec::new();
    let mut rest = group;
    while !rest.is_empty() {
        let text = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, numbered) = rest.split_at(text);
        let digits = numbered.find(|c: char| !c.is_ascii_digit() && c != ',');
        let (digits, after) = numbered.split_at(digits.unwrap_or(numbered.len()));
        let number = digits.replace(',', "").parse().unwrap_or(0);
        let unit = if after.starts_with(" KiB") { 1024 } else { 1 };
        key.push((text.to_string(), number * unit));
        rest = after;
    }
    (place.unwrap_or(BENCHES.len()), key)
}
