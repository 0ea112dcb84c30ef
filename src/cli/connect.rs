//! The options of the client.

use std::time::Duration;

use clap::Args;
use resound::client::{Connect, Source};
use resound::{ListenAddress, Template, TextEncoding};

use super::values::{Limit, address, check_destination, source, timeout};

#[derive(Args, Debug)]
#[expect(clippy::doc_markdown, reason = "this is the text of the help")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct ConnectArgs {
    /// Address of the server: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), the same after udp://
    /// for datagrams, unix:PATH, unix:@NAME or unixgram:PATH
    #[arg(value_name = "ADDR", value_parser = address())]
    to: ListenAddress,

    /// Send TEXT in place of standard input, as given: no newline is added; then half-close, and
    /// print what is received until the server ends. May be repeated
    #[arg(long, value_name = "TEXT")]
    send: Vec<Template>,

    /// Never read standard input and never half-close: print what is received until the server ends;
    /// texts of --send are sent first
    #[arg(short = 'd', long)]
    recv_only: bool,

    /// Time limit of connecting, and then of silence in both directions: it ends the connection,
    /// with a failure if nothing was received; or 'unlimited' [default: unlimited; over datagrams
    /// 1s after the end of input, which is no failure]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Limit<Duration>>,

    /// Retry while no server listens there, for DURATION or, without it, forever
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "unlimited", value_parser = timeout)]
    retry: Option<Limit<Duration>>,

    /// When the server ends the connection, or it is lost or silent for --timeout, connect again;
    /// fail if that takes longer than DURATION (without it, try forever)
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "unlimited", value_parser = timeout)]
    reconnect: Option<Limit<Duration>>,

    /// Local address: IP, IP:PORT, [IPv6]:PORT or unixgram:PATH
    #[arg(long, value_name = "ADDR", value_parser = source())]
    source: Option<Source>,

    /// Encoding of the server; the client's is UTF-8: gbk, big5, shift_jis, latin1 or any other
    /// label of the Encoding Standard
    #[arg(long, value_name = "LABEL", default_value_t, hide_default_value = true)]
    encoding: TextEncoding,

    /// Send a newline of standard input as CR LF
    #[arg(long)]
    crlf: bool,

    /// SO_BROADCAST: allow a broadcast address; the answers of every source are printed
    #[arg(long)]
    broadcast: bool,

    /// Write control characters from the server to the terminal unescaped
    #[arg(long)]
    raw: bool,
}

impl ConnectArgs {
    /// Checks what the types of the options cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        let to = &self.to;
        check_destination(to)?;
        if self.broadcast && !matches!(to, ListenAddress::Udp { .. }) {
            return Err(format!("--broadcast is for UDP, and '{to}' is not"));
        }
        if self.retry.is_some() && matches!(to, ListenAddress::Udp { .. }) {
            return Err(format!(
                "--retry is for servers that accept connections, and '{to}' does not"
            ));
        }
        if self.reconnect.is_some() && to.is_datagram() {
            return Err(format!(
                "--reconnect is for servers that accept connections, and '{to}' does not"
            ));
        }
        if self.reconnect.is_some() && !self.send.is_empty() && !self.recv_only {
            let text = "--reconnect with --send needs --recv-only, because the end of input ends the client";
            return Err(text.to_owned());
        }
        if let Some(source) = self.source.as_ref().filter(|source| !source.fits(to)) {
            return Err(format!("--source '{source}' is not for '{to}'"));
        }
        self.connect().map(|_| ())
    }

    /// The connection that the options describe.
    pub(crate) fn connect(&self) -> Result<Connect, String> {
        let encoded = |text: &Template| text.clone().encoded(self.encoding);
        let send: Result<_, _> = self.send.iter().map(encoded).collect();
        let mut connect = Connect::new(self.to.clone());
        connect.raw = self.raw;
        connect.send = send.map_err(|e| format!("--send: {e}"))?;
        connect.recv_only = self.recv_only;
        connect.timeout = self.timeout.map(time);
        connect.encoding = self.encoding;
        connect.crlf = self.crlf;
        connect.broadcast = self.broadcast;
        connect.source.clone_from(&self.source);
        connect.retry = self.retry.map(time);
        connect.reconnect = self.reconnect.map(time);
        connect.end_on_signals = true;
        Ok(connect)
    }
}

/// The duration of a limit, the longest one if there is none.
fn time(limit: Limit<Duration>) -> Duration {
    limit.value().unwrap_or(Duration::MAX)
}
