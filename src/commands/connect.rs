//! `resound connect`.

use crate::cli::ConnectArgs;

/// Connects, and relays until one side ends.
pub(crate) fn run(args: &ConnectArgs) -> Result<(), String> {
    args.connect()?.run().map_err(|e| e.to_string())
}
