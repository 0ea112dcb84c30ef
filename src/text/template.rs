//! Texts of the server's own that say who it is and to whom: escapes, and places in braces.

use std::env;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::net::address::Address;
use crate::peer::Peer;
use crate::text::encoding::TextEncoding;
use crate::text::placeholders::{self, Token};

/// A text to be sent, with escapes and places.
///
/// `\n`, `\r`, `\t`, `\\` and `\xNN` (a byte) are what they are in C. `{peer}` is the client's address,
/// `{local}` the address at which it came in, `{id}` its number (0: a datagram has none), `{date}` the
/// local date as `MMDD`, `{time}` the local time as `HH:MM:SS`, `{iso}` both with year and offset (RFC 3339),
/// `{hostname}` the machine's name, `{env:NAME}` a variable of the environment, these two as they
/// were when the text was read; `{{` and `}}` stand for braces.
///
/// ```
/// use resound::Template;
/// assert!("hello {peer}, this is {local}\\r\\n".parse::<Template>().is_ok());
/// let error = "{who}".parse::<Template>().unwrap_err();
/// assert!(error.to_string().starts_with("{who} is not one of {peer} {local} "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    encoding: TextEncoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A byte, whatever the encoding.
    Byte(u8),
    Peer,
    Local,
    Id,
    /// In the terms of strftime.
    Time(&'static str),
}

/// The places, as errors list them.
const NAMES: [&str; 8] = [
    "peer", "local", "id", "date", "time", "iso", "hostname", "env:NAME",
];

/// Why a text is not a [`Template`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Parts::default();
        let mut rest = text;
        while let Some(piece) = placeholders::next(&mut rest).map_err(error)? {
            match piece {
                Token::Char('\\') => rest = parts.escape(rest)?,
                Token::Char(letter) => parts.text(letter),
                Token::Placeholder(place) => parts.place(place)?,
            }
        }
        Ok(Self {
            parts: parts.0,
            encoding: TextEncoding::default(),
        })
    }
}

#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, letter: char) {
        if let Some(Part::Text(text)) = self.0.last_mut() {
            text.push(letter);
        } else {
            self.0.push(Part::Text(letter.to_string()));
        }
    }

    /// What follows a backslash; the rest of the text after it.
    fn escape<'a>(&mut self, rest: &'a str) -> Result<&'a str, TemplateError> {
        let mut letters = rest.chars();
        match letters.next() {
            Some('n') => self.text('\n'),
            Some('r') => self.text('\r'),
            Some('t') => self.text('\t'),
            Some('\\') => self.text('\\'),
            Some('x') => {
                let digits = letters.as_str().get(..2).unwrap_or_default();
                let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex);
                let byte = byte.ok_or_else(|| error("expected two hex digits after '\\x'"))?;
                self.0.push(Part::Byte(byte));
                return Ok(&letters.as_str()[2..]);
            }
            _ => return Err(error("after '\\' expected n, r, t, xNN or another '\\'")),
        }
        Ok(letters.as_str())
    }

    fn place(&mut self, place: &str) -> Result<(), TemplateError> {
        let part = match place {
            "peer" => Part::Peer,
            "local" => Part::Local,
            "id" => Part::Id,
            "date" => Part::Time("%m%d"),
            "time" => Part::Time("%H:%M:%S"),
            "iso" => Part::Time("%Y-%m-%dT%H:%M:%S%:z"),
            "hostname" => {
                let name = rustix::system::uname();
                Part::Text(name.nodename().to_string_lossy().into_owned())
            }
            _ => Part::Text(variable(place)?),
        };
        self.0.push(part);
        Ok(())
    }
}

/// The value of `env:NAME`.
fn variable(place: &str) -> Result<String, TemplateError> {
    let Some(name) = place.strip_prefix("env:") else {
        return Err(TemplateError(placeholders::unknown(place, NAMES)));
    };
    let absent = |_| error(format!("{} is not set, or no text", name.escape_debug()));
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(error("expected a variable's name after {env:"));
    }
    env::var(name).map_err(absent)
}

fn error(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// The same text in another encoding than UTF-8. What is put into its places is in
    /// that encoding, too, `\xNN` as it stands.
    ///
    /// # Errors
    /// When the encoding has not all of its letters.
    pub fn encoded(mut self, encoding: TextEncoding) -> Result<Self, TemplateError> {
        for part in &self.parts {
            if let Part::Text(text) = part {
                encoding.encode(text).map_err(|e| error(e.to_string()))?;
            }
        }
        self.encoding = encoding;
        Ok(self)
    }

    /// Whether it depends on the client or the time.
    fn has_places(&self) -> bool {
        let fixed = |part: &Part| matches!(part, Part::Text(_) | Part::Byte(_));
        !self.parts.iter().all(fixed)
    }

    /// Whether the address at which a client came in is in it.
    pub(crate) fn wants_local(&self) -> bool {
        self.parts.contains(&Part::Local)
    }

    /// Whether the time of day is in it.
    pub(crate) fn wants_time(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Time(_)))
    }
}

/// A client, as texts name it.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) id: u64,
    pub(crate) peer: Address,
    pub(crate) local: Address,
}

impl From<&Peer<'_>> for Who {
    fn from(peer: &Peer<'_>) -> Self {
        Self {
            id: peer.id,
            peer: peer.address.clone(),
            local: peer.local.clone(),
        }
    }
}

/// Whom a text is about, if it is about somebody: what a service keeps of a client to say it.
#[derive(Clone, Debug, Default)]
pub struct About(Option<Box<Who>>);

impl About {
    pub(crate) fn who(&self) -> Option<&Who> {
        self.0.as_deref()
    }
}

/// Says a text, with what belongs into its places.
#[derive(Clone, Debug)]
pub(crate) struct TemplateRenderer {
    template: Template,
    /// The text is another one for each client, or at each time.
    varies: bool,
    zone: TimeZone,
    now: SystemTime,
    said: Vec<u8>,
}

impl TemplateRenderer {
    /// Says it in the local time zone.
    pub(crate) fn new(template: Template) -> Self {
        let mut speaker = Self {
            varies: template.has_places(),
            template,
            zone: TimeZone::system(),
            now: UNIX_EPOCH,
            said: Vec::new(),
        };
        if !speaker.varies {
            speaker.make(None);
        }
        speaker
    }

    /// What has to be known of a client.
    pub(crate) fn about(&self, peer: &Peer<'_>) -> About {
        About(self.varies.then(|| Box::new(Who::from(peer))))
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn set_time(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// The text for a client, who need not be known if it has no places.
    pub(crate) fn say(&mut self, who: Option<&Who>) -> &[u8] {
        if self.varies {
            self.make(who);
        }
        &self.said
    }

    fn make(&mut self, who: Option<&Who>) {
        self.said.clear();
        let now = Timestamp::try_from(self.now).unwrap_or_default();
        let encoding = self.template.encoding;
        for part in &self.template.parts {
            let mut text = String::new();
            // Writing to a string doesn't fail, and the formats of time are sound.
            let _ = match (part, who) {
                (Part::Byte(byte), _) => {
                    self.said.push(*byte);
                    continue;
                }
                (Part::Text(fixed), _) => text.write_str(fixed),
                (Part::Time(format), _) => {
                    let local = now.to_zoned(self.zone.clone());
                    write!(text, "{}", local.strftime(format))
                }
                (Part::Peer, Some(who)) => write!(text, "{}", who.peer.name()),
                (Part::Local, Some(who)) => write!(text, "{}", who.local.name()),
                (Part::Id, Some(who)) => write!(text, "{}", who.id),
                (_, None) => Ok(()),
            };
            self.said.extend(encoding.encode_lossy(&text).as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn who() -> Who {
        Who {
            id: 7,
            peer: Address::Tcp(([127, 0, 0, 1], 5000).into()),
            local: Address::Udp(([10, 0, 0, 1], 80).into()),
        }
    }

    #[track_caller]
    fn said(text: &str) -> Vec<u8> {
        let mut speaker = TemplateRenderer::new(text.parse().unwrap());
        speaker.zone = TimeZone::fixed(jiff::tz::offset(1));
        speaker.set_time(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        speaker.say(Some(&who())).to_vec()
    }

    #[test]
    fn every_escape_and_every_place() {
        assert_eq!(said(r"a\n\r\t\\\x00\xfF"), b"a\n\r\t\\\0\xff");
        let text = "{{{id}}} {peer} {local} {date} {time} {iso}";
        let expected = "{7} 127.0.0.1:5000 10.0.0.1:80 1114 23:13:20 2023-11-14T23:13:20+01:00";
        assert_eq!(said(text), expected.as_bytes());
        let name = rustix::system::uname();
        assert_eq!(said("{hostname}"), name.nodename().to_bytes());
        let path = env::var("PATH").unwrap();
        assert_eq!(said("{env:PATH}你好"), format!("{path}你好").as_bytes());
    }

    #[test]
    fn a_text_in_another_encoding() {
        let gbk: TextEncoding = "gbk".parse().unwrap();
        let template: Template = r"好的,{peer}\xff".parse().unwrap();
        let mut speaker = TemplateRenderer::new(template.encoded(gbk).unwrap());
        assert_eq!(
            speaker.say(Some(&who())),
            b"\xba\xc3\xb5\xc4,127.0.0.1:5000\xff"
        );
        let latin: TextEncoding = "latin1".parse().unwrap();
        let template: Template = "a好".parse().unwrap();
        let error = template.encoded(latin).unwrap_err().to_string();
        assert_eq!(error, "windows-1252 has no '好'");
    }

    #[test]
    fn mistakes_are_refused_with_a_reason() {
        for (text, cause) in [
            (r"\q", "after '\\' expected"),
            ("\\", "after '\\' expected"),
            (r"\x4", "two hex digits"),
            (r"\x+1", "two hex digits"),
            (r"\x你", "two hex digits"),
            ("{who}", "{who} is not one of {peer}"),
            ("{", "without its '}'"),
            ("}", "without its '{'"),
            ("{env:}", "expected a variable's name"),
            ("{env:RESOUND_NO_SUCH_VARIABLE}", "is not set"),
        ] {
            let error = text.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    proptest! {
        /// Any text is a template or an error, and says something if it is one.
        #[test]
        fn no_text_is_too_much(text in "\\PC{0,20}|([{}\\\\a-z]|\\\\x|\\{(peer|id|time|env:PATH)\\}){0,9}") {
            if let Ok(template) = text.parse::<Template>() {
                let mut speaker = TemplateRenderer::new(template);
                prop_assert_eq!(speaker.say(Some(&who())).is_empty(), text.is_empty());
            }
        }

        /// Whatever is written so that it stands for itself is said as it was meant.
        #[test]
        fn what_is_escaped_comes_out_as_it_was(text: String) {
            let escaped = text.replace('\\', "\\\\").replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(said(&escaped), text.as_bytes());
        }
    }
}
