//! Replay over real sockets: new clients get the newest past messages, and no gap after them.

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::flood::Flood;
use crate::common::watched_room::{
    FRAMINGS, Flag, WatchedRoom, framed, number_of, wire, with_publishers,
};
use crate::common::with;
use crate::common::{assert_same, random};
use resound::{Replay, Room};

#[test]
fn new_clients_get_the_newest_messages_and_then_further_ones() {
    for framing in FRAMINGS {
        let room = WatchedRoom::of(&with(framed(framing), |room| {
            room.replay = Replay::Messages(3);
        }));
        let (speaker, witness) = (room.join(), room.join());
        let message = |n: usize| wire(framing, &format!("{n} {}", "x".repeat(n * 50)));
        for n in 0..10 {
            speaker.send(message(n));
            witness.receives(message(n));
            let newcomer = room.join();
            let newest = (n + 1).saturating_sub(3)..=n;
            newcomer.receives(newest.map(message).collect::<Vec<_>>().concat());
            newcomer.finish();
            newcomer.receives_end();
        }
        let newcomer = room.join();
        speaker.send(message(10));
        newcomer.receives((7..=10).map(message).collect::<Vec<_>>().concat());
        // In between it sends a message of its own, which only later clients receive.
        newcomer.send(message(11));
        speaker.receives(message(11));
        speaker.send(message(12));
        newcomer.receives(message(12));
        room.join()
            .receives((10..=12).map(message).collect::<Vec<_>>().concat());
    }
}

#[test]
fn a_replay_by_size_is_of_whole_messages() {
    const SIZE: usize = 1000;
    let mut rng = random();
    for framing in FRAMINGS {
        let room = WatchedRoom::of(&with(framed(framing), |room| {
            room.replay = Replay::Bytes(SIZE as u64);
        }));
        let (speaker, witness) = (room.join(), room.join());
        let mut all: Vec<Vec<u8>> = Vec::new();
        for _ in 0..50 {
            // Sometimes more than a replay holds.
            let most = if rng.u8(..10) == 0 { 1500 } else { 250 };
            let message = wire(framing, &"x".repeat(rng.usize(..most)));
            speaker.send(&message);
            witness.receives(&message);
            all.push(message);
            let fits = |first: &usize| all[*first..].concat().len() <= SIZE;
            let first = (0..=all.len()).find(fits).expect("nothing fits");
            let newcomer = room.join();
            newcomer.finish();
            assert_same(&newcomer.rest(), &all[first..].concat());
        }
    }
}

#[test]
fn a_replay_is_at_most_a_quarter_of_the_log() {
    let flood = Flood::of_megabytes(8);
    for replay in [Replay::Bytes(1 << 20), Replay::Messages(1_000_000)] {
        let room = WatchedRoom::with(
            &with_publishers(),
            &with(Room::default(), |room| room.replay = replay),
        );
        let (publisher, witness) = (room.join_at(1), room.join());
        for block in flood.blocks() {
            publisher.send(&block);
            witness.receives(&block);
        }
        let newcomer = room.join();
        newcomer.finish();
        let got = newcomer.rest();
        let all = flood.numbers();
        let newest = all.end - (1 << 20) / flood.line(0).len()..all.end;
        assert!(flood.numbers_in(&got).into_iter().eq(newest));
    }
}

#[test]
fn newcomers_under_a_flood_see_neither_gap_nor_double() {
    const NEWCOMERS: usize = 50;
    let config = with(with_publishers(), |config| config.patience = None);
    let room = WatchedRoom::with(
        &config,
        &with(Room::default(), |room| room.replay = Replay::Messages(500)),
    );
    let (publisher, enough) = (room.join_at(1), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !enough.load(Ordering::SeqCst) {
                let block = number..number + 50;
                let line = |n: usize| format!("{n} {}\n", "x".repeat(n % 97));
                publisher.send(block.map(line).collect::<String>());
                number += 50;
            }
            publisher.send(format!("{number} the end\n"));
        });
        let _flag = Flag(&enough);
        for _ in 0..NEWCOMERS {
            let mut lines = room.server.connect().lines().lines();
            let mut next = move || lines.next().expect("there is more").expect("it is text");
            let first = number_of(&next());
            scope.spawn(move || {
                let mut expected = first + 1;
                loop {
                    let line = next();
                    assert_eq!(number_of(&line), expected, "after {first}");
                    if line.ends_with(" the end") {
                        return;
                    }
                    expected += 1;
                }
            });
        }
    });
    assert_eq!(room.stop().missed, 0);
}
