//! This library, as the binary runs it.

use std::time::Duration;

use resound::{
    Broadcast, Chargen, CloseReason, Config, Discard, Echo, Room, Server, Service, SlowConsumer,
};

use super::child::{announce, at_end};
use super::kind::Kind;

pub(super) fn serve(kind: Kind) {
    let mut settings = Config::default();
    settings.listen = vec!["127.0.0.1:0".parse().expect("it is an address")];
    match kind {
        Kind::Echo => run(&settings, Echo::new(), true),
        Kind::Broadcast => run(&settings, room(), true),
        // A client that doesn't read is not waited for, neither once nor again.
        Kind::Skipping => {
            settings.patience = Some(Duration::ZERO);
            settings.slow_consumer = SlowConsumer::Skip;
            run(&settings, room(), false);
        }
        Kind::Datagrams => {
            settings.listen = vec!["udp://127.0.0.1:0".parse().expect("it is an address")];
            settings.udp_rate = None;
            run(&settings, Echo::new(), true);
        }
        Kind::Discard => run(&settings, Discard::new(), true),
        Kind::Chargen => run(&settings, Chargen::new(false), false),
    }
}

fn room() -> Broadcast {
    Broadcast::new(Room::default()).expect("the defaults go together")
}

/// Serves until told to stop. With `read_out`, the clients have read everything and have left by
/// then; so each was closed for that reason alone.
fn run<S: Service>(settings: &Config, service: S, read_out: bool) {
    let server = Server::bind(settings, service).expect("there is a free port");
    let address = server.local_addrs()[0].socket_addr();
    announce(address.expect("it is an IP address"));
    let handle = server.handle();
    at_end(move || handle.stop().expect("the server can be woken"));
    let stats = server.run().expect("waiting for events doesn't fail");
    let well = stats.closes(CloseReason::PeerClosed);
    assert!(
        !read_out || well == stats.clients,
        "clients were lost: {stats}"
    );
}
