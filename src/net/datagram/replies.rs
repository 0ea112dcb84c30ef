//! Replies not yet taken by the kernel.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use super::received::{Datagram, ReplyFn};
use crate::net::address::Address;

/// A queue of replies, oldest first, whose bytes share one buffer.
///
/// The buffer is cleared only when the queue is empty, which it is before the next batch.
#[derive(Default)]
pub(super) struct ReplyQueue {
    bytes: Vec<u8>,
    queued: VecDeque<QueuedReply>,
}

struct QueuedReply {
    bytes: Range<usize>,
    to: Address,
    from: Option<IpAddr>,
}

/// A reply that is to be sent.
pub(super) struct ReplyTo<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) to: &'a Address,
    /// The local IP address to send it from, if the socket is bound to several.
    pub(super) from: Option<IpAddr>,
}

impl ReplyQueue {
    /// Queues the reply to a datagram, if there is one.
    pub(super) fn push(&mut self, datagram: Datagram<'_>, reply: &mut ReplyFn<'_>) {
        let start = self.bytes.len();
        if reply(datagram, &mut self.bytes) {
            self.queued.push_back(QueuedReply {
                bytes: start..self.bytes.len(),
                to: datagram.from.clone(),
                from: datagram.to,
            });
        } else {
            self.bytes.truncate(start);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ReplyTo<'_>> {
        self.queued.iter().map(|queued| ReplyTo {
            bytes: &self.bytes[queued.bytes.clone()],
            to: &queued.to,
            from: queued.from,
        })
    }

    /// Removes the first `count` replies and returns the number of their bytes.
    pub(super) fn remove_first(&mut self, count: usize) -> u64 {
        let removed = self.queued.drain(..count);
        let bytes = removed.map(|queued| queued.bytes.len() as u64).sum();
        if self.queued.is_empty() {
            self.bytes.clear();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_queued_in_order_and_removed_from_the_front() {
        let mut queue = ReplyQueue::default();
        let from = Address::Udp(([192, 0, 2, 1], 5000).into());
        for (input, has_reply) in [(&b"one"[..], true), (b"two", false), (b"three", true)] {
            let datagram = Datagram {
                bytes: input,
                from: &from,
                to: None,
            };
            queue.push(datagram, &mut |datagram, reply| {
                reply.extend(datagram.bytes);
                has_reply
            });
        }
        let bytes: Vec<&[u8]> = queue.iter().map(|reply| reply.bytes).collect();
        assert_eq!(bytes, [&b"one"[..], b"three"]);
        assert_eq!(queue.remove_first(1), 3);
        assert_eq!(queue.remove_first(1), 5);
        assert!(queue.is_empty() && queue.bytes.is_empty());
    }
}
