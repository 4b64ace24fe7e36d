//! The words of Raft as types: nothing here is a bare integer, so a term can not be passed where an index is meant.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// Leadership epoch; grows with elections (paper §5.1). Term 0 exists only before a node was ever formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The term that follows this one.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of an entry in the log, counted from 1. "No index" is `Option<Index>`, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(NonZeroU64);

impl Index {
    /// The founding entry's index, the first of every log.
    pub const FIRST: Index = Index(NonZeroU64::MIN);

    /// An index from its number; `None` for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Index> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Index(number)),
            None => None,
        }
    }

    /// The number, at least 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Index {
        self.plus(1)
    }

    /// The index before this one; `None` for the first.
    #[must_use]
    pub fn previous(self) -> Option<Index> {
        Index::new(self.get() - 1)
    }

    /// The index `count` places further on.
    ///
    /// # Panics
    /// On overflow of 2^64, which no log reaches.
    #[must_use]
    pub fn plus(self, count: u64) -> Index {
        Index(self.0.checked_add(count).expect("an index fits 64 bits"))
    }

    /// How many places this index is past `earlier`; 0 if it is not past it.
    #[must_use]
    pub fn distance_from(self, earlier: Index) -> u64 {
        self.get().saturating_sub(earlier.get())
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of an entry: two logs that hold the same id hold the same entry and the same prefix (paper §5.3).
///
/// The derived order compares term first, then index: exactly "at least as up-to-date" of paper §5.4.1 (rule R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term of the leader that created the entry. First, so that the derived order is R3's.
    pub term: Term,
    /// Where it stands.
    pub index: Index,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// The random identity of a node, drawn when its data directory is made and never used again (design: names are labels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A moment on the caller's monotonic clock, in microseconds since an origin of the caller's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Further off than any clock reaches: "no deadline".
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment `duration` later (saturating at [`Time::NEVER`]).
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What must be durable before a node answers (paper Fig. 2), plus the commit index it knew then.
///
/// The commit index is a help for restarts, not a promise: it may lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardState {
    /// Latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Known committed when this was written.
    pub commit: Index,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The first entry of each leader's term (paper §8); empty.
    Noop,
    /// A command for the state machine.
    Command,
    /// A configuration of the group, effective on append (thesis 4.1); the payload is the server's encoding and
    /// [`Entry::configuration`] what this crate reads of it.
    Configuration,
}

/// What the leader (and later sessions) say about an entry beside its payload. Opaque to consensus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Log time in microseconds: never falls along a log. Stamped by the leader (R74).
    pub log_time_us: u64,
    /// Client session, 0 when none.
    pub session: u64,
    /// The session's request number.
    pub sequence: u64,
    /// The session's first sequence whose answer the client has not acknowledged.
    pub first_unacknowledged: u64,
}

/// One place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term and index.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// Log time and session.
    pub stamp: Stamp,
    /// The command or configuration as its author encoded it; never re-encoded on its way.
    pub payload: bytes::Bytes,
    /// Present exactly when `kind` is [`EntryKind::Configuration`].
    pub configuration: Option<std::sync::Arc<crate::Configuration>>,
}

impl Entry {
    /// What the entry weighs in a message or in memory, in bytes (payload and a fixed overhead).
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.payload.len() + Self::OVERHEAD_BYTES
    }

    /// Charged for an entry beside its payload.
    pub const OVERHEAD_BYTES: usize = 64;
}
