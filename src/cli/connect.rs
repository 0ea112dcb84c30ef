//! The arguments of the client.

use clap::Args;
use resound::{Connect, ListenAddress};

#[derive(Args, Debug)]
pub(crate) struct ConnectArgs {
    /// Where the server listens: HOST:PORT, [IPv6]:PORT, PORT (on 127.0.0.1) or unix:PATH
    #[arg(value_name = "ADDR")]
    to: ListenAddress,

    /// Let control characters from the server reach the terminal as they are
    #[arg(long)]
    raw: bool,
}

impl ConnectArgs {
    /// What the types of the arguments don't say.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "there will be something"
    )]
    pub(super) fn check(&self) -> Result<(), String> {
        Ok(())
    }

    pub(crate) fn connect(&self) -> Connect {
        Connect {
            to: self.to.clone(),
            raw: self.raw,
        }
    }
}
