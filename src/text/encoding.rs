//! Encodings of text other than UTF-8.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use encoding_rs::{DecoderResult, Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::text::escape::{escape, push_hex};

/// An encoding of text; UTF-8 by default.
///
/// It is parsed from any label of the WHATWG Encoding Standard, such as `gbk`, `big5`, `shift_jis`,
/// `latin1` or `utf-16le`. Its `Display` form is the standard's name.
///
/// ```
/// use resound::TextEncoding;
/// let gbk: TextEncoding = "GB2312".parse()?;
/// assert_eq!(gbk.to_string(), "GBK");
/// assert!("klingon".parse::<TextEncoding>().is_err());
/// # Ok::<(), resound::EncodingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

/// The fault of a label that names no encoding, or of a text that can't be encoded: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodingError(String);

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EncodingError {}

impl Default for TextEncoding {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl FromStr for TextEncoding {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, EncodingError> {
        let found = Encoding::for_label(text.as_bytes()).filter(|found| *found != REPLACEMENT);
        found.map(Self).ok_or_else(|| {
            EncodingError(
                "expected an encoding such as utf-8, gbk, big5, shift_jis or latin1".to_owned(),
            )
        })
    }
}

impl fmt::Display for TextEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl TextEncoding {
    /// Encodes a text.
    ///
    /// # Errors
    /// If the encoding lacks one of the text's characters.
    pub fn encode(self, text: &str) -> Result<Cow<'_, [u8]>, EncodingError> {
        if let Some(bytes) = self.encode_utf16(text) {
            return Ok(bytes.into());
        }
        let (bytes, _, unmappable) = self.0.encode(text);
        if !unmappable {
            return Ok(bytes);
        }
        let absent = |character: &char| self.0.encode(character.encode_utf8(&mut [0; 4])).2;
        let character = text.chars().find(absent).unwrap_or_default();
        let name = self.0.name();
        Err(EncodingError(format!(
            "{name} has no '{}'",
            escape(character.to_string().as_bytes())
        )))
    }

    /// Encodes a text, with a question mark for each character that the encoding lacks.
    pub(crate) fn encode_lossy(self, text: &str) -> Cow<'_, [u8]> {
        self.encode(text).unwrap_or_else(|_| {
            let encode = |character: char| {
                self.encode(character.encode_utf8(&mut [0; 4]))
                    .map(Cow::into_owned)
            };
            let characters = text
                .chars()
                .flat_map(|character| encode(character).unwrap_or(b"?".to_vec()));
            characters.collect::<Vec<u8>>().into()
        })
    }

    /// UTF-16, which the Encoding Standard can decode but not encode.
    fn encode_utf16(self, text: &str) -> Option<Vec<u8>> {
        let units = text.encode_utf16();
        if self.0 == UTF_16LE {
            Some(units.flat_map(u16::to_le_bytes).collect())
        } else if self.0 == UTF_16BE {
            Some(units.flat_map(u16::to_be_bytes).collect())
        } else {
            None
        }
    }

    /// A decoder for a text that arrives in pieces.
    pub(crate) fn decoder(self) -> Decoder {
        Decoder {
            inner: self.0.new_decoder_without_bom_handling(),
            recent: Vec::new(),
        }
    }
}

/// A decoder for a text that arrives in pieces, cut anywhere.
pub(crate) struct Decoder {
    inner: encoding_rs::Decoder,
    /// The newest bytes: if an incomplete character among them turns out malformed, they are shown.
    recent: Vec<u8>,
}

/// More bytes than a character has in any encoding, with an escape sequence before it.
const LONGEST_CHARACTER: usize = 8;

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.inner.encoding().name();
        f.debug_tuple("Decoder").field(&name).finish()
    }
}

impl Decoder {
    /// Decodes the characters that are complete; all of them if `last`, the end of the text. Malformed
    /// bytes appear as `\xNN`.
    pub(crate) fn decode(&mut self, input: &[u8], last: bool) -> String {
        let mut text = String::with_capacity(input.len() + 16);
        let mut taken = 0;
        loop {
            let (result, read) =
                self.inner
                    .decode_to_string_without_replacement(&input[taken..], &mut text, last);
            taken += read;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => text.reserve((input.len() - taken).max(64)),
                DecoderResult::Malformed(length, after) => {
                    let end = usize::from(after);
                    for distance in (end + 1..=end + usize::from(length)).rev() {
                        let byte = match taken.checked_sub(distance) {
                            Some(at) => Some(&input[at]),
                            None => self.recent.iter().nth_back(distance - taken - 1),
                        };
                        push_hex(&mut text, byte.copied().unwrap_or_default());
                    }
                }
            }
        }
        self.remember(input);
        text
    }

    /// True if the decoder keeps no state after the end of a line.
    pub(crate) fn is_stateless_after_a_line(&self) -> bool {
        self.inner.encoding().is_ascii_compatible()
    }

    fn remember(&mut self, taken: &[u8]) {
        let newest = &taken[taken.len().saturating_sub(LONGEST_CHARACTER)..];
        self.recent.extend_from_slice(newest);
        let old = self.recent.len().saturating_sub(LONGEST_CHARACTER);
        self.recent.drain(..old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoding(label: &str) -> TextEncoding {
        label.parse().unwrap()
    }

    /// A decoder lives as long as its connection.
    #[test]
    fn decoder_keeps_no_more_than_a_character() {
        for label in ["utf-8", "gbk", "utf-16le", "iso-2022-jp", "gb18030"] {
            let mut decoder = encoding(label).decoder();
            for input in [&b"x"[..], b"\xff\x81", &[0xba; 1000], b"\x1b$B\n"].repeat(100) {
                decoder.decode(input, false);
                assert!(decoder.recent.len() <= LONGEST_CHARACTER, "{label}");
                assert!(
                    decoder.recent.capacity() <= 4 * LONGEST_CHARACTER,
                    "{label}"
                );
            }
        }
    }

    #[test]
    fn labels_are_those_of_the_standard() {
        for (label, name) in [
            ("GB2312", "GBK"),
            (" utf8 ", "UTF-8"),
            ("latin1", "windows-1252"),
        ] {
            assert_eq!(encoding(label).to_string(), name);
        }
        for label in ["", "utf-9", "replacement", "iso-2022-kr"] {
            assert!(label.parse::<TextEncoding>().is_err(), "{label}");
        }
    }

    #[test]
    fn character_that_an_encoding_lacks_is_named() {
        let error = encoding("gbk").encode("a👍").unwrap_err();
        assert_eq!(error.to_string(), "GBK has no '👍'");
        assert_eq!(*encoding("latin1").encode_lossy("é好"), *b"\xe9?");
    }

    #[test]
    fn malformed_bytes_are_shown_in_hexadecimal() {
        let decode = |label: &str, bytes: &[u8]| encoding(label).decoder().decode(bytes, true);
        assert_eq!(decode("utf-8", b"a\xffb"), "a\\xffb");
        assert_eq!(decode("gbk", b"\xba\xc3\xff\xff"), "好\\xff\\xff");
        assert_eq!(decode("gbk", b"a\xba"), "a\\xba");
        // Also when a character was cut.
        let mut decoder = encoding("utf-8").decoder();
        assert_eq!(decoder.decode(b"a\xe4", false), "a");
        assert_eq!(decoder.decode(b"\xbd", false), "");
        assert_eq!(decoder.decode(b"b", false), "\\xe4\\xbdb");
        assert_eq!(decoder.decode(b"\xe4", false), "");
        assert_eq!(decoder.decode(b"", true), "\\xe4");
    }

    proptest! {
        /// Encoded text decodes to itself, in any pieces.
        #[test]
        fn text_survives_any_cut(text in "[a-z你好信息é\n]{0,20}", cuts: Vec<u8>, which in 0..4usize) {
            let encoding = encoding(["gbk", "utf-8", "utf-16le", "utf-16be"][which]);
            let bytes = encoding.encode(&text).unwrap();
            let mut decoder = encoding.decoder();
            let (mut rest, mut got) = (&bytes[..], String::new());
            for cut in cuts {
                let (first, second) = rest.split_at(usize::from(cut % 4).min(rest.len()));
                got += &decoder.decode(first, false);
                rest = second;
            }
            got += &decoder.decode(rest, true);
            prop_assert_eq!(got, text);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, which in 0..4usize) {
            let encoding = encoding(["gbk", "utf-8", "utf-16le", "iso-2022-jp"][which]);
            encoding.decoder().decode(&bytes, true);
        }
    }
}
