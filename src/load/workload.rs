//! A workload as the loop sees it.

use super::dialer::Connection;
use super::moment::Moment;
use super::run::{ConnectRequest, Run};
use crate::net::{Dial, Readiness};

/// Clients that all do the same.
///
/// The loop calls `open`, `refused` and `ready` as events arrive, `prepare` in each pass until the
/// clients can begin, then `begin`; in each pass after that `advance`; `finish` when the time is
/// over, and `give_up` last.
pub(super) trait Workload<N: Dial> {
    /// Adds a client whose connection is open.
    fn open(&mut self, request: ConnectRequest, connection: Connection<N>, run: &mut Run<N>);

    /// Called if a client's connection could not be opened, which is counted already.
    fn refused(&mut self, _key: usize, _run: &mut Run<N>) {}

    /// Called if a client's connection has become ready.
    fn ready(&mut self, key: usize, ready: Readiness, run: &mut Run<N>);

    /// Prepares the beginning; true if clients can begin.
    ///
    /// # Errors
    /// One line, when they never can.
    fn prepare(&mut self, _run: &mut Run<N>) -> Result<bool, String> {
        Ok(true)
    }

    /// The reason why clients could not begin in time: one line.
    fn obstacle(&self, _run: &Run<N>) -> String {
        String::new()
    }

    /// Begins the warm-up.
    fn begin(&mut self, run: &mut Run<N>);

    /// Sends what is due, and gives each client its turn.
    fn advance(&mut self, run: &mut Run<N>);

    /// True if a client could go on without a further event; then the loop does not sleep.
    fn is_busy(&self) -> bool {
        false
    }

    /// Handles messages in flight since before this time; called several times in a timeout.
    fn expire(&mut self, _sent_before: Moment, _run: &mut Run<N>) {}

    /// Ends sending: from now on answers are only received.
    fn finish(&mut self, run: &mut Run<N>);

    /// True if nothing is in flight.
    fn is_settled(&self) -> bool;

    /// Counts what is in flight as missed.
    fn give_up(&mut self, run: &mut Run<N>);

    /// Number of connected clients.
    fn connected(&self) -> usize;

    /// True if the connected clients can go on.
    fn can_continue(&self) -> bool {
        self.connected() > 0
    }
}
