//! The settings of a room, and the relations between its limits.

use std::fmt;
use std::time::Duration;

use super::MOST_INPUT;
use super::framing::Framing;
use super::log::Retention;
use super::tag::TagFormat;

/// Most bytes of tags for the input of one turn.
pub(super) const MOST_TAGS: usize = 512 * 1024;
/// Largest value of [`Room::max_message`], in bytes.
const MOST_MESSAGE: usize = 1 << 30;

/// The settings of a [`Broadcast`](super::Broadcast).
///
/// [`Default`] gives the defaults of the command line. Assign the fields that differ:
///
/// ```
/// use resound::{Broadcast, Replay, Room};
///
/// let mut room = Room::default();
/// room.replay = Replay::Messages(10);
/// room.announce = true;
/// assert!(Broadcast::new(room).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// The form of messages. Default: [`Framing::Lines`].
    pub framing: Framing,
    /// Most bytes of a message, without its newline, length or tag: 1 to 1 GiB. Default: 64 KiB.
    ///
    /// The sender of a longer message is closed
    /// ([`CloseReason::MessageTooLong`](crate::CloseReason::MessageTooLong)), except that
    /// [`Framing::Raw`] splits it.
    pub max_message: usize,
    /// True if a client also gets its own messages. Default: false.
    pub include_sender: bool,
    /// Time after which text that waits for its newline is published with one; for clients that send
    /// no newlines. It counts from the beginning of the text. Only with [`Framing::Lines`]. Default: never,
    /// because a line whose rest is late on the network must not be torn.
    pub line_timeout: Option<Duration>,
    /// Size of the shared log, in bytes. Default: 4 MiB.
    ///
    /// A client that is more than half of it behind holds up the others: no client is read. A
    /// quarter of it has to hold the input of one turn: [`MOST_INPUT`], a message, and with tags
    /// 512 KiB.
    pub log_size: u64,
    /// Past messages that a new client is sent. Default: [`Replay::None`].
    pub replay: Replay,
    /// Text in front of each message. Default: none.
    pub tag: Option<TagFormat>,
    /// True if the room is told of each client that [arrives](crate::Service::arrive) or leaves, and
    /// a new client of those present. Default: false.
    pub announce: bool,
}

/// Past messages that a new client is sent: the newest ones, whole and in their order.
///
/// They are at most a quarter of [`Room::log_size`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// No messages.
    #[default]
    None,
    /// At most this number of messages; fewer, if they exceed a quarter of the log.
    Messages(u64),
    /// At most this number of bytes, newlines, lengths and tags included. More than a quarter of
    /// the log is an error ([`RoomError::Replay`]).
    Bytes(u64),
}

/// A limit of a [`Room`] that is out of range or contradicts another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomError {
    /// [`Room::max_message`] is 0 or larger than 1 GiB.
    MaxMessage,
    /// [`Room::log_size`] is less than this number of bytes: four times the input of one turn
    /// ([`MOST_INPUT`], a message, and with tags 512 KiB).
    LogSize(u64),
    /// [`Room::replay`] is more than this number of bytes: a quarter of the log.
    Replay(u64),
}

impl Default for Room {
    fn default() -> Self {
        Self {
            framing: Framing::Lines,
            max_message: 64 * 1024,
            include_sender: false,
            line_timeout: None,
            log_size: 4 * 1024 * 1024,
            replay: Replay::None,
            tag: None,
            announce: false,
        }
    }
}

impl Room {
    /// The messages that the log retains for a replay.
    pub(super) fn retention(&self) -> Retention {
        match self.replay {
            Replay::None | Replay::Messages(0) | Replay::Bytes(0) => Retention::default(),
            Replay::Messages(messages) => Retention {
                messages,
                bytes: self.log_size / 4,
            },
            Replay::Bytes(bytes) => Retention {
                messages: u64::MAX,
                bytes,
            },
        }
    }

    /// Checks the limits, as [`Broadcast::new`](super::Broadcast::new) does.
    ///
    /// # Errors
    /// If a limit is out of range or contradicts another one.
    pub fn check(&self) -> Result<(), RoomError> {
        if self.max_message == 0 || self.max_message > MOST_MESSAGE {
            return Err(RoomError::MaxMessage);
        }
        let tags = if self.tag.is_some() { MOST_TAGS } else { 0 };
        let least = 4 * (MOST_INPUT + self.max_message + tags) as u64;
        let most = self.log_size / 4;
        match self.replay {
            _ if self.log_size < least => Err(RoomError::LogSize(least)),
            Replay::Bytes(bytes) if bytes > most => Err(RoomError::Replay(most)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxMessage => f.write_str("the longest message must have 1 byte to 1 GiB"),
            Self::LogSize(least) => write!(f, "the log needs at least {least} bytes"),
            Self::Replay(most) => write!(f, "a replay may have at most {most} bytes"),
        }
    }
}

impl std::error::Error for RoomError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let check = |change: fn(&mut Room)| {
            let mut room = Room::default();
            change(&mut room);
            room.check()
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|r| r.max_message = 0), Err(RoomError::MaxMessage));
        let least = 4 * (256 + 64) * 1024;
        assert_eq!(check(|r| r.log_size = 1), Err(RoomError::LogSize(least)));
        assert_eq!(check(|r| r.log_size = 4 * (256 + 64) * 1024), Ok(()));
        assert_eq!(check(|r| r.replay = Replay::Bytes(1 << 20)), Ok(()));
        let replay = check(|r| r.replay = Replay::Bytes((1 << 20) + 1));
        assert_eq!(replay, Err(RoomError::Replay(1 << 20)));
    }
}
