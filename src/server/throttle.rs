//! Log lines about conditions that last and are met often: at most one a minute.

use std::time::{Duration, Instant};

use log::{debug, warn};

/// The shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// Limits the log lines about one condition: it keeps the time of the last line.
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Option<Instant>);

impl LogThrottle {
    /// Logs a warning, at most once in [`INTERVAL`].
    pub(super) fn warn(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.is_due(now) {
            warn!("{}", text());
        }
    }

    /// The same for a line of detail.
    pub(super) fn debug(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.is_due(now) {
            debug!("{}", text());
        }
    }

    /// True if a line is due; it then counts as logged.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|at| now >= at + INTERVAL);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_due_once_a_minute() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let mut due = |second| throttle.is_due(start + Duration::from_secs(second));
        let due: Vec<bool> = [0, 1, 59, 60, 61, 120].map(&mut due).into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
