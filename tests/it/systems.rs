//! The systems that this program replaces, each as its user meets it, and failures of other programs
//! that it does not share.

use std::io::BufRead;

use crate::common::client::{Client, join, wait_until_joined};
use crate::common::eventually;
use crate::common::flood::Flood;
use crate::common::operator::Operator;
use crate::common::program::Program;
use crate::common::tagged::{now, untagged};

const LISTEN: &str = "-l127.0.0.1:0";

#[track_caller]
fn admit<const N: usize>(operator: &mut Operator) -> [Client; N] {
    std::array::from_fn(|_| operator.admit(Client::connect))
}

/// Asserts that the next line of each is this text of a sender, tagged not before a time.
#[track_caller]
fn all_receive(lines: &mut [impl BufRead], since: &str, sender: &str, text: &str) {
    for lines in lines {
        let mut line = String::new();
        let read = lines.read_line(&mut line);
        read.expect("a line comes in time");
        let line = line.strip_suffix('\n').expect("it is a whole line");
        assert_eq!(untagged(line, since), (sender, text));
    }
}

/// S8: the operator sees what each client sends and types the answer.
#[test]
fn an_operator_answers_each_of_many_clients() {
    for mut operator in Operator::of_each_kind(&["discard", "--console", LISTEN]) {
        let mut clients: Vec<Client> = admit::<5>(&mut operator).into();
        for (id, client) in (1..).zip(&clients) {
            client.send(format!("question {id}: 你好?\n"));
            operator.sees(&format!("{id} {}: question {id}: 你好?", client.name()));
        }
        for (i, client) in clients.iter().enumerate().rev() {
            let id = i + 1;
            operator.types(&format!("@{id} answer {id}: 好的"));
            client.receives(format!("answer {id}: 好的\n"));
        }
        clients.iter().for_each(Client::receives_nothing);
        // One leaves with a reset, one in order.
        clients.remove(0).reset();
        drop(clients.remove(0));
        eventually("their leaving", || operator.list().len() == 3);
        operator.asks("@1 are you there?", "there is no client 1");
        operator.types("goodbye, all");
        for client in &clients {
            client.receives("goodbye, all\n");
        }
        assert_eq!(operator.quits().code, Some(0));
        clients.iter().for_each(Client::receives_end);
    }
}

/// S10: each message reaches all other clients; a failed client is dropped, and the rest go on.
#[test]
fn a_group_chats_and_a_failing_client_is_dropped() {
    let program = Program::start(&["broadcast", LISTEN]);
    let mut room = join(&program.address(), 6);
    for round in 0..3 {
        for (i, speaker) in room.iter().enumerate() {
            let text = format!("{i} says 大家好 in round {round}\n");
            speaker.send(&text);
            for (j, listener) in room.iter().enumerate() {
                if i != j {
                    listener.receives(&text);
                }
            }
        }
        let failing = room.pop().unwrap();
        let all_others = || room[1..].iter().chain([&failing]);
        // Received bytes acknowledge the sent ones, so that the next are sent at once.
        room[0].send("one is about to fail\n");
        all_others().for_each(|client| client.receives("one is about to fail\n"));
        failing.send("it breaks off in the mid");
        room[0].send("now\n"); // when it is received, that has been read
        all_others().for_each(|client| client.receives("now\n"));
        failing.reset();
    }
    room.iter().for_each(Client::receives_nothing);
    assert_eq!(program.terminate().code, Some(0));
    room.iter().for_each(Client::receives_end);
}

/// S11: each message reaches all clients, its sender too, with time and address; `quit` ends it.
#[test]
fn a_group_chats_with_stamps_and_the_operator_ends_it() {
    let args = [
        "broadcast",
        "--include-sender",
        "--tag",
        "--console",
        LISTEN,
    ];
    for mut operator in Operator::of_each_kind(&args) {
        let since = now();
        let clients: [Client; 3] = admit(&mut operator);
        let mut room = clients.each_ref().map(Client::lines);
        for (id, client) in (1..).zip(&clients) {
            let name = client.name();
            client.send(format!("{id} says 大家好\n"));
            all_receive(&mut room, &since, &name, &format!("{id} says 大家好"));
            operator.sees(&format!("{id} {name}: {id} says 大家好"));
        }
        operator.types("the room closes");
        all_receive(&mut room, &since, "console", "the room closes");
        assert_eq!(operator.quits().code, Some(0));
        for mut lines in room {
            assert_eq!(lines.read_line(&mut String::new()).unwrap(), 0);
        }
    }
}

/// S14: whole lines are relayed, in whatever pieces they are sent.
#[test]
fn a_broadcast_reads_and_writes_whole_lines() {
    let program = Program::start(&["broadcast", LISTEN]);
    let room = join(&program.address(), 3);
    let mut lines = room[2].lines();
    let mut receives = |expected: &str| {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    };
    for (word, other) in [("one ", "a\n"), ("line ", "b\n"), ("in pieces", "c\n")] {
        room[0].send(word);
        room[1].send(other); // when it is received, the word has been read
        receives(other);
    }
    room[0].send("\r\nand three\nat\nonce\n");
    for line in ["one line in pieces\r\n", "and three\n", "at\n", "once\n"] {
        receives(line);
    }
}

/// The first failure of ncat's broker: it stops for all clients when one reader stops.
#[test]
fn one_reader_that_stops_does_not_stop_the_others() {
    let program = Program::start(&["broadcast", LISTEN]);
    let address = program.address();
    let mut room = vec![Client::with_small_buffers(&address)];
    room.extend((0..3).map(|_| Client::connect(&address)));
    wait_until_joined(&room);
    let stopped = room.remove(0);
    let publisher = room.remove(0);
    let flood = Flood::of_megabytes(32);
    let sending = flood.send(publisher);
    let checking: Vec<_> = room.into_iter().map(|reader| flood.check(reader)).collect();
    let publisher = sending.join().unwrap();
    let readers: Vec<Client> = checking.into_iter().map(|c| c.join().unwrap()).collect();
    publisher.send("the room goes on\n");
    for reader in &readers {
        reader.receives("the room goes on\n");
    }
    let slow = format!("({}) is a slow consumer", stopped.name());
    program.will_have_logged(&slow);
}

/// The second one: it puts its prefix in front of each read, and not of each line.
#[test]
fn with_tag_each_line_is_prefixed_and_not_each_read() {
    let program = Program::start(&["broadcast", "--tag", "-v", LISTEN]);
    let clients = [Client::connect; 3].map(|connect| program.admit(connect));
    let [one, other, listener] = clients;
    let since = now();
    let mut lines = [listener.lines()];
    for part in ["one line ", "in three ", "reads"] {
        one.send(part);
        other.send("between\n"); // when it is received, the part has been read
        all_receive(&mut lines, &since, &other.name(), "between");
    }
    one.send("\nthree\nlines\nin one read\n");
    for text in ["one line in three reads", "three", "lines", "in one read"] {
        all_receive(&mut lines, &since, &one.name(), text);
    }
}

/// The third one: Chinese text is shown as octal escapes.
#[test]
fn chinese_text_is_relayed_unchanged() {
    for options in [&[][..], &["--tag"]] {
        let args = [&["broadcast", "--console", LISTEN], options].concat();
        for mut operator in Operator::of_each_kind(&args) {
            let [speaker, listener] = admit(&mut operator);
            let (since, name) = (now(), speaker.name());
            let text = "信息已收到，大家好！𠀀";
            // The first reading ends within a letter.
            let (start, end) = text.as_bytes().split_at(7);
            speaker.send(start);
            speaker.send([end, b"\n"].concat());
            let mut lines = listener.lines();
            if options.is_empty() {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, format!("{text}\n"));
            } else {
                all_receive(&mut [lines], &since, &name, text);
            }
            operator.sees(&format!("1 {name}: {text}"));
        }
    }
}

#[test]
fn chinese_text_in_another_encoding_is_relayed_unchanged() {
    let program = Program::start(&["broadcast", LISTEN]);
    let room = join(&program.address(), 2);
    let text = b"\xd0\xc5\xcf\xa2\xd2\xd1\xca\xd5\xb5\xbd\n"; // the same in GBK
    room[0].send(text);
    room[1].receives(text);
}

/// The fourth one: its operator can't see the chat.
#[test]
fn the_operator_sees_the_chat() {
    for mut operator in Operator::of_each_kind(&["broadcast", "--console", LISTEN]) {
        let clients: [Client; 3] = admit(&mut operator);
        let names = clients.each_ref().map(Client::name);
        for round in 0..20 {
            for (i, speaker) in clients.iter().enumerate() {
                let text = format!("{i} in round {round}");
                speaker.send(format!("{text}\n"));
                operator.sees(&format!("{} {}: {text}", i + 1, names[i]));
            }
        }
        // It is what the clients receive: the same lines in the same order.
        for round in 0..20 {
            clients[2].receives(format!("0 in round {round}\n1 in round {round}\n"));
        }
    }
}
