//! Tags, notices and heartbeats over real sockets.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::flood::Flood;
use crate::common::watched_room::{FRAMINGS, WatchedRoom, framed, wire, with_publishers};
use crate::common::with;
use crate::common::{assert_same, eventually};
use resound::{ARRIVAL, Config, Framing, Heartbeat, Replay, Room};

#[test]
fn tags_are_per_message_and_not_per_read() {
    let tag: resound::TagFormat = "{id}/{peer}: ".parse().expect("it is well-formed");
    for framing in [Framing::Lines, Framing::U32] {
        let room = WatchedRoom::of(&with(framed(framing), |room| room.tag = Some(tag.clone())));
        let [first, second, listener] = [(); 3].map(|()| room.join());
        let encoded = |text| wire(framing, text);
        let tagged = |id, client: &Client, text: &str| {
            wire(framing, &format!("{id}/{}: {text}", client.name()))
        };
        first.send([encoded("one"), encoded(""), encoded("three")].concat());
        for text in ["one", "", "three"] {
            let expected = tagged(1, &first, text);
            listener.receives(&expected);
            second.receives(&expected);
        }
        let message = encoded("in many parts");
        for part in message.chunks(3) {
            room.hand_in(&first, part);
            // A whole message of another client in between.
            room.hand_in(&second, encoded("meanwhile"));
            if !message.ends_with(part) {
                listener.receives(tagged(2, &second, "meanwhile"));
            }
        }
        listener.receives(tagged(1, &first, "in many parts"));
        listener.receives(tagged(2, &second, "meanwhile"));
    }
}

#[test]
fn raw_tags_are_per_read() {
    let tag = "{id}:".parse().expect("it is well-formed");
    let room = WatchedRoom::of(&with(framed(Framing::Raw), |room| room.tag = Some(tag)));
    let (speaker, listener) = (room.join(), room.join());
    room.hand_in(&speaker, "two\nlines\n");
    room.hand_in(&speaker, "and more");
    listener.receives("1:two\nlines\n1:and more");
}

#[test]
fn the_default_tag_is_date_time_and_sender() {
    let room = WatchedRoom::of(&with(Room::default(), |room| {
        room.tag = Some(resound::TagFormat::default());
    }));
    let (speaker, listener) = (room.join(), room.join());
    speaker.send("你好\nagain\r\n");
    let mut got = Vec::new();
    listener.receives_until(&mut got, b"again\r\n");
    let got = String::from_utf8(got).expect("it is UTF-8");
    for (line, text) in got.split_inclusive('\n').zip(["你好\n", "again\r\n"]) {
        let (time, rest) = line.split_at("MMDD HH:MM:SS".len());
        let shape = time.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(shape, "0000 00:00:00", "{line}");
        assert_eq!(rest, format!(" From {}. msg={text}", speaker.name()));
    }
    assert_eq!(got.lines().count(), 2);
}

#[test]
fn joins_and_leaves_are_announced_and_new_clients_get_the_members() {
    for framing in FRAMINGS {
        let room = WatchedRoom::of(&with(framed(framing), |room| {
            room.announce = true;
            room.max_message = 1000;
        }));
        let encoded = |text: String| wire(framing, &text);
        let first = room.join();
        first.receives(encoded("* you are client 1; nobody else is here".into()));
        room.hand_in(&first, encoded("hello".into()));
        let second = room.join();
        let (one, two) = (first.name(), second.name());
        second.receives(encoded(format!(
            "* you are client 2; here: client 1 ({one})"
        )));
        first.receives(encoded(format!("* client 2 ({two}) came")));
        let third = room.join();
        let three = third.name();
        third.receives(encoded(format!(
            "* you are client 3; here: client 1 ({one}), client 2 ({two})"
        )));
        for client in [&first, &second] {
            client.receives(encoded(format!("* client 3 ({three}) came")));
        }
        second.finish();
        second.receives_end();
        for client in [&first, &third] {
            client.receives(encoded(format!("* client 2 ({two}) left: peer-closed")));
        }
        third.reset();
        first.receives(encoded(format!("* client 3 ({three}) left: reset")));
        if framing != Framing::Raw {
            let fourth = room.join();
            let four = fourth.name();
            fourth.send(vec![b'x'; 1001]); // a frame of too many bytes, too
            first.receives(encoded(format!("* client 4 ({four}) came")));
            first.receives(encoded(format!(
                "* client 4 ({four}) left: message-too-long"
            )));
            fourth.receives(encoded(format!(
                "* you are client 4; here: client 1 ({one})"
            )));
            if framing == Framing::Lines {
                let why = "* you are disconnected (message-too-long): a line may have 1000 bytes";
                fourth.receives(encoded(why.into()));
            }
            fourth.receives_end();
        }
        first.receives_nothing();
    }
}

#[test]
fn newcomers_are_greeted_before_they_get_the_past() {
    let room = WatchedRoom::of(&with(Room::default(), |room| {
        room.announce = true;
        room.replay = Replay::Messages(2);
    }));
    let (first, second) = (room.join(), room.join());
    let (one, two) = (first.name(), second.name());
    room.hand_in(&first, "hello\n");
    second.receives(format!(
        "* you are client 2; nobody else is here\n* client 1 ({one}) came\nhello\n"
    ));
    room.hand_in(&second, "hi\n");
    let third = room.join();
    third.receives(format!(
        "* you are client 3; here: client 1 ({one}), client 2 ({two})\n\
         * client 2 ({two}) came\nhi\n"
    ));
    third.receives_nothing();
}

/// A health probe, which connects and leaves without a byte, is no visitor.
#[test]
fn client_is_announced_with_its_first_byte_or_after_a_second() {
    let room = WatchedRoom::of(&with(Room::default(), |room| room.announce = true));
    let first = room.join();
    room.hand_in(&first, "hello\n");
    first.receives("* you are client 1; nobody else is here\n");
    for resets in [true, false, true, false] {
        let probe = room.join();
        if resets {
            probe.reset();
        }
    }
    room.wait_for_closes(4);
    let talker = room.join();
    let name = talker.name();
    talker.send("h");
    first.receives(format!("* client 6 ({name}) came\n"));
    talker.reset();
    first.receives(format!("* client 6 ({name}) left: reset\n"));
    let start = Instant::now();
    let quiet = room.join();
    first.receives(format!("* client 7 ({}) came\n", quiet.name()));
    assert!(start.elapsed() >= ARRIVAL, "too early");
    assert_eq!(room.stop().probes, 4);
}

#[test]
fn slow_consumer_is_told_in_its_last_line_what_it_has_lost() {
    let config = with(with_publishers(), |config| {
        config.patience = Some(Duration::ZERO);
        config.sockets.linger = Some(Duration::from_secs(30));
    });
    let room = WatchedRoom::with(
        &config,
        &with(Room::default(), |room| {
            room.announce = true;
            room.log_size = 5 << 18;
        }),
    );
    let slow = Client::with_small_buffers(room.server.address());
    eventually("it being let in", || room.watch.opened() == 1);
    let (healthy, publisher) = (room.join(), room.join_at(1));
    for block in Flood::of_megabytes(64).blocks() {
        publisher.send(&block);
        healthy.receives_until(&mut Vec::new(), &block);
        if room.watch.closed() > 0 {
            break;
        }
    }
    let got = String::from_utf8(slow.rest()).expect("it is text");
    let lost = room.stop().undelivered;
    let why = format!("you have missed {lost} messages");
    let notice = format!("* you are disconnected (slow-consumer): {why}");
    assert!(lost > 0);
    assert_eq!(got.lines().last(), Some(&*notice));
}

/// The default settings with a heartbeat.
fn beating(every: Duration, text: &str) -> Config {
    let text = text.as_bytes().to_vec();
    with(with_publishers(), |config| {
        config.heartbeat = Some(Heartbeat::new(every, text));
    })
}

#[test]
fn silent_connection_gets_a_heartbeat_again_and_again() {
    let every = Duration::from_millis(200);
    for framing in FRAMINGS {
        for text in ["", "still here"] {
            let room = WatchedRoom::with(&beating(every, text), &framed(framing));
            let start = Instant::now();
            let client = room.join();
            for count in 1..=2 {
                client.receives(wire(framing, text));
                assert!(start.elapsed() >= every * count, "too early");
            }
        }
    }
}

#[test]
fn busy_connection_gets_no_heartbeat() {
    const LINES: usize = 60;
    let every = Duration::from_millis(200);
    let room = WatchedRoom::with(&beating(every, "beat"), &Room::default());
    let (listener, publisher) = (room.join(), room.join_at(1));
    let mut sent = Vec::new();
    for number in 0..LINES {
        let before = Instant::now();
        publisher.send(format!("{number}\n"));
        sent.push((before, Instant::now()));
        thread::sleep(Duration::from_millis(20));
    }
    let mut got = Vec::new();
    listener.receives_until(&mut got, format!("\n{}\n", LINES - 1).as_bytes());
    let mut next = 0;
    for line in got.split(|&byte| byte == b'\n').filter(|l| !l.is_empty()) {
        if line == b"beat" {
            // Only a machine that is very busy makes such a pause.
            if let (1.., Some((_, after))) = (next, sent.get(next)) {
                let pause = *after - sent[next - 1].0;
                assert!(pause >= every, "a heartbeat within {pause:?}");
            }
        } else {
            assert_same(line, next.to_string().as_bytes());
            next += 1;
        }
    }
    listener.receives("beat\n"); // now it is idle
}

#[test]
fn a_heartbeat_is_never_within_a_message() {
    const LINES: usize = 110;
    let room = WatchedRoom::with(
        &beating(Duration::from_millis(20), "beat"),
        &Room::default(),
    );
    let slow = Client::with_small_buffers(room.server.address());
    eventually("it being let in", || room.watch.opened() == 1);
    let (listener, publisher) = (room.join(), room.join_at(1));
    // More than the kernel holds, so that the slow client is sent a line in part, but too little
    // to hold up the room.
    let line = |letter| [vec![letter; 50_000], vec![b'\n']].concat();
    let lines: Vec<Vec<u8>> = (b'a'..=b'z').cycle().map(line).take(LINES).collect();
    for line in &lines {
        publisher.send(line);
        listener.receives_until(&mut Vec::new(), line);
    }
    listener.receives("beat\n".repeat(5));
    let mut got = Vec::new();
    for heart in 0..3 {
        // It takes some, and again stops in the middle of a message.
        got.extend(slow.available(10_000 + heart));
        listener.receives("beat\n".repeat(3));
    }
    publisher.send("the end\n");
    slow.receives_until(&mut got, b"the end\n");
    let expected = lines.iter().map(Vec::as_slice).chain([&b"the end\n"[..]]);
    let whole = got.split_inclusive(|&byte| byte == b'\n');
    assert!(whole.filter(|line| line != b"beat\n").eq(expected));
}
