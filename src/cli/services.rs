//! The arguments of the small services.

use clap::Args;
use resound::{Chargen, Config, Daytime, Reply, ReplyOn, Template, TimeFormat};

use super::server::{ServerArgs, misplaced};
use super::values::on;

/// For services without options of their own.
#[derive(Args, Debug)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    /// Put TEXT in front of each message: what one read returned, or a datagram
    #[arg(long, value_name = "TEXT")]
    prefix: Option<Template>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ReplyArgs {
    /// What to say, as it stands: no newline is added
    text: Template,

    /// When to say it: on 'connect', or to each 'message', which is what one read returned.
    /// Datagrams are messages
    #[arg(long, value_name = "WHEN", default_value = "message", value_parser = on)]
    on: ReplyOn,

    /// Close the client after the first time
    #[arg(long)]
    close: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DaytimeArgs {
    /// How to write it, as strftime(3) has it
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: TimeFormat,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ChargenArgs {
    /// Answer datagrams with up to 512 characters: who forges an address can have it flooded with
    /// them (CVE-1999-0103)
    #[arg(long)]
    udp_amplify: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Whether the settings of a service for streams and datagrams go together.
fn check(server: &ServerArgs) -> Result<(), String> {
    let Config { listen, .. } = server.config(1)?;
    misplaced(&listen, false, true)?;
    server.check(&listen)
}

impl PlainArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        check(&self.server)
    }
}

impl EchoArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        self.prefix()?;
        check(&self.server)
    }

    /// What goes in front of each message.
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
        if self.udp_amplify && datagram.is_none() {
            return Err(
                "--udp-amplify is for listeners for datagrams, and there is none".to_owned(),
            );
        }
        match datagram.filter(|_| !self.udp_amplify) {
            Some(listen) => Err(format!(
                "chargen over datagrams can be used to flood others: --listen '{listen}' takes --udp-amplify"
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn service(&self) -> Chargen {
        Chargen::new(self.udp_amplify)
    }
}
