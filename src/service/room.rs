//! The settings of a room, and how its limits relate.

use std::fmt;

use super::MOST_INPUT;
use super::framing::Framing;
use super::log::Keep;
use super::tag::TagFormat;

/// How many bytes the tags of one piece of input may come to.
pub(super) const MOST_TAGS: usize = 512 * 1024;
/// The largest message that may be allowed, in bytes.
const MOST_MESSAGE: usize = 1 << 30;
/// The settings of a [`Broadcast`](super::Broadcast); [`Default`] gives those of the command line;
/// assign the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// How messages are found.
    pub framing: Framing,
    /// At most how many bytes a message has, its frame (or newline) not counted; who sends a
    /// longer one is closed ([`CloseReason::MessageTooLong`](crate::CloseReason::MessageTooLong)). 1 to 1 GiB.
    pub max_message: usize,
    /// Senders get their own messages, too.
    pub include_sender: bool,
    /// For how many bytes the shared log has room: with half of it behind some client nobody
    /// is read. A quarter holds a turn's input and a message.
    pub log_size: u64,
    /// What those who come get of what was published before.
    pub replay: Replay,
    /// What goes in front of each message.
    pub tag: Option<TagFormat>,
    /// The room is told who comes and goes, and who comes is told who is there.
    pub announce: bool,
}

/// What newcomers get of the past: the newest messages, in order, as far as the log still holds
/// them. A quarter of the log is the limit anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    #[default]
    None,
    /// So many messages.
    Messages(u64),
    /// As many whole messages as so many bytes hold.
    Bytes(u64),
}

/// Why there is no such [`Broadcast`](super::Broadcast).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomError {
    /// [`Room::max_message`] is 0 or larger than 1 GiB.
    MaxMessage,
    /// [`Room::log_size`] has to be so many bytes, at least: four times what a client may bring
    /// in one turn ([`MOST_INPUT`], a message, and with tags another 512 KiB).
    LogSize(u64),
    /// [`Room::replay`] may have so many bytes, at most: a quarter of the log.
    Replay(u64),
}

impl Default for Room {
    fn default() -> Self {
        Self {
            framing: Framing::Lines,
            max_message: 64 * 1024,
            include_sender: false,
            log_size: 4 * 1024 * 1024,
            replay: Replay::None,
            tag: None,
            announce: false,
        }
    }
}

impl Room {
    /// What is kept for newcomers.
    pub(super) fn keep(&self) -> Keep {
        match self.replay {
            Replay::None | Replay::Messages(0) | Replay::Bytes(0) => Keep::default(),
            Replay::Messages(messages) => Keep {
                messages,
                bytes: self.log_size / 4,
            },
            Replay::Bytes(bytes) => Keep {
                messages: u64::MAX,
                bytes,
            },
        }
    }

    /// Whether there can be a [`Broadcast`](super::Broadcast) with these settings.
    ///
    /// # Errors
    /// When a limit is out of range, or doesn't go with another one.
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
            Self::MaxMessage => f.write_str("a message has at least a byte and at most 1 GiB"),
            Self::LogSize(least) => write!(f, "the log needs at least {least} bytes"),
            Self::Replay(most) => write!(f, "a replay has at most {most} bytes"),
        }
    }
}

impl std::error::Error for RoomError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_go_together_are_refused() {
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
