//! Tags: texts in front of messages, with the time and the sender.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::text::placeholders::{self, Token};
use crate::text::zone;

/// The format of a tag: one line of text with placeholders. `{{` and `}}` stand for braces.
///
/// | placeholder | text |
/// |---|---|
/// | `{date}` | local date, `MMDD` |
/// | `{time}` | local time, `HH:MM:SS` |
/// | `{iso}` | local date and time with offset (RFC 3339), to the second |
/// | `{peer}` | address of the sender |
/// | `{id}` | number of the sender: the id of its [`Peer`](crate::Peer); 0 is the operator |
///
/// It is parsed from a string and has no limit of length. The [`Default`] is
/// `{date} {time} From {peer}. msg=`.
///
/// ```
/// use resound::TagFormat;
/// assert!("[{iso} #{id}] ".parse::<TagFormat>().is_ok());
/// let error = "{day}".parse::<TagFormat>().unwrap_err();
/// assert_eq!(error.to_string(), "{day} is not one of {date} {time} {iso} {peer} {id}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFormat(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The time in a format of strftime(3), and the length of that text.
    Time(&'static str, usize),
    Peer,
    Id,
}

/// The placeholders of a tag.
const PLACEHOLDERS: [(&str, Part); 5] = [
    ("date", Part::Time("%m%d", 4)),
    ("time", Part::Time("%H:%M:%S", 8)),
    ("iso", Part::Time("%Y-%m-%dT%H:%M:%S%:z", 28)),
    ("peer", Part::Peer),
    ("id", Part::Id),
];

/// The error of a text that is not a [`TagFormat`], as one line: an unknown placeholder, a brace
/// without its counterpart, or a line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagError(String);

impl Default for TagFormat {
    /// `{date} {time} From {peer}. msg=`
    fn default() -> Self {
        "{date} {time} From {peer}. msg="
            .parse()
            .expect("the default is valid")
    }
}

impl FromStr for TagFormat {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        if text.contains(['\n', '\r']) {
            return Err(TagError("a tag must not contain line ends".to_owned()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(token) = placeholders::next(&mut rest).map_err(|e| TagError(e.to_owned()))? {
            match token {
                Token::Char(letter) => add_text(&mut parts, letter),
                Token::Placeholder(name) => parts.push(part(name)?),
            }
        }
        Ok(Self(parts))
    }
}

fn add_text(parts: &mut Vec<Part>, letter: char) {
    if let Some(Part::Text(text)) = parts.last_mut() {
        text.push(letter);
    } else {
        parts.push(Part::Text(letter.to_string()));
    }
}

fn part(name: &str) -> Result<Part, TagError> {
    let found = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
    found.map(|(_, part)| part.clone()).ok_or_else(|| {
        TagError(placeholders::unknown(
            name,
            PLACEHOLDERS.iter().map(|(name, _)| *name),
        ))
    })
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TagError {}

/// A maker of tags. It keeps the last one, because most messages have the same tag as the one before.
#[derive(Debug)]
pub(super) struct Tagger {
    format: TagFormat,
    zone: TimeZone,
    /// Time of day in seconds since 1970.
    second: i64,
    tag: String,
    /// The second and the sender of `tag`.
    made_for: Option<(i64, u64)>,
}

impl Tagger {
    /// A maker of tags in the local time zone.
    pub(super) fn new(format: TagFormat) -> Self {
        let has_time = format.0.iter().any(|part| matches!(part, Part::Time(..)));
        let zone = if has_time {
            zone::local()
        } else {
            TimeZone::UTC
        };
        Self::in_zone(format, zone)
    }

    fn in_zone(format: TagFormat, zone: TimeZone) -> Self {
        Self {
            format,
            zone,
            second: 0,
            tag: String::new(),
            made_for: None,
        }
    }

    /// Sets the time of day for the tags that follow.
    pub(super) fn set_time(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    }

    /// The tag of a message that the client `id` sends now.
    pub(super) fn tag(&mut self, id: u64, peer: &impl fmt::Display) -> &str {
        if self.made_for != Some((self.second, id)) {
            self.made_for = Some((self.second, id));
            self.tag.clear();
            let now = Timestamp::from_second(self.second).unwrap_or(Timestamp::MAX);
            let now = now.to_zoned(self.zone.clone());
            for part in &self.format.0 {
                // Writing to a string doesn't fail, and the formats of time are valid.
                let _ = match part {
                    Part::Text(text) => self.tag.write_str(text),
                    Part::Time(format, _) => write!(self.tag, "{}", now.strftime(format)),
                    Part::Peer => write!(self.tag, "{peer}"),
                    Part::Id => write!(self.tag, "{id}"),
                };
            }
        }
        &self.tag
    }

    /// Most bytes of a tag, for senders whose addresses have at most `peer` bytes.
    pub(super) fn longest(&self, peer: usize) -> usize {
        let length = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Time(_, length) => *length,
            Part::Peer => peer,
            Part::Id => 20,
        };
        self.format.0.iter().map(length).sum()
    }
}

/// Most bytes of a peer's address: `unix:` and a path (unix(7)).
pub(super) const LONGEST_PEER: usize = 5 + 108;

/// Number and address of the operator as a sender.
pub(super) const OPERATOR: (u64, &str) = (0, "console");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use proptest::prelude::*;
    use std::time::Duration;

    fn tagger(format: &str) -> Tagger {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let mut tagger = Tagger::in_zone(format.parse().unwrap(), zone);
        tagger.set_time(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        tagger
    }

    #[test]
    fn default_is_date_time_and_sender() {
        let peer = Address::Tcp(([127, 0, 0, 1], 5000).into());
        let mut tagger = tagger("{date} {time} From {peer}. msg=");
        assert_eq!(tagger.format, TagFormat::default());
        assert_eq!(
            tagger.tag(1, &peer),
            "1114 23:13:20 From 127.0.0.1:5000. msg="
        );
    }

    #[test]
    fn placeholders_and_doubled_braces_are_replaced() {
        let mut tagger = tagger("{{{iso}}} #{id} 你好 ");
        let expected = "{2023-11-14T23:13:20+01:00} #7 你好 ";
        assert_eq!(tagger.tag(7, &"x"), expected);
    }

    #[test]
    fn tag_changes_with_the_second_and_the_sender() {
        let mut tagger = tagger("{time} {id} {peer} ");
        assert_eq!(tagger.tag(1, &"a"), "23:13:20 1 a ");
        assert_eq!(tagger.tag(1, &"ignored"), "23:13:20 1 a ");
        assert_eq!(tagger.tag(2, &"b"), "23:13:20 2 b ");
        tagger.set_time(UNIX_EPOCH + Duration::from_millis(1_700_000_001_999));
        assert_eq!(tagger.tag(2, &"b"), "23:13:21 2 b ");
    }

    #[test]
    fn bad_formats_are_refused_with_a_reason() {
        for (text, cause) in [
            ("{date", "without its '}'"),
            ("date}", "without its '{'"),
            ("{}", "{} is not one of"),
            ("{ date }", "is not one of"),
            ("a\nb", "must not contain line ends"),
        ] {
            let error = text.parse::<TagFormat>().unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    proptest! {
        /// Any text is a format or an error, and no tag exceeds its bound.
        #[test]
        fn any_text_is_parsed_and_its_tag_is_within_the_bound(text in "[{}a-z\n]{0,20}|(\\{(date|time|iso|peer|id)\\}|[ -~]){0,9}", id: u32) {
            let Ok(format) = text.parse::<TagFormat>() else { return Ok(()) };
            let mut tagger = Tagger::in_zone(format, TimeZone::UTC);
            tagger.set_time(UNIX_EPOCH + Duration::from_secs(id.into()));
            let longest = tagger.longest(3);
            prop_assert!(tagger.tag(id.into(), &"abc").len() <= longest);
        }
    }
}
