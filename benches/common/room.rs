//! A wait until all clients of a broadcast are in the room.

use std::time::Duration;

use super::client::{Client, give_up};

/// Bytes in a line.
pub(crate) const LINE: usize = 64;

/// The time that a client waits for a probe before another is sent.
const PROBE: Duration = Duration::from_millis(20);

/// Number of probes after which a client that has seen none is given up.
const PROBES: usize = 500;

/// All clients have joined when each has seen a probe of the publisher; then a last line, which
/// follows every probe, marks their end.
pub(crate) fn gather<'a>(publisher: &mut Client, others: impl Iterator<Item = &'a mut Client>) {
    let (probe, last) = (lines("probe", 1), lines("last", 1));
    let mut others: Vec<&mut Client> = others.collect();
    for client in &others {
        let joined = (0..PROBES).any(|_| {
            let seen = client.has_input(PROBE);
            if !seen {
                publisher.send(&probe);
            }
            seen
        });
        if !joined {
            give_up("a client of the room was never served");
        }
    }
    publisher.send(&last);
    let mut line = [0; LINE];
    for client in &mut others {
        while line != last[..] {
            client.fill(&mut line);
        }
        line.fill(0);
    }
}

/// Numbered lines of equal length.
pub(crate) fn lines(text: &str, count: usize) -> Vec<u8> {
    let line = |n| format!("{text} {n:0width$}\n", width = LINE - text.len() - 2);
    (0..count).map(line).collect::<String>().into_bytes()
}
