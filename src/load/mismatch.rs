//! A server that is of another kind than the load is for, recognised by its first bytes.

use std::fmt;

use memchr::memmem;

use super::faults::Fault;
use super::message::{DIGITS, Messages, digits, sender_and_number};
use crate::text::escape::{complete_length, escape};

/// The number of first bytes that are kept, which is enough to recognise a server by.
const KEPT: usize = 48;

/// The length of the longest greeting that is told from other answers.
const SEARCHED: usize = 16 * 1024;

/// A server that is of another kind than the load is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The way in which it differs.
    pub kind: MismatchKind,
    /// The first bytes that it sent to a client, at most 48 of them.
    pub first: Vec<u8>,
}

/// The way in which a server differs from those that the load is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MismatchKind {
    /// It sends nothing.
    Silent,
    /// It answers with something else than the message.
    Alters,
    /// It sends before it is sent anything, or in fan-out something else than messages.
    Greets,
    /// It sends a client the messages of others.
    Broadcasts,
}

/// The first bytes that a client receives, compared with the first message that it sends.
#[derive(Debug, Default)]
pub(super) struct FirstBytes {
    /// Bytes that are those of the message.
    equal: usize,
    /// The first bytes, at most [`KEPT`], once one of them is not that of the message.
    other: Vec<u8>,
    /// The newest bytes, in which the message may begin, and the number of bytes before them.
    newest: Vec<u8>,
    passed: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// It begins otherwise; the message may follow after a greeting.
    Searching,
    Decided,
}

/// The beginning of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The message.
    Right,
    /// A later message of the client.
    Late,
    /// Something else.
    Other(Mismatch),
    /// Something else, as was found before, and then the message.
    Greeting(Mismatch),
}

impl Beginning {
    /// The fault of the first answer, unless it was counted when it was found.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Right | Self::Greeting(_) => None,
            Self::Other(mismatch) if mismatch.kind == MismatchKind::Broadcasts => {
                Some(Fault::Stray)
            }
            Self::Late | Self::Other(_) => Some(Fault::Corrupt),
        }
    }
}

impl FirstBytes {
    /// Compares the input with the message; none while nothing is decided, and after that.
    pub(super) fn compare(&mut self, input: &[u8], message: First<'_>) -> Option<Beginning> {
        let First {
            messages,
            sender,
            number,
            is_sent,
            ..
        } = message;
        if self.state == State::Decided || input.is_empty() {
            return None;
        }
        if self.state == State::Searching {
            let greeting = self.search(input, message)?;
            return Some(Beginning::Greeting(greeting));
        }
        let equals = || messages.goes_on(sender, number, self.equal, input);
        if self.other.is_empty() && is_sent && equals() {
            self.equal += input.len();
            if self.equal < messages.size() {
                return None;
            }
            self.state = State::Decided;
            return Some(Beginning::Right);
        }
        self.differ(input, message)
    }

    /// Decides on bytes that are not those of the message, unless more of them are needed.
    fn differ(&mut self, input: &[u8], message: First<'_>) -> Option<Beginning> {
        if self.other.is_empty() {
            let equal = message.beginning(self.equal);
            self.search(&equal, message);
        }
        let greeting = self.search(input, message);
        if greeting.is_none() && self.other.len() < DIGITS && begins_with_digits(&self.other) {
            return None;
        }
        let Some(kind) = message.kind_of(&self.other) else {
            self.state = State::Decided;
            return Some(Beginning::Late);
        };
        if let (MismatchKind::Alters, Some(greeting)) = (kind, greeting) {
            return Some(Beginning::Other(greeting));
        }
        self.state = match kind {
            MismatchKind::Alters => State::Searching,
            _ => State::Decided,
        };
        let first = self.other.clone();
        Some(Beginning::Other(Mismatch { kind, first }))
    }

    /// Keeps the input, and looks for a line in it that begins as the message does. What is before it
    /// is a greeting.
    fn search(&mut self, input: &[u8], message: First<'_>) -> Option<Mismatch> {
        let free = KEPT - self.other.len();
        self.other
            .extend_from_slice(&input[..free.min(input.len())]);
        self.newest.extend_from_slice(input);
        let mut begins = [b'\n'; DIGITS + 1];
        begins[1..].copy_from_slice(&digits(message.sender, message.number));
        let found = memmem::find(&self.newest, &begins).filter(|_| message.is_sent);
        if let Some(at) = found {
            self.state = State::Decided;
            self.other.truncate(self.passed + at + 1);
            return Some(Mismatch::new(MismatchKind::Greets, &self.other));
        }
        let done = self.newest.len().saturating_sub(DIGITS);
        self.newest.drain(..done);
        self.passed += done;
        if self.passed > SEARCHED {
            self.state = State::Decided;
        }
        None
    }
}

/// The message that a client's first bytes are compared with.
#[derive(Clone, Copy)]
pub(super) struct First<'a> {
    pub(super) messages: &'a Messages,
    pub(super) sender: usize,
    pub(super) number: u64,
    /// True if it was sent.
    pub(super) is_sent: bool,
    /// True if the client sends no other.
    pub(super) is_only: bool,
}

impl First<'_> {
    /// Its first bytes, `length` of them.
    fn beginning(&self, length: usize) -> Vec<u8> {
        let mut bytes = digits(self.sender, self.number).to_vec();
        bytes.extend_from_slice(&self.messages.plain(1)[DIGITS..]);
        bytes.truncate(length);
        bytes
    }

    /// The kind of a server that sends these first bytes, which are not those of the message; none if
    /// they are of a later message of this client.
    pub(super) fn kind_of(&self, bytes: &[u8]) -> Option<MismatchKind> {
        let found = sender_and_number(bytes).filter(|_| begins_with_digits(bytes));
        let is_this = self.is_sent && found == Some((self.sender, self.number));
        if let Some((sender, number)) = found.filter(|_| !is_this)
            && self.messages.goes_on(sender, number, 0, bytes)
        {
            let is_later = self.is_sent && sender == self.sender && !self.is_only;
            return (!is_later).then_some(MismatchKind::Broadcasts);
        }
        Some(if self.is_sent {
            MismatchKind::Alters
        } else {
            MismatchKind::Greets
        })
    }
}

impl Mismatch {
    /// The mismatch of a server by its first bytes.
    pub(super) fn new(kind: MismatchKind, first: &[u8]) -> Self {
        Self {
            kind,
            first: first[..KEPT.min(first.len())].to_vec(),
        }
    }

    /// The first bytes in quotes, safe for a terminal.
    pub(super) fn quoted(&self) -> String {
        if self.first.len() < KEPT {
            return format!("'{}'", escape(&self.first));
        }
        let complete = &self.first[..complete_length(&self.first)];
        format!("'{}…'", escape(complete))
    }
}

/// One line.
impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.quoted();
        match self.kind {
            MismatchKind::Silent => {
                write!(f, "the server sent nothing back: is it an echo service?")
            }
            MismatchKind::Alters => {
                write!(
                    f,
                    "the server does not echo what it is sent: its first bytes were {first}"
                )
            }
            MismatchKind::Greets => {
                write!(f, "the server greets: its first bytes were {first}")
            }
            MismatchKind::Broadcasts => write!(
                f,
                "the server sends clients the messages of others, as a broadcast service does: its first bytes were {first}"
            ),
        }
    }
}

/// True if the bytes begin as a message does, as far as they go.
pub(super) fn begins_with_digits(bytes: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    bytes.iter().take(DIGITS).all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decisions on a stream that is received in pieces of this length.
    fn decided(stream: &[u8], piece: usize, is_sent: bool) -> Vec<Beginning> {
        let messages = Messages::new(20, 1);
        let message = First {
            messages: &messages,
            sender: 3,
            number: 0,
            is_sent,
            is_only: false,
        };
        let mut first = FirstBytes::default();
        let pieces = stream.chunks(piece);
        pieces
            .filter_map(|input| first.compare(input, message))
            .collect()
    }

    #[test]
    fn messages_of_the_client_are_recognised_however_they_are_cut() {
        for (stream, expected) in [
            (
                &b"0000300000000000ABC\n0000300000000000ABC\n"[..],
                Some(Beginning::Right),
            ),
            (b"0000300000000000", None),
            (b"0000300000000001ABC\n", Some(Beginning::Late)),
            (b"0000400000", None),
        ] {
            for piece in 1..=stream.len() {
                let decided = decided(stream, piece, true);
                assert!(decided.len() < 2, "{decided:?}");
                let text = stream.escape_ascii();
                assert_eq!(decided.first(), expected.as_ref(), "{text} {piece}");
            }
        }
    }

    #[test]
    fn server_of_another_kind_is_recognised_however_its_first_bytes_are_cut() {
        use MismatchKind::{Alters, Broadcasts, Greets};
        for (stream, is_sent, kind, most) in [
            (&b"0000400000000000ABC\n"[..], true, Broadcasts, 20),
            (b"0000400000000000ABC\n", false, Broadcasts, 20),
            (b"0000300000000000ABC\n", false, Broadcasts, 20),
            (b"Welcome\n", false, Greets, 8),
            (b"Welcome\n", true, Alters, 8),
            (b"Welcome\n0000300000000000ABC\n", true, Greets, 8),
            (b"12\n3\n\n0000300000000000ABC\n", true, Greets, 6),
            (b"0> 0000300000000000ABC\n", true, Alters, 23),
            (b"0000300000000000abc\n", true, Alters, 20),
            (b"0000300000000000ABC\r", true, Alters, 20),
        ] {
            for piece in 1..=stream.len() {
                let decided = decided(stream, piece, is_sent);
                let text = stream.escape_ascii();
                let (Some(Beginning::Other(last) | Beginning::Greeting(last)), 1..3) =
                    (decided.last(), decided.len())
                else {
                    panic!("{text} {piece}: {decided:?}");
                };
                assert_eq!(last.kind, kind, "{text} {piece}");
                // The rest may follow later.
                assert!(stream[..most].starts_with(&last.first), "{decided:?}");
                if decided.len() == 2 || piece == stream.len() {
                    assert_eq!(last.first, stream[..most], "{text} {piece}");
                }
            }
        }
    }

    #[test]
    fn greeting_is_looked_for_in_bounded_memory() {
        let messages = Messages::new(20, 1);
        let message = First {
            messages: &messages,
            sender: 3,
            number: 0,
            is_sent: true,
            is_only: false,
        };
        let mut first = FirstBytes::default();
        for _ in 0..SEARCHED {
            first.compare(b"some\n", message);
        }
        assert!(first.newest.len() <= DIGITS && first.other.len() == KEPT);
        assert_eq!(first.state, State::Decided);
    }

    #[test]
    fn first_bytes_are_kept_in_part() {
        let long = vec![b'x'; 1000];
        let mismatch = Mismatch::new(MismatchKind::Alters, &long);
        let decided = decided(&long, 1000, true);
        assert_eq!(decided, [Beginning::Other(mismatch.clone())]);
        assert_eq!(mismatch.first.len(), KEPT);
        assert_eq!(mismatch.quoted(), format!("'{}…'", "x".repeat(KEPT)));
        let short = Mismatch::new(MismatchKind::Greets, b"hi\x1b\r\n");
        let line = "the server greets: its first bytes were 'hi\\u{1b}\\r\\n'";
        assert_eq!(short.to_string(), line);
    }
}
