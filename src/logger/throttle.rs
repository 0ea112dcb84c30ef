//! A limit on warnings: clients cause most of them, and there is no limit on clients.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use log::{Level, Metadata, Record};

/// Time in which a warning is counted.
const INTERVAL: Duration = Duration::from_secs(60);
/// Warnings of a kind that are logged in this time. Further ones are counted.
const MOST: u32 = 10;

/// Place in the source of a warning: its kind.
type Kind = (&'static str, u32);

/// The limit, for each kind by itself.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Windows>);

type Windows = BTreeMap<Kind, Window>;

/// The present interval of a kind.
#[derive(Debug)]
struct Window {
    start: Instant,
    logged: u32,
    /// Warnings that were not logged.
    held_back: u64,
    /// The last one that was logged.
    example: Line,
}

/// A line of the log.
#[derive(Clone, Debug)]
pub(super) struct Line {
    level: Level,
    target: String,
    pub(super) text: String,
}

impl Line {
    /// The line of a record, with this text.
    pub(super) fn new(metadata: &Metadata<'_>, text: &str) -> Self {
        Self {
            level: metadata.level(),
            target: metadata.target().to_owned(),
            text: text.to_owned(),
        }
    }

    /// The same line with another text.
    fn with(&self, text: String) -> Self {
        let target = self.target.clone();
        Self {
            target,
            text,
            ..*self
        }
    }

    pub(super) fn metadata(&self) -> Metadata<'_> {
        let mut metadata = Metadata::builder();
        metadata.level(self.level).target(&self.target).build()
    }
}

impl Throttle {
    /// True if a record with this text is to be logged.
    pub(super) fn admits(&self, record: &Record<'_>, text: &str, now: Instant) -> bool {
        // No client causes lines of the level INFO: they tell of start and stop, of what an operator
        // does, and of this process' own streams. Below it is detail, of which all is wanted.
        if record.level() > Level::Warn {
            return true;
        }
        let kind = (
            record.file_static().unwrap_or(""),
            record.line().unwrap_or(0),
        );
        let mut windows = self.lock();
        let line = || Line::new(record.metadata(), text);
        let window = windows
            .entry(kind)
            .or_insert_with(|| Window::new(now, line()));
        if now >= window.start + INTERVAL && window.held_back == 0 {
            *window = Window::new(now, line());
        }
        if window.logged < MOST {
            window.logged += 1;
            window.example = line();
            return true;
        }
        window.held_back += 1;
        false
    }

    /// The lines that tell of warnings that were held back in intervals that are over; of all, at the
    /// `end`.
    pub(super) fn summaries(&self, now: Instant, end: bool) -> Vec<Line> {
        summaries(&mut self.lock(), now, end)
    }

    /// All of them in a panic, which may be that of the thread that uses the windows: then there are
    /// none.
    pub(super) fn summaries_in_panic(&self) -> Vec<Line> {
        match self.0.try_lock() {
            Ok(mut windows) => summaries(&mut windows, Instant::now(), true),
            Err(TryLockError::Poisoned(windows)) => {
                summaries(&mut windows.into_inner(), Instant::now(), true)
            }
            Err(TryLockError::WouldBlock) => Vec::new(),
        }
    }

    /// The time at which the next summary is due, if there is one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let windows = self.lock();
        let held_back = windows.values().filter(|window| window.held_back > 0);
        held_back.map(|window| window.start + INTERVAL).min()
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn summaries(windows: &mut Windows, now: Instant, end: bool) -> Vec<Line> {
    let mut summaries = Vec::new();
    windows.retain(|_, window| {
        let over = end || now >= window.start + INTERVAL;
        if over && window.held_back > 0 {
            summaries.push(window.summary());
        }
        !over
    });
    summaries
}

impl Window {
    /// Tells of the warnings that were held back, with the level and the origin of their kind: so
    /// the log's filter treats it as them.
    fn summary(&self) -> Line {
        let text = format!("{} more like: {}", self.held_back, self.example.text);
        self.example.with(text)
    }

    fn new(start: Instant, example: Line) -> Self {
        Self {
            start,
            logged: 0,
            held_back: 0,
            example,
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
            throttle.admits(&record.args(args).build(), &text, now)
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
        let summaries = throttle.summaries(start + INTERVAL, false);
        assert_eq!(texts(&summaries), all);
        let levels: Vec<Level> = summaries.iter().map(|line| line.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Error]);
        assert_eq!(throttle.deadline(), None);
        assert_eq!(log(&throttle, Level::Warn, 1, 15, start + INTERVAL), 10);
        let rest = throttle.summaries(start + INTERVAL, true);
        assert_eq!(texts(&rest), ["5 more like: client 9"]);
        assert!(throttle.summaries(start + INTERVAL, true).is_empty());
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    /// Deadlock: the hook of panics waited for a lock that the thread held itself.
    #[test]
    fn panic_waits_for_no_window() {
        let throttle = Throttle::default();
        log(&throttle, Level::Warn, 1, 11, Instant::now());
        let windows = throttle.lock();
        assert!(throttle.summaries_in_panic().is_empty());
        drop(windows);
        let summaries = throttle.summaries_in_panic();
        assert_eq!(texts(&summaries), ["1 more like: client 9"]);
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
