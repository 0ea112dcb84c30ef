//! What clients send: numbered lines of equal length.

use memchr::memchr;

/// Bytes of the number in front.
const DIGITS: usize = 16;

/// Bits of it that count a sender's messages; those above them are the sender.
const COUNTING: u32 = 44;

/// Senders that can be told apart.
pub(super) const MOST_SENDERS: usize = 1 << (64 - COUNTING);

/// Bytes sent in one go, at most, if that is a message at least.
const BATCH: usize = 256 * 1024;

/// Messages of one length.
///
/// Each is the sender and the message's number as 16 hexadecimal digits, a filler that is the same
/// in all, and a newline.
#[derive(Debug)]
pub(super) struct Messages {
    size: usize,
    /// Some of them, one behind the other, whose numbers are written as they go out.
    batch: Vec<u8>,
}

impl Messages {
    /// Messages of `size` bytes, of which `most` are sent at a time, or as many as fit.
    pub(super) fn new(size: usize, most: usize) -> Self {
        let mut message = vec![b'0'; DIGITS];
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

    /// Messages sent at a time, at most.
    pub(super) fn most(&self) -> usize {
        self.batch.len() / self.size
    }

    /// So many messages without numbers of their own.
    pub(super) fn plain(&self, count: usize) -> &[u8] {
        &self.batch[..count * self.size]
    }

    /// Whether a message without a number, of which so many bytes have come, goes on like this, as
    /// far as it goes.
    pub(super) fn goes_on(&self, begun: usize, input: &[u8]) -> bool {
        let rest = &self.batch[begun..self.size];
        let length = rest.len().min(input.len());
        rest[..length] == input[..length]
    }

    /// So many messages of a sender, from a number on.
    pub(super) fn numbered(&mut self, sender: usize, first: u64, count: usize) -> &[u8] {
        let messages = self.batch.chunks_exact_mut(self.size).take(count);
        for (number, message) in (first..).zip(messages) {
            message[..DIGITS].copy_from_slice(&digits(sender, number));
        }
        &self.batch[..count * self.size]
    }

    /// Whether a message of this length is just as it was sent.
    pub(super) fn is_intact(&self, message: &[u8], sender: usize, number: u64) -> bool {
        let (head, rest) = message.split_at(DIGITS.min(message.len()));
        head == digits(sender, number) && rest == &self.batch[DIGITS..self.size]
    }
}

/// Who has sent a message, and the how manieth of its own it is; anything if the message was
/// changed.
pub(super) fn sender_and_number(message: &[u8]) -> Option<(usize, u64)> {
    let (high, rest) = message.split_first_chunk()?;
    let (low, _) = rest.split_first_chunk()?;
    let all = u64::from(value(*high)) << 32 | u64::from(value(*low));
    let sender = usize::try_from(all >> COUNTING).ok()?;
    Some((sender, all & ((1 << COUNTING) - 1)))
}

/// Both of them as text.
fn digits(sender: usize, number: u64) -> [u8; DIGITS] {
    let all = (sender as u64) << COUNTING | number & ((1 << COUNTING) - 1);
    let mut digits = [0; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(all.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

fn digit(value: u8) -> u8 {
    // Without a branch: a letter is 39 further than a digit would be.
    b'0' + value + 39 * u8::from(value > 9)
}

/// Eight digits at once: those of every second byte are brought together, thrice.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is empty")]
fn value(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    let letters = text >> 6 & 0x0101_0101_0101_0101;
    let mut value = (text & 0x0f0f_0f0f_0f0f_0f0f).wrapping_add(letters * 9);
    value = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    value = (value | value >> 8) & 0x0000_ffff_0000_ffff;
    (value | value >> 16) as u32
}

/// Finds messages in what one read after the other returns.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a message. Empty, it owns no memory.
    begun: Vec<u8>,
    /// What comes is none until after the next newline.
    skipping: bool,
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As many bytes as a message has, the last of them a newline.
    Message(&'a [u8]),
    /// Something else, up to the next newline.
    Garbage,
}

impl Frames {
    /// Goes through what has come; messages have `size` bytes.
    pub(super) fn feed(&mut self, mut input: &[u8], size: usize, mut each: impl FnMut(Piece<'_>)) {
        while !self.begun.is_empty() && !input.is_empty() {
            let (now, later) = input.split_at(input.len().min(size - self.begun.len()));
            self.begun.extend_from_slice(now);
            input = later;
            if self.begun.len() == size {
                let begun = std::mem::take(&mut self.begun);
                let rest = self.cut(&begun, size, &mut each);
                self.begun.extend_from_slice(rest);
            }
        }
        let rest = self.cut(input, size, &mut each);
        self.begun.extend_from_slice(rest);
    }

    /// Gives out what is whole, and returns the rest: less than a message.
    fn cut<'a>(
        &mut self,
        mut bytes: &'a [u8],
        size: usize,
        each: &mut impl FnMut(Piece<'_>),
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
                each(Piece::Message(message));
                bytes = rest;
            } else {
                each(Piece::Garbage);
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

    /// What is found in pieces of these lengths, the last of which is repeated.
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
            let (now, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            frames.feed(now, size, |piece| {
                all.push(match piece {
                    Piece::Message(message) => {
                        let (sender, number) = sender_and_number(message).unwrap();
                        Found::Message(sender, number)
                    }
                    Piece::Garbage => Found::Garbage,
                });
            });
        }
        all
    }

    #[test]
    fn what_is_sent_is_found_and_intact() {
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
    fn a_batch_is_bounded_but_has_a_message() {
        assert_eq!(Messages::new(64, 1_000_000).most(), BATCH / 64);
        assert_eq!(Messages::new(BATCH * 2, 10).most(), 1);
        let messages = Messages::new(17, 1);
        assert_eq!(messages.plain(1), b"0000000000000000\n");
        assert!(messages.goes_on(0, b"000") && messages.goes_on(15, b"0\n0000"));
        assert!(!messages.goes_on(0, b"001") && !messages.goes_on(16, b"0"));
    }

    #[test]
    fn after_garbage_the_next_line_is_a_message_again() {
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
