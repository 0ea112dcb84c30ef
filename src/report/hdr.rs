//! The latencies as a log of `HdrHistogram`, for its tools.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use resound::escape;
use resound::load::Interval;

/// The column names in front of the intervals.
const LEGEND: &str =
    r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// The maximum of an interval is in milliseconds, as in every such log. The histogram itself is in
/// nanoseconds.
const NANOS_PER_MILLI: f64 = 1e6;

/// A log that grows by a line for each interval.
pub(crate) struct HdrLog {
    path: PathBuf,
    file: File,
    serializer: V2DeflateSerializer,
    /// Mode and address of the load.
    comment: String,
    /// True if the header is written.
    has_header: bool,
    /// The first error, after which nothing is written.
    failed: Option<io::Error>,
}

impl HdrLog {
    /// Creates the file before the load, so that a failure shows at once.
    pub(crate) fn create(path: &Path, comment: String) -> Result<Self, String> {
        let file = File::create(path);
        let file = file.map_err(|e| failure(path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            serializer: V2DeflateSerializer::new(),
            comment,
            has_header: false,
            failed: None,
        })
    }

    /// Writes the line of an interval, except in the warm-up.
    pub(crate) fn write(&mut self, interval: &Interval) {
        if interval.warmup || self.failed.is_some() {
            return;
        }
        let written = match self.text(interval) {
            Ok(text) => self.file.write_all(&text),
            Err(e) => Err(e),
        };
        self.failed = written.err();
    }

    /// The error for which the log is incomplete, if there was one.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.failed {
            None => Ok(()),
            Some(e) => Err(failure(&self.path, &e)),
        }
    }

    /// The interval's line; the first one after the header.
    fn text(&mut self, interval: &Interval) -> io::Result<Vec<u8>> {
        let mut builder = IntervalLogWriterBuilder::new();
        // Intervals count from this time.
        let now = SystemTime::now();
        let start = now.checked_sub(interval.from + interval.length);
        builder
            .with_max_value_divisor(NANOS_PER_MILLI)
            .add_comment(&self.comment)
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(start.unwrap_or(now))
            .with_base_time(start.unwrap_or(now));
        let mut text = Vec::new();
        let mut writer = builder.begin_log_with(&mut text, &mut self.serializer)?;
        writer
            .write_histogram(
                &interval.counts.latency,
                interval.from,
                interval.length,
                None,
            )
            .map_err(|e| io::Error::other(e.to_string()))?;
        // The writer makes a header for each line; the log has one.
        let line = text.split_inclusive(|byte| *byte == b'\n').next_back();
        let line = line.unwrap_or_default().len();
        let (header, line) = text.split_at(text.len() - line);
        if self.has_header {
            return Ok(line.to_vec());
        }
        self.has_header = true;
        Ok([header, LEGEND.as_bytes(), b"\n", line].concat())
    }
}

/// The error in one line, with the file.
fn failure(path: &Path, error: &io::Error) -> String {
    let cause = error.to_string();
    let cause = cause.split(" (os error").next().unwrap_or_default();
    let cause = cause.to_ascii_lowercase();
    format!(
        "cannot write {}: {cause}",
        escape(path.as_os_str().as_bytes())
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::time::Duration;

    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{
        IntervalLogHistogram, IntervalLogIterator, LogEntry,
    };
    use resound::load::Latencies;

    use super::super::sample;
    use super::*;

    /// The log of these intervals.
    fn log(intervals: &[Interval]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.hlog");
        let mut log = HdrLog::create(&path, "made up".to_owned()).unwrap();
        for interval in intervals {
            log.write(interval);
        }
        log.finish().unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// A warm-up and two seconds.
    fn intervals() -> [Interval; 3] {
        let [mut warmup, mut first, second] = [(); 3].map(|()| sample::interval());
        (warmup.from, warmup.warmup) = (Duration::ZERO, true);
        first.from = Duration::ZERO;
        first.counts.latency = sample::latencies(&[(1, 1), (3_599_000_000_000, 7)]);
        [warmup, first, second]
    }

    fn entries(log: &str) -> Vec<LogEntry<'_>> {
        let entries = IntervalLogIterator::new(log.as_bytes());
        entries.map(Result::unwrap).collect()
    }

    fn histogram(entry: &IntervalLogHistogram<'_>) -> Latencies {
        let bytes = decoded(entry.encoded_histogram());
        let mut deserializer = Deserializer::new();
        deserializer.deserialize(&mut Cursor::new(bytes)).unwrap()
    }

    /// Base64 (RFC 4648).
    fn decoded(text: &str) -> Vec<u8> {
        let value = |byte: u8| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let digits = text.trim_end_matches('=').as_bytes();
        let mut bytes = Vec::new();
        for four in digits.chunks(4) {
            let bits = four.iter().fold(0, |n, d| n << 6 | u32::from(value(*d)));
            let bits = bits << (6 * (4 - four.len()));
            bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
        }
        bytes
    }

    #[test]
    fn the_log_is_read_back_without_the_warm_up() {
        let intervals = intervals();
        let log = log(&intervals);
        let entries = entries(&log);
        let [
            start,
            base,
            LogEntry::Interval(first),
            LogEntry::Interval(second),
        ] = &entries[..]
        else {
            panic!("{log}");
        };
        assert!(matches!(start, LogEntry::StartTime(_)), "{log}");
        assert!(matches!(base, LogEntry::BaseTime(_)), "{log}");
        for (entry, interval) in [(first, &intervals[1]), (second, &intervals[2])] {
            assert_eq!(entry.start_timestamp(), interval.from);
            assert_eq!(entry.duration(), interval.length);
            assert_eq!(histogram(entry), interval.counts.latency);
        }
        assert!((second.max() - 3.2).abs() < 0.01, "{}", second.max());
    }

    #[test]
    fn the_header_is_there_once() {
        let log = log(&intervals());
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(
            lines[..2],
            ["#made up", "#[Histogram log format version 1.3]"]
        );
        assert_eq!(lines.iter().filter(|line| line.starts_with('#')).count(), 5);
        assert_eq!(lines[5], LEGEND);
        assert_eq!(lines.len(), 8, "{log}");
    }

    #[test]
    fn a_load_that_ends_in_its_warm_up_leaves_an_empty_log() {
        assert_eq!(log(&intervals()[..1]), "");
    }

    #[test]
    fn a_missing_folder_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/log");
        let error = HdrLog::create(&path, String::new()).err();
        let expected = format!("cannot write {}: no such file or directory", path.display());
        assert_eq!(error, Some(expected));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_at_the_end() {
        let mut log = HdrLog::create(Path::new("/dev/full"), String::new()).unwrap();
        for interval in intervals() {
            log.write(&interval);
        }
        let error = log.finish().unwrap_err();
        assert_eq!(error, "cannot write /dev/full: no space left on device");
    }
}
