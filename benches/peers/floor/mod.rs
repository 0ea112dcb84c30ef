//! The floor: what the cheapest loops over epoll(7) do that one would write in C, call by call.
//! They trust their clients: none limits what a client may send, or when it is next.

mod datagrams;
mod epoll;
mod room;
mod services;

use super::child::exit_at_end;
use super::kind::Kind;
use epoll::serve_clients;
use services::{Chargen, Discard, Echo};

pub(super) fn serve(kind: Kind) {
    exit_at_end();
    let served = match kind {
        Kind::Echo => serve_clients(Echo),
        Kind::Broadcast | Kind::Skipping => serve_clients(room::Room::default()),
        Kind::Datagrams => datagrams::serve(),
        Kind::Discard => serve_clients(Discard),
        Kind::Chargen => serve_clients(Chargen),
    };
    served.expect("epoll doesn't fail");
}
