//! Chargen: characters without end, at the reader's pace (RFC 864).

use super::{Outcome, Service};
use crate::bytes::aligned::Aligned;
use crate::peer::Peer;

/// The characters that are printed: those of ASCII from the blank to the tilde.
const FIRST: u8 = b' ';
const CHARACTERS: usize = 95;
/// Characters in a line, and bytes with its end.
const WIDTH: usize = 72;
const LINE: usize = WIDTH + 2;
/// After so many bytes it begins again.
const PERIOD: usize = CHARACTERS * LINE;
/// So often the pattern is kept, so that much of it can be written at once.
const REPEATS: usize = 37;
/// The most characters in a datagram (RFC 864).
const DATAGRAM: usize = 512;

/// The character generator (RFC 864): a pattern of lines of 72 characters, for as long as the client
/// takes them. What it sends is discarded; ending its input changes nothing.
///
/// Nothing is kept for a client but its place in the pattern. A datagram is answered with up to 512
/// characters, if that is allowed: who forges an address can flood it with them (CVE-1999-0103).
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
    /// It gets no more than the rest of its line.
    concluded: bool,
}

impl Chargen {
    /// A character generator; `amplifies`: it answers datagrams, too.
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

    fn open(&mut self, _: &Peer<'_>) -> (Session, Outcome<'_>) {
        let session = Session {
            at: 0,
            concluded: false,
        };
        (session, Outcome::NOTHING)
    }

    fn receive<'a>(&'a mut self, _: &'a mut Session, _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    fn shared<'a>(&'a self, session: &'a Session) -> [&'a [u8]; 2] {
        let rest = &self.pattern.bytes()[session.at..];
        if session.concluded {
            return [&rest[..Self::rest_of_line(*session)], &[]];
        }
        [rest, &[]]
    }

    fn advance(&mut self, session: &mut Session, written: usize) {
        session.at = (session.at + written) % PERIOD;
    }

    /// Nothing is kept, but there is always something more.
    fn lag(&self, session: &Session) -> u64 {
        u64::from(!session.concluded || Self::rest_of_line(*session) > 0)
    }

    fn unfinished(&self, session: &Session) -> usize {
        Self::rest_of_line(*session)
    }

    fn deafen(&mut self, session: &mut Session) {
        *session = Session {
            at: 0,
            concluded: true,
        };
    }

    fn conclude(&mut self, session: &mut Session) {
        session.concluded = true;
    }

    fn takes_datagrams(&self) -> bool {
        self.amplifies
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, _: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let start = self.random.usize(..PERIOD);
        let length = self.random.usize(..=DATAGRAM);
        Some([&self.pattern.bytes()[start..start + length], &[]])
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
            let [piece, _] = service.shared(&session);
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
    fn who_is_told_to_end_ends_with_a_line() {
        let mut service = Chargen::new(false);
        let (mut session, _) = service.open(&peer(&Address::Stdin));
        service.advance(&mut session, LINE + 5);
        assert_eq!(service.unfinished(&session), LINE - 5);
        service.conclude(&mut session);
        assert_eq!(service.shared(&session)[0].len(), LINE - 5);
        assert_eq!(service.lag(&session), 1);
        service.advance(&mut session, LINE - 5);
        assert_eq!(
            (service.shared(&session)[0].len(), service.lag(&session)),
            (0, 0)
        );
    }

    #[test]
    fn a_datagram_is_of_any_length_up_to_512() {
        let mut service = Chargen::new(true);
        let mut lengths = Vec::new();
        for _ in 0..5000 {
            let [piece, _] = service.datagram(&peer(&Address::Stdin), b"").unwrap();
            lengths.push(piece.len());
        }
        assert!(lengths.iter().all(|&length| length <= DATAGRAM));
        assert!(lengths.iter().any(|&length| length < 20));
        assert!(lengths.iter().any(|&length| length > DATAGRAM - 20));
    }
}
