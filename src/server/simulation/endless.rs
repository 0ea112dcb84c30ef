//! A service without end: lines of letters for as long as a client takes them, and its model.

use super::checked::{Checked, CheckedService};
use super::model::Model;
use crate::peer::Peer;
use crate::service::{Outcome, Owed, Release, Room, Service};
use std::cell::RefCell;

/// Bytes in a line.
pub(super) const LINE: usize = 10;
/// Most bytes in a write: more than a line, and fewer than a client's share of a pass.
const PIECE: usize = 3 * LINE;
/// Bytes after which the lines begin again.
const PERIOD: usize = 26 * LINE;
/// Lines that the model keeps ready for a client: more than are in one write.
const AHEAD: usize = 5;

/// Lines without end, at the reader's pace. Input is discarded, and its end changes nothing.
#[derive(Debug)]
pub(super) struct Endless {
    lines: Vec<u8>,
}

/// A client's place in the lines.
#[derive(Debug, Default)]
pub(super) struct Session {
    at: usize,
    /// True if the client gets no more than the rest of its line.
    ending: bool,
}

impl Endless {
    pub(super) fn new() -> Self {
        let line = |number: usize| line(number).into_iter();
        let lines = (0..2 * 26).flat_map(line).collect();
        Self { lines }
    }
}

/// The line with this number.
fn line(number: usize) -> Vec<u8> {
    let letter = b'a' + u8::try_from(number % 26).expect("there are 26 letters");
    [&[letter; LINE - 1][..], b"\n"].concat()
}

impl Service for Endless {
    type Session = Session;

    fn open(&mut self, _: &Peer<'_>) -> (Session, Outcome<'_>) {
        (Session::default(), Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, _: &'a mut Session, _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    fn owed<'a>(&'a self, session: &'a Session) -> Owed<'a> {
        let unfinished = (LINE - session.at % LINE) % LINE;
        let length = if session.ending { unfinished } else { PIECE };
        let next = &self.lines[session.at..session.at + length];
        Owed {
            next: next.into(),
            lag: u64::from(length > 0),
            unfinished,
        }
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        session.at = (session.at + written) % PERIOD;
    }

    fn release(&mut self, session: &mut Session, release: Release) {
        match release {
            Release::Endless => session.ending = true,
            Release::Backlog => {}
            Release::All => {
                *session = Session {
                    at: 0,
                    ending: true,
                }
            }
        }
    }
}

impl Checked<Endless> {
    pub(super) fn without_end() -> Self {
        let mut checked = Self::new(Endless::new(), Room::default());
        checked.endless = Some(|number| (number, line(number)));
        checked.ahead = AHEAD;
        checked
    }
}

impl CheckedService for Checked<Endless> {
    fn model(&self) -> &RefCell<Model> {
        &self.model
    }

    fn expected(&self, id: usize) -> Vec<Vec<u8>> {
        self.model.borrow().promised(id)
    }

    fn held(&self) -> u64 {
        0
    }
}
