//! Text from outside, made safe for a terminal.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A text that any terminal can show, in one line. Control characters except tabs, characters that
/// change the direction of writing or separate lines, and bytes that are not UTF-8 are escaped as in
/// Rust; all others are as they were.
///
/// Whatever a peer, a file, a variable or an argument is called is shown so: in the log, in errors,
/// to an operator and to the clients of a room.
///
/// ```
/// assert_eq!(resound::escape(b"na\xc3\xafve\x1b[2J\n"), "naïve\\u{1b}[2J\\n");
/// ```
#[must_use]
pub fn escape(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let changes_direction = matches!(
                character,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            );
            if character != '\t' && character.is_control() || changes_direction {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for &byte in chunk.invalid() {
            push_hex(&mut shown, byte);
        }
    }
    shown
}

/// The path of a file, escaped.
pub(crate) fn escape_path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// Appends a byte as `\xNN`.
pub(crate) fn push_hex(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    text.push_str("\\x");
    text.push(digit(byte >> 4));
    text.push(digit(byte & 0xf));
}

/// The length of a text in bytes without an incomplete UTF-8 character at its end.
pub(crate) fn complete_length(text: &[u8]) -> usize {
    // An incomplete character has at most three bytes.
    let tail = text.len().saturating_sub(3);
    let begins = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    let Some(at) = (tail..text.len()).rev().find(begins) else {
        return text.len();
    };
    match std::str::from_utf8(&text[at..]) {
        Err(e) if e.error_len().is_none() => at,
        _ => text.len(),
    }
}

/// A line without its line end, `\n` or `\r\n`.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// True for a line that a terminal shows and does not obey.
    pub(crate) fn is_safe(line: &str) -> bool {
        let obeyed = |c: char| c.is_control() || escape(c.to_string().as_bytes()) != c.to_string();
        !line.contains(obeyed)
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape("你好 é 👍🏽\t'\\'".as_bytes()), "你好 é 👍🏽\t'\\'");
        assert_eq!(
            escape(b"\x1b[2J\x07\r\0\x7f"),
            "\\u{1b}[2J\\u{7}\\r\\u{0}\\u{7f}"
        );
        assert_eq!(escape(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(
            escape("a\u{9b}b\u{202e}c".as_bytes()),
            "a\\u{9b}b\\u{202e}c"
        );
    }

    #[test]
    fn incomplete_character_is_left_out_of_the_length() {
        for (text, whole) in [
            ("ab你".as_bytes(), 5),
            (&"ab你".as_bytes()[..4], 2),
            (&"ab你".as_bytes()[..3], 2),
            (&"👍".as_bytes()[..3], 0),
            (b"\xff\xe4", 1),
            (b"\x80\x80\x80\x80", 4),
            (b"", 0),
        ] {
            assert_eq!(complete_length(text), whole, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_is_printable(text: Vec<u8>) {
            prop_assert!(is_safe(&escape(&text).replace('\t', "")));
        }

        #[test]
        fn no_character_is_cut(text: String, at in 0..100usize) {
            let cut = &text.as_bytes()[..at.min(text.len())];
            prop_assert!(std::str::from_utf8(&cut[..complete_length(cut)]).is_ok());
            prop_assert!(cut.len() - complete_length(cut) < 4);
        }
    }
}
