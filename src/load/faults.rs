//! Faults of a server under load, by kind.

/// The number of faults of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    counts: [u64; Fault::ALL.len()],
    /// The reason why the first connection failed.
    cause: Option<String>,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection that could not be opened.
    Refused,
    /// A connection that the server has closed early.
    Closed,
    /// A connection that has failed.
    Reset,
    /// A message without an answer before a later one was answered; with datagrams any message
    /// without an answer in time.
    Lost,
    /// A message without an answer, as were all that followed it.
    Unanswered,
    /// A message that was received again.
    Doubled,
    /// A message that was received after later ones.
    Disordered,
    /// A message that was changed, or bytes that are no message.
    Corrupt,
    /// A message that this client did not send, or that was never sent.
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

    /// The kind's name: one word.
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
    /// The number of faults of a kind.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// The number of faults of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The reason why the first connection failed, if one has: one line.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Adds faults of a kind.
    pub fn add(&mut self, fault: Fault, count: u64) {
        self.counts[fault as usize] += count;
    }

    /// Takes one fault back.
    pub(super) fn take_back(&mut self, fault: Fault) {
        let count = &mut self.counts[fault as usize];
        *count = count.saturating_sub(1);
    }

    /// Adds a connection that has failed.
    pub(super) fn lose(&mut self, fault: Fault, cause: impl FnOnce() -> String) {
        self.add(fault, 1);
        self.cause.get_or_insert_with(cause);
    }
}
