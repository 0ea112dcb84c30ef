//! Framings over real sockets: messages stay whole however their bytes arrive.

use std::thread;
use std::time::Duration;

use crate::common::client::{Client, join};
use crate::common::program::Program;
use crate::common::running::{Running, config};
use crate::common::watched_room::{WatchedRoom, framed, leave, with_publishers};
use crate::common::with;
use crate::common::{assert_same, eventually, frame, random, some_bytes};
use resound::{CloseReason, Framing, Room};

#[test]
fn raw_bytes_of_one_write_stay_in_one_piece() {
    const SPEAKERS: usize = 5;
    let room = WatchedRoom::with(&with_publishers(), &framed(Framing::Raw));
    let listener = room.join();
    let speakers: Vec<Client> = (0..SPEAKERS).map(|_| room.join_at(1)).collect();
    let mut rng = random();
    for _ in 0..200 {
        let mut sent: Vec<Vec<u8>> = (b'a'..)
            .take(SPEAKERS)
            .map(|letter| vec![letter; rng.usize(1..8000)])
            .collect();
        // There is nothing else in flight, so that each write is one read.
        thread::scope(|scope| {
            for (speaker, bytes) in speakers.iter().zip(&sent) {
                scope.spawn(move || speaker.send(bytes));
            }
        });
        let got = listener.next(sent.concat().len());
        let mut pieces: Vec<Vec<u8>> = got.chunk_by(|a, b| a == b).map(<[u8]>::to_vec).collect();
        pieces.sort();
        sent.sort();
        assert_same(&pieces.concat(), &sent.concat());
        assert_eq!(pieces.len(), SPEAKERS, "nothing is mixed");
    }
}

#[test]
fn raw_every_byte_of_many_writes_at_once_arrives_in_its_senders_order() {
    const SPEAKERS: u8 = 4;
    const EACH: usize = 1_000_000;
    let room = WatchedRoom::with(&with_publishers(), &framed(Framing::Raw));
    let listener = room.join();
    let mut rng = random();
    // Two bits of a byte are for its speaker, six for its room.
    let bytes = |speaker: u8| -> Vec<u8> {
        let places = (0..64u8).cycle().take(EACH);
        places.map(|place| speaker << 6 | place).collect()
    };
    let got = thread::scope(|scope| {
        for speaker in 0..SPEAKERS {
            let (client, mut rng) = (room.join_at(1), rng.fork());
            scope.spawn(move || send_in_parts(&client, &bytes(speaker), &mut rng, 100_000));
        }
        listener.next(EACH * usize::from(SPEAKERS))
    });
    for speaker in 0..SPEAKERS {
        let own = got.iter().filter(|byte| *byte >> 6 == speaker);
        assert_same(&own.copied().collect::<Vec<_>>(), &bytes(speaker));
    }
    assert_eq!(room.stop().bytes_out, u64::from(SPEAKERS) * EACH as u64);
}

/// Sends bytes in parts of fewer than `most`.
fn send_in_parts(client: &Client, mut bytes: &[u8], rng: &mut fastrand::Rng, most: usize) {
    while !bytes.is_empty() {
        let (part, rest) = bytes.split_at(rng.usize(1..most).min(bytes.len()));
        client.send(part);
        bytes = rest;
    }
}

/// The frames in some bytes, without their lengths.
#[track_caller]
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        assert!(length <= rest.len(), "a frame of {length} bytes is cut");
        let (frame, later) = rest.split_at(length);
        frames.push(frame);
        bytes = later;
    }
    assert_same(bytes, b"");
    frames
}

#[test]
fn u32_frames_cut_anywhere_arrive_whole() {
    const SPEAKERS: u8 = 4;
    let room = WatchedRoom::with(&with_publishers(), &framed(Framing::U32));
    let listener = room.join();
    let mut rng = random();
    let sent: Vec<Vec<Vec<u8>>> = (0..SPEAKERS)
        .map(|speaker| {
            let message = |_| match rng.u8(..4) {
                0 => Vec::new(),
                _ => [&[speaker], &some_bytes(&mut rng, 0..3000)[..]].concat(),
            };
            (0..300).map(message).collect()
        })
        .collect();
    thread::scope(|scope| {
        for messages in &sent {
            let (client, mut rng) = (room.join_at(1), rng.fork());
            let bytes: Vec<u8> = messages.iter().flat_map(frame).collect();
            // Of several frames and of the parts of a length.
            let most = [5000, 50][rng.usize(..2)];
            scope.spawn(move || send_in_parts(&client, &bytes, &mut rng, most));
        }
    });
    let length: usize = sent.iter().flatten().map(|message| 4 + message.len()).sum();
    let got = listener.next(length);
    let received = frames(&got);
    let empty = received.iter().filter(|message| message.is_empty()).count();
    let all = sent.iter().flatten();
    assert_eq!(empty, all.filter(|message| message.is_empty()).count());
    for (speaker, sent) in (0..SPEAKERS).zip(&sent) {
        let own = received.iter().filter(|m| m.first() == Some(&speaker));
        let expected = sent.iter().filter(|message| !message.is_empty());
        assert!(own.eq(expected), "the messages of {speaker}");
    }
}

#[test]
fn u32_frames_of_nothing_and_several_at_once_pass() {
    let room = WatchedRoom::of(&framed(Framing::U32));
    let (speaker, listener) = (room.join(), room.join());
    let sent = ["", "one", "", "", "two", ""].map(frame).concat();
    speaker.send(&sent);
    listener.receives(&sent);
    // A length sent byte by byte, and its message.
    for byte in frame("slow") {
        room.hand_in(&speaker, [byte]);
    }
    listener.receives(frame("slow"));
    assert_eq!(room.stop().messages, 7);
}

#[test]
fn u32_a_frame_of_just_the_limit_passes_and_a_byte_more_closes_its_sender_alone() {
    let room = with(framed(Framing::U32), |room| room.max_message = 1000);
    let room = WatchedRoom::of(&room);
    let [long, speaker, listener, liar] = [(); 4].map(|()| room.join());
    let [most, more] = [1000, 1001].map(|n| frame(vec![b'x'; n]));
    long.send(&most);
    speaker.receives(&most);
    long.send([&most, &more, &frame("not this")].map(|f| &f[..]).concat());
    assert_same(&long.rest(), b"");
    speaker.receives(&most);
    liar.send(u32::MAX.to_be_bytes()); // a length is enough
    liar.receives([&most[..], &most].concat());
    liar.receives_end();
    speaker.send(frame("they go on"));
    listener.receives([&most[..], &most, &frame("they go on")].concat());
    drop((long, liar));
    let stats = room.stop();
    assert_eq!(stats.closes(CloseReason::MessageTooLong), 2, "{stats}");
    assert_eq!(stats.messages, 3);
}

#[test]
fn u32_client_that_leaves_in_a_frame_publishes_nothing_of_it() {
    let room = WatchedRoom::of(&framed(Framing::U32));
    let (speaker, listener) = (room.join(), room.join());
    let last = frame(vec![b'x'; 50_000]);
    let mut closes = 0;
    for length in [1, 3, 4, 5, 10_000, last.len() - 1] {
        for abruptly in [false, true] {
            let guest = room.join();
            room.hand_in(&guest, [&frame("whole"), &last[..length]].concat());
            listener.receives(frame("whole"));
            speaker.receives(frame("whole"));
            leave(guest, abruptly);
            closes += 1;
            room.wait_for_closes(closes);
            speaker.send(frame("next"));
            listener.receives(frame("next"));
        }
    }
    listener.receives_nothing();
    assert_eq!(room.stop().messages, 2 * closes);
}

#[test]
fn lines_client_that_resets_in_a_line_publishes_nothing_of_it() {
    let room = WatchedRoom::of(&Room::default());
    let (speaker, listener) = (room.join(), room.join());
    for (closes, length) in [1, 100, 60_000].into_iter().enumerate() {
        let guest = room.join();
        let part = vec![b'x'; length];
        room.hand_in(&guest, [b"whole\n", &part[..]].concat());
        room.hand_in(&guest, "more of it");
        listener.receives("whole\n");
        guest.reset();
        room.wait_for_closes(closes as u64 + 1);
        speaker.send("next\n");
        listener.receives("next\n");
    }
    assert_eq!(room.stop().messages, 6);
}

#[test]
fn lines_are_any_bytes_between_newlines() {
    // Tags show where each message begins.
    let tag = "<{id}>".parse().expect("it is well-formed");
    let room = WatchedRoom::of(&with(Room::default(), |room| room.tag = Some(tag)));
    let (speaker, listener) = (room.join(), room.join());
    let mut text = b"CR LF\r\n\r\n\n\n\0\nNUL \0 within\n\r\r\n lone \r CR\n".to_vec();
    for value in 0..=255 {
        text.extend([b'[', value, b']', b'\n']);
    }
    // The same greeting in GBK, UTF-8 and UTF-16, of which neither has a newline in it.
    text.extend(b"\xc4\xe3\xba\xc3\xa3\xac\xca\xc0\xbd\xe7\n");
    text.extend("你好，世界 🦀 e\u{301}\n".as_bytes());
    text.extend(b"\x60\x4f\x7d\x59\n\xff\xfe\n");
    speaker.send(&text);
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let expected: Vec<u8> = lines.flat_map(|line| [b"<1>", line].concat()).collect();
    listener.receives(&expected);
    listener.send("\n");
    speaker.receives("<2>\n");
}

#[cfg(target_os = "linux")] // the usage of a process is read from /proc
#[test]
fn lines_one_of_100_mib_closes_its_sender_in_little_memory() {
    let program = Program::start(&["broadcast", "-v", "-l", "127.0.0.1:0"]);
    let room = join(&program.address(), 3);
    let part = vec![b'x'; 1 << 20];
    // Once it is closed, a write may fail.
    let sent = (0..100).take_while(|_| room[0].try_send(&part).is_ok());
    assert!(sent.count() > 0);
    eventually("the line being found too long", || {
        program.has_logged("message-too-long")
    });
    room[0].drain();
    room[1].send("they go on\n");
    room[2].receives("they go on\n");
    room[2].send("and on\n");
    room[1].receives("and on\n");
    let peak = program.peak_memory();
    assert!(peak < 16 * 1024, "{peak} KiB of memory at the most");
    let last = program.terminate().log.pop().expect("it says something");
    assert!(last.contains("1 message-too-long"), "{last}");
}

/// A fault of the kind "lost without a word": a client that sends no newlines is not heard.
#[test]
fn log_says_once_that_a_text_waits_for_its_newline() {
    let server = Program::start(&["broadcast", "-l127.0.0.1:0"]);
    let (sender, reader) = (server.connect(), server.connect());
    sender.send("hello");
    server.will_have_logged(
        "client 1 has sent 5 bytes without a newline: they are published when it sends one",
    );
    sender.send(" again\n");
    reader.receives("hello again\n");
}

#[test]
fn text_without_a_newline_is_published_after_the_line_timeout() {
    let room = with(Room::default(), |room| {
        room.line_timeout = Some(Duration::from_millis(100));
    });
    let server = Running::start(&config(), resound::Broadcast::new(room).unwrap());
    let clients = join(server.address(), 2);
    for text in ["one", "two\nthree", "four\n"] {
        clients[0].send(text);
        clients[1].receives(format!("{}\n", text.trim_end()));
    }
    clients[1].receives_nothing();
    // A sender that never pauses is heard as well.
    let sends = (0..1000).take_while(|_| {
        clients[0].send("x");
        thread::sleep(Duration::from_millis(20));
        clients[1].available(1).is_empty()
    });
    assert!(sends.count() < 1000, "nothing is published");
    clients[1].receives_until(&mut Vec::new(), b"x\n");
}
