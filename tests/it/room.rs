//! Receivers of each message in a room, over real sockets; and a crowd in which all of it has to hold.

use std::collections::HashSet;
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::client::{Client, join};
use crate::common::flood::Flood;
use crate::common::running::{Running, config, listening_on, room};
use crate::common::watched_room::{Flag, WatchedRoom, framed, number_of, with_publishers};
use crate::common::with;
use crate::common::{Folder, assert_same, eventually, random};
use resound::{CloseReason, Framing, Heartbeat, Listen, Replay, Role, Room, SlowConsumer};

#[test]
fn senders_included_all_clients_get_all_messages_in_one_order() {
    const LINES: usize = 2000;
    let config = with(config(), |config| config.patience = None);
    let watched = WatchedRoom::with(
        &config,
        &with(Room::default(), |room| room.include_sender = true),
    );
    let room: Vec<Client> = (0..4).map(|_| watched.join()).collect();
    for (name, client) in room.iter().take(2).enumerate() {
        let speaker = client.twin();
        thread::spawn(move || {
            for number in 0..LINES {
                speaker.send(format!("{name} {number}\n"));
            }
        });
    }
    let receive = |client: &Client| {
        let lines = client.lines().lines().take(2 * LINES);
        lines.map(|line| line.expect("it is text")).collect()
    };
    let received: Vec<Vec<String>> = thread::scope(|scope| {
        let threads: Vec<_> = room.iter().map(|c| scope.spawn(|| receive(c))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for name in 0..2 {
        let own = format!("{name} ");
        let sent = (0..LINES).map(|number| format!("{own}{number}"));
        assert!(
            received[0]
                .iter()
                .filter(|l| l.starts_with(&own))
                .eq(&sent.collect::<Vec<_>>())
        );
    }
    for other in &received {
        assert!(other == &received[0], "another order");
    }
    let stats = watched.stop();
    assert_eq!(stats.deliveries, 4 * 2 * LINES as u64);
}

#[test]
fn publishers_are_sent_nothing_at_all() {
    let heartbeat = Some(Heartbeat::new(Duration::from_millis(40), "beat"));
    let addresses = ["127.0.0.1:0", "tcp://127.0.0.1:0?role=publish"];
    let config = with(listening_on(&addresses), |config| {
        config.heartbeat = heartbeat;
    });
    let watched = WatchedRoom::with(
        &config,
        &with(Room::default(), |room| {
            room.announce = true;
            room.replay = Replay::Messages(10);
            room.include_sender = true;
        }),
    );
    let listener = watched.join();
    let publisher = watched.join_at(1);
    publisher.send("from the feed\n");
    let mut got = Vec::new();
    listener.receives_until(&mut got, b"from the feed\n");
    listener.send("from the room\n");
    listener.receives_until(&mut got, b"from the room\n");
    // The server's heartbeats show that time passes.
    for _ in 0..5 {
        listener.receives("beat\n");
    }
    publisher.finish();
    assert_same(&publisher.rest(), b"");
}

/// A reader with /dev/null as its input, as those that cron or systemd starts, half-closes at once.
#[test]
fn subscriber_without_input_stays_until_it_closes() {
    let folder = Folder::new();
    let unix = format!("{}?role=subscribe", folder.unix("feed"));
    let server = Running::start(
        &listening_on(&[
            "127.0.0.1:0?role=publish",
            "127.0.0.1:0?role=subscribe",
            &unix,
        ]),
        room(&framed(Framing::Lines)),
    );
    let [publish, addresses @ ..] = &server.addresses[..] else {
        panic!("there are three addresses");
    };
    let publisher = Client::connect(publish);
    let readers: Vec<Client> = addresses.iter().map(Client::connect).collect();
    readers.iter().for_each(Client::finish);
    for line in ["one\n", "two\n"] {
        std::thread::sleep(std::time::Duration::from_millis(50));
        publisher.send(line);
        for reader in &readers {
            reader.receives(line);
        }
    }
    drop(readers);
    publisher.send("three\nfour\n");
    publisher.finish();
    publisher.receives_end();
    let stats = server.stop();
    assert_eq!(stats.clients, 3);
}

#[test]
fn subscribers_receive_everything_and_cannot_publish() {
    let config = listening_on(&[
        "127.0.0.1:0?role=subscribe",
        "127.0.0.1:0?role=publish",
        "127.0.0.1:0",
    ]);
    let watched = WatchedRoom::with(&config, &framed(Framing::Lines));
    let subscribers = [watched.join_at(0), watched.join_at(0)];
    let (publisher, chatter) = (watched.join_at(1), watched.join_at(2));
    watched.hand_in(&subscribers[0], "let me say\nsomething");
    // Not even input that is too long.
    watched.hand_in(&subscribers[1], vec![b'x'; 200_000]);
    watched.hand_in(&publisher, "the news\n");
    chatter.receives("the news\n");
    chatter.send("indeed\n");
    for subscriber in &subscribers {
        subscriber.receives("the news\nindeed\n");
    }
    chatter.receives_nothing();
    let stats = watched.stop();
    assert_eq!((stats.messages, stats.deliveries), (2, 2 + 3));
    assert_eq!(stats.closes(CloseReason::MessageTooLong), 0, "{stats}");
}

#[test]
fn a_role_is_written_behind_the_address() {
    for (text, role) in [
        ("127.0.0.1:0?role=publish", Some(Role::Publish)),
        ("tcp://127.0.0.1:0?role=subscribe", Some(Role::Subscribe)),
        ("127.0.0.1:0?role=both", Some(Role::Both)),
        ("127.0.0.1:0", None),
    ] {
        let listen: Listen = text.parse().expect("it is an address");
        assert_eq!(listen.role, role);
        assert_eq!(listen.to_string().parse(), Ok(listen));
    }
    for text in ["127.0.0.1:0?role=", "127.0.0.1:0?role=king", "127.0.0.1:0?"] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
}

const CHATTERS: usize = 100;
const ROUNDS: usize = 20;

/// Sends its lines, at the pace of the others; returns the lines of the others, by name and number.
fn chat(client: &Client, name: usize) -> Vec<(usize, usize)> {
    let mut lines = client.lines().lines();
    let (mut received, mut guests) = (Vec::new(), HashSet::new());
    for round in 0..=ROUNDS {
        // It is a round ahead of some at the most, and receives all lines in the end.
        let due = if round == ROUNDS {
            ROUNDS
        } else {
            round.saturating_sub(1)
        };
        while received.len() < due * (CHATTERS - 1) {
            let line = lines.next().expect("it goes on").expect("it is text");
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["chatter", who, number, "says", "hello"] => {
                    received.push((number_of(who), number_of(number)));
                }
                ["guest", _, "comes" | "goes"] => assert!(guests.insert(line), "doubled"),
                _ => panic!("torn: {line}"),
            }
        }
        if round < ROUNDS {
            client.send(format!("chatter {name} {round} says hello\n"));
        }
    }
    received
}

/// Guests join one after the other, send a line, and leave in one way or another, until `enough`;
/// returns their number.
fn come_and_go(server: &Running, rng: &mut fastrand::Rng, enough: &AtomicBool) -> usize {
    let mut guests = Vec::new();
    let mut count = 0;
    while count < 100 || !enough.load(Ordering::SeqCst) {
        let (guest, name) = (server.connect(), rng.u64(..));
        guest.send(format!("guest {name} comes\n"));
        count += 1;
        guests.push((guest, name));
        if guests.len() < 20 {
            continue;
        }
        let (guest, name) = guests.swap_remove(rng.usize(..20));
        match rng.u8(..4) {
            0 => drop(guest),
            1 => {
                guest.send("guest who is cut off");
                guest.reset();
            }
            2 => {
                guest.send(format!("guest {name} goes\n"));
                guest.finish();
            }
            _ => {
                guest.send(format!("guest {name} goes")); // its end brings the newline
                guest.finish();
                guest.drain();
            }
        }
    }
    count
}

#[test]
fn hundred_chatters_receive_all_lines_while_guests_join_and_leave() {
    let server = Running::broadcast();
    let mut rng = random();
    let room = join(server.address(), CHATTERS);
    let enough = AtomicBool::new(false);
    let (received, guests) = thread::scope(|scope| {
        let guests: Vec<_> = (0..2)
            .map(|_| {
                let mut rng = rng.fork();
                let (server, enough) = (&server, &enough);
                scope.spawn(move || come_and_go(server, &mut rng, enough))
            })
            .collect();
        let flag = Flag(&enough);
        let chatters = room.iter().enumerate();
        let chatters: Vec<_> = chatters
            .map(|(name, client)| scope.spawn(move || chat(client, name)))
            .collect();
        let received: Vec<_> = chatters.into_iter().map(|t| t.join().unwrap()).collect();
        drop(flag);
        let guests: usize = guests.into_iter().map(|t| t.join().unwrap()).sum();
        (received, guests)
    });
    for (name, lines) in received.iter().enumerate() {
        let mut next = [0; CHATTERS];
        for &(who, number) in lines {
            assert_eq!(number, next[who], "{name} about {who}");
            next[who] += 1;
        }
        assert_eq!(next[name], 0, "{name} has received its own message");
        let but = |lines: &[(usize, usize)], own: usize| -> Vec<(usize, usize)> {
            lines.iter().filter(|l| l.0 != own).copied().collect()
        };
        assert!(but(lines, 0) == but(&received[0], name), "{name}: an order");
    }
    // When it has joined, the last of the guests have joined too.
    let last = server.connect();
    last.send("the last one\n");
    room[0].receives_until(&mut Vec::new(), b"the last one\n");
    drop(room);
    let stats = server.stop();
    assert_eq!(stats.clients, (CHATTERS + guests + 1) as u64);
    assert_eq!(stats.closes(CloseReason::SlowConsumer), 0, "{stats}");
}

#[test]
fn the_numbers_at_the_end_are_right() {
    let watched = WatchedRoom::with(&with_publishers(), &Room::default());
    let [a, b, c] = [(); 3].map(|()| watched.join());
    let publisher = watched.join_at(1);
    a.send("one\ntwo\n");
    b.receives("one\ntwo\n");
    publisher.send("a\nb\nc\n");
    for client in [&a, &b] {
        client.receives("a\nb\nc\n");
    }
    b.send("last");
    b.finish();
    b.receives_end();
    a.receives("last\n");
    c.receives("one\ntwo\na\nb\nc\nlast\n");
    let stats = watched.stop();
    assert_eq!((stats.clients, stats.messages), (4, 2 + 3 + 1));
    assert_eq!(stats.deliveries, 2 * 2 + 3 * 3 + 2);
    assert_eq!((stats.bytes_in, stats.missed), (8 + 6 + 4, 0));
    assert_eq!(stats.bytes_out, 2 * 8 + 3 * 6 + 2 * 5);
    assert_eq!(stats.closes(CloseReason::PeerClosed), 1, "{stats}");
    assert_eq!(stats.closes(CloseReason::Shutdown), 3, "{stats}");
}

#[test]
fn missed_messages_are_not_counted_as_delivered() {
    let config = with(with_publishers(), |config| {
        config.patience = Some(Duration::ZERO);
        config.slow_consumer = SlowConsumer::Skip;
    });
    let watched = WatchedRoom::with(
        &config,
        &with(Room::default(), |room| room.log_size = 5 << 18),
    );
    let slow = Client::with_small_buffers(watched.server.address());
    eventually("it being let in", || watched.watch.opened() == 1);
    let (healthy, publisher) = (watched.join(), watched.join_at(1));
    let flood = Flood::of_megabytes(16);
    for block in flood.blocks() {
        publisher.send(&block);
        healthy.receives(&block);
    }
    let mut got = Vec::new();
    let all = flood.numbers();
    slow.receives_until(&mut got, &flood.line(all.end - 1));
    let numbers = flood.numbers_in(&got);
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
    let missed = all.len() - numbers.len();
    assert!(missed > 0, "nothing was missed");
    let stats = watched.stop();
    assert_eq!(stats.messages, all.len() as u64);
    assert_eq!(stats.missed, missed as u64);
    assert_eq!(stats.deliveries, (all.len() + numbers.len()) as u64);
}
