//! Standard input on its way to a server: newlines and encoding.

use std::borrow::Cow;
use std::fmt;

use log::warn;

use super::Connect;
use crate::text::encoding::TextEncoding;
use crate::text::escape::complete_length;

/// Converts standard input to what the server gets.
#[derive(Debug)]
pub(super) struct InputEncoder {
    encoding: TextEncoding,
    crlf: bool,
    /// True if the last input byte so far was a CR.
    after_cr: bool,
    /// The beginning of a character that is still incomplete.
    incomplete: Vec<u8>,
    /// True after the warning of input that cannot be encoded.
    warned: bool,
}

impl InputEncoder {
    pub(super) fn new(connect: &Connect) -> Self {
        Self {
            encoding: connect.encoding,
            crlf: connect.crlf,
            after_cr: false,
            incomplete: Vec::new(),
            warned: false,
        }
    }

    /// Converts the next input. The beginning of a character waits for its rest, unless this input
    /// is the `last`.
    pub(super) fn convert<'a>(&mut self, input: &'a [u8], last: bool) -> Cow<'a, [u8]> {
        let input = if self.crlf {
            Cow::Owned(self.with_crs(input))
        } else {
            Cow::Borrowed(input)
        };
        if self.encoding == TextEncoding::default() {
            return input;
        }
        let mut text = std::mem::take(&mut self.incomplete);
        text.extend(input.iter());
        if !last {
            self.incomplete = text.split_off(complete_length(&text));
        }
        Cow::Owned(self.encode(&text))
    }

    /// Puts a CR in front of each newline that has none.
    fn with_crs(&mut self, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(input.len() + input.len() / 16);
        for &byte in input {
            if byte == b'\n' && !self.after_cr {
                output.push(b'\r');
            }
            output.push(byte);
            self.after_cr = byte == b'\r';
        }
        output
    }

    /// Encodes text. A character that the encoding lacks, and bytes that are not UTF-8, become a
    /// question mark: passed unchanged, they could combine with the bytes around them.
    fn encode(&mut self, text: &[u8]) -> Vec<u8> {
        let encoding = self.encoding;
        let mut bytes = Vec::with_capacity(text.len());
        for chunk in text.utf8_chunks() {
            match encoding.encode(chunk.valid()) {
                Ok(encoded) => bytes.extend_from_slice(&encoded),
                Err(e) => {
                    self.warn_once(&e);
                    bytes.extend_from_slice(&encoding.encode_lossy(chunk.valid()));
                }
            }
            if !chunk.invalid().is_empty() {
                self.warn_once(&"standard input is not all UTF-8");
                bytes.extend_from_slice(&encoding.encode_lossy("?"));
            }
        }
        bytes
    }

    fn warn_once(&mut self, cause: &dyn fmt::Display) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!("{cause}: characters that cannot be encoded are sent as '?'");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoder(label: &str, crlf: bool) -> InputEncoder {
        InputEncoder {
            encoding: label.parse().unwrap(),
            crlf,
            after_cr: false,
            incomplete: Vec::new(),
            warned: false,
        }
    }

    fn converted(label: &str, crlf: bool, parts: &[&[u8]]) -> Vec<u8> {
        let mut encoder = encoder(label, crlf);
        let mut sent = Vec::new();
        for part in parts {
            sent.extend_from_slice(&encoder.convert(part, false));
        }
        sent.extend_from_slice(&encoder.convert(b"", true));
        sent
    }

    #[test]
    fn without_an_encoding_bytes_pass_as_they_are() {
        let bytes = b"\xff\xe4\xbd\r\n\0\n";
        assert_eq!(converted("utf-8", false, &[bytes]), bytes);
    }

    #[test]
    fn a_newline_gets_its_cr_once_wherever_it_is_cut() {
        let parts: [&[u8]; 4] = [b"\na\r", b"\nb\n", b"\r\r\n", b"\n\r"];
        let expected = b"\r\na\r\nb\r\n\r\r\n\r\n\r";
        assert_eq!(converted("utf-8", true, &parts), expected);
        let expected = b"a\0\r\0\n\0";
        assert_eq!(converted("utf-16le", true, &[b"a\n"]), expected);
    }

    #[test]
    fn a_character_is_sent_when_it_is_complete() {
        let mut gbk = encoder("gbk", false);
        assert_eq!(*gbk.convert(b"a\xe5\xa5", false), *b"a");
        assert_eq!(*gbk.convert(b"\xbdb", false), *b"\xba\xc3b");
        assert!(!gbk.warned);
    }

    #[test]
    fn a_character_that_cannot_be_encoded_is_a_question_mark() {
        assert_eq!(
            converted("latin1", false, &["é好ok".as_bytes()]),
            b"\xe9?ok"
        );
        assert_eq!(converted("utf-16be", false, &[b"a\xffb"]), b"\0a\0?\0b");
        assert_eq!(converted("gbk", false, &[b"a\xe5\xa5"]), b"a?");
        let mut latin = encoder("latin1", false);
        latin.convert("好".as_bytes(), false);
        assert!(latin.warned);
    }

    proptest! {
        /// The same bytes are sent wherever input is cut.
        #[test]
        fn cuts_change_nothing(input in "([a-z你é👍]|\r|\n|\r\n){0,20}", at in 0..60usize, crlf: bool, encoding in 0..4usize) {
            let label = ["utf-8", "gbk", "utf-16le", "latin1"][encoding];
            let input = input.as_bytes();
            let (first, second) = input.split_at(at.min(input.len()));
            let whole = converted(label, crlf, &[input]);
            prop_assert_eq!(converted(label, crlf, &[first, second]), whole);
        }
    }
}
