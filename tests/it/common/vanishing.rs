//! Clients that vanish at any moment.

use resound::Address;

use super::client::Client;
use super::some_bytes;

/// Runs `count` clients, one after the other, of which each leaves at a random point in a random
/// way: before, in the middle of or after what it sends, having read some, with a reset, an end
/// or a half-close. A few are connected at a time.
pub(crate) fn connect_and_vanish(address: &Address, count: usize, rng: &mut fastrand::Rng) {
    let mut inside = Vec::new();
    for _ in 0..count {
        let client = Client::connect(address);
        let most = [1, 2, 64, 100_000][rng.usize(..4)];
        let sent = some_bytes(rng, 0..most);
        client.send(&sent);
        if rng.bool() {
            let received = rng.usize(..=sent.len());
            client.receives(&sent[..received]);
        }
        if rng.u8(..4) == 0 {
            client.finish();
        }
        inside.push(client);
        if inside.len() > 10 {
            leave(inside.swap_remove(rng.usize(..inside.len())), rng);
        }
    }
    for client in inside {
        leave(client, rng);
    }
}

fn leave(client: Client, rng: &mut fastrand::Rng) {
    match rng.u8(..4) {
        0 => drop(client),
        _ => client.reset(),
    }
}
