//! Busy polling for a while before sleeping: lower latency, for a busy CPU.

use std::io;
use std::time::{Duration, Instant};

/// Busy polling after the last event.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    /// The time of busy polling. With zero there is none, and no clock is read.
    most: Duration,
    /// Its start. Only an event ends it and lets it begin again: a deadline that passes does not, so
    /// that timers alone keep no CPU busy.
    since: Option<Instant>,
}

impl Spin {
    /// Busy polling for this time after each event.
    pub(crate) fn new(most: Duration) -> Self {
        Self { most, since: None }
    }

    /// Waits for at most `timeout` (none: for ever): first polling, then asleep.
    ///
    /// `poll` sleeps for at most the time that it is given; it returns true if there were events.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut poll: impl FnMut(Option<Duration>) -> io::Result<bool>,
        mut now: impl FnMut() -> Instant,
    ) -> io::Result<()> {
        let mut left = timeout;
        if !self.most.is_zero() && timeout != Some(Duration::ZERO) {
            let start = now();
            let since = *self.since.get_or_insert(start);
            let mut time = start;
            while time.duration_since(since) < self.most && left != Some(Duration::ZERO) {
                if poll(Some(Duration::ZERO))? {
                    self.since = None;
                    return Ok(());
                }
                time = now();
                let waited = time.duration_since(start);
                left = timeout.map(|timeout| timeout.saturating_sub(waited));
            }
        }
        if poll(left)? {
            self.since = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const MS: Duration = Duration::from_millis(1);

    /// A made-up clock: a poll takes a millisecond, or the time for which it sleeps.
    struct Bench {
        spin: Spin,
        start: Instant,
        time: Cell<Duration>,
        clock_reads: Cell<u32>,
    }

    impl Bench {
        fn new(most: Duration) -> Self {
            Self {
                spin: Spin::new(most),
                start: Instant::now(),
                time: Cell::default(),
                clock_reads: Cell::default(),
            }
        }

        /// The timeouts of a wait's polls, of which the `event`th has an event.
        fn wait(&mut self, timeout: Option<Duration>, event: usize) -> Vec<Option<Duration>> {
            let mut polls = Vec::new();
            let poll = |sleep: Option<Duration>| {
                polls.push(sleep);
                let happens = polls.len() == event;
                let sleep = sleep.filter(|_| !happens).unwrap_or_default();
                self.time.set(self.time.get() + MS.max(sleep));
                Ok(happens)
            };
            let now = || {
                self.clock_reads.set(self.clock_reads.get() + 1);
                self.start + self.time.get()
            };
            self.spin.wait(timeout, poll, now).unwrap();
            polls
        }
    }

    /// A number of polls without sleep, and then one that sleeps.
    fn awake_then(polls: usize, sleep: Option<Duration>) -> Vec<Option<Duration>> {
        let mut all = vec![Some(Duration::ZERO); polls];
        all.push(sleep);
        all
    }

    #[test]
    fn wait_without_spin_polls_once_and_reads_no_clock() {
        let mut bench = Bench::new(Duration::ZERO);
        for timeout in [None, Some(Duration::ZERO), Some(7 * MS)] {
            assert_eq!(bench.wait(timeout, 1), [timeout]);
        }
        assert_eq!(bench.clock_reads.get(), 0);
    }

    #[test]
    fn wait_that_may_not_sleep_polls_once() {
        let mut bench = Bench::new(5 * MS);
        let timeout = Some(Duration::ZERO);
        assert_eq!(bench.wait(timeout, 0), [timeout]);
        assert_eq!(bench.clock_reads.get(), 0);
    }

    #[test]
    fn event_during_the_spin_ends_the_wait() {
        let mut bench = Bench::new(5 * MS);
        for event in [1, 3, 5] {
            let awake = vec![Some(Duration::ZERO); event];
            assert_eq!(bench.wait(None, event), awake);
        }
    }

    #[test]
    fn wait_sleeps_for_the_rest_of_its_timeout_after_the_spin() {
        let mut bench = Bench::new(5 * MS);
        assert_eq!(bench.wait(None, 6), awake_then(5, None));
        let rest = Some(4 * MS);
        assert_eq!(bench.wait(Some(9 * MS), 6), awake_then(5, rest));
    }

    #[test]
    fn deadline_within_the_spin_is_kept() {
        let mut bench = Bench::new(5 * MS);
        let polls = bench.wait(Some(3 * MS), 0);
        assert_eq!(polls, awake_then(3, Some(Duration::ZERO)));
    }

    #[test]
    fn deadlines_alone_do_not_prolong_the_spin() {
        let mut bench = Bench::new(5 * MS);
        let timeout = Some(3 * MS);
        bench.wait(timeout, 0);
        // A millisecond is left of the spin; one passed at the poll at the deadline.
        assert_eq!(bench.wait(timeout, 0), awake_then(1, Some(2 * MS)));
        assert_eq!(bench.wait(timeout, 1), [timeout]);
        assert_eq!(bench.wait(timeout, 4), awake_then(3, Some(Duration::ZERO)));
    }

    #[test]
    fn error_ends_the_wait() {
        let mut spin = Spin::new(MS);
        let poll = |_| Err(io::ErrorKind::Interrupted.into());
        let result = spin.wait(None, poll, Instant::now);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn longest_spin_does_not_overflow() {
        let mut bench = Bench::new(Duration::MAX);
        assert_eq!(bench.wait(None, 2), [Some(Duration::ZERO); 2]);
    }
}
