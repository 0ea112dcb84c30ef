//! What goes wrong with a server under load.

/// What has gone wrong: how often, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    counts: [u64; Fault::ALL.len()],
    /// Why the first connection was refused, or lost.
    cause: Option<String>,
}

/// A kind of what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection that couldn't be opened.
    Refused,
    /// A connection that the server has ended before its time.
    Closed,
    /// A connection that has failed.
    Reset,
    /// A message that never came, while later ones did; over datagrams any that never came.
    Lost,
    /// A message that nothing has come after.
    Unanswered,
    /// A message that came again.
    Doubled,
    /// A message that came after later ones.
    Disordered,
    /// A message whose contents have changed, or something that is no message.
    Corrupt,
    /// A message that was another client's, or nobody's.
    Stray,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Closed,
        Self::Reset,
        Self::Lost,
        Self::Unanswered,
        Self::Doubled,
        Self::Disordered,
        Self::Corrupt,
        Self::Stray,
    ];

    /// Its name, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Lost => "lost",
            Self::Unanswered => "unanswered",
            Self::Doubled => "doubled",
            Self::Disordered => "disordered",
            Self::Corrupt => "corrupt",
            Self::Stray => "stray",
        }
    }
}

impl Faults {
    /// How often it has happened.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// How much has gone wrong in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Why the first connection was refused, or lost, if one was.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// It has happened so often.
    pub fn add(&mut self, fault: Fault, count: u64) {
        self.counts[fault as usize] += count;
    }

    /// Takes one back: what was lost has come.
    pub(super) fn take_back(&mut self, fault: Fault) {
        let count = &mut self.counts[fault as usize];
        *count = count.saturating_sub(1);
    }

    /// A connection that came to a bad end.
    pub(super) fn lose(&mut self, fault: Fault, cause: impl FnOnce() -> String) {
        self.add(fault, 1);
        self.cause.get_or_insert_with(cause);
    }
}
