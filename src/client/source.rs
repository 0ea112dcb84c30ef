//! The address that a client connects from.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use crate::net::address::{Address, ListenAddress};
use crate::text::escape::escape;

/// The address that a client connects from.
///
/// Forms: `IP` and `IP:PORT`, `IPv6` and `[IPv6]:PORT` (with a scope as in `fe80::1%eth0`), and
/// `unixgram:PATH` for Unix datagrams, whose file is removed at the end.
///
/// ```
/// use resound::client::Source;
/// assert_eq!("::1".parse::<Source>()?.to_string(), "[::1]:0");
/// assert!("localhost".parse::<Source>().is_err());
/// # Ok::<(), resound::client::SourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(ListenAddress);

/// The reason why a text is not a [`Source`]: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError(String);

/// The forms of a source.
const EXPECTED: &str = "expected IP, IP:PORT, [IPv6]:PORT or unixgram:PATH";

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        OsStr::new(text).try_into()
    }
}

/// The path of a Unix socket need not be UTF-8.
impl TryFrom<&OsStr> for Source {
    type Error = SourceError;

    fn try_from(text: &OsStr) -> Result<Self, SourceError> {
        let Some(text) = text.to_str() else {
            let path = ListenAddress::try_from(text).map_err(|e| SourceError(e.to_string()));
            return path.and_then(|path| match path {
                ListenAddress::UnixDatagram(_) => Ok(Self(path)),
                _ => Err(SourceError(EXPECTED.to_owned())),
            });
        };
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let host = bare.unwrap_or(text);
        if is_ip(host) {
            let host = host.to_owned();
            return Ok(Self(ListenAddress::Tcp { host, port: 0 }));
        }
        let hint = EXPECTED;
        match text.parse::<ListenAddress>() {
            Ok(ListenAddress::Tcp { host, .. }) if !is_ip(&host) || !text.contains(':') => {
                Err(SourceError(hint.to_owned()))
            }
            Ok(source @ (ListenAddress::Tcp { .. } | ListenAddress::UnixDatagram(_))) => {
                Ok(Self(source))
            }
            Ok(_) => Err(SourceError(hint.to_owned())),
            Err(_) if !text.contains(':') => Err(SourceError(hint.to_owned())),
            Err(e) => Err(SourceError(e.to_string())),
        }
    }
}

fn is_ip(text: &str) -> bool {
    match text.split_once('%') {
        // The characters that no host has: the text would not be understood in brackets.
        Some((address, scope)) => address.parse::<Ipv6Addr>().is_ok() && is_scope(scope),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// True for what may be the name or the number of an interface.
fn is_scope(text: &str) -> bool {
    let strange = |c: char| c.is_whitespace() || "/[]%".contains(c);
    !text.is_empty() && !text.contains(strange) && escape(text.as_bytes()) == text
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SourceError {}

impl Source {
    /// True if a socket that connects to this address can be bound to this source. The version of
    /// IP is not compared.
    #[must_use]
    pub fn fits(&self, to: &ListenAddress) -> bool {
        match to {
            ListenAddress::Tcp { .. } | ListenAddress::Udp { .. } => self.path().is_none(),
            ListenAddress::Unix(_) => false,
            ListenAddress::UnixDatagram(_) => self.path().is_some(),
        }
    }

    /// The path of a Unix datagram socket.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.0 {
            ListenAddress::UnixDatagram(path) => Some(path),
            _ => None,
        }
    }

    /// The IP address and port, unless the source is a path.
    pub(super) fn resolve(&self) -> io::Result<Option<SocketAddr>> {
        let all = self.0.resolve()?;
        Ok(all.first().and_then(Address::socket_addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    fn parse(text: &str) -> Result<String, String> {
        let parsed = text.parse::<Source>();
        parsed.map(|s| s.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_documented_form_is_parsed() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1:0"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:80", "[::1]:80"),
            ("fe80::1%eth0", "[fe80::1%eth0]:0"),
            ("[fe80::1%eth0]:5", "[fe80::1%eth0]:5"),
            ("unixgram:/s", "unixgram:/s"),
            ("unixgram:@s", "unixgram:@s"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(shown), "{text}");
        }
    }

    /// A scope with a bracket was shown in brackets, and not understood again.
    #[test]
    fn scope_has_the_characters_of_an_interface() {
        for text in [
            "::%[",
            "::%]",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%a%b",
            "[::%[]:1",
            "::%/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// Paths that are not UTF-8 were refused.
    #[test]
    fn path_may_be_any_bytes() {
        let parse = |text: &[u8]| Source::try_from(OsStr::from_bytes(text));
        let path = Path::new(OsStr::from_bytes(b"/caf\xe9"));
        assert_eq!(parse(b"unixgram:/caf\xe9").unwrap().path(), Some(path));
        for text in [&b"unix:/caf\xe9"[..], b"\xe9:7"] {
            assert!(parse(text).is_err());
        }
    }

    #[test]
    fn mistakes_are_refused_with_a_reason() {
        for (text, cause) in [
            ("", "expected IP"),
            ("80", "expected IP"),
            ("localhost", "expected IP"),
            ("localhost:80", "expected IP"),
            ("*:80", "expected IP"),
            ("10.0.0.1%eth0", "expected IP"),
            ("unix:/s", "expected IP"),
            ("udp://10.0.0.1:1", "expected IP"),
            ("10.0.0.1:x", "'x' is not a port"),
            ("10.0.0.1:70000", "out of range"),
            ("unixgram:", "expected a path"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(cause), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_source_survives_a_round_trip(text in "(unixgram:)?(\\PC{0,20}|[0-9a-f:.%\\[\\]]{0,20})") {
            if let Ok(source) = text.parse::<Source>() {
                prop_assert_eq!(source.to_string().parse(), Ok(source));
            }
        }
    }
}
