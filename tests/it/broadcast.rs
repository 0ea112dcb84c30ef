//! Broadcast over real sockets: each line of a client to every other one, whole, once, in one
//! order.

use std::io::BufRead;
use std::thread;
use std::time::Duration;

use crate::common::client::{Client, join, wait_until_joined};
use crate::common::flood::Flood;
use crate::common::running::{Running, config, listening_on, room_of};
use crate::common::watched::watched;
use crate::common::with;
use crate::common::{Folder, assert_same, eventually, random};
use resound::CloseReason;

const MAX_MESSAGE: usize = 64 * 1024;

fn with_patience(patience: Option<Duration>) -> Running {
    let config = with(config(), |config| config.patience = patience);
    Running::start(&config, room_of(MAX_MESSAGE))
}

#[test]
fn three_chatters_see_each_others_lines_and_not_their_own() {
    let server = Running::broadcast();
    let room = join(server.address(), 3);
    for (i, speaker) in room.iter().enumerate() {
        let line = format!("I am {i}\n");
        speaker.send(&line);
        for (j, listener) in room.iter().enumerate() {
            if i != j {
                listener.receives(&line);
            }
        }
    }
    for chatter in &room {
        chatter.finish();
        chatter.receives_end();
    }
    assert_eq!(server.stop().closes(CloseReason::PeerClosed), 3);
}

#[test]
fn a_last_line_without_newline_is_published_with_one() {
    let server = Running::broadcast();
    let room = join(server.address(), 3);
    room[0].send("whole\nin part");
    room[1].receives("whole\n");
    room[0].finish();
    room[0].receives_end();
    room[2].send("next\n");
    room[1].receives("in part\nnext\n");
    room[2].receives("whole\nin part\n");
}

#[test]
fn a_chatter_that_resets_in_a_line_publishes_nothing_of_it() {
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let server = Running::start(&config(), broadcast);
    let mut room = join(server.address(), 3);
    room[0].send("whole\nin part");
    room[1].receives("whole\n");
    room.swap_remove(0).reset(); // the last one takes its place
    eventually("the reset being seen", || watch.closed() == 1);
    room[0].send("next\n");
    room[1].receives("next\n");
    room[0].receives("whole\n");
    assert_eq!(server.stop().closes(CloseReason::Reset), 1);
}

/// A client that never reads and closes sends a reset; its earlier lines are published all the same.
#[test]
fn last_words_before_a_reset_are_published() {
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let server = Running::start(&config(), broadcast);
    for _ in 0..20 {
        let mut room = join(server.address(), 3);
        let publisher = room.pop().unwrap();
        watch.while_held_up(&room[0], || {
            publisher.send("last words\n");
            publisher.reset();
        });
        // The write of the first line is what finds out about the reset.
        room[1].receives("wait\nlast words\n");
    }
}

#[test]
fn a_line_behind_a_passed_descriptor_is_not_forgotten() {
    let folder = Folder::new();
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let server = Running::start(&listening_on(&[&folder.unix("socket")]), broadcast);
    let room = join(server.address(), 3);
    watch.while_held_up(&room[0], || {
        room[1].send_with_descriptor(b"first\n");
        room[1].send("second\n");
    });
    room[2].receives("wait\nfirst\nsecond\n");
}

#[test]
fn a_line_that_is_too_long_is_named_even_if_its_sender_ends_at_once() {
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let server = Running::start(&config(), broadcast);
    let room = join(server.address(), 2);
    watch.while_held_up(&room[0], || {
        room[1].send(vec![b'x'; MAX_MESSAGE + 1]);
        room[1].finish();
    });
    room[1].receives("wait\n");
    room[1].receives_end();
    assert_eq!(server.stop().closes(CloseReason::MessageTooLong), 1);
}

#[test]
fn bytes_between_newlines_are_kept_as_they_are() {
    let server = Running::broadcast();
    let room = join(server.address(), 2);
    let all_values: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
    let mut text = b"ends with CR LF\r\n\n\r\n\n\nlines of nothing before\n".to_vec();
    text.extend([&all_values[..], b"\n"].concat());
    room[0].send(&text);
    room[1].receives(&text);
    room[1].send("\n");
    room[0].receives("\n");
}

#[test]
fn line_sent_byte_by_byte_is_published_whole() {
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let server = Running::start(&config(), broadcast);
    let room = join(server.address(), 3);
    let before = watch.received();
    let line = b"a line in many pieces\r\n";
    for (i, byte) in line.iter().enumerate() {
        eventually("a byte being read", || {
            watch.received() == before + i as u64
        });
        room[0].send([*byte]);
    }
    room[1].receives(line);
    room[1].send("another's\n");
    room[2].receives([&line[..], b"another's\n"].concat());
}

#[test]
fn a_line_of_just_the_limit_passes() {
    let server = Running::broadcast();
    let room = join(server.address(), 2);
    let line = [vec![b'x'; MAX_MESSAGE], vec![b'\n']].concat();
    room[0].send(&line);
    room[0].send(&line);
    room[1].receives([&line[..], &line[..]].concat());
    room[0].send(&line[..MAX_MESSAGE]); // its end brings the newline
    room[0].finish();
    room[1].receives(&line);
    assert_eq!(server.stop().closes(CloseReason::MessageTooLong), 0);
}

#[test]
fn a_byte_more_than_the_limit_closes_that_client_alone() {
    let server = Running::start(&config(), room_of(100));
    let room = join(server.address(), 3);
    let long = vec![b'x'; 101];
    room[0].send([b"before\n", &long[..], b"\nafter\n"].concat());
    room[1].receives("before\n");
    assert_same(&room[0].rest(), b"");
    room[1].send("they go on\n");
    room[2].receives("before\nthey go on\n");
    room[2].send(&long); // too long before any newline
    room[2].receives_end();
    drop(room);
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::MessageTooLong), 2, "{stats}");
}

/// Sends `count` lines on a thread, and collects those of the others, which send as many each.
fn chat(client: &Client, name: usize, others: usize, count: usize) -> Vec<String> {
    let speaker = client.twin();
    let speaking = thread::spawn(move || {
        for number in 0..count {
            let filler = "x".repeat(number * 7 % 500);
            speaker.send(format!("{name} {number} {filler}\n"));
        }
    });
    let lines = client.lines().lines().take(others * count);
    let received = lines.map(|line| line.expect("it is text")).collect();
    speaking.join().expect("it only speaks");
    received
}

/// The lines that `name` should have received, given those of another client: all but their own.
fn without(name: usize, lines: &[String]) -> Vec<&String> {
    let own = format!("{name} ");
    lines.iter().filter(|l| !l.starts_with(&own)).collect()
}

#[test]
fn twenty_chatters_at_once_receive_every_line_once_in_one_order() {
    const CHATTERS: usize = 20;
    const LINES: usize = 300;
    let server = with_patience(None);
    let room = join(server.address(), CHATTERS);
    let chatting: Vec<_> = room
        .into_iter()
        .enumerate()
        .map(|(name, client)| {
            thread::spawn(move || (chat(&client, name, CHATTERS - 1, LINES), client))
        })
        .collect();
    let (received, room): (Vec<_>, Vec<_>) =
        chatting.into_iter().map(|t| t.join().unwrap()).unzip();
    for (name, lines) in received.iter().enumerate() {
        for speaker in (0..CHATTERS).filter(|&s| s != name) {
            let own = format!("{speaker} ");
            let numbers = lines.iter().filter_map(|l| l.strip_prefix(&own));
            let numbers = numbers.map(|l| l.split(' ').next().unwrap().parse::<usize>().unwrap());
            assert!(numbers.eq(0..LINES), "{name} about {speaker}");
        }
        assert!(without(0, lines) == without(name, &received[0]), "{name}");
    }
    drop(room);
    assert_eq!(server.stop().closes(CloseReason::SlowConsumer), 0);
}

#[test]
fn slow_consumer_is_closed_and_others_miss_nothing() {
    // Long enough for a healthy reader on a busy machine.
    let server = with_patience(Some(Duration::from_secs(2)));
    let mut room = join(server.address(), 4);
    let flood = Flood::of_megabytes(64);
    let publishing = flood.send(room.pop().unwrap());
    let reading = [room.pop().unwrap(), room.pop().unwrap()].map(|r| flood.check(r));
    let stopped = room.pop().unwrap();
    let publisher = publishing.join().unwrap();
    let readers = reading.map(|r| r.join().unwrap());
    flood.assert_is_start(&stopped.rest_or_cut().0);
    publisher.send("that was it\n");
    for reader in &readers {
        reader.receives("that was it\n");
    }
    drop((publisher, readers));
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::SlowConsumer), 1, "{stats}");
    assert_eq!(stats.clients, 4);
}

#[test]
fn unlimited_patience_closes_no_client_and_loses_nothing() {
    let server = with_patience(None);
    let mut room = join(server.address(), 3);
    let flood = Flood::of_megabytes(64);
    let publishing = flood.send(room.pop().unwrap());
    let healthy = flood.check(room.pop().unwrap());
    assert!(!flood.wait_until_stuck(), "the room isn't held up");
    let stopped = flood.check(room.pop().unwrap());
    let all = [publishing, healthy, stopped].map(|t| t.join().unwrap());
    drop(all);
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::SlowConsumer), 0, "{stats}");
    assert_eq!(stats.clients, 3);
}

#[test]
fn client_that_leaves_while_holding_up_the_room_sets_it_free() {
    let server = with_patience(None);
    let mut room = join(server.address(), 3);
    let flood = Flood::of_megabytes(32);
    let publishing = flood.send(room.pop().unwrap());
    let healthy = flood.check(room.pop().unwrap());
    assert!(!flood.wait_until_stuck(), "the room isn't held up");
    room.pop().unwrap().reset();
    let all = [publishing, healthy].map(|t| t.join().unwrap());
    drop(all);
    assert_eq!(server.stop().closes(CloseReason::Reset), 1);
}

#[test]
fn client_owed_more_than_the_high_water_mark_at_its_turn_gets_another_turn() {
    let (broadcast, watch) = watched(room_of(MAX_MESSAGE));
    let config = with(config(), |config| config.high_water = 10);
    let server = Running::start(&config, broadcast);
    let room = join(server.address(), 3);
    for _ in 0..20 {
        watch.while_held_up(&room[0], || {
            room[1].send("a line beyond the mark\n");
            room[2].send("the answer\n");
        });
        room[1].receives("wait\nthe answer\n");
        room[2].receives("wait\na line beyond the mark\n");
    }
}

#[test]
fn chatters_that_join_and_leave_at_random_spoil_nothing() {
    let server = Running::broadcast();
    let mut rng = random();
    let steady = join(server.address(), 2);
    for round in 0..200 {
        let guest = server.connect();
        guest.send(format!("guest {round} comes\n"));
        steady[0].receives(format!("guest {round} comes\n"));
        steady[1].receives(format!("guest {round} comes\n"));
        steady[0].send(format!("welcome {round}\n"));
        steady[1].receives(format!("welcome {round}\n"));
        match rng.u8(..4) {
            0 => guest.reset(),
            1 => drop(guest), // with a line unread
            2 => guest.receives(format!("welcome {round}\n")),
            _ => {
                guest.finish();
                assert_same(&guest.rest(), format!("welcome {round}\n").as_bytes());
            }
        }
    }
    wait_until_joined(&steady);
    drop(steady);
    assert_eq!(server.stop().clients, 202);
}

/// Its output ends within a line, and with a reset, so that this is not taken for the end.
#[test]
fn client_that_does_not_take_the_rest_of_a_line_is_reset() {
    let server = with_patience(Some(Duration::ZERO));
    let stopped = Client::with_small_buffers(server.address());
    let publisher = server.connect();
    wait_until_joined(&[stopped.twin(), publisher.twin()]);
    let flood = Flood::of_megabytes(20);
    let publisher = flood.send(publisher).join().expect("it is sent");
    publisher.finish();
    publisher.receives_end();
    // Once it is closed the server has no client left; that would be later if it read.
    let stats = server.stop();
    assert_eq!(stats.closes(CloseReason::SlowConsumer), 1);
    flood.assert_is_start(&stopped.rest_before_reset());
}
