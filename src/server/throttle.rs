//! Log lines about conditions that last and are met often: at most one a minute.

use std::time::{Duration, Instant};

use log::{debug, warn};

use crate::text::plural;

/// The shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// Limits the log lines about one condition.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    /// The time of the last line.
    last: Option<Instant>,
    /// Lines held back since then.
    held_back: u64,
}

impl LogThrottle {
    /// Logs a warning, at most once in [`INTERVAL`], with the number of those held back since the last.
    pub(super) fn warn(&mut self, now: Instant, text: impl FnOnce() -> String) {
        match self.due(now) {
            None => {}
            Some(0) => warn!("{}", text()),
            Some(held_back) => {
                let more = plural(held_back, "more warning");
                warn!("{} ({more} since the last)", text());
            }
        }
    }

    /// The same for a warning that says a total itself.
    pub(super) fn warn_of_total(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.due(now).is_some() {
            warn!("{}", text());
        }
    }

    /// The same for a line of detail.
    pub(super) fn debug_total(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.due(now).is_some() {
            debug!("{}", text());
        }
    }

    /// The number of lines held back since the last, if one is due; it then counts as logged.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|at| now < at + INTERVAL) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_due_once_a_minute_and_counts_those_held_back() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let mut due = |second| throttle.due(start + Duration::from_secs(second));
        let due = [0, 1, 59, 60, 61, 120, 180].map(&mut due);
        let expected = [Some(0), None, None, Some(2), None, Some(1), Some(0)];
        assert_eq!(due, expected);
    }
}
