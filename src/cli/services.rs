//! The options of the small services, and of echo.

use clap::Args;
use resound::{Chargen, Config, Daytime, Reply, ReplyOn, Template, TimeFormat};

use super::server::{ServerArgs, check_listeners};
use super::values::reply_on;

// The options of a service that has none of its own.
#[derive(Args, Debug)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    /// Put TEXT in front of each message: the bytes of one read, or a datagram
    #[arg(long, value_name = "TEXT")]
    prefix: Option<Template>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    /// Text to send, as given: no newline is added
    text: Template,

    /// Event to send it on: 'connect', or each 'message', which is the bytes of one read or a
    /// datagram
    #[arg(long, value_name = "EVENT", default_value = "message", value_parser = reply_on)]
    on: ReplyOn,

    /// Close the client after the first reply
    #[arg(long)]
    close: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DaytimeArgs {
    /// Format of the date and the time, as in strftime(3)
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: TimeFormat,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ChargenArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Checks the options of a service without roles.
fn check(server: &ServerArgs) -> Result<(), String> {
    let Config { listen, .. } = server.config(1)?;
    check_listeners(&listen, false, true)?;
    server.check(&listen)
}

impl CommonArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        check(&self.server)
    }
}

impl EchoArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        self.prefix()?;
        check(&self.server)
    }

    /// The text in front of each message.
    pub(crate) fn prefix(&self) -> Result<Option<Template>, String> {
        let prefix = self.prefix.clone();
        prefix
            .map(|text| self.server.encoded(text, "--prefix"))
            .transpose()
    }
}

impl ReplyArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        self.service()?;
        check(&self.server)
    }

    pub(crate) fn service(&self) -> Result<Reply, String> {
        let text = self.server.encoded(self.text.clone(), "TEXT")?;
        Ok(Reply::new(text, self.on, self.close))
    }
}

impl DaytimeArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        check(&self.server)
    }

    pub(crate) fn service(&self) -> Daytime {
        Daytime::new(self.format.clone(), self.server.encoding)
    }
}

impl ChargenArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        check(&self.server)?;
        let listen = self.server.config(1)?.listen;
        let datagram = listen.iter().find(|listen| listen.address.is_datagram());
        match datagram.filter(|_| !self.server.udp_amplify) {
            Some(listen) => Err(format!(
                "chargen over datagrams can be used to flood others: --listen '{listen}' needs --udp-amplify"
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn service(&self) -> Chargen {
        Chargen::new(self.server.udp_amplify)
    }
}
