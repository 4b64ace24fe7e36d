//! Everything that must happen next, as one value.
//!
//! # Order
//! The core itself holds back each message that depends on a write until [`Raft::persisted`](crate::Raft::persisted)
//! reports that write: **every message in a `Ready` may be sent at once**, in order per receiver, before, after or while
//! the `Ready`'s own write is done. Writes are done in the order of their numbers. A message may be lost, doubled or
//! late; a write may not.

use crate::{Configuration, Entry, EntryId, Envelope, HardState, Index, NodeId, ReadId, SendSnapshot, Term};

/// Numbers writes of one process life, from 1, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

/// One ordered step of the durable stream (R33): hard state, a cut of the tail, then new entries, atomically as seen
/// after a crash or as a prefix of entries with the cut done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To be handed back to [`Raft::persisted`](crate::Raft::persisted).
    pub number: WriteNumber,
    /// Term, vote and commit as of this write. Rides with each write.
    pub hard_state: HardState,
    /// Discard every entry from this index on, before `entries` are appended.
    pub truncate_from: Option<Index>,
    /// Contiguous; start right after what is left of the log.
    pub entries: Vec<Entry>,
}

/// A received snapshot takes the place of state and log (R49): one step of the durable stream, as a whole or not at all.
///
/// After it is durable the node would restart from the snapshot, this hard state and an empty log that starts after `last`;
/// before, from what it had. A crash in between must end in one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// To be handed back to [`Raft::persisted`](crate::Raft::persisted) once it is durable. The entries that follow `last` come
    /// in [`Ready::committed`] from then on, so the snapshot must be the state machine's state by then.
    pub number: WriteNumber,
    /// The snapshot's last entry: names the one among those received, and is the new log's base.
    pub last: EntryId,
    /// Term, vote and commit as of this step.
    pub hard_state: HardState,
}

/// Why entries are to be read back from the durable log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FetchPurpose {
    /// For a follower that is behind the tail kept in memory.
    Peer(NodeId),
    /// For the state machine (replay after a restart).
    Apply,
}

/// "Read entries `from..=to` back from the durable log and hand them to [`Raft::fetched`](crate::Raft::fetched)";
/// fewer than asked is fine, none is an error (R25). At most one is open per purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Why.
    pub purpose: FetchPurpose,
    /// First entry wanted.
    pub from: Index,
    /// Last entry wanted; durable here.
    pub to: Index,
    /// Stop after the entry that passes this many bytes (at least one entry is read).
    pub max_bytes: usize,
}

/// What became of a batch of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Confirmed: may be served from the local state once `index` is applied here.
    Confirmed {
        /// The batch.
        id: ReadId,
        /// The read index.
        index: Index,
    },
    /// No leader confirmed it (leadership lost, follower without a leader, reply lost for too long): ask again.
    Dropped {
        /// The batch.
        id: ReadId,
    },
}

/// Changes worth a log line, and worth answering waiting clients for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// This node asks whether it could win (pre-vote).
    PreCampaign {
        /// The term it would campaign in.
        campaign_term: Term,
    },
    /// This node campaigns.
    Campaign {
        /// In this term.
        term: Term,
    },
    /// This node leads.
    Elected {
        /// This term.
        term: Term,
        /// Its no-op. Every entry of an earlier term that is at or beyond this index is gone.
        noop: Index,
    },
    /// This node led and does no more. Proposals that were accepted and not yet applied are *unknown*, never failed (R31).
    SteppedDown {
        /// The term it led in.
        term: Term,
        /// Why.
        reason: StepDown,
    },
    /// This node follows: the leader of `term` is known, or not (any more).
    Follows {
        /// Current term.
        term: Term,
        /// Its leader.
        leader: Option<NodeId>,
    },
    /// This leader began to hand over: it accepts no proposals.
    TransferStarted {
        /// To whom.
        target: NodeId,
    },
    /// The target did not take over in time: this leader goes on, and accepts proposals.
    TransferAborted {
        /// Who did not.
        target: NodeId,
    },
    /// This leader gave up its lease because the clock jumped (R72).
    LeaseDropped,
}

/// Why a leader stepped down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// A message with a higher term.
    HigherTerm,
    /// No quorum answered for an election time-out (check-quorum, thesis 6.2).
    LostQuorum,
    /// Its own disk did not finish a write for an election time-out (R39).
    SlowDisk,
    /// The node that it handed over to campaigns (R66).
    Transferred,
    /// The committed configuration does not name it as a voter (R62).
    NotAVoter,
}

/// What [`Raft::take_ready`](crate::Raft::take_ready) returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A snapshot to be installed: a step of the same durable stream as `write`, and before it. What was handed out in
    /// `committed` before this is part of it; nothing more is handed out until it is durable.
    pub install: Option<Install>,
    /// To be made durable; `None` when nothing changed.
    pub write: Option<Write>,
    /// To be sent now.
    pub messages: Vec<Envelope>,
    /// The next entries to apply, each exactly once and in order: committed, and durable here (R29). Includes no-ops and
    /// configurations; the state machine's applied index follows them all.
    pub committed: Vec<Entry>,
    /// Reads that got their index, or lost it.
    pub reads: Vec<ReadOutcome>,
    /// Entries to read back.
    pub fetches: Vec<Fetch>,
    /// Peers that need a snapshot.
    pub snapshots: Vec<SendSnapshot>,
    /// A joint configuration is committed: encode this one, which leaves it, and propose it
    /// ([`Raft::propose_change`](crate::Raft::propose_change)). Asked again with each heartbeat until that is done.
    pub leave_joint: Option<Configuration>,
    /// What changed, in order.
    pub transitions: Vec<Transition>,
}

impl Ready {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Ready::default()
    }
}
