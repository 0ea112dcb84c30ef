//! Received bytes on their way to standard output: decoding, and escapes for a terminal.

use std::borrow::Cow;

use crate::text::encoding::{Decoder, TextEncoding};
use crate::text::escape::{complete_length, escape, without_line_end};

/// Converts received bytes to what standard output gets.
#[derive(Debug)]
pub(super) struct OutputDecoder {
    encoding: TextEncoding,
    /// Absent if bytes pass unchanged.
    decoder: Option<Decoder>,
    /// True if control characters are escaped, so that a server cannot drive the terminal.
    escaping: bool,
    /// The beginning of a character or of a line end that is still incomplete.
    incomplete: Vec<u8>,
}

impl OutputDecoder {
    pub(super) fn new(encoding: TextEncoding, escaping: bool) -> Self {
        Self {
            encoding,
            decoder: decoder(encoding),
            escaping,
            incomplete: Vec::new(),
        }
    }

    /// Converts the next received bytes. With `last` a character or line end that is still
    /// incomplete is converted, too: no later bytes belong to it.
    pub(super) fn convert<'a>(&mut self, bytes: &'a [u8], last: bool) -> Cow<'a, [u8]> {
        let text = match &mut self.decoder {
            Some(decoder) => Cow::Owned(decoder.decode(bytes, last).into_bytes()),
            None => Cow::Borrowed(bytes),
        };
        if last {
            self.decoder = decoder(self.encoding);
        }
        if !self.escaping {
            return text;
        }
        let mut whole = std::mem::take(&mut self.incomplete);
        whole.extend(text.iter());
        if !last {
            self.incomplete = whole.split_off(complete_len(&whole));
        }
        Cow::Owned(printable(&whole).into_bytes())
    }
}

fn decoder(encoding: TextEncoding) -> Option<Decoder> {
    (encoding != TextEncoding::default()).then(|| encoding.decoder())
}

/// Number of bytes before an incomplete character or line end.
fn complete_len(text: &[u8]) -> usize {
    match text.strip_suffix(b"\r") {
        Some(rest) => rest.len(),
        None => complete_length(text),
    }
}

/// Lines whose control characters are escaped.
fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if line.ends_with(b"\n") {
            shown += &escape(without_line_end(line));
            shown.push('\n');
        } else {
            shown += &escape(line);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn converted(label: &str, escaping: bool, parts: &[&[u8]]) -> String {
        let mut decoder = OutputDecoder::new(label.parse().unwrap(), escaping);
        let mut shown = Vec::new();
        for part in parts {
            shown.extend_from_slice(&decoder.convert(part, false));
        }
        shown.extend_from_slice(&decoder.convert(b"", true));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_drives_the_terminal() {
        assert_eq!(printable(b"a\r\n\x1b[2J\n\nb"), "a\n\\u{1b}[2J\n\nb");
        let parts: [&[u8]; 3] = [b"a\r", b"\nb\r", b"c\r"];
        assert_eq!(converted("utf-8", true, &parts), "a\nb\\rc\\r");
    }

    #[test]
    fn characters_of_another_encoding_may_be_cut_anywhere() {
        let parts: [&[u8]; 3] = [b"\xba", b"\xc3\xb5", b"\xc4\x1b"];
        assert_eq!(converted("gbk", true, &parts), "好的\\u{1b}");
        assert_eq!(converted("gbk", false, &parts), "好的\x1b");
    }

    #[test]
    fn no_more_than_a_character_waits_for_its_rest() {
        for label in ["utf-8", "gbk", "utf-16le"] {
            let mut decoder = OutputDecoder::new(label.parse().unwrap(), true);
            for part in [&b"a\r"[..], b"\r\r", &[0xe5; 999], b"\xe5\xa5"].repeat(100) {
                decoder.convert(part, false);
                let waits = decoder.incomplete.len();
                assert!(waits <= 4, "{label}: {waits} bytes");
            }
        }
    }

    #[test]
    fn character_cut_by_an_end_does_not_spoil_later_ones() {
        let mut gbk = OutputDecoder::new("gbk".parse().unwrap(), false);
        assert_eq!(*gbk.convert(b"a\xba", true), *b"a\\xba");
        assert_eq!(*gbk.convert(b"\xba\xc3", true), *"好".as_bytes());
        let mut plain = OutputDecoder::new(TextEncoding::default(), true);
        assert_eq!(*plain.convert(b"a\xe5\xa5", true), *b"a\\xe5\\xa5");
        assert_eq!(*plain.convert("好\r".as_bytes(), true), *"好\\r".as_bytes());
    }

    proptest! {
        /// Tabs and newlines alone reach a terminal as control characters, wherever input is cut.
        #[test]
        fn nothing_drives_the_terminal(bytes: Vec<u8>, at in 0..30usize, encoding in 0..3usize) {
            let label = ["utf-8", "gbk", "utf-16le"][encoding];
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let shown = converted(label, true, &[first, second]);
            prop_assert!(!shown.chars().any(|c| !"\t\n".contains(c) && c.is_control()));
        }
    }
}
