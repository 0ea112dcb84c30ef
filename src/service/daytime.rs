//! Daytime: the date and the time as text (RFC 867).

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Action, Outcome, Service};
use crate::close::CloseReason;
use crate::peer::Peer;
use crate::text::encoding::TextEncoding;

/// How a date and a time are written, in the terms of strftime(3).
///
/// ```
/// use resound::TimeFormat;
/// assert!("%Y-%m-%d %H:%M:%S".parse::<TimeFormat>().is_ok());
/// assert!("%!".parse::<TimeFormat>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(String);

/// Why a text is not a [`TimeFormat`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormatError(String);

impl Default for TimeFormat {
    /// As in `Sat Nov 21 14:27:18 2026`, which RFC 867 leaves open and most servers send.
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

/// The daytime service (RFC 867): who comes is sent a line with the local date and time, and
/// closed; a datagram is answered with it.
#[derive(Clone, Debug)]
pub struct Daytime {
    format: TimeFormat,
    zone: TimeZone,
    now: SystemTime,
    encoding: TextEncoding,
    line: Vec<u8>,
}

impl Daytime {
    /// Tells the time of the local time zone, in an encoding; what that lacks are question marks.
    #[must_use]
    pub fn new(format: TimeFormat, encoding: TextEncoding) -> Self {
        Self {
            format,
            zone: TimeZone::system(),
            now: UNIX_EPOCH,
            encoding,
            line: Vec::new(),
        }
    }

    fn tell(&mut self) -> &[u8] {
        let now = Timestamp::try_from(self.now).unwrap_or_default();
        let now: Zoned = now.to_zoned(self.zone.clone());
        let told = strtime::format(&self.format.0, &now);
        let line = told.unwrap_or_default() + "\r\n";
        self.line = self.encoding.encode_lossy(&line).into_owned();
        &self.line
    }
}

impl Service for Daytime {
    type Session = ();

    fn open(&mut self, _: &Peer<'_>) -> ((), Outcome<'_>) {
        let reply = [self.tell(), &[]];
        let then = Action::Close(CloseReason::Done);
        ((), Outcome { reply, then })
    }

    fn receive<'a>(&'a mut self, (): &'a mut (), _: &'a [u8]) -> Outcome<'a> {
        Outcome::NOTHING
    }

    fn takes_datagrams(&self) -> bool {
        true
    }

    fn datagram<'a>(&'a mut self, _: &Peer<'_>, _: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        Some([self.tell(), &[]])
    }

    fn wants_time(&self) -> bool {
        true
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
        assert_eq!(outcome.reply[0], b"Tue Nov 14 23:13:20 2023\r\n");
        assert_eq!(outcome.then, Action::Close(CloseReason::Done));
        let answer = service.datagram(&peer(&address), b"").unwrap();
        assert_eq!(answer[0], b"Tue Nov 14 23:13:20 2023\r\n");
    }

    #[test]
    fn in_another_format() {
        let mut service = daytime("%Y-%m-%d %H:%M:%S %:z");
        assert_eq!(service.tell(), b"2023-11-14 23:13:20 +01:00\r\n");
    }

    #[test]
    fn in_another_encoding() {
        let mut service = daytime("%Y年");
        service.encoding = "gbk".parse().unwrap();
        assert_eq!(service.tell(), b"2023\xc4\xea\r\n");
    }

    proptest! {
        /// Any text is a format or an error; a format always makes a line.
        #[test]
        fn no_format_is_too_much(text in "(%[a-zA-Z%:.+-]{1,2}|\\PC){0,8}", second: u32) {
            if let Ok(format) = text.parse::<TimeFormat>() {
                let mut service = Daytime::new(format, TextEncoding::default());
                service.set_time(UNIX_EPOCH + Duration::from_secs(second.into()));
                prop_assert!(service.tell().ends_with(b"\r\n"));
            }
        }
    }
}
