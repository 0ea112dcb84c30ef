//! A bounded queue of lines, and the thread that writes them.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr_iter;
use rustix::event::{PollFd, PollFlags, poll};

/// Bytes that wait at most: more than a pipe holds.
const CAPACITY: usize = 256 * 1024;

/// Makes the line that tells of a number of lost ones.
type Loss = Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// Work of the thread that is due at times; returns the time until then.
type Alarm = Box<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Lines on their way to standard error.
pub(super) struct Queue {
    shared: Arc<Shared>,
    started: AtomicBool,
    /// The time for which flushes may still wait, all together.
    patience: Mutex<Duration>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is something to write.
    filled: Condvar,
    /// Told when everything is written.
    emptied: Condvar,
    loss: OnceLock<Loss>,
    /// Called before each wait, which is then at most as long as it says.
    alarm: OnceLock<Alarm>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Lines lost since the thread last took the bytes. Until it does so again all lines are lost, so
    /// that the loss has its place between two lines.
    lost: u64,
    /// True while the thread writes.
    writing: bool,
    /// True if the alarm has changed since the thread last looked: it may have asked just before.
    woken: bool,
}

impl Queue {
    /// A queue that waits for its reader at the end, for at most this time.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            shared: Arc::default(),
            started: AtomicBool::new(false),
            patience: Mutex::new(patience),
        }
    }

    /// Sets the line that tells of lost ones.
    pub(super) fn on_loss(&self, line: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) {
        let _ = self.shared.loss.set(Box::new(line));
    }

    /// Sets the work of the thread that is due at times.
    pub(super) fn on_alarm(&self, alarm: impl Fn() -> Option<Duration> + Send + Sync + 'static) {
        let _ = self.shared.alarm.set(Box::new(alarm));
    }

    /// Makes the thread ask again when its work is due.
    pub(super) fn wake(&self) {
        self.shared.wake();
    }

    /// Puts whole lines into the queue, or counts them as lost. Never waits for standard error.
    pub(super) fn push(&self, lines: &[u8]) {
        if !self.started.swap(true, Ordering::Relaxed) && !self.start() {
            let _ = io::stderr().write_all(lines);
            self.started.store(false, Ordering::Relaxed);
            return;
        }
        self.shared.lock().push(lines);
        self.shared.filled.notify_one();
    }

    /// Starts the thread, with the first line. It inherits the signals that are blocked. False if there
    /// can be no thread.
    fn start(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("log".to_owned());
        builder.spawn(move || shared.write_all(&mut Stderr)).is_ok()
    }

    /// Waits until all is written, for at most half of the patience that is left: all calls together
    /// wait for less than it, and each leaves some for the last lines.
    pub(super) fn flush(&self) {
        // It is locked if the log itself has failed, and another thread waits for it already.
        let Ok(mut patience) = self.patience.try_lock() else {
            return;
        };
        let start = Instant::now();
        self.shared.flush(start + *patience / 2);
        *patience = patience.saturating_sub(start.elapsed());
    }
}

impl State {
    fn push(&mut self, lines: &[u8]) {
        if self.lost > 0 || self.bytes.len() + lines.len() > CAPACITY {
            self.lost += memchr_iter(b'\n', lines).count() as u64;
        } else {
            self.bytes.extend_from_slice(lines);
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.lock().woken = true;
        self.filled.notify_one();
    }

    /// Writes what comes, for ever.
    fn write_all(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        loop {
            let alarm = self.alarm.get().and_then(|alarm| alarm());
            let Some(lost) = self.take(&mut batch, alarm) else {
                continue;
            };
            if let Some(loss) = self.loss.get().filter(|_| lost > 0) {
                batch.extend(loss(lost));
            }
            // It has failed for good: nobody is left to be told.
            let _ = out.write_all(&batch);
            batch.clear();
        }
    }

    /// Waits for lines and takes them; returns the number of lines lost after them. `None` if there
    /// are none yet, and the alarm is to be asked again.
    fn take(&self, batch: &mut Vec<u8>, alarm: Option<Duration>) -> Option<u64> {
        let mut state = self.lock();
        state.writing = false;
        if state.is_empty() {
            self.emptied.notify_all();
        }
        if state.is_empty() && !state.woken {
            let time = alarm.unwrap_or(Duration::MAX);
            let waited = self.filled.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.woken = false;
        if state.is_empty() {
            return None;
        }
        state.writing = true;
        std::mem::swap(batch, &mut state.bytes);
        Some(std::mem::take(&mut state.lost))
    }

    fn flush(&self, deadline: Instant) {
        // A panic may come while this thread holds the lock.
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => {
                thread::sleep(Duration::from_millis(10));
                let Ok(state) = self.state.try_lock() else {
                    return;
                };
                state
            }
        };
        while state.writing || !state.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.emptied.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Standard error. It may not wait by itself, because another process that shares it has changed that:
/// then it is waited for here.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match io::stderr().write(bytes) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let stderr = io::stderr();
                    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
                    let _ = poll(&mut fds, None);
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A reader's end: takes a write when it is told to.
    struct Slow {
        allowed: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.allowed.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    /// A queue whose thread writes to a slow reader.
    fn slow() -> (Queue, Sender<()>, Receiver<Vec<u8>>) {
        let queue = Queue::new(LONG);
        queue.on_loss(|lines| format!("{lines} lost\n").into_bytes());
        let (allow, writes) = write_slowly(&queue);
        (queue, allow, writes)
    }

    /// Starts the thread of a queue, with a slow reader.
    fn write_slowly(queue: &Queue) -> (Sender<()>, Receiver<Vec<u8>>) {
        queue.started.store(true, Ordering::Relaxed);
        let (allow, allowed) = channel();
        let (written, writes) = channel();
        let shared = Arc::clone(&queue.shared);
        thread::spawn(move || shared.write_all(&mut Slow { allowed, written }));
        (allow, writes)
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (queue, allow, writes) = slow();
        let mut expected = Vec::new();
        for number in 0..1000 {
            let line = format!("{number}\n").into_bytes();
            queue.push(&line);
            expected.extend(line);
            allow.send(()).unwrap();
        }
        queue.flush();
        assert_eq!(writes.try_iter().collect::<Vec<_>>().concat(), expected);
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_and_said_in_their_place() {
        let (queue, allow, writes) = slow();
        let line = [b"x".repeat(1023), vec![b'\n']].concat();
        let pushed = 2 * CAPACITY / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        assert!(queue.shared.lock().bytes.len() <= CAPACITY);
        for _ in 0..10 {
            allow.send(()).unwrap(); // it may take the lines in one piece or in several
        }
        queue.flush();
        queue.push(b"next\n");
        queue.flush();
        let written: Vec<_> = writes.try_iter().collect();
        let text = String::from_utf8(written.concat()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [kept @ .., loss, next] = &lines[..] else {
            panic!("{lines:?}");
        };
        let missing = pushed - kept.len();
        assert!(missing > 0);
        let expected = format!("{missing} lost");
        assert_eq!((*loss, *next), (&*expected, "next"));
    }

    #[test]
    fn flush_waits_for_no_reader_for_ever() {
        let (mut queue, allow, writes) = slow();
        queue.patience = Mutex::new(Duration::from_millis(20));
        queue.push(b"line\n");
        queue.flush();
        assert!(writes.try_recv().is_err());
        queue.patience = Mutex::new(LONG);
        allow.send(()).unwrap();
        queue.flush();
        assert_eq!(writes.try_recv().unwrap(), b"line\n");
    }

    /// Each flush had a second of its own.
    #[test]
    fn flushes_wait_for_one_time_all_together() {
        let (mut queue, _allow, _writes) = slow();
        let patience = Duration::from_millis(40);
        queue.patience = Mutex::new(patience);
        queue.push(b"line\n");
        for parts in [2, 4, 8] {
            queue.flush();
            assert!(*queue.patience.lock().unwrap() <= patience / parts);
        }
    }

    /// Lost wake-up: what changed the alarm between its question and the wait told no thread.
    #[test]
    fn alarm_that_changes_before_the_wait_is_asked_again() {
        let queue = Queue::new(LONG);
        let calls = AtomicU32::new(0);
        let shared = Arc::clone(&queue.shared);
        queue.on_alarm(move || {
            match calls.fetch_add(1, Ordering::Relaxed) {
                0 => shared.wake(),
                1 => shared.lock().push(b"summary\n"),
                _ => {}
            }
            None
        });
        let (allow, writes) = write_slowly(&queue);
        allow.send(()).unwrap();
        assert_eq!(writes.recv_timeout(LONG).unwrap(), b"summary\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Each line is either written or in a number of lost ones, whatever the reader does.
        #[test]
        fn lines_written_and_lines_lost_are_all_lines(
            steps in vec((1..40_usize, 1..30_000_usize, any::<bool>()), 1..30)
        ) {
            let (queue, allow, writes) = slow();
            let (mut pushed, mut text) = (0, Vec::new());
            for (lines, length, is_read) in steps {
                for _ in 0..lines {
                    let number = format!("{pushed} ");
                    queue.push(format!("{number:x<length$}\n").as_bytes());
                    pushed += 1;
                }
                if is_read {
                    allow.send(()).unwrap();
                    text.extend(writes.recv_timeout(LONG).unwrap());
                }
            }
            drop(allow);
            queue.flush();
            text.extend(writes.try_iter().flatten());
            assert_complete(&String::from_utf8(text).unwrap(), pushed);
        }
    }

    /// Asserts that the lines have the numbers up to `count`, but for those said to be lost there.
    #[track_caller]
    fn assert_complete(text: &str, count: usize) {
        let mut next = 0;
        for line in text.lines() {
            let (number, rest) = line.split_once(' ').unwrap();
            let number: usize = number.parse().unwrap();
            if rest == "lost" {
                next += number;
            } else {
                assert_eq!(number, next);
                next += 1;
            }
        }
        assert_eq!(next, count);
    }
}
