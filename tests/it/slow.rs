//! Slow consumers of the real binary: whatever the treatment of a stopped reader, the others miss
//! nothing, no message is torn, and memory is bounded.

#![cfg(target_os = "linux")] // the usage of a process is read from /proc

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{Client, wait_for_room};
use crate::common::flood::Flood;
use crate::common::program::Program;
use crate::common::{DEADLINE, eventually, frame, random};

/// Megabytes sent past the stopped reader.
const MEGABYTES: usize = 200;
/// In KiB.
const MOST_MEMORY: u64 = 40 * 1024;
/// Blocks that the publisher may be ahead of the healthy readers: far fewer than would
/// make them slow ones on the busiest machine.
const WINDOW: usize = 16;
const READERS: usize = 3;

/// A room with a publisher, some readers, and one client that does not read.
struct Scene {
    program: Program,
    publisher: Client,
    readers: Vec<Client>,
    /// Client 1.
    slow: Client,
}

impl Scene {
    #[track_caller]
    fn new(options: &[&str]) -> Self {
        Self::with_greeting(options, b"all here\n")
    }

    #[track_caller]
    fn framed(options: &[&str]) -> Self {
        let options = [options, &["--framing=u32"]].concat();
        Self::with_greeting(&options, &frame("all here"))
    }

    #[track_caller]
    fn with_greeting(options: &[&str], greeting: &[u8]) -> Self {
        let args = [&["broadcast", "-l", "127.0.0.1:0"], options].concat();
        let program = Program::start(&args);
        let mut room = vec![Client::with_small_buffers(&program.address())];
        room.extend((0..=READERS).map(|_| program.connect()));
        wait_for_room(&room, greeting);
        Self {
            slow: room.remove(0),
            publisher: room.remove(0),
            readers: room,
            program,
        }
    }

    /// Publishes a flood at the pace of `readers`, which check that they get all of it; `meanwhile`
    /// runs after each block.
    #[track_caller]
    fn publish(&self, flood: &Flood, readers: &[&Client], mut meanwhile: impl FnMut()) {
        thread::scope(|scope| {
            let follow = |reader: &&Client| {
                let (expect, blocks) = channel::<Arc<Vec<u8>>>();
                let (done, progress) = channel();
                let reader = reader.twin();
                scope.spawn(move || {
                    for block in blocks {
                        reader.receives(&block[..]);
                        let _ = done.send(());
                    }
                });
                (expect, progress)
            };
            let followers: Vec<_> = readers.iter().map(follow).collect();
            for (number, block) in flood.blocks().map(Arc::new).enumerate() {
                for (expect, progress) in &followers {
                    if number >= WINDOW {
                        let done = progress.recv_timeout(DEADLINE);
                        done.expect("the readers follow");
                    }
                    expect.send(Arc::clone(&block)).expect("they read on");
                }
                self.publisher.send(&block[..]);
                meanwhile();
            }
        });
    }

    /// The healthy readers.
    fn others(&self) -> Vec<&Client> {
        self.readers.iter().collect()
    }

    fn all_clients(&self) -> Vec<&Client> {
        self.readers.iter().chain([&self.slow]).collect()
    }

    /// The slow reader leaves, then the program ends. Asserts the number of messages that the reader
    /// skipped and of all messages, and that everything else was delivered.
    #[track_caller]
    fn end_after_skipping(self, missed: usize, messages: usize) {
        let Self { program, slow, .. } = self;
        drop(slow);
        let note = format!("client 1 has missed {missed} messages");
        eventually(&note, || program.has_logged(&note));
        let deliveries = messages * (READERS + 1) - missed;
        let counts = format!("{messages} messages in, {deliveries} out, {missed} missed");
        let last = end(program);
        assert!(last.contains(&counts), "{counts}: {last}");
    }
}

/// Ends the program; returns the last line of its log.
#[track_caller]
fn end(program: Program) -> String {
    let peak = program.peak_memory();
    assert!(peak < MOST_MEMORY, "{peak} KiB of memory at the most");
    let mut ended = program.terminate();
    assert_eq!(ended.code, Some(0));
    ended.log.pop().expect("it says something")
}

/// The slow reader stops at the start, and is closed: it gets the start of the flood, up to a
/// whole message, and the others get everything.
#[track_caller]
fn is_closed(patience: &str) {
    let scene = Scene::new(&[&format!("--patience={patience}")]);
    let flood = Flood::of_megabytes(MEGABYTES);
    let got = thread::scope(|scope| {
        let Scene { program, slow, .. } = &scene;
        let rest = scope.spawn(|| {
            eventually("the slow consumer being closed", || {
                program.has_logged("is a slow consumer: closing it")
            });
            slow.rest_or_cut()
        });
        scene.publish(&flood, &scene.others(), || {});
        rest.join().expect("the server ends its output")
    });
    let (mut got, ended) = got;
    if !ended {
        // On a machine too busy to read within a second: the last line may be cut.
        got.truncate(Flood::whole_lines(got.len()));
    }
    let numbers = flood.numbers_in(&got);
    assert!(numbers.iter().copied().eq(0..numbers.len()));
    assert!(numbers.len() < flood.numbers().len());
    scene.publish(&flood.next(1), &scene.others(), || {});
    let last = end(scene.program);
    assert!(last.contains("1 slow-consumer"), "{last}");
    assert!(!last.contains("missed"), "{last}");
}

#[test]
fn with_patience_a_stopped_reader_is_closed_after_a_whole_message() {
    let start = Instant::now();
    is_closed("1s");
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn without_patience_a_stopped_reader_is_closed_after_a_whole_message() {
    is_closed("0");
}

/// The slow reader reads what `reads` tells it to while the flood passes, and the rest in the end. It
/// gets whole messages in order, and everything from the moment when it has caught up.
#[track_caller]
fn skips(scene: Scene, flood: &Flood, mut reads: impl FnMut() -> Option<usize>) {
    let mut got = Vec::new();
    scene.publish(flood, &scene.others(), || {
        if let Some(most) = reads() {
            got.extend(scene.slow.available(most));
        }
    });
    let all = flood.numbers();
    scene
        .slow
        .receives_until(&mut got, &flood.line(all.end - 1));
    let numbers = flood.numbers_in(&got);
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
    let gaps = numbers.windows(2).map(|pair| pair[1] - pair[0] - 1);
    let missed: usize = gaps.sum::<usize>() + numbers[0];
    assert_eq!(missed + numbers.len(), all.len());
    assert!(missed > 0, "nothing was missed");
    let more = flood.next(10);
    scene.publish(&more, &scene.all_clients(), || {});
    // The first message was the greeting.
    scene.end_after_skipping(missed, 1 + more.numbers().end);
}

/// The times and byte counts at which an occasional reader reads.
fn now_and_then() -> impl FnMut() -> Option<usize> {
    let mut rng = random();
    move || (rng.u8(..40) == 0).then(|| rng.usize(1..2_000_000))
}

#[test]
fn with_patience_a_stopped_reader_skips_and_is_served_again_when_it_reads() {
    let scene = Scene::new(&["--patience=300ms", "--slow-consumer=skip"]);
    skips(scene, &Flood::of_megabytes(MEGABYTES), || None);
}

#[test]
fn without_patience_a_stopped_reader_skips_and_is_served_again_when_it_reads() {
    let scene = Scene::new(&["--patience=0", "--slow-consumer=skip"]);
    skips(scene, &Flood::of_megabytes(MEGABYTES), || None);
}

#[test]
fn occasional_reader_skips_repeatedly_and_gets_whole_lines() {
    let scene = Scene::new(&["--patience=0", "--slow-consumer=skip"]);
    skips(scene, &Flood::of_megabytes(MEGABYTES), now_and_then());
}

#[test]
fn occasional_reader_skips_repeatedly_and_gets_whole_frames() {
    let scene = Scene::framed(&["--patience=0", "--slow-consumer=skip"]);
    let flood = Flood::of_megabytes(MEGABYTES).framed();
    skips(scene, &flood, now_and_then());
}

#[test]
fn with_unlimited_patience_a_stopped_reader_stops_the_publisher_and_loses_nothing() {
    /// More than the log and the kernel's buffers can hold.
    const MOST_ON_THE_WAY: usize = 64_000_000;
    let mut scene = Scene::new(&["--patience=unlimited"]);
    let flood = Flood::of_megabytes(MEGABYTES);
    let reading: Vec<_> = scene.readers.drain(..).map(|r| flood.check(r)).collect();
    let publishing = flood.send(scene.publisher.twin());
    assert!(!flood.wait_until_stuck(), "the room isn't held up");
    assert!(flood.sent() < MOST_ON_THE_WAY, "{} bytes", flood.sent());
    scene.program.assert_idle();
    let slow = flood.check(scene.slow.twin());
    for thread in reading.into_iter().chain([publishing, slow]) {
        scene.readers.push(thread.join().expect("all are served"));
    }
    scene.slow.receives_nothing();
    let last = end(scene.program);
    assert!(!last.contains("missed"), "{last}");
    assert!(!last.contains("slow-consumer"), "{last}");
}

/// Readers are free. With a patience for each of them a crowd could hold up the room for as long as it
/// likes.
#[test]
fn readers_that_stall_one_after_the_other_share_the_patience() {
    const PATIENCE: Duration = Duration::from_secs(2);
    const STALLING: usize = 12;
    /// Bytes between the points at which they stall.
    const APART: usize = 600_000;
    let program = Program::start(&["broadcast", "-l", "127.0.0.1:0", "--patience=2s"]);
    let mut room: Vec<_> = (0..STALLING)
        .map(|_| Client::with_small_buffers(&program.address()))
        .collect();
    room.extend([program.connect(), program.connect()]);
    wait_for_room(&room, b"all here\n");
    let (reader, publisher) = (room.remove(STALLING), room.remove(STALLING));
    for (number, client) in room.iter().map(Client::twin).enumerate() {
        thread::spawn(move || client.next(number * APART));
    }
    let flood = Flood::of_megabytes(20);
    let start = Instant::now();
    for thread in [flood.check(reader), flood.send(publisher)] {
        thread.join().expect("they are served");
    }
    let time = start.elapsed();
    assert!(time < 4 * PATIENCE, "{time:?}, {STALLING} patiences");
    program.will_have_logged("is a slow consumer: closing it");
    end(program);
}
