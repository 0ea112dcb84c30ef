//! The client: standard input goes to a server, what comes from there to standard output, both at
//! once in one loop. A line is sent as soon as it is typed, and shown as soon as it comes.

mod datagram;
mod dial;
mod incoming;
mod outgoing;
mod source;
mod stdio;
mod stream;
mod talk;

use std::fmt;
use std::time::Duration;

use log::debug;

use crate::net::address::{Address, ListenAddress};
use crate::text::encoding::TextEncoding;
use crate::text::template::{Template, Who};

use datagram::Datagrams;
use dial::{Dialed, Line};
use outgoing::Outgoing;
pub use source::{Source, SourceError};
use stream::Lines;
use talk::Talk;

/// A connection of the standard streams, or of some texts, to a server.
///
/// Over when the server has ended its output and all of it is written. After the end of input the
/// server is told so (half-close), and still heard. Datagrams have no end: after the end of input a
/// second in which nothing comes is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Where the server listens; of a name's addresses the first that answers.
    pub to: ListenAddress,
    /// Control characters reach a terminal as they are.
    pub raw: bool,
    /// What is sent in place of standard input, in its encoding: one after the other to a stream,
    /// each as a datagram of its own. `{peer}` is the server's address, `{local}` the client's.
    pub send: Vec<Template>,
    /// How long connecting to an address may take, and how long a silence of both sides may last
    /// until that is the end; [`Duration::MAX`] is for ever, also with datagrams.
    pub timeout: Option<Duration>,
    /// How the server writes; here it is UTF-8. In UTF-8 itself bytes pass as they are.
    pub encoding: TextEncoding,
    /// A newline of standard input goes out as CR LF.
    pub crlf: bool,
    /// Datagrams may go to a broadcast address (`SO_BROADCAST` in socket(7)), and anybody's are
    /// shown.
    pub broadcast: bool,
    /// The client's own address; without it the system chooses.
    pub source: Option<Source>,
    /// Where nobody listens yet, try again for so long; [`Duration::MAX`] is for ever.
    pub retry: Option<Duration>,
}

/// Why a connection came to nothing, or to a bad end: one line.
#[derive(Debug)]
pub struct ConnectError(String);

impl ConnectError {
    fn new(what: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{what}: {cause}"))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

impl Connect {
    /// Connects, and talks until one side has had enough.
    ///
    /// # Errors
    /// When there is no connection to be had; when it, or standard output, fails; when nothing came
    /// for as long as the timeout.
    pub fn run(&self) -> Result<(), ConnectError> {
        let Dialed { line, peer, local } = dial::dial(self)?;
        debug!("connected to {peer} from {local}");
        let who = Who { id: 0, peer, local };
        match line {
            Line::Stream(socket) => {
                let lines = Lines::new(socket, &who.peer, Outgoing::new(self));
                Talk::new(self, lines, &who)?.run()
            }
            Line::Datagrams(socket) => {
                let datagrams = Datagrams::new(socket, &who.peer, Outgoing::new(self));
                Talk::new(self, datagrams, &who)?.run()
            }
        }
    }
}

/// A connection that has failed.
fn lost(address: &Address, cause: impl fmt::Display) -> ConnectError {
    ConnectError::new(format!("the connection to {address} is lost"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of which a test changes some.
    pub(super) fn connect() -> Connect {
        Connect {
            to: "127.0.0.1:7".parse().unwrap(),
            raw: false,
            send: Vec::new(),
            timeout: None,
            encoding: TextEncoding::default(),
            crlf: false,
            broadcast: false,
            source: None,
            retry: None,
        }
    }
}
