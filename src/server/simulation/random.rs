//! Random settings of a run: limits, kernels, rooms, and bytes for a room's clients to send.

use std::time::Duration;

use fastrand::Rng;

use super::kernel::Odds;
use crate::config::SlowConsumer;
use crate::server::limits::{LINGER, Limits};
use crate::service::{Framing, Replay, Room};

/// Limits of all sizes.
pub(super) fn limits(rng: &mut Rng) -> Limits {
    let patience = [0, 50, 1000].map(|ms| Some(Duration::from_millis(ms)));
    Limits {
        turn: length(rng, 300) + 1,
        publish: length(rng, 500) as u64 + 1,
        backlog: length(rng, 500) as u64,
        max_clients: length(rng, 14) + 1,
        high_water: length(rng, 300) as u64,
        patience: *rng
            .choice(&[patience[0], patience[1], patience[2], None])
            .unwrap(),
        slow_consumer: if rng.bool() {
            SlowConsumer::Close
        } else {
            SlowConsumer::Skip
        },
        grace: Duration::from_millis(*rng.choice(&[0, 300, 5000]).unwrap()),
        linger: LINGER,
        once: false,
    }
}

/// A kernel with any faults.
pub(super) fn odds(rng: &mut Rng) -> Odds {
    let often = [0, 5, 50];
    Odds {
        interrupted: *rng.choice(&often).unwrap(),
        spurious: *rng.choice(&often).unwrap(),
        aborted_accept: *rng.choice(&often).unwrap(),
        whole_state: rng.bool(),
        cuts_reads: rng.u8(..4) == 0,
        descriptors: length(rng, 14) + 1,
        buffer: length(rng, 400) + 1,
        full_size: false,
    }
}

/// A timeout, in one of five runs.
pub(super) fn timeout(rng: &mut Rng) -> Option<Duration> {
    (rng.u8(..5) == 0).then(|| Duration::from_millis(rng.u64(10..3000)))
}

/// The line timeout of a room, in one of four runs.
pub(super) fn line_timeout(rng: &mut Rng) -> Option<Duration> {
    (rng.u8(..4) == 0).then(|| Duration::from_millis(rng.u64(20..300)))
}

/// A room with any settings.
pub(super) fn room(rng: &mut Rng) -> Room {
    let framing = [Framing::Lines, Framing::Raw, Framing::U32];
    let replay = match rng.u8(..4) {
        0 => Replay::Messages(length(rng, 30) as u64),
        1 => Replay::Bytes(length(rng, 500) as u64),
        _ => Replay::None,
    };
    Room {
        framing: *rng.choice(&framing).unwrap(),
        max_message: length(rng, 200) + 1,
        include_sender: rng.u8(..3) == 0,
        line_timeout: None,
        log_size: length(rng, 2000) as u64,
        replay,
        tag: (rng.u8(..4) == 0).then(|| "{id}>".parse().unwrap()),
        announce: rng.u8(..4) == 0,
    }
}

/// Makes the log of a room as small as it may be, or a little larger. Returns the most input of a
/// turn: a quarter of the log holds what that publishes.
pub(super) fn log_size(rng: &mut Rng, room: &mut Room) -> usize {
    let turn = length(rng, 100) + 1;
    let tags = if room.tag.is_some() { 4 * turn } else { 0 };
    let message = room.max_message + "14>".len() + 5;
    room.log_size = (4 * (turn + message + tags) + length(rng, 300)) as u64;
    if let Replay::Bytes(bytes) = &mut room.replay {
        *bytes = (*bytes).min(room.log_size / 4);
    }
    turn
}

/// True if the first client of a run is standard input.
pub(super) fn has_stdin(seed: u64) -> bool {
    seed % 4 == 1
}

/// Messages of all lengths for such a room, few of them too long. The last one may be incomplete.
pub(super) fn script(rng: &mut Rng, room: &Room) -> Vec<u8> {
    let mut script = Vec::new();
    for _ in 0..length(rng, 60) {
        let too_long = rng.u16(..300) == 0;
        let most = room.max_message * if too_long { 2 } else { 1 };
        let length = length(rng, most + 1).min(most);
        if room.framing == Framing::U32 {
            script.extend(u32::try_from(length).unwrap().to_be_bytes());
        }
        script.extend((0..length).map(|_| rng.u8(b'a'..=b'z')));
        if room.framing != Framing::U32 {
            script.push(b'\n');
        }
    }
    if rng.bool() {
        script.pop();
    }
    script
}

/// A length less than `most`, in every second call also less than 8.
pub(super) fn length(rng: &mut Rng, most: usize) -> usize {
    let most = if rng.bool() { most } else { most.min(8) };
    rng.usize(..most.max(1))
}
