//! Daytime: the date and the time as text (RFC 867).

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Needs, Outcome, Service};
use crate::bytes::Slices;
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::text::encoding::TextEncoding;
use crate::text::zone;

/// Format of a date and a time, in the conversions of strftime(3).
///
/// ```
/// use resound::TimeFormat;
/// assert!("%Y-%m-%d %H:%M:%S".parse::<TimeFormat>().is_ok());
/// assert!("%!".parse::<TimeFormat>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(String);

/// Error of a text that is no [`TimeFormat`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormatError(String);

impl Default for TimeFormat {
    /// `Sat Nov 21 14:27:18 2026`: RFC 867 leaves the format open, and most servers send this.
    fn default() -> Self {
        Self("%a %b %e %H:%M:%S %Y".to_owned())
    }
}

impl FromStr for TimeFormat {
    type Err = TimeFormatError;

    fn from_str(text: &str) -> Result<Self, TimeFormatError> {
        let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        match strtime::format(text, &now) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(e) => Err(TimeFormatError(e.to_string().replace('\n', " "))),
        }
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TimeFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TimeFormatError {}

/// The daytime service (RFC 867): a client is sent one line with the local date and time, and
/// closed; a datagram is answered with that line.
#[derive(Clone, Debug)]
pub struct Daytime {
    format: TimeFormat,
    zone: TimeZone,
    now: SystemTime,
    encoding: TextEncoding,
    line: Vec<u8>,
}

impl Daytime {
    /// A daytime service for the local time zone. Characters that `encoding` lacks become question marks.
    #[must_use]
    pub fn new(format: TimeFormat, encoding: TextEncoding) -> Self {
        Self {
            format,
            zone: zone::local(),
            now: UNIX_EPOCH,
            encoding,
            line: Vec::new(),
        }
    }

    fn line(&mut self) -> &[u8] {
        let now = Timestamp::try_from(self.now).unwrap_or_default();
        let now: Zoned = now.to_zoned(self.zone.clone());
        let text = strtime::format(&self.format.0, &now);
        let line = text.unwrap_or_default() + "\r\n";
        self.line = self.encoding.encode_lossy(&line).into_owned();
        &self.line
    }
}

impl Service for Daytime {
    type Session = ();

    fn needs(&self) -> Needs {
        Needs::default().with_datagrams().with_time()
    }

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        (
            (),
            Outcome::reply(self.line()).then_close(CloseReason::Done),
        )
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, _: &'a [u8]) -> Option<Slices<'a>> {
        Some(self.line().into())
    }

    fn set_time(&mut self, now: SystemTime) {
        self.now = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Address;
    use crate::peer::tests::peer;
    use crate::service::Action;
    use proptest::prelude::*;
    use std::time::Duration;

    fn daytime(format: &str) -> Daytime {
        let mut daytime = Daytime::new(format.parse().unwrap(), TextEncoding::default());
        daytime.zone = TimeZone::fixed(jiff::tz::offset(1));
        daytime.set_time(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        daytime
    }

    #[test]
    fn a_line_with_the_local_time_and_the_end() {
        let mut service = daytime(&TimeFormat::default().to_string());
        let address = Address::Stdin;
        let ((), outcome) = service.open(&peer(&address));
        assert_eq!(outcome.reply.to_vec(), b"Tue Nov 14 23:13:20 2023\r\n");
        assert_eq!(outcome.action, Action::Close(CloseReason::Done));
        let answer = service.datagram(&peer(&address), b"").unwrap();
        assert_eq!(answer.to_vec(), b"Tue Nov 14 23:13:20 2023\r\n");
    }

    #[test]
    fn in_another_format() {
        let mut service = daytime("%Y-%m-%d %H:%M:%S %:z");
        assert_eq!(service.line(), b"2023-11-14 23:13:20 +01:00\r\n");
    }

    #[test]
    fn in_another_encoding() {
        let mut service = daytime("%Y年");
        service.encoding = "gbk".parse().unwrap();
        assert_eq!(service.line(), b"2023\xc4\xea\r\n");
    }

    proptest! {
        /// Any text is a format or an error; a format always makes a line.
        #[test]
        fn no_format_is_too_much(text in "(%[a-zA-Z%:.+-]{1,2}|\\PC){0,8}", second: u32) {
            if let Ok(format) = text.parse::<TimeFormat>() {
                let mut service = Daytime::new(format, TextEncoding::default());
                service.set_time(UNIX_EPOCH + Duration::from_secs(second.into()));
                prop_assert!(service.line().ends_with(b"\r\n"));
            }
        }
    }
}
