//! Chargen: characters without end, at the reader's pace (RFC 864).

use super::{Needs, Outcome, Owed, Release, Service};
use crate::bytes::Slices;
use crate::bytes::aligned::Aligned;
use crate::peer::Peer;

/// The printable characters of ASCII: from the blank to the tilde.
const FIRST: u8 = b' ';
const CHARACTERS: usize = 95;
/// Characters in a line, and bytes with its end.
const WIDTH: usize = 72;
const LINE: usize = WIDTH + 2;
/// Bytes after which the pattern begins again.
const PERIOD: usize = CHARACTERS * LINE;
/// Periods kept in memory, so that one write takes many of them.
const REPEATS: usize = 37;
/// The most characters in a datagram (RFC 864).
const DATAGRAM: usize = 512;

/// The character generator (RFC 864): a pattern of lines of 72 characters, for as long as the client
/// takes them. Its input is discarded; the end of its input changes nothing.
///
/// The service keeps for a client only its place in the pattern. A datagram is answered with up to
/// 512 characters, if that is allowed: a forged source address floods its owner with them
/// (CVE-1999-0103).
#[derive(Debug)]
pub struct Chargen {
    pattern: Aligned,
    amplifies: bool,
    random: fastrand::Rng,
}

/// A client's place in the pattern, from 0 to its period.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    at: usize,
    /// True if the client gets no more than the rest of its line.
    ending: bool,
}

impl Chargen {
    /// A character generator, which answers datagrams, too, if it `amplifies`.
    #[must_use]
    pub fn new(amplifies: bool) -> Self {
        let mut pattern = Aligned::zeroed(PERIOD * REPEATS);
        for (i, line) in pattern.bytes_mut().chunks_exact_mut(LINE).enumerate() {
            let (text, end) = line.split_at_mut(WIDTH);
            for (j, byte) in text.iter_mut().enumerate() {
                let offset = u8::try_from((i + j) % CHARACTERS).unwrap_or_default();
                *byte = FIRST + offset;
            }
            end.copy_from_slice(b"\r\n");
        }
        Self {
            pattern,
            amplifies,
            random: fastrand::Rng::new(),
        }
    }

    fn rest_of_line(session: Session) -> usize {
        (LINE - session.at % LINE) % LINE
    }
}

impl Service for Chargen {
    type Session = Session;

    fn needs(&self) -> Needs {
        Needs {
            datagrams: self.amplifies,
            ..Needs::default()
        }
    }

    fn open(&mut self, _: &Peer<'_>) -> (Session, Outcome<'_>) {
        let session = Session {
            at: 0,
            ending: false,
        };
        (session, Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, _: &'a mut Session, _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    /// Nothing is kept for a client, but there is always more: a lag of 1.
    fn owed<'a>(&'a self, session: &'a Session) -> Owed<'a> {
        let pattern = &self.pattern.bytes()[session.at..];
        let unfinished = Self::rest_of_line(*session);
        let next = if session.ending {
            &pattern[..unfinished]
        } else {
            pattern
        };
        Owed {
            next: next.into(),
            lag: u64::from(!next.is_empty()),
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

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, _: &'a [u8]) -> Option<Slices<'a>> {
        let start = self.random.usize(..PERIOD);
        let length = self.random.usize(..=DATAGRAM);
        Some(self.pattern.bytes()[start..start + length].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;

    /// The first lines of the example in RFC 864.
    #[test]
    fn the_pattern_moves_by_one_a_line_and_never_ends() {
        let mut service = Chargen::new(false);
        let (mut session, _) = service.open(&peer(&Address::Stdin));
        let mut got = Vec::new();
        while got.len() < 3 * PERIOD {
            let [piece, _] = service.owed(&session).next.parts();
            let taken = piece.len().min(1000);
            got.extend_from_slice(&piece[..taken]);
            service.advance(&mut session, taken);
        }
        let lines: Vec<&[u8]> = got.chunks_exact(LINE).collect();
        let first =
            br##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"##;
        assert_eq!(lines[0], [&first[..], b"\r\n"].concat());
        assert_eq!(lines[1][..WIDTH - 1], first[1..]);
        assert_eq!(lines[1][WIDTH - 1], b'h');
        for (i, line) in lines.iter().enumerate().skip(CHARACTERS) {
            assert_eq!(*line, lines[i - CHARACTERS]);
        }
    }

    #[test]
    fn released_pattern_ends_with_a_line() {
        let mut service = Chargen::new(false);
        let (mut session, _) = service.open(&peer(&Address::Stdin));
        service.advance(&mut session, LINE + 5);
        assert_eq!(service.owed(&session).unfinished, LINE - 5);
        service.release(&mut session, Release::Endless);
        let owed = service.owed(&session);
        assert_eq!((owed.next.len(), owed.lag), (LINE - 5, 1));
        service.advance(&mut session, LINE - 5);
        assert_eq!(service.owed(&session), Owed::NOTHING);
    }

    #[test]
    fn a_datagram_is_of_any_length_up_to_512() {
        let mut service = Chargen::new(true);
        let mut lengths = Vec::new();
        for _ in 0..5000 {
            let answer = service.datagram(&peer(&Address::Stdin), b"").unwrap();
            lengths.push(answer.len());
        }
        assert!(lengths.iter().all(|&length| length <= DATAGRAM));
        assert!(lengths.iter().any(|&length| length < 20));
        assert!(lengths.iter().any(|&length| length > DATAGRAM - 20));
    }
}
