//! The servers that are measured: ours, and beside it others that one would write.
//!
//! | program | what it is |
//! |---|---|
//! | `resound` | this library, with the settings that the binary has by default |
//! | `floor` | the cheapest loop over epoll(7) that one would write in C, call by call |
//! | `tokio` | its `current_thread` runtime, a task a client |
//! | `threads` | a thread a client, as in the tutorials |
//!
//! All of them give the same right answers, which the benches check; but only ours limits its
//! buffers, handles slow consumers and logs the reasons of closes.

mod child;
#[cfg(target_os = "linux")]
mod floor;
mod kind;
mod ours;
mod threads;
mod tokio;

pub(crate) use kind::Kind;

/// The programs that are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Resound,
    Floor,
    Tokio,
    Threads,
}

impl Program {
    const ALL: [Self; 4] = [Self::Resound, Self::Floor, Self::Tokio, Self::Threads];

    /// The programs of a kind. A room of threads stands still for as long as a client
    /// doesn't read; streams in one direction are measured beside the floor alone.
    pub(crate) fn all(kind: Kind) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |program| match program {
            Self::Resound => true,
            Self::Floor => cfg!(target_os = "linux"),
            Self::Tokio => !matches!(kind, Kind::Discard | Kind::Chargen),
            Self::Threads => !matches!(kind, Kind::Discard | Kind::Chargen | Kind::Skipping),
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resound => "resound",
            Self::Floor => "floor",
            Self::Tokio => "tokio",
            Self::Threads => "threads",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// Serves until the bench ends this process.
    pub(crate) fn serve(self, kind: Kind) {
        match self {
            Self::Resound => ours::serve(kind),
            #[cfg(target_os = "linux")]
            Self::Floor => floor::serve(kind),
            #[cfg(not(target_os = "linux"))]
            Self::Floor => unreachable!("there is no epoll here, and no bench asks for it"),
            Self::Tokio => tokio::serve(kind),
            Self::Threads => threads::serve(kind),
        }
    }
}
