//! Errors of the kernel as messages.

use std::fmt;
use std::io;

/// The error of setting up a server: one line that names the address and the cause.
#[derive(Debug)]
pub struct BindError {
    /// The address that it could not listen on; none if it failed otherwise.
    address: Option<String>,
    cause: io::Error,
}

impl BindError {
    pub(crate) fn new(address: &impl ToString, cause: io::Error) -> Self {
        Self {
            address: Some(address.to_string()),
            cause,
        }
    }

    /// The error of the kernel.
    pub(crate) fn cause(&self) -> &io::Error {
        &self.cause
    }
}

/// An error that concerns no address, such as a lack of descriptors.
impl From<io::Error> for BindError {
    fn from(cause: io::Error) -> Self {
        Self {
            address: None,
            cause,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "cannot listen on {address}: ")?,
            None => f.write_str("cannot start: ")?,
        }
        f.write_str(&cause(&self.cause))
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// The message of an error, to stand after a colon: without its number, and with a lower-case first
/// letter unless it begins with the name of an option.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(text);
    let capital = |c: char| c.is_ascii_uppercase();
    if text.chars().take(2).all(capital) {
        return text.to_owned();
    }
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn cause_reads_well_after_a_colon() {
        assert_eq!(cause(&Errno::ADDRINUSE.into()), "address already in use");
        let text = "failed to lookup address information: Name or service not known";
        assert_eq!(cause(&io::Error::other(text)), "name or service not known");
    }
}
