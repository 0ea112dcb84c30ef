//! Opens connections: some at a time, at a pace.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::faults::Fault;
use super::player::Context;
use super::wire::Wire;
use super::{Load, LoadError};
use crate::net::address::Address;
use crate::net::error::cause;
use crate::net::{Poller, Readiness};

/// Connections that are being opened at a time: fewer than a backlog usually has places.
const AT_ONCE: usize = 100;

/// How long to wait where a backlog is full, or nobody listens any more.
const PAUSE: u64 = 5_000_000;

/// Somebody who wants a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) key: usize,
    /// Since when, in nanoseconds since the load's start.
    pub(super) since: u64,
}

/// Opens connections: some at a time, at a pace.
pub(super) struct Dialer {
    /// Where the server may be; the first is where it was found last.
    places: VecDeque<Address>,
    name: String,
    spread: bool,
    wishes: VecDeque<Wish>,
    /// By key: those that are being opened.
    dialing: Vec<Option<Dialing>>,
    under_way: usize,
    /// The earliest time for the next, and what lies between two of them.
    next: u64,
    gap: u64,
    timeout: u64,
    /// Since when a backlog is full.
    blocked: Option<u64>,
    /// Connections that were ever begun; that stood.
    begun: usize,
    opened: usize,
    /// Places that were tried in vain.
    vain: usize,
}

/// A connection that is being opened.
struct Dialing {
    wire: Wire<Poller>,
    wish: Wish,
    since: u64,
}

impl Dialer {
    pub(super) fn new(load: &Load, keys: usize) -> Result<Self, LoadError> {
        let name = load.to.to_string();
        let places = load.to.resolve();
        let places =
            places.map_err(|e| LoadError(format!("cannot connect to {name}: {}", cause(&e))))?;
        Ok(Self {
            places: places.into(),
            name,
            spread: cfg!(target_os = "linux"),
            wishes: VecDeque::new(),
            dialing: std::iter::repeat_with(|| None).take(keys).collect(),
            under_way: 0,
            next: 0,
            gap: load
                .connect_rate
                .map_or(0, |rate| 1_000_000_000 / rate.max(1)),
            timeout: nanos(load.timeout),
            blocked: None,
            begun: 0,
            opened: 0,
            vain: 0,
        })
    }

    pub(super) fn ask(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
    }

    /// Nobody waits for a connection any more.
    pub(super) fn forget(&mut self) {
        self.wishes.clear();
        self.dialing.fill_with(|| None);
        self.under_way = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.wishes.is_empty() && self.under_way == 0
    }

    /// When it wants to go on, if that isn't for an event.
    pub(super) fn next_time(&self) -> Option<u64> {
        (self.has_room() && !self.wishes.is_empty()).then_some(self.next)
    }

    /// Until it is known where the server is, one at a time.
    fn has_room(&self) -> bool {
        let most = if self.opened == 0 { 1 } else { AT_ONCE };
        self.under_way < most
    }

    /// Begins to open what may be opened now; the keys of those that can't be.
    pub(super) fn act(
        &mut self,
        net: &mut Poller,
        cx: &mut Context,
    ) -> Result<Vec<usize>, LoadError> {
        let mut failed = Vec::new();
        while self.has_room() && self.next <= cx.now {
            let Some(wish) = self.wishes.pop_front() else {
                break;
            };
            self.next = if self.gap == 0 {
                0
            } else {
                self.next.max(cx.now.saturating_sub(self.gap)) + self.gap
            };
            // Over loopback the whole handshake is part of the call.
            let since = cx.clock();
            match self.start(wish, net) {
                Ok(wire) => {
                    self.under_way += 1;
                    self.blocked = None;
                    self.dialing[wish.key] = Some(Dialing { wire, wish, since });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(wish, cx, &mut failed)?;
                }
                Err(e) if is_exhausted(&e) => {
                    let (all, cause) = (self.dialing.len(), cause(&e));
                    let text = format!("cannot open {all} connections: {cause} (ulimit -n)");
                    return Err(LoadError(text));
                }
                Err(e) => self.fail(wish, &e, cx, &mut failed)?,
            }
        }
        Ok(failed)
    }

    fn start(&mut self, wish: Wish, net: &mut Poller) -> io::Result<Wire<Poller>> {
        let number = self.begun;
        self.begun += 1;
        let mut wire = Wire::connect(net, &self.places[0], number, self.spread);
        if matches!(&wire, Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable) && self.spread {
            self.spread = false;
            wire = Wire::connect(net, &self.places[0], number, false);
        }
        let mut wire = wire?;
        wire.register(net, wish.key)?;
        Ok(wire)
    }

    /// The backlog of a Unix socket is full: it is tried again for as long as a timeout, in which
    /// there was no room for anybody.
    fn wait(
        &mut self,
        wish: Wish,
        cx: &mut Context,
        failed: &mut Vec<usize>,
    ) -> Result<(), LoadError> {
        let since = *self.blocked.get_or_insert(cx.now);
        if cx.now > since.saturating_add(self.timeout) {
            return self.fail(wish, &io::ErrorKind::TimedOut.into(), cx, failed);
        }
        self.wishes.push_front(wish);
        self.next = cx.now + PAUSE;
        Ok(())
    }

    /// What couldn't be opened: another address of the name is tried, while none has been found.
    fn fail(
        &mut self,
        wish: Wish,
        error: &io::Error,
        cx: &mut Context,
        failed: &mut Vec<usize>,
    ) -> Result<(), LoadError> {
        if self.opened == 0 && self.vain + 1 < self.places.len() {
            self.vain += 1;
            self.places.rotate_left(1);
            self.wishes.push_front(wish);
            return Ok(());
        }
        let text = cause(error);
        if self.opened == 0 {
            return Err(LoadError(format!(
                "cannot connect to {}: {text}",
                self.name
            )));
        }
        cx.tally.faults().lose(Fault::Refused, || text);
        self.next = self.next.max(cx.now + PAUSE);
        failed.push(wish.key);
        Ok(())
    }

    /// Whether this key belongs to a connection that is being opened.
    pub(super) fn is_dialing(&self, key: usize) -> bool {
        self.dialing.get(key).is_some_and(Option::is_some)
    }

    /// A connection that is being opened has become ready: it stands, or has failed.
    pub(super) fn ready(
        &mut self,
        key: usize,
        ready: Readiness,
        net: &mut Poller,
        cx: &mut Context,
    ) -> Result<Dialed, LoadError> {
        if !ready.writable {
            return Ok(Dialed::Waits);
        }
        let Some(Dialing { wire, wish, since }) = self.dialing[key].take() else {
            return Ok(Dialed::Waits);
        };
        self.under_way -= 1;
        match wire.outcome(net, &self.places[0]) {
            Ok(()) => {
                self.opened += 1;
                cx.tally.connected(since, cx.clock());
                Ok(Dialed::Stands(wire, wish))
            }
            Err(e) => {
                let mut failed = Vec::new();
                self.fail(wish, &e, cx, &mut failed)?;
                Ok(if failed.is_empty() {
                    Dialed::Waits
                } else {
                    Dialed::Failed
                })
            }
        }
    }

    /// Gives up those that take too long; their keys.
    pub(super) fn give_up(&mut self, cx: &mut Context) -> Result<Vec<usize>, LoadError> {
        let mut failed = Vec::new();
        for key in 0..self.dialing.len() {
            let late = |dialing: &mut Dialing| dialing.since + self.timeout < cx.now;
            if let Some(dialing) = self.dialing[key].take_if(late) {
                self.under_way -= 1;
                self.fail(
                    dialing.wish,
                    &io::ErrorKind::TimedOut.into(),
                    cx,
                    &mut failed,
                )?;
            }
        }
        Ok(failed)
    }
}

/// What has become of a connection.
pub(super) enum Dialed {
    /// Nothing yet.
    Waits,
    Stands(Wire<Poller>, Wish),
    Failed,
}

/// Whether the system has no means for more (socket(2)).
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}
