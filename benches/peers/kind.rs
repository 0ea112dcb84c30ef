//! The kinds of servers that are measured.

/// The service of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    /// Lines, to all but their sender.
    Broadcast,
    /// The same; a client that doesn't read misses lines, and delays no other.
    Skipping,
    /// Echo of datagrams.
    Datagrams,
    Discard,
    Chargen,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Echo,
        Self::Broadcast,
        Self::Skipping,
        Self::Datagrams,
        Self::Discard,
        Self::Chargen,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
            Self::Skipping => "skipping",
            Self::Datagrams => "datagrams",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
