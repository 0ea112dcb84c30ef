//! Text from outside on its way to a terminal.

/// A text as it can be shown on any terminal: what is not UTF-8, control characters (but tabs) and
/// those that turn the direction of writing appear as what they are in Rust.
pub(crate) fn escape(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let turns = matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if letter != '\t' && letter.is_control() || turns {
                shown.extend(letter.escape_default());
            } else {
                shown.push(letter);
            }
        }
        for &byte in chunk.invalid() {
            push_hex(&mut shown, byte);
        }
    }
    shown
}

/// A byte that is no text, as `\xNN`.
pub(crate) fn push_hex(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    text.push_str("\\x");
    text.push(digit(byte >> 4));
    text.push(digit(byte & 0xf));
}

/// How many bytes of a text come before a letter that isn't complete, if it ends in one.
pub(crate) fn whole_letters(text: &[u8]) -> usize {
    // Only the last few bytes can be the beginning of a letter.
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

/// A line without its end, `\n` or `\r\n`.
pub(crate) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_drives_the_terminal() {
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
    fn a_letter_that_is_not_complete_is_left_for_later() {
        for (text, whole) in [
            ("ab你".as_bytes(), 5),
            (&"ab你".as_bytes()[..4], 2),
            (&"ab你".as_bytes()[..3], 2),
            (&"👍".as_bytes()[..3], 0),
            (b"\xff\xe4", 1),
            (b"\x80\x80\x80\x80", 4),
            (b"", 0),
        ] {
            assert_eq!(whole_letters(text), whole, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable(text: Vec<u8>) {
            prop_assert!(!escape(&text).chars().any(|c| c != '\t' && c.is_control()));
        }

        #[test]
        fn no_letter_is_cut(text: String, at in 0..100usize) {
            let cut = &text.as_bytes()[..at.min(text.len())];
            prop_assert!(std::str::from_utf8(&cut[..whole_letters(cut)]).is_ok());
            prop_assert!(cut.len() - whole_letters(cut) < 4);
        }
    }
}
