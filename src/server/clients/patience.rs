//! The room's patience with clients that hold it up: the pace that each has to keep, and the budget
//! that they all share.

use std::time::{Duration, Instant};

/// The patience comes back in this many times its length.
const REFILL: u32 = 30;
/// The shortest time by which a client may be behind its pace, however little of the budget is left.
const MOMENT: Duration = Duration::from_millis(5);

/// The place of a client in the shared output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Bytes that it is behind.
    pub(super) lag: u64,
    /// Position of its cursor.
    pub(super) cursor: u64,
}

/// The pace of a client: to read within one patience what it is behind at the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Place,
    /// Position of its cursor when it was last looked at.
    cursor: u64,
    /// Time up to which it has read enough.
    read_until: Instant,
}

impl Pace {
    pub(super) fn new(start: Place, now: Instant) -> Self {
        Self {
            start,
            cursor: start.cursor,
            read_until: now,
        }
    }

    /// Puts off the time by which the client must have read more.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.read_until += time;
    }

    /// Time at which the client is behind by as much as is allowed; `None` if that is beyond all times.
    pub(super) fn deadline(&self, allowance: Duration) -> Option<Instant> {
        self.read_until.checked_add(allowance)
    }

    /// Takes note of what the client has read, up to `cursor`.
    pub(super) fn advance(&mut self, cursor: u64, now: Instant, patience: Duration) {
        let read = u128::from(cursor.saturating_sub(self.cursor));
        let nanos = patience.as_nanos().saturating_mul(read) / u128::from(self.start.lag.max(1));
        let worth = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let until = self.read_until.checked_add(worth);
        // Not beyond now: a client that has read fast may not pause for it.
        self.read_until = until.map_or(now, |until| until.min(now));
        self.cursor = cursor;
    }

    /// True if the client has read all that it was behind at the beginning.
    pub(super) fn is_done(&self) -> bool {
        self.cursor.saturating_sub(self.start.cursor) >= self.start.lag
    }

    /// Time by which the client is behind its pace.
    pub(super) fn behind(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.read_until)
    }
}

/// The room's patience: a budget of two patiences that refills. A client is allowed half of what is
/// left, so that one that stalls does not leave the others without.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) patience: Duration,
    /// Time used up; at most two patiences.
    used: Duration,
    updated: Option<Instant>,
    /// Time up to which holds were charged: two clients that hold up the room at once are charged
    /// once.
    charged_to: Option<Instant>,
}

impl Budget {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            used: Duration::ZERO,
            updated: None,
            charged_to: None,
        }
    }

    /// Time by which a client may be behind its pace.
    pub(super) fn allowance(&mut self, now: Instant) -> Duration {
        self.refill(now);
        let half = self.patience.saturating_sub(self.used / 2);
        half.max(MOMENT.min(self.patience))
    }

    /// Takes the time between two points from the budget, but for what was charged already.
    pub(super) fn charge(&mut self, from: Instant, to: Instant) {
        self.refill(to);
        let from = self.charged_to.map_or(from, |charged| charged.max(from));
        self.charged_to = Some(from.max(to));
        let used = self.used.saturating_add(to.saturating_duration_since(from));
        self.used = used.min(self.patience.saturating_mul(2));
    }

    fn refill(&mut self, now: Instant) {
        if let Some(updated) = self.updated {
            let refill = now.saturating_duration_since(updated) / REFILL;
            self.used = self.used.saturating_sub(refill);
        }
        self.updated = self.updated.max(Some(now));
    }
}
