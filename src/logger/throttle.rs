//! A limit on warnings: clients cause most of them, and there is no limit on clients.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

/// Time in which a warning is counted.
const INTERVAL: Duration = Duration::from_secs(60);
/// Warnings of a kind that are logged in this time. Further ones are counted.
const MOST: u32 = 10;

/// Place in the source of a warning: its kind.
type Kind = (&'static str, u32);

/// The limit, for each kind by itself.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<BTreeMap<Kind, Window>>);

/// The present interval of a kind.
#[derive(Debug)]
struct Window {
    start: Instant,
    logged: u32,
    /// Warnings that were not logged.
    held_back: u64,
    /// The last one that was logged.
    example: String,
}

impl Throttle {
    /// True if a line is to be logged. Lines of detail are always logged.
    pub(super) fn admits(&self, record: &Record<'_>, now: Instant) -> bool {
        if record.level() > Level::Warn {
            return true;
        }
        let kind = (
            record.file_static().unwrap_or(""),
            record.line().unwrap_or(0),
        );
        let mut windows = self.lock();
        let window = windows.entry(kind).or_insert_with(|| Window::new(now));
        if now >= window.start + INTERVAL && window.held_back == 0 {
            *window = Window::new(now);
        }
        if window.logged < MOST {
            window.logged += 1;
            window.example = record.args().to_string();
            return true;
        }
        window.held_back += 1;
        false
    }

    /// The lines that tell of warnings that were held back in intervals that are over; of all, at the
    /// `end`.
    pub(super) fn summaries(&self, now: Instant, end: bool) -> Vec<String> {
        let mut summaries = Vec::new();
        self.lock().retain(|_, window| {
            let over = end || now >= window.start + INTERVAL;
            if over && window.held_back > 0 {
                let Window {
                    held_back, example, ..
                } = window;
                summaries.push(format!("{held_back} more like: {example}"));
            }
            !over
        });
        summaries
    }

    /// The time at which the next summary is due, if there is one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let windows = self.lock();
        let held_back = windows.values().filter(|window| window.held_back > 0);
        held_back.map(|window| window.start + INTERVAL).min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(start: Instant) -> Self {
        Self {
            start,
            logged: 0,
            held_back: 0,
            example: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs a line of this kind a number of times; returns how many are logged.
    fn log(throttle: &Throttle, level: Level, kind: u32, times: usize, now: Instant) -> usize {
        let admitted = (0..times).filter(|number| {
            let text = format!("client {number}");
            let args = format_args!("{text}");
            let mut record = Record::builder();
            record
                .level(level)
                .file_static(Some("x.rs"))
                .line(Some(kind));
            throttle.admits(&record.args(args).build(), now)
        });
        admitted.count()
    }

    #[test]
    fn warnings_of_a_kind_are_limited_and_counted() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.deadline(), None);
        assert_eq!(log(&throttle, Level::Warn, 1, 10, start), 10);
        assert_eq!(throttle.deadline(), None);
        assert_eq!(log(&throttle, Level::Warn, 1, 550, start), 0);
        assert_eq!(log(&throttle, Level::Error, 2, 560, start), 10);
        assert_eq!(log(&throttle, Level::Info, 3, 560, start), 560);
        assert_eq!(throttle.deadline(), Some(start + INTERVAL));
        let early = start + Duration::from_secs(59);
        assert!(throttle.summaries(early, false).is_empty());
        let all = ["550 more like: client 9"; 2];
        assert_eq!(throttle.summaries(start + INTERVAL, false), all);
        assert_eq!(throttle.deadline(), None);
        assert_eq!(log(&throttle, Level::Warn, 1, 15, start + INTERVAL), 10);
        let rest = throttle.summaries(start + INTERVAL, true);
        assert_eq!(rest, ["5 more like: client 9"]);
        assert!(throttle.summaries(start + INTERVAL, true).is_empty());
    }

    #[test]
    fn interval_begins_with_its_first_warning() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for interval in 0..5 {
            let now = start + INTERVAL * interval;
            assert_eq!(log(&throttle, Level::Warn, 1, 10, now), 10);
        }
    }
}
