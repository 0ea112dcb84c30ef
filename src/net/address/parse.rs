//! Parsing of [`Listen`] and [`ListenAddress`].

use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use super::listen::{Listen, ListenAddress, Role};
use crate::text::escape::escape;

/// The fault of a text that is no [`Listen`] or [`ListenAddress`]: one line, without the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        OsStr::new(text).try_into()
    }
}

/// The path of a Unix socket need not be UTF-8.
impl TryFrom<&OsStr> for Listen {
    type Error = AddressError;

    fn try_from(text: &OsStr) -> Result<Self, AddressError> {
        let bytes = text.as_bytes();
        let question = bytes.iter().rposition(|&byte| byte == b'?');
        let (address, rest) = bytes.split_at(question.unwrap_or(bytes.len()));
        let (address, role) = match rest {
            b"" => (bytes, None),
            b"?role=both" => (address, Some(Role::Both)),
            b"?role=publish" => (address, Some(Role::Publish)),
            b"?role=subscribe" => (address, Some(Role::Subscribe)),
            // A path may contain a question mark.
            rest if address.starts_with(b"unix") && !rest.starts_with(b"?role=") => (bytes, None),
            _ => {
                return Err(error(
                    "only ?role=publish, ?role=subscribe or ?role=both may follow an address",
                ));
            }
        };
        let address = OsStr::from_bytes(address).try_into()?;
        Ok(Self { address, role })
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        OsStr::new(text).try_into()
    }
}

/// The path of a Unix socket need not be UTF-8.
impl TryFrom<&OsStr> for ListenAddress {
    type Error = AddressError;

    fn try_from(text: &OsStr) -> Result<Self, AddressError> {
        if let Some(path) = text.as_bytes().strip_prefix(b"unix:") {
            return unix(path).map(Self::Unix);
        }
        if let Some(path) = text.as_bytes().strip_prefix(b"unixgram:") {
            return unix(path).map(Self::UnixDatagram);
        }
        let text = text
            .to_str()
            .ok_or_else(|| error("only the path of a Unix socket may be other than UTF-8"))?;
        if let Some(text) = text.strip_prefix("udp://") {
            return host_and_port(text).map(|(host, port)| Self::Udp { host, port });
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        host_and_port(text).map(|(host, port)| Self::Tcp { host, port })
    }
}

/// `HOST:PORT`, `[IPv6]:PORT` or `PORT`; the host is returned without brackets.
fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return checked(&Ipv4Addr::LOCALHOST.to_string(), text);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once("]:")
            .ok_or_else(|| error("expected [IPv6]:PORT"))?;
        let plain = host
            .split_once('%')
            .map_or(host, |(address, _scope)| address);
        if plain.parse::<Ipv6Addr>().is_err() {
            let host = escape(host.as_bytes());
            return Err(error(format!("'{host}' is not an IPv6 address")));
        }
        return checked(host, port);
    }
    match text.rsplit_once(':') {
        Some(_) if text.contains("://") => {
            Err(error("only tcp:// or udp:// may precede HOST:PORT"))
        }
        None => Err(error(
            "expected HOST:PORT, [IPv6]:PORT, PORT, udp://HOST:PORT or unix:PATH",
        )),
        Some((host, _)) if matches!(host.split(':').next(), Some("tcp" | "udp")) => {
            Err(error("a scheme is written tcp:// or udp://"))
        }
        Some((host, _)) if host.contains(':') => {
            Err(error("an IPv6 address goes in brackets, as in [::1]:7000"))
        }
        Some((host, port)) => checked(host, port),
    }
}

/// A path, or `@` and a name.
fn unix(path: &[u8]) -> Result<PathBuf, AddressError> {
    if path.is_empty() {
        return Err(error("expected a path after the colon"));
    }
    if path == b"@" {
        return Err(error("expected a name after '@'"));
    }
    if path.contains(&0) {
        return Err(error("a path cannot contain a NUL byte"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// Checks the characters of a host and the range of a port.
fn checked(host: &str, port: &str) -> Result<(String, u16), AddressError> {
    if host.is_empty() {
        return Err(error("the host is missing; * means every address"));
    }
    let strange = |c: char| c.is_whitespace() || "/[]".contains(c);
    if host.contains(strange) || escape(host.as_bytes()) != host {
        return Err(error(format!(
            "'{}' is not a host",
            escape(host.as_bytes())
        )));
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error(format!(
            "'{}' is not a port",
            escape(port.as_bytes())
        )));
    }
    let port = port
        .parse()
        .map_err(|_| error(format!("port {port} is out of range (0 to 65535)")))?;
    Ok((host.to_owned(), port))
}

fn error(text: impl Into<String>) -> AddressError {
    AddressError(text.into())
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let parsed = text.parse::<ListenAddress>();
        parsed.map(|a| a.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_documented_form_is_parsed() {
        for text in [
            "127.0.0.1:0",
            "localhost:7000",
            "[::1]:65535",
            "[fe80::1%eth0]:1",
            "unix:/run/x.sock",
            "unix:x",
            "unix:@name",
            "unixgram:/run/x.sock",
            "udp://127.0.0.1:7007",
            "udp://[::1]:7007",
            "*:9000",
            "udp://*:9000",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse("9999").as_deref(), Ok("127.0.0.1:9999"));
        assert_eq!(parse("tcp://[::1]:5").as_deref(), Ok("[::1]:5"));
        assert_eq!(parse("udp://53").as_deref(), Ok("udp://127.0.0.1:53"));
    }

    #[test]
    fn role_follows_the_address() {
        let parse = |text: &str| text.parse::<Listen>().map(|l| (l.role, l.to_string()));
        let ok = |role, text: &str| Ok((role, text.to_owned()));
        assert_eq!(parse("7000"), ok(None, "127.0.0.1:7000"));
        assert_eq!(
            parse("tcp://127.0.0.1:7001?role=publish"),
            ok(Some(Role::Publish), "127.0.0.1:7001?role=publish")
        );
        assert_eq!(
            parse("unix:/s?role=subscribe"),
            ok(Some(Role::Subscribe), "unix:/s?role=subscribe")
        );
        assert_eq!(
            parse("7000?role=both"),
            ok(Some(Role::Both), "127.0.0.1:7000?role=both")
        );
        assert_eq!(parse("unix:/what?"), ok(None, "unix:/what?"));
        for text in ["1?role=operator", "1?rule=publish", "unix:/s?role="] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains("only ?role=publish, ?role=subscribe or ?role=both"),
                "{text}: {error}"
            );
        }
    }

    /// Paths that are not UTF-8 were refused.
    #[test]
    fn path_may_be_any_bytes() {
        let parse = |text: &[u8]| Listen::try_from(OsStr::from_bytes(text));
        let path = || PathBuf::from(OsStr::from_bytes(b"/caf\xe9"));
        for (text, address, role) in [
            (&b"unix:/caf\xe9"[..], ListenAddress::Unix(path()), None),
            (
                b"unixgram:/caf\xe9",
                ListenAddress::UnixDatagram(path()),
                None,
            ),
            (
                b"unix:/caf\xe9?role=publish",
                ListenAddress::Unix(path()),
                Some(Role::Publish),
            ),
        ] {
            assert_eq!(parse(text), Ok(Listen { address, role }));
        }
        for (text, cause) in [
            (&b"caf\xe9:7000"[..], "only the path of a Unix socket"),
            (b"unix:/caf\xe9?role=x", "may follow an address"),
            (b"unix:\xe9\0", "a NUL byte"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(cause), "{text:?}: {error}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, cause) in [
            ("", "expected HOST:PORT"),
            ("localhost", "expected HOST:PORT"),
            ("127.0.0.1:", "'' is not a port"),
            ("127.0.0.1:x", "'x' is not a port"),
            ("127.0.0.1:+1", "'+1' is not a port"),
            ("127.0.0.1:70000", "port 70000 is out of range"),
            ("70000", "port 70000 is out of range"),
            (":7000", "the host is missing"),
            ("::1:7000", "goes in brackets"),
            ("[::1]", "expected [IPv6]:PORT"),
            ("[::g]:1", "'::g' is not an IPv6 address"),
            ("unix:", "expected a path"),
            ("http://a:1", "only tcp:// or udp://"),
            ("udp://", "expected HOST:PORT"),
            ("udp://tcp://a:1", "only tcp:// or udp://"),
            ("unixgram:", "expected a path"),
            ("unix:@", "expected a name after '@'"),
            ("udp:7000", "written tcp:// or udp://"),
            ("tcp:127.0.0.1:7000", "written tcp:// or udp://"),
            ("1?role=publish", "expected HOST:PORT"),
            ("a b:1", "'a b' is not a host"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(cause), "{text:?}: {error}");
        }
    }
}
