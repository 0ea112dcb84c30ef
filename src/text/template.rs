//! Texts to be sent, with escapes and placeholders.

use std::env;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::net::address::Address;
use crate::text::encoding::TextEncoding;
use crate::text::escape::escape;
use crate::text::placeholders::{self, Token};
use crate::text::zone;

/// A text to be sent, with escapes and placeholders.
///
/// | in the text | as sent |
/// |---|---|
/// | `\n`, `\r`, `\t`, `\\` | as in C |
/// | `\xNN` | the byte with these two hexadecimal digits, in any encoding |
/// | `{peer}` | the recipient's address |
/// | `{local}` | the address at which it was accepted |
/// | `{id}` | the recipient's number; 0 for the sender of a datagram |
/// | `{date}`, `{time}` | the local date as `MMDD`, and time as `HH:MM:SS` |
/// | `{iso}` | the local date and time with offset (RFC 3339) |
/// | `{hostname}` | the machine's name, when the text was parsed |
/// | `{env:NAME}` | a variable of the environment, when the text was parsed |
/// | `{{`, `}}` | a brace |
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
    /// A byte, in any encoding.
    Byte(u8),
    Peer,
    Local,
    Id,
    /// The local time, in a format of strftime(3).
    Time(&'static str),
}

/// The placeholders, as errors list them.
const NAMES: [&str; 8] = [
    "peer", "local", "id", "date", "time", "iso", "hostname", "env:NAME",
];

/// The fault of a text that is no [`Template`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Parts::default();
        let mut rest = text;
        while let Some(token) = placeholders::next(&mut rest).map_err(error)? {
            match token {
                Token::Char('\\') => rest = parts.escape(rest)?,
                Token::Char(character) => parts.text(character),
                Token::Placeholder(name) => parts.placeholder(name)?,
            }
        }
        Ok(Self {
            parts: parts.0,
            encoding: TextEncoding::default(),
        })
    }
}

/// The parts of a template that is being parsed.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, character: char) {
        if let Some(Part::Text(text)) = self.0.last_mut() {
            text.push(character);
        } else {
            self.0.push(Part::Text(character.to_string()));
        }
    }

    /// Parses what follows a backslash; returns the text after it.
    fn escape<'a>(&mut self, rest: &'a str) -> Result<&'a str, TemplateError> {
        let mut characters = rest.chars();
        match characters.next() {
            Some('n') => self.text('\n'),
            Some('r') => self.text('\r'),
            Some('t') => self.text('\t'),
            Some('\\') => self.text('\\'),
            Some('x') => {
                let digits = characters.as_str().get(..2).unwrap_or_default();
                let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex);
                let byte = byte.ok_or_else(|| error("expected two hex digits after '\\x'"))?;
                self.0.push(Part::Byte(byte));
                return Ok(&characters.as_str()[2..]);
            }
            _ => return Err(error("after '\\' expected n, r, t, xNN or another '\\'")),
        }
        Ok(characters.as_str())
    }

    fn placeholder(&mut self, name: &str) -> Result<(), TemplateError> {
        let part = match name {
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
            _ => Part::Text(variable(name)?),
        };
        self.0.push(part);
        Ok(())
    }
}

/// The value of `env:NAME`.
fn variable(placeholder: &str) -> Result<String, TemplateError> {
    let Some(name) = placeholder.strip_prefix("env:") else {
        return Err(TemplateError(placeholders::unknown(placeholder, NAMES)));
    };
    let absent = |_| {
        error(format!(
            "{} is not set, or not UTF-8",
            escape(name.as_bytes())
        ))
    };
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
    /// The same template, rendered in another encoding than UTF-8; a byte `\xNN` stays as it is.
    ///
    /// # Errors
    /// If the encoding lacks one of the text's characters.
    pub fn encoded(mut self, encoding: TextEncoding) -> Result<Self, TemplateError> {
        for part in &self.parts {
            if let Part::Text(text) = part {
                encoding.encode(text).map_err(|e| error(e.to_string()))?;
            }
        }
        self.encoding = encoding;
        Ok(self)
    }

    /// True if the text depends on the recipient or the time.
    fn varies(&self) -> bool {
        let fixed = |part: &Part| matches!(part, Part::Text(_) | Part::Byte(_));
        !self.parts.iter().all(fixed)
    }

    /// True if the text contains the address at which its recipient was accepted.
    pub(crate) fn wants_local(&self) -> bool {
        self.parts.contains(&Part::Local)
    }

    /// True if the text contains the time of day.
    pub(crate) fn wants_time(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Time(_)))
    }
}

/// The recipient of a text, for its placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    pub(crate) id: u64,
    pub(crate) peer: Address,
    pub(crate) local: Address,
}

/// The recipient of a text that a service keeps with its session; none if the text is fixed.
#[derive(Clone, Debug, Default)]
pub struct SavedRecipient(Option<Box<Recipient>>);

impl SavedRecipient {
    pub(crate) fn get(&self) -> Option<&Recipient> {
        self.0.as_deref()
    }
}

/// Renders a template: for a recipient, at a time.
#[derive(Clone, Debug)]
pub(crate) struct TemplateRenderer {
    template: Template,
    /// False if the template is rendered once and for all.
    varies: bool,
    zone: TimeZone,
    now: SystemTime,
    rendered: Vec<u8>,
}

impl TemplateRenderer {
    /// A renderer in the local time zone.
    pub(crate) fn new(template: Template) -> Self {
        let mut renderer = Self {
            varies: template.varies(),
            zone: if template.wants_time() {
                zone::local()
            } else {
                TimeZone::UTC
            },
            template,
            now: UNIX_EPOCH,
            rendered: Vec::new(),
        };
        if !renderer.varies {
            renderer.update(None);
        }
        renderer
    }

    /// The recipient as a session keeps it, if the text varies.
    pub(crate) fn save(&self, recipient: impl Into<Recipient>) -> SavedRecipient {
        SavedRecipient(self.varies.then(|| Box::new(recipient.into())))
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn set_time(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// The text for a recipient. Without one, its placeholders are empty.
    pub(crate) fn render(&mut self, recipient: Option<&Recipient>) -> &[u8] {
        if self.varies {
            self.update(recipient);
        }
        &self.rendered
    }

    fn update(&mut self, recipient: Option<&Recipient>) {
        self.rendered.clear();
        let now = Timestamp::try_from(self.now).unwrap_or_default();
        let encoding = self.template.encoding;
        for part in &self.template.parts {
            let mut text = String::new();
            // Writing to a string doesn't fail, and the time formats are valid.
            let _ = match (part, recipient) {
                (Part::Byte(byte), _) => {
                    self.rendered.push(*byte);
                    continue;
                }
                (Part::Text(fixed), _) => text.write_str(fixed),
                (Part::Time(format), _) => {
                    let local = now.to_zoned(self.zone.clone());
                    write!(text, "{}", local.strftime(format))
                }
                (Part::Peer, Some(recipient)) => write!(text, "{}", recipient.peer.name()),
                (Part::Local, Some(recipient)) => write!(text, "{}", recipient.local.name()),
                (Part::Id, Some(recipient)) => write!(text, "{}", recipient.id),
                (_, None) => Ok(()),
            };
            self.rendered.extend(encoding.encode_lossy(&text).as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn recipient() -> Recipient {
        Recipient {
            id: 7,
            peer: Address::Tcp(([127, 0, 0, 1], 5000).into()),
            local: Address::Udp(([10, 0, 0, 1], 80).into()),
        }
    }

    #[track_caller]
    fn rendered(text: &str) -> Vec<u8> {
        let mut renderer = TemplateRenderer::new(text.parse().unwrap());
        renderer.zone = TimeZone::fixed(jiff::tz::offset(1));
        renderer.set_time(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        renderer.render(Some(&recipient())).to_vec()
    }

    #[test]
    fn every_escape_and_every_placeholder_is_rendered() {
        assert_eq!(rendered(r"a\n\r\t\\\x00\xfF"), b"a\n\r\t\\\0\xff");
        let text = "{{{id}}} {peer} {local} {date} {time} {iso}";
        let expected = "{7} 127.0.0.1:5000 10.0.0.1:80 1114 23:13:20 2023-11-14T23:13:20+01:00";
        assert_eq!(rendered(text), expected.as_bytes());
        let name = rustix::system::uname();
        assert_eq!(rendered("{hostname}"), name.nodename().to_bytes());
        let path = env::var("PATH").unwrap();
        assert_eq!(rendered("{env:PATH}你好"), format!("{path}你好").as_bytes());
    }

    #[test]
    fn text_is_rendered_in_another_encoding() {
        let gbk: TextEncoding = "gbk".parse().unwrap();
        let template: Template = r"好的,{peer}\xff".parse().unwrap();
        let mut renderer = TemplateRenderer::new(template.encoded(gbk).unwrap());
        assert_eq!(
            renderer.render(Some(&recipient())),
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
        /// Any text is a template or an error; a template renders to some bytes.
        #[test]
        fn no_text_panics(text in "\\PC{0,20}|([{}\\\\a-z]|\\\\x|\\{(peer|id|time|env:PATH)\\}){0,9}") {
            if let Ok(template) = text.parse::<Template>() {
                let mut renderer = TemplateRenderer::new(template);
                prop_assert_eq!(renderer.render(Some(&recipient())).is_empty(), text.is_empty());
            }
        }

        #[test]
        fn escaped_text_is_rendered_as_it_was_before(text: String) {
            let escaped = text.replace('\\', "\\\\").replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(rendered(&escaped), text.as_bytes());
        }
    }
}
