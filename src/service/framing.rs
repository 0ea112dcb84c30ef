//! Framing: the form of messages in a stream of bytes. Messages are found in input that is cut at
//! any byte, and made of texts.

use std::fmt;
use std::str::FromStr;

use crate::bytes::Slices;

/// Bytes of the header of [`Framing::U32`].
const HEADER: usize = 4;

/// The form of messages in a client's input and output.
///
/// It is parsed from `lines`, `raw` or `u32`, and displayed as such. [`Room::max_message`] limits a
/// message without its newline or header.
///
/// [`Room::max_message`]: crate::Room::max_message
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A message is a line with its `\n`. A `\r` before that is part of the line. A line without
    /// its `\n` at the end of input gets one.
    #[default]
    Lines,
    /// A message is the bytes of one read: at most [`MOST_INPUT`](crate::MOST_INPUT), and at most
    /// the longest message.
    Raw,
    /// A message is its length in bytes, as a header of 32 bits, big-endian, and that number of
    /// bytes. It is relayed with its header; an incomplete one at the end of input is dropped.
    U32,
}

/// The whole messages in one piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Number of its bytes up to the end of the last whole message.
    pub(super) whole: usize,
    /// True if each message, an incomplete last one included, is within the limit.
    pub(super) fits: bool,
}

impl Framing {
    /// Finds the whole messages in `input`, of which the first begins with `kept`. A message has at
    /// most `most` bytes, without its newline or header; `kept` is within that.
    pub(super) fn find(self, kept: &[u8], input: &[u8], most: usize) -> Found {
        match self {
            Self::Lines => find_lines(kept.len(), input, most),
            Self::Raw => Found {
                whole: input.len(),
                fits: true,
            },
            Self::U32 => find_frames(kept, input, most),
        }
    }

    /// Number of bytes of `input` that finish the first message. It begins with `kept`, and is whole.
    pub(super) fn first(self, kept: &[u8], input: &[u8]) -> usize {
        match self {
            Self::Lines => memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1),
            Self::Raw => input.len(),
            Self::U32 => {
                let length = frame_length(Slices::new(kept, input)).expect("the message is whole");
                HEADER + length - kept.len()
            }
        }
    }

    /// A message without its header. The newline of a line is part of the payload.
    pub(super) fn payload(self, message: Slices<'_>) -> Slices<'_> {
        match self {
            Self::Lines | Self::Raw => message,
            Self::U32 => message.skip(HEADER),
        }
    }

    /// The header in front of a payload of `length` bytes, if the framing has one.
    pub(super) fn header(self, length: usize) -> Option<[u8; HEADER]> {
        match self {
            Self::Lines | Self::Raw => None,
            Self::U32 => {
                let length = u32::try_from(length).expect("messages are at most 1 GiB");
                Some(length.to_be_bytes())
            }
        }
    }

    /// A line as a payload: without its newline if a header gives its length.
    pub(super) fn payload_of_line(self, line: Slices<'_>) -> Slices<'_> {
        let [kept, end] = line.parts();
        match self {
            Self::U32 => Slices::new(kept, end.strip_suffix(b"\n").unwrap_or(end)),
            Self::Lines | Self::Raw => line,
        }
    }

    /// A text of one line as a payload: with a newline, unless a header gives its length.
    pub(super) fn line(self, text: &[u8]) -> Vec<u8> {
        let mut line = text.to_vec();
        if self != Self::U32 {
            line.push(b'\n');
        }
        line
    }

    /// A text of one line as a message.
    pub(super) fn message(self, text: &[u8]) -> Vec<u8> {
        let (line, mut message) = (self.line(text), Vec::new());
        message.extend(self.header(line.len()).into_iter().flatten());
        message.extend(line);
        message
    }
}

/// The length in a header, if that is complete.
fn frame_length(bytes: Slices<'_>) -> Option<usize> {
    let mut all = bytes.parts().into_iter().flatten().copied();
    let header = [all.next()?, all.next()?, all.next()?, all.next()?];
    Some(u32::from_be_bytes(header) as usize)
}

fn find_lines(kept: usize, input: &[u8], most: usize) -> Found {
    let mut whole = 0;
    let mut room = most.saturating_sub(kept);
    loop {
        let rest = &input[whole..];
        // Every line that ends in the window is within the limit.
        let window = &rest[..rest.len().min(room.saturating_add(1))];
        let Some(last) = memchr::memrchr(b'\n', window) else {
            let fits = rest.len() <= room;
            return Found { whole, fits };
        };
        whole += last + 1;
        room = most;
    }
}

fn find_frames(mut kept: &[u8], input: &[u8], most: usize) -> Found {
    let mut whole = 0;
    loop {
        let rest = &input[whole..];
        let length = frame_length(Slices::new(kept, rest));
        let fits = length.is_none_or(|length| length <= most);
        match length {
            Some(length) if fits && HEADER + length <= kept.len() + rest.len() => {
                whole += HEADER + length - kept.len();
                kept = &[];
            }
            _ => return Found { whole, fits },
        }
    }
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lines" => Ok(Self::Lines),
            "raw" => Ok(Self::Raw),
            "u32" => Ok(Self::U32),
            _ => Err("expected lines, raw or u32".to_owned()),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "lines",
            Self::Raw => "raw",
            Self::U32 => "u32",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(kept: usize, input: &str, most: usize) -> (usize, bool) {
        let found = Framing::Lines.find(&vec![b'x'; kept], input.as_bytes(), most);
        (found.whole, found.fits)
    }

    fn frames(kept: &[u8], input: &[u8], most: usize) -> (usize, bool) {
        let found = Framing::U32.find(kept, input, most);
        (found.whole, found.fits)
    }

    #[test]
    fn longest_line_passes_and_one_byte_more_does_not() {
        assert_eq!(lines(0, "abc\nabc\nabc", 3), (8, true));
        assert_eq!(lines(0, "abc\nabcd\n", 3), (4, false));
        assert_eq!(lines(0, "abcd", 3), (0, false));
        assert_eq!(lines(3, "\n", 3), (1, true));
        assert_eq!(lines(2, "bc\n", 3), (0, false));
        assert_eq!(lines(3, "", 3), (0, true));
        assert_eq!(lines(1, "\n\n\n", 3), (3, true));
    }

    #[test]
    fn longest_frame_passes_and_one_byte_more_does_not() {
        assert_eq!(frames(b"", b"\0\0\0\x03abc\0\0\0\0\0\0", 3), (11, true));
        assert_eq!(frames(b"", b"\0\0\0\x01a\0\0\0\x04", 3), (5, false));
        assert_eq!(frames(b"\0\0\0", b"\x02ab\0", 3), (3, true));
        assert_eq!(frames(b"\0\0\0\x02a", b"b", 3), (1, true));
        assert_eq!(frames(b"\xff\xff", b"\xff\xff", usize::MAX), (0, true));
        assert_eq!(frames(b"", b"\0\0\0", 3), (0, true));
    }

    /// The messages found in a text that arrives in parts of these lengths.
    fn feed(framing: Framing, text: &[u8], cuts: &[usize], most: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut all, mut kept, mut rest) = (Vec::new(), Vec::new(), text);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (input, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            let found = framing.find(&kept, input, most);
            let (mut whole, part) = input.split_at(found.whole);
            while !whole.is_empty() {
                let (message, next) = whole.split_at(framing.first(&kept, whole));
                all.push([&kept, message].concat());
                (kept, whole) = (Vec::new(), next);
            }
            if !found.fits {
                return (all, false);
            }
            kept.extend(part);
            rest = later;
        }
        (all, true)
    }

    proptest! {
        /// Lines are found up to the first that is too long, whatever the cuts.
        #[test]
        fn lines_are_found_under_any_fragmentation(
            text in prop::collection::vec(prop_oneof![1 => Just(b'\n'), 4 => Just(b'x')], 0..200),
            cuts in prop::collection::vec(1..20usize, 1..20),
            most in 1..20usize,
        ) {
            let (all, fits) = feed(Framing::Lines, &text, &cuts, most);
            let short = text.split_inclusive(|&b| b == b'\n').take_while(|line| {
                line.strip_suffix(b"\n").unwrap_or(line).len() <= most
            });
            let expected: Vec<&[u8]> = short.filter(|line| line.ends_with(b"\n")).collect();
            prop_assert_eq!(all, expected);
            let too_long = text.split(|&b| b == b'\n').any(|line| line.len() > most);
            prop_assert_eq!(fits, !too_long);
        }

        /// Frames are found up to the first that is too long, whatever the cuts.
        #[test]
        fn frames_are_found_under_any_fragmentation(
            lengths in prop::collection::vec(0..30usize, 0..20),
            cuts in prop::collection::vec(1..20usize, 1..20),
            most in 20..40usize,
        ) {
            let message = |n: &usize| Framing::U32.message(&vec![7; *n]);
            let text: Vec<u8> = lengths.iter().flat_map(message).collect();
            let (all, fits) = feed(Framing::U32, &text, &cuts, most);
            let short = lengths.iter().take_while(|&&n| n <= most);
            prop_assert_eq!(all, short.map(message).collect::<Vec<_>>());
            prop_assert_eq!(fits, lengths.iter().all(|&n| n <= most));
        }
    }

    #[test]
    fn text_becomes_a_message() {
        assert_eq!(Framing::Lines.line(b"x"), b"x\n");
        assert_eq!(Framing::Raw.line(b"x"), b"x\n");
        assert_eq!(Framing::U32.line(b"x"), b"x");
        assert_eq!(Framing::U32.header(258), Some([0, 0, 1, 2]));
        assert_eq!(Framing::U32.message(b"x"), b"\0\0\0\x01x");
        assert_eq!(Framing::Lines.message(b"x"), b"x\n");
        let message = Slices::new(b"\0\0", b"\0\x01x");
        assert_eq!(Framing::U32.payload(message).to_vec(), b"x");
    }
}
