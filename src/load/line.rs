//! A client's connection, and its end.

use std::io;

use super::faults::Fault;
use super::player::Context;
use crate::close::CloseReason;
use crate::net::Socket;
use crate::net::error::cause;
use crate::net::link::Link;

/// A client's connection.
pub(super) type Line = Link<Socket>;

/// What a read has brought.
pub(super) enum Input {
    /// So many bytes, at the beginning of the buffer.
    Some(usize),
    /// Nothing, for the time being.
    Nothing,
    /// The server has ended the connection, or it has failed: that is told.
    End,
}

/// One read.
pub(super) fn read(line: &mut Line, cx: &mut Context) -> Input {
    match line.read(&mut cx.buffer) {
        Ok(Some(0)) => lost(cx, line.broken, None),
        Ok(Some(n)) => Input::Some(n),
        Ok(None) => Input::Nothing,
        Err(e) => lost(cx, line.broken, Some(&e)),
    }
}

/// Tells how a connection has ended.
fn lost(cx: &mut Context, broken: Option<CloseReason>, error: Option<&io::Error>) -> Input {
    let faults = cx.tally.faults();
    match (error, broken) {
        (Some(error), _) => faults.lose(Fault::Reset, || cause(error)),
        (None, Some(_)) => faults.lose(Fault::Reset, || "it takes no more".to_owned()),
        (None, None) => faults.lose(Fault::Closed, || "the server has ended it".to_owned()),
    }
    Input::End
}
