//! Messages: numbered lines of equal length.

use memchr::memchr;

/// Bytes of the number at the beginning.
pub(super) const DIGITS: usize = 16;

/// Bits of it that are a sender's message number; the bits above are the sender.
const COUNTING: u32 = 44;

/// Senders that can be told apart.
pub(super) const MOST_SENDERS: usize = 1 << (64 - COUNTING);

/// The sender of messages whose numbers do not matter.
pub(super) const NO_SENDER: usize = MOST_SENDERS - 1;

/// Bytes sent at a time, at most, unless a single message is longer.
const BATCH: usize = 256 * 1024;

/// Messages of one length.
///
/// Each is the sender and the message's number as 16 hexadecimal digits, a filler that is the same
/// in all, and a newline.
#[derive(Debug)]
pub(super) struct Messages {
    size: usize,
    /// Consecutive messages; their numbers are filled in when they are sent.
    batch: Vec<u8>,
}

impl Messages {
    /// Messages of `size` bytes, of which at most `most` are sent at a time.
    pub(super) fn new(size: usize, most: usize) -> Self {
        let mut message = digits(NO_SENDER, 0).to_vec();
        message.extend((b'A'..=b'Z').cycle().take(size - DIGITS - 1));
        message.push(b'\n');
        let count = most.min(BATCH / size).max(1);
        Self {
            size,
            batch: message.repeat(count),
        }
    }

    /// Bytes in a message.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The largest number of messages sent at a time.
    pub(super) fn most(&self) -> usize {
        self.batch.len() / self.size
    }

    /// `count` messages whose numbers do not matter.
    pub(super) fn plain(&self, count: usize) -> &[u8] {
        &self.batch[..count * self.size]
    }

    /// True if a message, of which `received` bytes are known, continues like the input, as far as
    /// both go.
    pub(super) fn goes_on(
        &self,
        sender: usize,
        number: u64,
        received: usize,
        input: &[u8],
    ) -> bool {
        let digits = digits(sender, number);
        let digits = digits.get(received..).unwrap_or_default();
        let filler = &self.batch[received.max(DIGITS)..self.size];
        let (number, rest) = input.split_at(digits.len().min(input.len()));
        let length = filler.len().min(rest.len());
        number == &digits[..number.len()] && rest[..length] == filler[..length]
    }

    /// `count` messages of a sender, the first of which has the number `first`.
    pub(super) fn numbered(&mut self, sender: usize, first: u64, count: usize) -> &[u8] {
        let messages = self.batch.chunks_exact_mut(self.size).take(count);
        for (number, message) in (first..).zip(messages) {
            message[..DIGITS].copy_from_slice(&digits(sender, number));
        }
        &self.batch[..count * self.size]
    }

    /// True if a received message is the same as when it was sent.
    pub(super) fn is_intact(&self, message: &[u8], sender: usize, number: u64) -> bool {
        let (head, rest) = message.split_at(DIGITS.min(message.len()));
        head == digits(sender, number) && rest == &self.batch[DIGITS..self.size]
    }
}

/// The sender and the number of a message; arbitrary if the message was corrupted.
pub(super) fn sender_and_number(message: &[u8]) -> Option<(usize, u64)> {
    let (high, rest) = message.split_first_chunk()?;
    let (low, _) = rest.split_first_chunk()?;
    let all = u64::from(value(*high)) << 32 | u64::from(value(*low));
    let sender = usize::try_from(all >> COUNTING).ok()?;
    Some((sender, all & ((1 << COUNTING) - 1)))
}

/// A sender and a number as text.
pub(super) fn digits(sender: usize, number: u64) -> [u8; DIGITS] {
    let all = (sender as u64) << COUNTING | number & ((1 << COUNTING) - 1);
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(all.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

fn digit(value: u8) -> u8 {
    // Without a branch: from '9' + 1 to 'a' it is 39.
    b'0' + value + 39 * u8::from(value > 9)
}

/// The value of eight digits at once, in three steps that each join neighbours.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is empty")]
fn value(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    let letters = text >> 6 & 0x0101_0101_0101_0101;
    let mut value = (text & 0x0f0f_0f0f_0f0f_0f0f).wrapping_add(letters * 9);
    value = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    value = (value | value >> 8) & 0x0000_ffff_0000_ffff;
    (value | value >> 16) as u32
}

/// Finds messages in a stream that is read in parts of any length.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a message. Empty, it owns no memory.
    partial: Vec<u8>,
    /// True if the input is garbage up to the next newline.
    skipping: bool,
}

/// A part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The right number of bytes, of which the last is a newline.
    Message(&'a [u8]),
    /// Other bytes, up to the next newline.
    Garbage,
}

impl Frames {
    /// True at the beginning of a message.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.partial.is_empty() && !self.skipping
    }

    /// Passes the parts of the input, of which messages have `size` bytes, to `each`.
    pub(super) fn feed(&mut self, mut input: &[u8], size: usize, mut each: impl FnMut(Frame<'_>)) {
        while !self.partial.is_empty() && !input.is_empty() {
            let (part, rest) = input.split_at(input.len().min(size - self.partial.len()));
            self.partial.extend_from_slice(part);
            input = rest;
            if self.partial.len() == size {
                let message = std::mem::take(&mut self.partial);
                let rest = self.cut(&message, size, &mut each);
                self.partial.extend_from_slice(rest);
            }
        }
        let rest = self.cut(input, size, &mut each);
        self.partial.extend_from_slice(rest);
    }

    /// Passes on whole messages and garbage; returns the rest, which is less than a message.
    fn cut<'a>(
        &mut self,
        mut bytes: &'a [u8],
        size: usize,
        each: &mut impl FnMut(Frame<'_>),
    ) -> &'a [u8] {
        loop {
            if self.skipping {
                let Some(end) = memchr(b'\n', bytes) else {
                    return &[];
                };
                bytes = &bytes[end + 1..];
                self.skipping = false;
            }
            if bytes.len() < size {
                return bytes;
            }
            let (message, rest) = bytes.split_at(size);
            if message[size - 1] == b'\n' {
                each(Frame::Message(message));
                bytes = rest;
            } else {
                each(Frame::Garbage);
                self.skipping = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Found {
        Message(usize, u64),
        Garbage,
    }

    /// The parts of a stream that is read in these lengths, of which the last is repeated.
    fn found(stream: &[u8], size: usize, cuts: &[usize]) -> Vec<Found> {
        let mut frames = Frames::default();
        let mut all = Vec::new();
        let mut rest = stream;
        let last = cuts.last().copied().unwrap_or(1).max(1);
        let lengths = cuts.iter().copied().chain(std::iter::repeat(last));
        for length in lengths {
            if rest.is_empty() {
                break;
            }
            let (part, unread) = rest.split_at(length.min(rest.len()));
            rest = unread;
            frames.feed(part, size, |frame| {
                all.push(match frame {
                    Frame::Message(message) => {
                        let (sender, number) = sender_and_number(message).unwrap();
                        Found::Message(sender, number)
                    }
                    Frame::Garbage => Found::Garbage,
                });
            });
        }
        all
    }

    #[test]
    fn sent_messages_are_found_and_intact() {
        let mut messages = Messages::new(20, 3);
        let sent = messages.numbered(0xabcde, 0x7f9, 3).to_vec();
        assert_eq!(&sent[..20], b"abcde000000007f9ABC\n");
        for (i, message) in sent.chunks(20).enumerate() {
            let number = 0x7f9 + i as u64;
            assert_eq!(sender_and_number(message), Some((0xabcde, number)));
            assert!(messages.is_intact(message, 0xabcde, number));
            for at in 0..20 {
                let mut changed = message.to_vec();
                changed[at] ^= 4;
                assert!(!messages.is_intact(&changed, 0xabcde, number), "byte {at}");
            }
        }
        assert!(!messages.is_intact(&sent[..19], 0xabcde, 0x7f9));
        assert_eq!(sender_and_number(b"0123"), None);
    }

    #[test]
    fn batch_is_bounded_but_has_a_message() {
        assert_eq!(Messages::new(64, 1_000_000).most(), BATCH / 64);
        assert_eq!(Messages::new(BATCH * 2, 10).most(), 1);
        let messages = Messages::new(17, 1);
        assert_eq!(messages.plain(1), b"fffff00000000000\n");
        let goes_on = |received, input: &[u8]| messages.goes_on(5, 2, received, input);
        assert!(goes_on(0, b"000") && goes_on(4, b"50000000000") && goes_on(15, b"2\n000"));
        assert!(!goes_on(0, b"001") && !goes_on(16, b"0") && goes_on(16, b"\n"));
    }

    #[test]
    fn next_line_after_garbage_is_a_message_again() {
        let mut messages = Messages::new(17, 1);
        let line = messages.numbered(1, 5, 1).to_vec();
        for garbage in [
            &b"tooshort\n"[..],
            b"x\n",
            b"much longer than a message is\n",
            b"\n",
        ] {
            let stream = [garbage, &line, &line].concat();
            for cut in 1..stream.len() {
                let found = found(&stream, 17, &[cut]);
                let end = &found[found.len() - 1..];
                assert_eq!(end, [Found::Message(1, 5)], "{garbage:?} {cut}");
                assert!(found.contains(&Found::Garbage));
            }
        }
    }

    proptest! {
        #[test]
        fn digits_survive_a_round_trip(sender in 0..MOST_SENDERS, number in 0..1u64 << COUNTING) {
            let text = digits(sender, number);
            let expected = format!("{sender:05x}{number:011x}");
            prop_assert_eq!(&text, expected.as_bytes());
            prop_assert_eq!(sender_and_number(&text), Some((sender, number)));
        }

        #[test]
        fn messages_are_found_however_they_are_cut(
            size in 17..80usize,
            count in 1..20usize,
            cuts in proptest::collection::vec(1..200usize, 1..8),
        ) {
            let mut messages = Messages::new(size, count);
            let stream = messages.numbered(3, 9, count).to_vec();
            let expected: Vec<_> = (9..9 + count as u64).map(|n| Found::Message(3, n)).collect();
            prop_assert_eq!(found(&stream, size, &cuts), expected);
        }
    }
}
