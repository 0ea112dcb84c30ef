//! The log: the lines of `env_logger`, written to standard error by a thread of their own.
//!
//! A pipe that is not read, or a terminal that was stopped, must cost log lines and no time. A write
//! without waiting would need `O_NONBLOCK`, a flag that all who share the terminal or the pipe would
//! have; and a poll(2) before a write does not help if others fill the pipe, or if a terminal takes
//! a part of a line. So the loop only puts lines into a [`Queue`], and one thread waits for standard
//! error. The library has no thread.

mod queue;
mod throttle;

use std::io::{self, Write};
use std::panic;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anstream::AutoStream;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};

use resound::escape;

use queue::Queue;
use throttle::{Line, Throttle};

/// The longest time for which a process waits for its log to be read, all its waits together.
const LAST_WAIT: Duration = Duration::from_secs(1);

static QUEUE: LazyLock<Queue> = LazyLock::new(|| Queue::new(LAST_WAIT));
static LOG: OnceLock<Throttled> = OnceLock::new();
static THROTTLE: LazyLock<Throttle> = LazyLock::new(Throttle::default);

/// Starts the log with this filter. `RUST_LOG` overrides it, unless nothing in that is valid: a mistake
/// must not silence errors.
pub(crate) fn start(default: &str) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let style = style(&variable("RUST_LOG_STYLE"));
    // The logger complains of what is wrong in it.
    let filter = escape(variable("RUST_LOG").as_bytes());
    let mut chosen = logger(&filter, style, StandardError);
    // A filter without a valid part leaves only errors.
    let asks_for_errors = filter.to_ascii_lowercase().contains("error");
    if chosen.filter() == LevelFilter::Error && !asks_for_errors {
        chosen = logger(default, style, StandardError);
    }
    let level = chosen.filter();
    let throttled = level < LevelFilter::Debug;
    let log = Throttled {
        log: chosen,
        throttled,
    };
    if log::set_logger(LOG.get_or_init(|| log)).is_ok() {
        log::set_max_level(level);
    }
    QUEUE.on_loss(move |lines| loss(lines, style));
    QUEUE.on_alarm(|| {
        summarize(&THROTTLE.summaries(Instant::now(), false));
        let deadline = THROTTLE.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    });
    flush_before_panics();
}

/// Waits until standard error has taken what was logged, but not long.
pub(crate) fn flush() {
    QUEUE.flush();
}

/// Logs the numbers of all warnings that were held back.
pub(crate) fn finish_warnings() {
    summarize(&THROTTLE.summaries(Instant::now(), true));
}

/// Ends the log: with the numbers of warnings that were held back, and then with `last` lines.
pub(crate) fn finish(last: &str) {
    finish_warnings();
    // If lines are lost, those after them are, too, until it is read.
    QUEUE.flush();
    if !last.is_empty() {
        StandardError::print(last);
        QUEUE.flush();
    }
}

/// Logs numbers of warnings that were held back. They are no warnings that are limited.
fn summarize(summaries: &[Line]) {
    let Some(log) = LOG.get() else { return };
    for line in summaries {
        log.write(&line.metadata(), &line.text);
    }
}

/// The log, in which warnings are throttled unless every detail is wanted.
struct Throttled {
    log: Logger,
    throttled: bool,
}

impl Log for Throttled {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.log.matches(record) {
            return;
        }
        // Made while nothing is locked: it may panic.
        let text = escape(record.args().to_string().as_bytes());
        if self.throttled && !THROTTLE.admits(record, &text, Instant::now()) {
            return QUEUE.wake();
        }
        self.write(record.metadata(), &text);
    }

    fn flush(&self) {}
}

impl Throttled {
    /// Writes a line whose text is escaped.
    fn write(&self, metadata: &Metadata<'_>, text: &str) {
        let mut record = Record::builder();
        record.metadata(metadata.clone());
        self.log.log(&record.args(format_args!("{text}")).build());
    }
}

/// Standard error, to which writes never wait: they go through the queue, whole or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandardError;

impl StandardError {
    /// Writes a text, or loses it if standard error is not read.
    pub(crate) fn print(text: &str) {
        QUEUE.push(text.as_bytes());
    }
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        QUEUE.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logger(filter: &str, style: WriteStyle, target: impl Write + Send + 'static) -> Logger {
    Builder::new()
        .parse_filters(filter)
        .write_style(style)
        .format_target(false)
        .target(Target::Pipe(Box::new(target)))
        .build()
}

/// The style that `env_logger` would choose for standard error itself.
fn style(wanted: &str) -> WriteStyle {
    match wanted {
        "always" => WriteStyle::Always,
        "never" => WriteStyle::Never,
        _ => AutoStream::choice(&io::stderr()).into(),
    }
}

/// The line that tells of lost ones, as the log would have it.
fn loss(lines: u64, style: WriteStyle) -> Vec<u8> {
    static LINE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Line;
    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
            line.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lost = crate::units::counted(lines, "log line");
    let verb = if lines == 1 { "was" } else { "were" };
    let text = format_args!("{lost} {verb} lost: standard error was not read");
    let record = Record::builder().level(Level::Warn).args(text).build();
    logger("warn", style, Line).log(&record);
    std::mem::take(&mut *LINE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes what was logged before the message of a panic, if the log does not panic itself.
fn flush_before_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        summarize(&THROTTLE.summaries_in_panic());
        flush();
        report(info);
    }));
}
