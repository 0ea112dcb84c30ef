//! Clients on their way out, with their deadlines. They are few, except while the server stops, so a
//! plain list is scanned.
//!
//! A client is put into a list at a point where no clock is read. Its time starts when the timers
//! run next, or before the loop waits.

use std::time::{Duration, Instant};

/// Silence after which no input in flight is expected any more, with which a close would collide.
pub(in crate::server) const SILENCE: Duration = Duration::from_millis(100);

/// A client on its way out.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) key: usize,
    /// Bytes received and sent when the silence began.
    traffic: (u64, u64),
    /// True once everything was sent.
    delivered: bool,
    deadlines: Option<Deadlines>,
}

#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// End of the linger time. It starts when the close begins, and again once everything was sent;
    /// until then also whenever the client takes bytes, unless it is a slow consumer.
    last: Instant,
    /// End of the silence, which starts again while bytes move or wait to be sent.
    silent: Instant,
}

/// The present state of a client on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Bytes received and sent.
    pub(super) traffic: (u64, u64),
    /// True if bytes wait to be sent.
    pub(super) waiting: bool,
    /// True for a slow consumer, whose patience is used up.
    pub(super) slow: bool,
}

impl Lingering {
    pub(super) fn new(key: usize, traffic: (u64, u64)) -> Self {
        Self {
            key,
            traffic,
            delivered: false,
            deadlines: None,
        }
    }

    pub(super) fn start(&mut self, now: Instant, linger: Duration) {
        self.deadlines.get_or_insert(Deadlines {
            last: now + linger,
            silent: now + SILENCE,
        });
    }

    /// Puts off the deadlines.
    pub(super) fn excuse(&mut self, time: Duration) {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.last += time;
            deadlines.silent += time;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines
            .map(|deadlines| deadlines.last.min(deadlines.silent))
    }

    /// Takes note of a client's progress, at `noted`. True if its time was over at `now`.
    pub(super) fn is_over(
        &mut self,
        progress: Progress,
        now: Instant,
        noted: Instant,
        linger: Duration,
    ) -> bool {
        self.start(noted, linger);
        let Some(deadlines) = &mut self.deadlines else {
            return false;
        };
        let Progress {
            traffic,
            waiting,
            slow,
        } = progress;
        if !self.delivered && (!waiting || (!slow && traffic.1 != self.traffic.1)) {
            self.delivered = !waiting;
            deadlines.last = noted + linger;
        }
        if waiting || traffic != self.traffic {
            self.traffic = traffic;
            deadlines.silent = noted + SILENCE;
        }
        now >= deadlines.last.min(deadlines.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::LINGER;

    const START: Progress = Progress {
        traffic: (0, 0),
        waiting: true,
        slow: false,
    };

    /// Milliseconds until the time of a client is over. Its progress is judged every 10 ms.
    fn over_after(progress: impl Fn(u64) -> Progress) -> u64 {
        let start = Instant::now();
        let mut lingering = Lingering::new(0, (0, 0));
        let times = (0..10_000).step_by(10);
        let mut over = times.skip_while(|&ms| {
            let now = start + Duration::from_millis(ms);
            !lingering.is_over(progress(ms), now, now, LINGER)
        });
        over.next().unwrap()
    }

    #[test]
    fn silent_client_that_has_everything_is_dropped_after_100_ms() {
        let silent = Progress {
            waiting: false,
            ..START
        };
        assert_eq!(over_after(|_| silent), 100);
    }

    #[test]
    fn client_that_takes_nothing_is_dropped_after_the_linger_time() {
        assert_eq!(over_after(|_| START), 1000);
    }

    #[test]
    fn client_that_takes_bytes_may_take_its_time_unless_it_is_a_slow_consumer() {
        let taking = |ms: u64, slow| Progress {
            traffic: (0, ms.min(3000)),
            slow,
            ..START
        };
        assert_eq!(over_after(|ms| taking(ms, false)), 4000);
        assert_eq!(over_after(|ms| taking(ms, true)), 1000);
    }

    /// A client that sends a byte now and then is not waited for longer than any other.
    #[test]
    fn client_that_trickles_is_dropped_after_the_linger_time() {
        let trickling = |ms: u64, waiting| Progress {
            traffic: (ms / 50, 0),
            waiting,
            ..START
        };
        assert_eq!(over_after(|ms| trickling(ms, false)), 1000);
        assert_eq!(over_after(|ms| trickling(ms, true)), 1000);
        // Once it has everything its linger time starts again, and only once.
        let taking = |ms: u64| Progress {
            traffic: (ms / 50, ms.min(3000)),
            waiting: ms < 3000,
            ..START
        };
        assert_eq!(over_after(taking), 4000);
    }

    #[test]
    fn silence_begins_when_the_last_byte_has_moved() {
        let until = |ms: u64| Progress {
            traffic: (ms.min(300), 0),
            waiting: false,
            ..START
        };
        assert_eq!(over_after(until), 400);
    }
}
