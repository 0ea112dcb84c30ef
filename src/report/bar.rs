//! A progress bar: one line of a terminal, on standard error.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use crate::logger::StandardError;

/// Columns of the bar, without its brackets.
const COLUMNS: usize = 10;

/// Columns of a terminal that does not say how many it has.
const TERMINAL: u16 = 80;

/// A bar of the time that has passed, with a message behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// The time at which the bar is full.
    length: Duration,
}

impl Bar {
    /// A bar, if standard error is a terminal that can overwrite a line.
    pub(crate) fn new(length: Duration) -> Option<Self> {
        let capable = env::var_os("TERM").is_some_and(|name| name != "dumb");
        (capable && io::stderr().is_terminal()).then_some(Self { length })
    }

    /// Overwrites the line.
    pub(crate) fn draw(self, position: Duration, message: &str) {
        let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { TERMINAL } else { columns };
        let line = self.line(position, message, columns.into());
        StandardError::print(&format!("\r{line}"));
    }

    /// Erases the line.
    pub(crate) fn clear() {
        StandardError::print("\r\x1b[2K");
    }

    /// A line of exactly `columns` characters: a bar and as much of the message as fits.
    fn line(self, position: Duration, message: &str, columns: usize) -> String {
        let passed = position.as_nanos() * COLUMNS as u128;
        let full = passed.checked_div(self.length.as_nanos());
        let full = full.map_or(COLUMNS, |full| full.min(COLUMNS as u128) as usize);
        let head = if passed > 0 && full < COLUMNS {
            ">"
        } else {
            ""
        };
        let bar = "=".repeat(full) + head;
        let line = format!("[{bar:COLUMNS$}] {message}");
        format!("{line:columns$.columns$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAR: Bar = Bar {
        length: Duration::from_secs(20),
    };

    #[test]
    fn bar_grows_with_the_time_that_has_passed() {
        for (seconds, expected) in [
            (0, "[          ] text"),
            (1, "[>         ] text"),
            (5, "[==>       ] text"),
            (19, "[=========>] text"),
            (20, "[==========] text"),
            (30, "[==========] text"),
        ] {
            let position = Duration::from_secs(seconds);
            assert_eq!(BAR.line(position, "text", 17), expected, "{seconds}");
        }
    }

    #[test]
    fn bar_without_a_length_is_full() {
        let bar = Bar {
            length: Duration::ZERO,
        };
        assert_eq!(bar.line(Duration::ZERO, "", 12), "[==========]");
    }

    #[test]
    fn line_is_as_wide_as_the_terminal() {
        let line = |columns| BAR.line(Duration::ZERO, "message", columns);
        assert_eq!(line(15), "[          ] me");
        assert_eq!(line(22), "[          ] message  ");
        assert_eq!(line(5), "[    ");
    }
}
