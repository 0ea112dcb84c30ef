//! A property test of the log: any sequence of calls, against a model that never frees anything.

use proptest::prelude::*;

use super::tests::read;
use super::{Ends, Log, Retention};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Join,
    Forward(usize, u64),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![1 => Just(b'\n'), 4 => any::<u8>()];
    prop_oneof![
        3 => prop::collection::vec(byte, 0..30).prop_map(Step::Append),
        1 => Just(Step::Join),
        4 => (any::<usize>(), 0..40u64).prop_map(|(index, by)| Step::Forward(index, by)),
        1 => any::<usize>().prop_map(Step::Leave),
    ]
}

fn retention() -> impl Strategy<Value = Retention> {
    let (some, all) = (0..6u64, Just(u64::MAX));
    (prop_oneof![some, all], 0..60u64).prop_map(|(messages, bytes)| Retention { messages, bytes })
}

/// The log as a plain vector.
#[derive(Debug, Default)]
struct Model {
    bytes: Vec<u8>,
    cursors: Vec<u64>,
}

impl Model {
    fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Positions between messages, 0 included.
    fn boundaries(&self) -> Vec<u64> {
        let ends = self.bytes.iter().enumerate();
        let ends = ends.filter(|(_, byte)| **byte == b'\n');
        [0].into_iter()
            .chain(ends.map(|(at, _)| at as u64 + 1))
            .collect()
    }

    /// Position at which the replay to a new client begins.
    fn replay_start(&self, retention: Retention) -> u64 {
        let boundaries = self.boundaries();
        let messages = boundaries.len() - 1;
        let most = usize::try_from(retention.messages).unwrap_or(usize::MAX);
        let wanted = messages.saturating_sub(most);
        let fits = |at: &&u64| self.end() - **at <= retention.bytes;
        *boundaries[wanted..]
            .iter()
            .find(fits)
            .unwrap_or(&self.end())
    }

    fn apply(&mut self, log: &mut Log, retention: Retention, step: Step) {
        let count = self.cursors.len();
        match step {
            Step::Append(mut bytes) => {
                bytes.push(b'\n');
                let (first, second) = bytes.split_at(bytes.len() / 2);
                log.append(first, Ends::Newlines);
                log.append(second, Ends::Newlines);
                self.bytes.extend(bytes);
            }
            Step::Join => {
                let cursor = log.join();
                assert_eq!(cursor, self.replay_start(retention));
                self.cursors.push(cursor);
            }
            Step::Forward(index, by) if count > 0 => {
                let to = self.end().min(self.cursors[index % count] + by);
                log.forward(&mut self.cursors[index % count], to);
            }
            Step::Leave(index) if count > 0 => {
                log.leave(self.cursors.swap_remove(index % count));
            }
            _ => {}
        }
    }

    fn check(&self, log: &Log) {
        assert_eq!(
            (log.end(), log.messages() + 1),
            (self.end(), self.boundaries().len() as u64)
        );
        let boundaries = self.boundaries();
        for &cursor in &self.cursors {
            let rest = &self.bytes[usize::try_from(cursor).unwrap()..];
            assert_eq!(read(log, cursor, self.end()), rest);
            let ended = boundaries
                .iter()
                .filter(|&&at| 0 < at && at <= cursor)
                .count();
            assert_eq!(log.ended(cursor), ended as u64);
            assert_eq!(log.is_boundary(cursor), boundaries.contains(&cursor));
            if let Some(next) = boundaries.iter().find(|&&at| at > cursor) {
                assert_eq!(log.next_end(cursor), *next);
            }
        }
        let newest = boundaries[boundaries.len().saturating_sub(2)];
        assert!(log.newest() == newest || newest < log.start());
    }
}

proptest! {
    #[test]
    fn every_cursor_reads_the_bytes_appended(
        power in 0..5u32,
        retention in retention(),
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let size = 1 << power;
        let mut log = Log::new(size, retention);
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut log, retention, step);
            model.check(&log);
            let oldest = model.cursors.iter().copied().min().unwrap_or(model.end());
            let wanted = oldest.min(model.replay_start(retention));
            // Beyond the replay: the segment in which it begins, and one for the message before.
            prop_assert!(log.start() <= oldest);
            prop_assert!(wanted - log.start() <= 2 * size as u64 + retention.bytes);
        }
    }
}
