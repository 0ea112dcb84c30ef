//! The shared byte log: appended to once, read by many cursors, freed behind the last of them.
//!
//! ```text
//!         origin      +S        +2S     end
//!   ┆ freed  ┆ segment │ segment │ tail ▏room
//!                 ▲         ▲           ▲
//!              cursor    cursor      cursors that are caught up
//! ```
//!
//! Invariants, with segments of S bytes:
//! - Segment `i` holds the positions from `origin + i * S` on.
//! - The tail always has room, so `end` is the end of its bytes.
//! - A segment's `readers` is the number of cursors in it.
//! - The oldest segment has readers, or holds bytes retained for a replay, or is the tail.
//! - Between publications the log ends with a whole message.

#[cfg(test)]
mod property;

use std::collections::VecDeque;

use crate::bytes::aligned::Aligned;

/// The most message ends for which the spare segment keeps memory.
const SPARE_ENDS: usize = 64 * 1024;

/// An append-only sequence of bytes at absolute positions, in segments of equal size, with the
/// position of each message's end.
#[derive(Debug)]
pub(super) struct Log {
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    /// Position of the oldest segment's first byte.
    origin: u64,
    /// Position after the newest byte. Stored, because each delivery asks for it several times.
    end: u64,
    /// Binary logarithm of a segment's size in bytes.
    shift: u32,
    /// Number of cursors.
    cursors: usize,
    /// Number of cursors at the end.
    caught_up: usize,
    retention: Retention,
    /// The segment freed last, whose memory the next one gets.
    spare: Segment,
}

/// The newest messages that are retained for the replay to new clients, without a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retention {
    /// Most messages in a replay.
    pub(super) messages: u64,
    /// Most bytes in a replay.
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Aligned,
    /// Number of cursors in it.
    readers: usize,
    /// Number of messages that end before its first byte.
    before: u64,
    /// Offsets at which messages end, ascending; never 0.
    ends: Vec<u32>,
    /// True if a message begins at its first byte.
    whole: bool,
}

impl Segment {
    /// Number of messages that end in the first `offset` bytes.
    fn ended(&self, offset: usize) -> usize {
        self.ends.partition_point(|&end| end as usize <= offset)
    }
}

/// The ends of messages in appended bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// No byte ends a message.
    None,
    /// The last byte ends a message.
    Last,
    /// Each newline ends a message.
    Newlines,
}

impl Log {
    /// An empty log with segments of `size` bytes, a power of two; none is allocated yet.
    pub(super) fn new(size: usize, retention: Retention) -> Self {
        assert!(size.is_power_of_two(), "segments are found by a shift");
        assert!(u32::try_from(size).is_ok(), "offsets have 32 bits");
        let first = Segment {
            whole: true,
            ..Segment::default()
        };
        Self {
            segments: VecDeque::from([first]),
            origin: 0,
            end: 0,
            shift: size.trailing_zeros(),
            cursors: 0,
            caught_up: 0,
            retention,
            spare: Segment::default(),
        }
    }

    /// Position after the newest byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Position of the oldest byte in memory.
    pub(super) fn start(&self) -> u64 {
        self.origin
    }

    /// Number of messages appended so far.
    pub(super) fn messages(&self) -> u64 {
        let tail = self.tail();
        tail.before + tail.ends.len() as u64
    }

    /// Appends bytes and notes the ends of messages in them.
    pub(super) fn append(&mut self, mut bytes: &[u8], ends: Ends) {
        if self.is_read() && self.retention == Retention::default() {
            self.rewind();
        }
        let size = self.size();
        while !bytes.is_empty() {
            self.caught_up = 0;
            if !self.tail().bytes.is_allocated() {
                self.allocate();
            }
            let last = self.segments.len() - 1;
            let tail = &mut self.segments[last];
            let start = tail.bytes.len();
            let (now, later) = bytes.split_at(bytes.len().min(size - start));
            tail.bytes.extend(now);
            self.end += now.len() as u64;
            bytes = later;
            let end = |offset: usize| u32::try_from(offset).expect("offsets have 32 bits");
            match ends {
                Ends::Newlines => {
                    let found = memchr::memchr_iter(b'\n', now);
                    tail.ends.extend(found.map(|at| end(start + at + 1)));
                }
                Ends::Last if later.is_empty() => tail.ends.push(end(start + now.len())),
                Ends::Last | Ends::None => {}
            }
            if tail.bytes.len() == size {
                self.grow();
            }
        }
    }

    /// Gives the tail its memory, if possible that of the segment freed last.
    fn allocate(&mut self) {
        let spare = std::mem::take(&mut self.spare);
        let size = self.size();
        let last = self.segments.len() - 1;
        let tail = &mut self.segments[last];
        tail.bytes = spare.bytes;
        tail.ends = spare.ends;
        tail.bytes.allocate(size);
    }

    /// Begins another segment after a full tail.
    fn grow(&mut self) {
        let size = self.size();
        let next = Segment {
            before: self.messages(),
            whole: self
                .tail()
                .ends
                .last()
                .is_some_and(|&end| end as usize == size),
            ..Segment::default()
        };
        self.segments.push_back(next);
        self.free_oldest();
    }

    /// Empties the tail, of which no cursor needs a byte: its memory is used again from the start
    /// while that is in the processor's cache.
    fn rewind(&mut self) {
        let before = self.messages();
        assert_eq!(
            self.segments.len(),
            1,
            "a segment without readers is in memory"
        );
        let tail = &mut self.segments[0];
        // Without cursors this may happen within a message that is being appended.
        tail.whole = tail.bytes.len() == 0 && tail.whole
            || tail
                .ends
                .last()
                .is_some_and(|&end| end as usize == tail.bytes.len());
        tail.bytes.clear();
        tail.ends.clear();
        tail.before = before;
        self.origin = self.end;
    }

    /// A new cursor, at the start of the replay. It is given back to [`Log::leave`].
    pub(super) fn join(&mut self) -> u64 {
        let position = self.replay_start();
        let segment = self.segment(position);
        self.segments[segment].readers += 1;
        self.cursors += 1;
        self.caught_up += usize::from(position == self.end());
        position
    }

    /// True if every cursor is at the end.
    pub(super) fn is_read(&self) -> bool {
        self.caught_up == self.cursors
    }

    /// Removes a cursor, which is at `position`.
    pub(super) fn leave(&mut self, position: u64) {
        let segment = self.segment(position);
        self.segments[segment].readers -= 1;
        self.cursors -= 1;
        self.caught_up -= usize::from(position == self.end());
        self.free_oldest();
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
            self.free_oldest();
        }
    }

    /// The bytes of `from..to`, as far as they lie in one segment.
    pub(super) fn piece(&self, from: u64, to: u64) -> &[u8] {
        let segment = self.segment(from);
        let start = self.position(segment);
        let end = to.min(start + self.size() as u64);
        &self.segments[segment].bytes.bytes()[offset(from, start)..offset(end, start)]
    }

    /// True if `position` lies between two messages, false if within one.
    pub(super) fn is_boundary(&self, position: u64) -> bool {
        let index = self.segment(position);
        let segment = &self.segments[index];
        let offset = offset(position, self.position(index));
        match segment.ended(offset) {
            0 => offset == 0 && segment.whole,
            ended => segment.ends[ended - 1] as usize == offset,
        }
    }

    /// Number of messages that end at `position` or before it.
    pub(super) fn ended(&self, position: u64) -> u64 {
        let index = self.segment(position);
        let offset = offset(position, self.position(index));
        self.segments[index].before + self.segments[index].ended(offset) as u64
    }

    /// The first end of a message after `position`. There must be one.
    pub(super) fn next_end(&self, position: u64) -> u64 {
        let index = self.segment(position);
        let offset = offset(position, self.position(index));
        let ended = self.segments[index].ended(offset);
        if let Some(&end) = self.segments[index].ends.get(ended) {
            return self.position(index) + u64::from(end);
        }
        let mut later = self.segments.iter().enumerate().skip(index + 1);
        later
            .find_map(|(i, s)| Some(self.position(i) + u64::from(*s.ends.first()?)))
            .expect("the log ends with a whole message")
    }

    /// Position of the newest message.
    pub(super) fn newest(&self) -> u64 {
        self.start_after(self.messages().saturating_sub(1))
    }

    /// Position at which the replay to a new client begins: always a message's first byte, or the end.
    fn replay_start(&self) -> u64 {
        if self.retention == Retention::default() {
            return self.end();
        }
        let first = self.messages().saturating_sub(self.retention.messages);
        let by_count = self.start_after(first);
        let least = self
            .end()
            .saturating_sub(self.retention.bytes)
            .max(self.origin);
        let by_size = if self.is_boundary(least) {
            least
        } else {
            self.next_end(least)
        };
        by_count.max(by_size)
    }

    /// Position of the message that follows the first `n` messages; the first boundary in memory, if
    /// that is later.
    fn start_after(&self, n: u64) -> u64 {
        let index = self
            .segments
            .partition_point(|s| s.before < n)
            .saturating_sub(1);
        let segment = &self.segments[index];
        match n.checked_sub(segment.before + 1) {
            None => self.first_boundary(),
            Some(i) => {
                self.position(index)
                    + u64::from(segment.ends[usize::try_from(i).expect("it is in memory")])
            }
        }
    }

    /// The first position in memory that lies between two messages.
    fn first_boundary(&self) -> u64 {
        if self.segments[0].whole {
            self.origin
        } else {
            self.next_end(self.origin)
        }
    }

    /// Frees the oldest segments, up to one that has readers or is retained.
    fn free_oldest(&mut self) {
        while self.segments.len() > 1 && self.segments[0].readers == 0 && !self.is_oldest_retained()
        {
            let oldest = self.segments.pop_front().expect("there are two segments");
            self.origin += self.size() as u64;
            self.spare = oldest;
            self.spare.bytes.clear();
            self.spare.ends.clear();
            self.spare.ends.shrink_to(SPARE_ENDS);
        }
    }

    /// True if the oldest of several segments holds bytes of a replay.
    fn is_oldest_retained(&self) -> bool {
        let next = &self.segments[1];
        let later_bytes = self.end() - self.position(1);
        // One of the messages that end later may begin in the oldest segment.
        let begun = u64::from(!next.whole);
        let later_messages = (self.messages() - next.before).saturating_sub(begun);
        later_bytes < self.retention.bytes && later_messages < self.retention.messages
    }

    fn tail(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn size(&self) -> usize {
        1 << self.shift
    }

    /// Index of the segment in which a position lies.
    fn segment(&self, position: u64) -> usize {
        offset(position, self.origin) >> self.shift
    }

    /// Position of a segment's first byte.
    fn position(&self, segment: usize) -> u64 {
        self.origin + ((segment as u64) << self.shift)
    }
}

/// Distance from an earlier position to `position`, in bytes.
fn offset(position: u64, earlier: u64) -> usize {
    usize::try_from(position - earlier).expect("the log fits in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Log {
        Log::new(4, Retention::default())
    }

    /// The bytes of `from..to`.
    pub(super) fn read(log: &Log, mut from: u64, to: u64) -> Vec<u8> {
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
        let mut log = small();
        let mut cursor = log.join();
        log.append(&[7; 40], Ends::Last);
        assert_eq!(log.segments.len(), 11);
        let end = log.end();
        log.forward(&mut cursor, end);
        assert_eq!((log.segments.len(), log.start(), log.end()), (1, 40, 40));
        assert!(log.spare.bytes.is_allocated() && log.spare.bytes.len() == 0);
    }

    #[test]
    fn without_readers_the_log_holds_one_segment() {
        let mut log = small();
        log.append(&[7; 1000], Ends::Last);
        assert_eq!(log.segments.len(), 1);
    }

    #[test]
    fn tail_is_filled_again_from_its_start_once_all_cursors_are_at_the_end() {
        let mut log = small();
        let (mut one, mut other) = (log.join(), log.join());
        log.append(b"abc", Ends::Last);
        log.forward(&mut one, 3);
        log.append(b"d", Ends::Last);
        assert_eq!((log.start(), read(&log, other, 4)), (0, b"abcd".to_vec()));
        log.forward(&mut one, 4);
        log.forward(&mut other, 4);
        log.append(b"ef", Ends::Last);
        assert_eq!((log.start(), read(&log, one, 6)), (4, b"ef".to_vec()));
        assert_eq!((log.messages(), log.ended(4), log.newest()), (3, 2, 4));
    }

    #[test]
    fn cursor_at_the_edge_of_a_segment_reads_on_from_there() {
        let mut log = small();
        log.append(b"abcd", Ends::Last);
        let cursor = log.join();
        log.append(b"efgh", Ends::Last);
        assert_eq!((cursor, read(&log, 4, 8)), (4, b"efgh".to_vec()));
        assert!(log.is_boundary(4) && !log.is_boundary(5) && log.is_boundary(8));
        log.leave(cursor);
        assert_eq!(log.start(), 8);
    }

    #[test]
    fn newlines_end_messages_across_segments() {
        let mut log = small();
        let cursor = log.join();
        log.append(b"a", Ends::None);
        log.append(b"b\n\ncdefgh\n", Ends::Newlines);
        let ends: Vec<u64> = (0..12).filter(|&at| log.is_boundary(at)).collect();
        assert_eq!((ends, log.messages()), (vec![0, 3, 4, 11], 3));
        assert_eq!(
            (log.next_end(0), log.next_end(4), log.next_end(10)),
            (3, 11, 11)
        );
        assert_eq!((log.ended(3), log.ended(5), log.newest()), (1, 2, 4));
        log.leave(cursor);
    }

    #[test]
    fn replay_begins_with_a_whole_message() {
        let replay = |messages, bytes, text: &[u8]| {
            let mut log = Log::new(4, Retention { messages, bytes });
            log.append(text, Ends::Newlines);
            let cursor = log.join();
            String::from_utf8(read(&log, cursor, log.end())).unwrap()
        };
        assert_eq!(replay(2, 100, b"one\ntwo\nthree\n"), "two\nthree\n");
        assert_eq!(replay(2, 9, b"one\ntwo\nthree\n"), "three\n");
        assert_eq!(replay(9, 100, b"one\ntwo\n"), "one\ntwo\n");
        assert_eq!(replay(u64::MAX, 10, b"one\ntwo\nthree\n"), "two\nthree\n");
        assert_eq!(replay(u64::MAX, 5, b"one\ntwo\nthree\n"), "");
        assert_eq!(replay(2, 100, b""), "");
    }
}
