//! The arguments of the client.

use std::time::Duration;

use clap::Args;
use resound::client::{Connect, Source};
use resound::{ListenAddress, Template, TextEncoding};

use super::values::{Limit, Time, timeout};

#[derive(Args, Debug)]
#[expect(clippy::doc_markdown, reason = "this is the text of the help")]
pub(crate) struct ConnectArgs {
    /// Where the server listens: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), the same with
    /// udp:// in front for datagrams, unix:PATH, unix:@NAME or unixgram:PATH
    #[arg(value_name = "ADDR")]
    to: ListenAddress,

    /// Send TEXT in place of standard input, as it stands: no newline is added; then end our side
    /// and print what comes until the server ends (may be repeated)
    #[arg(long, value_name = "TEXT")]
    send: Vec<Template>,

    /// How long connecting may take, and how long nothing may come and nothing be sent until that
    /// is the end, a failure if nothing has come at all; or 'unlimited' [default: unlimited; over
    /// datagrams 1s after the end of input, which is no failure]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Limit<Time>>,

    /// While nobody listens there, try again, for so long or, without DURATION, for ever
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "unlimited", value_parser = timeout)]
    retry: Option<Limit<Time>>,

    /// The client's own address: IP, IP:PORT, [IPv6]:PORT or unixgram:PATH
    #[arg(long, value_name = "ADDR")]
    source: Option<Source>,

    /// The encoding of the server's side; ours is UTF-8: gbk, big5, shift_jis, latin1 or any other
    /// label of the Encoding Standard
    #[arg(long, value_name = "LABEL", default_value_t, hide_default_value = true)]
    encoding: TextEncoding,

    /// Send a newline of standard input as CR LF
    #[arg(long)]
    crlf: bool,

    /// SO_BROADCAST: datagrams may go to a broadcast address; whoever answers is shown
    #[arg(long)]
    broadcast: bool,

    /// Let control characters from the server reach the terminal as they are
    #[arg(long)]
    raw: bool,
}

impl ConnectArgs {
    /// What the types of the arguments don't say.
    pub(super) fn check(&self) -> Result<(), String> {
        let to = &self.to;
        if to.is_dual_stack() {
            return Err(format!("'{to}' is no single address to connect to"));
        }
        if let ListenAddress::Tcp { port: 0, .. } | ListenAddress::Udp { port: 0, .. } = to {
            return Err(format!("nobody listens on port 0: '{to}'"));
        }
        if self.broadcast && !matches!(to, ListenAddress::Udp { .. }) {
            return Err(format!("--broadcast is for UDP, and '{to}' is not"));
        }
        if self.retry.is_some() && matches!(to, ListenAddress::Udp { .. }) {
            return Err(format!(
                "--retry is for what can be connected to, and '{to}' is not"
            ));
        }
        if let Some(source) = self.source.as_ref().filter(|source| !source.fits(to)) {
            return Err(format!("--source '{source}' is not for '{to}'"));
        }
        self.connect().map(|_| ())
    }

    pub(crate) fn connect(&self) -> Result<Connect, String> {
        let encoded = |text: &Template| text.clone().encoded(self.encoding);
        let send: Result<_, _> = self.send.iter().map(encoded).collect();
        let mut connect = Connect::new(self.to.clone());
        connect.raw = self.raw;
        connect.send = send.map_err(|e| format!("--send: {e}"))?;
        connect.timeout = self.timeout.map(time);
        connect.encoding = self.encoding;
        connect.crlf = self.crlf;
        connect.broadcast = self.broadcast;
        connect.source.clone_from(&self.source);
        connect.retry = self.retry.map(time);
        Ok(connect)
    }
}

/// What is unlimited lasts as long as can be.
fn time(limit: Limit<Time>) -> Duration {
    match limit {
        Limit::Of(Time(time)) => time,
        Limit::Unlimited => Duration::MAX,
    }
}
