//! The shared byte log: appended to once, read by many cursors, forgotten behind the last.
//!
//! ```text
//!   position   0        S        2S       3S      end
//!              ┆ freed  ┆ segment │ segment │ tail ▏room
//!                            ▲         ▲           ▲
//!                         cursor    cursor      cursors that are caught up
//! ```
//!
//! Invariants: a position `p` lies in segment `p / S`; the tail always has room, so the end
//! lies in it too; a segment's `readers` are the cursors that lie in it; the oldest segment has
//! readers or is the tail.

use std::collections::VecDeque;

/// An append-only sequence of bytes at absolute positions, in segments of equal size.
#[derive(Debug)]
pub(super) struct Log {
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    /// The number of the oldest segment.
    first: u64,
    /// Bytes a segment holds.
    size: usize,
    /// The buffer of the segment freed last, to be filled again.
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    readers: usize,
}

impl Log {
    /// An empty log with segments of `size` bytes, of which none is allocated yet.
    pub(super) fn new(size: usize) -> Self {
        assert!(size > 0, "a segment holds at least a byte");
        Self {
            segments: VecDeque::from([Segment::default()]),
            first: 0,
            size,
            spare: Vec::new(),
        }
    }

    /// The position after the newest byte.
    pub(super) fn end(&self) -> u64 {
        let tail = &self.segments[self.segments.len() - 1];
        self.position(self.segments.len() - 1) + tail.bytes.len() as u64
    }

    /// The position of the oldest byte that is still held.
    #[cfg(test)]
    pub(super) fn start(&self) -> u64 {
        self.position(0)
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let tail = self.segments.len() - 1;
            let tail = &mut self.segments[tail].bytes;
            if tail.capacity() == 0 {
                *tail = std::mem::take(&mut self.spare);
                tail.reserve_exact(self.size);
            }
            let room = self.size - tail.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            tail.extend_from_slice(now);
            bytes = later;
            if tail.len() == self.size {
                self.segments.push_back(Segment::default());
                self.forget();
            }
        }
    }

    /// A new cursor at the end, to be given back to [`Log::leave`].
    pub(super) fn join(&mut self) -> u64 {
        let tail = self.segments.len() - 1;
        self.segments[tail].readers += 1;
        self.end()
    }

    /// A cursor at `position` is no more.
    pub(super) fn leave(&mut self, position: u64) {
        let segment = self.segment(position);
        self.segments[segment].readers -= 1;
        self.forget();
    }

    /// Moves a cursor forward.
    pub(super) fn forward(&mut self, cursor: &mut u64, to: u64) {
        let (old, new) = (self.segment(*cursor), self.segment(to));
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
        let end = to.min(start + self.size as u64);
        &self.segments[segment].bytes[offset(from, start)..offset(end, start)]
    }

    /// The byte before `position`, which is not the start of the log.
    pub(super) fn byte_before(&self, position: u64) -> u8 {
        self.piece(position - 1, position)[0]
    }

    /// Drops the oldest segments that no cursor lies in.
    fn forget(&mut self) {
        while self.segments.len() > 1 && self.segments[0].readers == 0 {
            let oldest = self.segments.pop_front().expect("there are two");
            self.first += 1;
            self.spare = oldest.bytes;
            self.spare.clear();
        }
    }

    /// The index of the segment in which a position lies.
    fn segment(&self, position: u64) -> usize {
        offset(position / self.size as u64, self.first)
    }

    /// The position at which a segment starts.
    fn position(&self, segment: usize) -> u64 {
        (self.first + segment as u64) * self.size as u64
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
        assert_eq!((log.spare.len(), log.spare.capacity()), (0, 4));
    }

    #[test]
    fn without_readers_nothing_piles_up() {
        let mut log = Log::new(4);
        log.append(&[7; 1000]);
        assert_eq!(log.segments.len(), 1);
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
        fn every_cursor_reads_what_was_appended(size in 1..20usize, steps in prop::collection::vec(step(), 1..200)) {
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
                prop_assert_eq!(log.start(), oldest / size as u64 * size as u64);
            }
        }
    }
}
