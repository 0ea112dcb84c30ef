//! The shared byte log: appended to once, read by many cursors, forgotten behind the last.
//!
//! ```text
//!         origin      +S        +2S     end
//!   ┆ freed  ┆ segment │ segment │ tail ▏room
//!                 ▲         ▲           ▲
//!              cursor    cursor      cursors that are caught up
//! ```
//!
//! Invariants: segment `i` holds the positions from `origin + i * S` on; the tail always has
//! room, so the end lies in it; a segment's `readers` are the cursors that lie in it; the oldest
//! segment has readers or is the tail.

use std::collections::VecDeque;

use crate::aligned::Aligned;

/// An append-only sequence of bytes at absolute positions, in segments of equal size.
#[derive(Debug)]
pub(super) struct Log {
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    /// The position at which the oldest segment starts.
    origin: u64,
    /// A segment holds two to the power of this bytes.
    shift: u32,
    /// How many cursors there are, and how many of them are at the end.
    cursors: usize,
    caught_up: usize,
    /// The buffer of the segment freed last, to be filled again.
    spare: Aligned,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Aligned,
    readers: usize,
}

impl Log {
    /// An empty log with segments of `size` bytes, a power of two; none is allocated yet.
    pub(super) fn new(size: usize) -> Self {
        assert!(size.is_power_of_two(), "segments are found by a shift");
        Self {
            segments: VecDeque::from([Segment::default()]),
            origin: 0,
            shift: size.trailing_zeros(),
            cursors: 0,
            caught_up: 0,
            spare: Aligned::default(),
        }
    }

    /// The position after the newest byte.
    pub(super) fn end(&self) -> u64 {
        let tail = self.segments.len() - 1;
        self.position(tail) + self.segments[tail].bytes.len() as u64
    }

    /// The position of the oldest byte that is still held.
    #[cfg(test)]
    pub(super) fn start(&self) -> u64 {
        self.origin
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        if self.caught_up == self.cursors {
            self.rewind();
        }
        let size = self.size();
        while !bytes.is_empty() {
            self.caught_up = 0;
            let tail = self.segments.len() - 1;
            let tail = &mut self.segments[tail].bytes;
            if !tail.is_allocated() {
                *tail = std::mem::take(&mut self.spare);
                tail.allocate(size);
            }
            let (now, later) = bytes.split_at(bytes.len().min(size - tail.len()));
            tail.extend(now);
            bytes = later;
            if tail.len() == size {
                self.segments.push_back(Segment::default());
                self.forget();
            }
        }
    }

    /// Nobody wants what is held: the tail is filled again from its start, where it is still in
    /// the processor's cache.
    fn rewind(&mut self) {
        self.origin = self.end();
        let tail = self.segments.len() - 1;
        self.segments[tail].bytes.clear();
        assert_eq!(tail, 0, "a segment without readers was kept");
    }

    /// A new cursor at the end, to be given back to [`Log::leave`].
    pub(super) fn join(&mut self) -> u64 {
        let tail = self.segments.len() - 1;
        self.segments[tail].readers += 1;
        self.cursors += 1;
        self.caught_up += 1;
        self.end()
    }

    /// A cursor at `position` is no more.
    pub(super) fn leave(&mut self, position: u64) {
        let segment = self.segment(position);
        self.segments[segment].readers -= 1;
        self.cursors -= 1;
        self.caught_up -= usize::from(position == self.end());
        self.forget();
    }

    /// Moves a cursor forward.
    pub(super) fn forward(&mut self, cursor: &mut u64, to: u64) {
        let (old, new) = (self.segment(*cursor), self.segment(to));
        let end = self.end();
        self.caught_up += usize::from(to == end && *cursor != end);
        *cursor = to;
        if old != new {
            self.segments[old].readers -= 1;
            self.segments[new].readers += 1;
            self.forget();
        }
    }

    /// The bytes of `from..to` up to the end of the segment that `from` lies in.
    pub(super) fn piece(&self, from: u64, to: u64) -> &[u8] {
        let segment = self.segment(from);
        let start = self.position(segment);
        let end = to.min(start + self.size() as u64);
        &self.segments[segment].bytes.bytes()[offset(from, start)..offset(end, start)]
    }

    /// The byte before `position`, which is not the start of the log.
    pub(super) fn byte_before(&self, position: u64) -> u8 {
        self.piece(position - 1, position)[0]
    }

    /// Drops the oldest segments that no cursor lies in.
    fn forget(&mut self) {
        while self.segments.len() > 1 && self.segments[0].readers == 0 {
            let oldest = self.segments.pop_front().expect("there are two");
            self.origin += self.size() as u64;
            self.spare = oldest.bytes;
            self.spare.clear();
        }
    }

    fn size(&self) -> usize {
        1 << self.shift
    }

    /// The index of the segment in which a position lies.
    fn segment(&self, position: u64) -> usize {
        offset(position, self.origin) >> self.shift
    }

    /// The position at which a segment starts.
    fn position(&self, segment: usize) -> u64 {
        self.origin + ((segment as u64) << self.shift)
    }
}

/// How far a position lies behind an earlier one.
fn offset(position: u64, earlier: u64) -> usize {
    usize::try_from(position - earlier).expect("what is held fits in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(log: &Log, mut from: u64, to: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while from < to {
            let piece = log.piece(from, to);
            assert!(!piece.is_empty());
            all.extend_from_slice(piece);
            from += piece.len() as u64;
        }
        all
    }

    #[test]
    fn a_quiet_log_holds_one_segment_and_a_spare() {
        let mut log = Log::new(4);
        let mut cursor = log.join();
        log.append(&[7; 40]);
        assert_eq!(log.segments.len(), 11);
        let end = log.end();
        log.forward(&mut cursor, end);
        assert_eq!((log.segments.len(), log.start(), log.end()), (1, 40, 40));
        assert!(log.spare.is_allocated() && log.spare.len() == 0);
    }

    #[test]
    fn without_readers_nothing_piles_up() {
        let mut log = Log::new(4);
        log.append(&[7; 1000]);
        assert_eq!(log.segments.len(), 1);
    }

    #[test]
    fn when_all_are_caught_up_the_tail_is_filled_again_from_its_start() {
        let mut log = Log::new(4);
        let (mut one, mut other) = (log.join(), log.join());
        log.append(b"abc");
        log.forward(&mut one, 3);
        log.append(b"d");
        assert_eq!((log.start(), read(&log, other, 4)), (0, b"abcd".to_vec()));
        log.forward(&mut one, 4);
        log.forward(&mut other, 4);
        log.append(b"ef");
        assert_eq!((log.start(), read(&log, one, 6)), (4, b"ef".to_vec()));
    }

    #[test]
    fn a_cursor_at_a_segments_edge_reads_on_from_there() {
        let mut log = Log::new(4);
        log.append(b"abcd");
        let cursor = log.join();
        log.append(b"efgh");
        assert_eq!((cursor, read(&log, 4, 8)), (4, b"efgh".to_vec()));
        assert_eq!(log.byte_before(8), b'h');
        log.leave(cursor);
        assert_eq!(log.start(), 8);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Join,
        Forward(usize, u64),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..30usize).prop_map(Step::Append),
            1 => Just(Step::Join),
            4 => (any::<usize>(), 0..40u64).prop_map(|(who, by)| Step::Forward(who, by)),
            1 => any::<usize>().prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Against a plain vector that never forgets.
        #[test]
        fn every_cursor_reads_what_was_appended(power in 0..5u32, steps in prop::collection::vec(step(), 1..200)) {
            let size = 1 << power;
            let mut log = Log::new(size);
            let mut model: Vec<u8> = Vec::new();
            let mut cursors: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Append(n) => {
                        let next = |i| u8::try_from((model.len() + i) % 251).unwrap();
                        let bytes: Vec<u8> = (0..n).map(next).collect();
                        model.extend(&bytes);
                        log.append(&bytes);
                    }
                    Step::Join => cursors.push(log.join()),
                    Step::Forward(who, by) if !cursors.is_empty() => {
                        let cursor = &mut { cursors[who % cursors.len()] };
                        let to = log.end().min(*cursor + by);
                        log.forward(cursor, to);
                        let n = cursors.len();
                        cursors[who % n] = *cursor;
                    }
                    Step::Leave(who) if !cursors.is_empty() => log.leave(cursors.swap_remove(who % cursors.len())),
                    _ => {}
                }
                let end = model.len() as u64;
                prop_assert_eq!(log.end(), end);
                for &cursor in &cursors {
                    prop_assert_eq!(&read(&log, cursor, end)[..], &model[usize::try_from(cursor).unwrap()..]);
                }
                let oldest = cursors.iter().copied().min().unwrap_or(end);
                prop_assert!(log.start() <= oldest && oldest - log.start() <= size as u64);
            }
        }
    }
}
