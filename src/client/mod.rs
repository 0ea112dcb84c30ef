//! The client, `resound connect`: standard input goes to a server, received bytes to standard
//! output, both at once in one loop.
//!
//! | file | content |
//! |---|---|
//! | `dial.rs`, `candidates.rs`, `source.rs` | connecting: the addresses of a name, timeout, retries; those over UDP; the local address |
//! | `reconnect.rs` | the next connection, after one that has ended |
//! | `relay.rs` | the loop of a connection, over any `Transport` |
//! | `stream.rs`, `datagram.rs` | the two transports: a byte stream, and datagrams |
//! | `stdio.rs` | the standard streams |
//! | `kernel.rs` | the kernel as the client sees it |
//! | `simulation/` | tests: the client over a simulated kernel, from seeds |
//! | `encode.rs`, `decode.rs` | conversion of input to what is sent, and of received bytes to what is shown |

mod candidates;
mod datagram;
mod decode;
mod dial;
mod encode;
mod kernel;
mod reconnect;
mod relay;
#[cfg(test)]
mod simulation;
mod source;
mod stdio;
mod stream;

use std::fmt;
use std::io;
use std::time::Duration;

use log::debug;

use crate::net::Poller;
use crate::net::address::ListenAddress;
use crate::net::error::cause;
use crate::text::encoding::TextEncoding;
use crate::text::template::{Recipient, Template};

use datagram::DatagramTransport;
use dial::{Dialed, DialedSocket};
use encode::InputEncoder;
use kernel::Kernel;
use relay::{Relay, Transport};
pub use source::{Source, SourceError};
use stdio::Standard;
use stream::StreamTransport;

/// The key of the server's socket in events.
const SERVER: usize = 0;

/// Unsent bytes in one direction beyond which no more is read for it.
const HIGH_WATER: usize = 256 * 1024;

/// A connection between a server and the standard streams, and how it is made.
///
/// It ends when both directions have ended: the server has ended its output and all of it is written,
/// and the input has ended and all of it is sent. After the end of input the server is told
/// (half-close), and its output is still received; after the server's end input is still sent, unless
/// it is typed at a terminal. Datagrams have no end: one second without a datagram after the end of
/// input ends the connection.
///
/// ```no_run
/// use std::time::Duration;
/// use resound::client::Connect;
///
/// let mut connect = Connect::new("127.0.0.1:7".parse()?);
/// connect.send = vec!["hello\n".parse()?];
/// connect.timeout = Some(Duration::from_secs(5));
/// connect.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Connect {
    /// The server's address. The addresses of a name are tried in order until one accepts.
    pub to: ListenAddress,
    /// True if control characters are written to a terminal unescaped.
    pub raw: bool,
    /// Texts sent in place of standard input, in their encoding: one after the other to a stream,
    /// each as a datagram of its own. `{peer}` is the server's address, `{local}` the client's.
    pub send: Vec<Template>,
    /// True if standard input is not read: the direction to the server stays open, after the texts
    /// of `send` if there are any, until the server ends.
    pub recv_only: bool,
    /// Limit of connecting to one address, and then of a silence of both sides, which ends the
    /// connection. `None`: no limit but the second after the last datagram;
    /// [`Duration::MAX`]: no limit at all.
    pub timeout: Option<Duration>,
    /// The encoding of the server's side; the client's own is UTF-8. With UTF-8 bytes pass
    /// unchanged.
    pub encoding: TextEncoding,
    /// True if a newline of standard input is sent as CR LF.
    pub crlf: bool,
    /// True if datagrams may go to a broadcast address (`SO_BROADCAST` in socket(7)); then those of
    /// every sender are received.
    pub broadcast: bool,
    /// The client's own address; `None`: the system chooses.
    pub source: Option<Source>,
    /// Time for which connecting is retried while no server listens, after pauses that double from
    /// 100 ms to 1 s. `None`: no retry; [`Duration::MAX`]: no limit.
    pub retry: Option<Duration>,
    /// Time for which connecting is retried, as with `retry` but whatever the error is, when the server
    /// has ended a connection or it is lost; then the next one follows, until input ends. `None`: the
    /// end of the connection is the client's. Not for datagrams.
    pub reconnect: Option<Duration>,
    /// True if SIGINT, SIGTERM and SIGHUP end the process even if it has inherited them blocked or
    /// ignored (SIGHUP: blocked), or is a container's first one.
    pub end_on_signals: bool,
}

/// The reason why connecting has failed, or why a connection has ended badly: one line.
#[derive(Debug)]
pub struct ConnectError(String);

impl ConnectError {
    fn new(failure: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{failure}: {cause}"))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

impl Connect {
    /// A connection with the defaults of the command line: standard input and output in UTF-8, no
    /// timeout, no retry, a local address of the system's choice.
    #[must_use]
    pub fn new(to: ListenAddress) -> Self {
        Self {
            to,
            raw: false,
            send: Vec::new(),
            recv_only: false,
            timeout: None,
            encoding: TextEncoding::default(),
            crlf: false,
            broadcast: false,
            source: None,
            retry: None,
            reconnect: None,
            end_on_signals: false,
        }
    }

    /// Connects, and relays until the connection ends.
    ///
    /// # Errors
    /// If connecting fails; if the connection or a standard stream fails; if input could not be sent;
    /// if the timeout passes and nothing was received.
    pub fn run(&self) -> Result<(), ConnectError> {
        let net = self.open_poller();
        let net = net.map_err(|e| ConnectError::new("cannot start", cause(&e)))?;
        self.run_over(net, HIGH_WATER)
    }

    fn open_poller(&self) -> io::Result<Poller> {
        let mut net = Poller::new(Vec::new(), Vec::new())?;
        if self.end_on_signals {
            net.end_on_signals()?;
        }
        Ok(net)
    }

    /// The same over any kernel.
    fn run_over<N: Kernel>(&self, mut net: N, high_water: usize) -> Result<(), ConnectError> {
        let Dialed {
            socket,
            peer,
            local,
        } = dial::dial(self, &mut net)?;
        debug!("connected to {peer} from {local}");
        let recipient = Recipient { id: 0, peer, local };
        let encoder = InputEncoder::new(self);
        let standard = Standard::open(self, &mut net);
        let standard = standard.map_err(|e| ConnectError::new("cannot start", cause(&e)))?;
        match socket {
            DialedSocket::Stream(stream, ready) => {
                let mut transport = StreamTransport::new(stream, &recipient.peer, encoder);
                transport.latch(ready);
                let relay = Relay::new(net, standard, self, transport, &recipient, high_water);
                reconnect::run(self, relay, high_water)
            }
            DialedSocket::Datagrams(socket) => {
                let transport = DatagramTransport::new(socket, &recipient.peer, encoder);
                let mut relay = Relay::new(net, standard, self, transport, &recipient, high_water);
                relay.run()?;
                relay.judge()
            }
        }
    }
}

/// The error of a connection that has failed.
fn connection_lost(address: impl fmt::Display, cause: impl fmt::Display) -> ConnectError {
    ConnectError::new(format!("the connection to {address} is lost"), cause)
}
