//! The one struct: state shared by all roles, and the role.

use std::time::Duration;

use thiserror::Error;

use crate::{
    Config, Configuration, Entry, EntryId, EntryKind, Envelope, Fetch, HardState, Index, NodeId, ReadId,
    Ready, Stamp, Term, Time, WriteNumber,
};

/// What a restarted (or newly formed) node knows from its durable state.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The entry just below the first one the log still holds: the founding entry's id, or a snapshot's last. Its term
    /// answers for the compacted index (R17); it is committed.
    pub base: EntryId,
    /// The configuration as of `base`.
    pub configuration: Configuration,
    /// All configurations in the log after `base`, ascending by index.
    pub later_configurations: Vec<(Index, Configuration)>,
    /// The terms of all entries after `base`, as runs: (first index of the run, its term), ascending.
    pub term_runs: Vec<(Index, Term)>,
    /// Last entry of the log (equals `base` when it holds none after it).
    pub last: EntryId,
    /// What the state machine has applied already; at least `base.index`.
    pub applied: Index,
}

/// A durable state that no correct node leaves behind (R43, R46): the node must not start as a voter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// The stored state contradicts itself.
    #[error(
        "the durable state contradicts itself: {what}; do not start this node, replace its data directory"
    )]
    Contradiction {
        /// Which rule is broken, with the values seen.
        what: String,
    },
    /// The settings can not work.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
}

/// A command that asks for a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Command (configurations have a call of their own).
    pub kind: EntryKind,
    /// Log time and session.
    pub stamp: Stamp,
    /// The encoded command.
    pub payload: bytes::Bytes,
}

/// A proposal that was not accepted: nothing of it is in any log, and never will be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Too many accepted bytes are not committed yet (R78).
    #[error("{uncommitted_bytes} bytes wait to be committed")]
    Overloaded {
        /// How many.
        uncommitted_bytes: usize,
    },
}

/// A read batch that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Too many batches wait already.
    #[error("too many reads wait for a confirmation")]
    Overloaded,
}

/// What a node is at the moment, for status and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows.
    Follower,
    /// Asks for pre-votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One Raft group on one node.
#[derive(Debug)]
pub struct Raft {
    id: NodeId,
}

#[allow(unused_variables, clippy::todo, missing_docs, clippy::needless_pass_by_value)]
impl Raft {
    pub fn new(
        id: NodeId,
        config: Config,
        restored: Restored,
        seed: u64,
        now: Time,
    ) -> Result<Raft, RestoreError> {
        todo!()
    }
    /// When [`Raft::tick`] wants to be called next, at the latest.
    pub fn next_deadline(&self) -> Time {
        todo!()
    }
    /// Time passed: time-outs, heartbeats.
    pub fn tick(&mut self, now: Time) {
        todo!()
    }
    /// A message came in.
    pub fn step(&mut self, now: Time, envelope: Envelope) {
        todo!()
    }
    /// Appends a batch to the leader's log, in order, all or nothing. Returns the id of the first; the rest follow it.
    pub fn propose(&mut self, now: Time, proposals: Vec<Proposal>) -> Result<EntryId, ProposeError> {
        todo!()
    }
    /// Asks for a read index for a batch of reads; the outcome comes in [`Ready::reads`]. Works on every role (a follower
    /// asks the leader).
    pub fn read(&mut self, now: Time, id: ReadId) -> Result<(), ReadError> {
        todo!()
    }
    /// All writes up to `number` are durable.
    pub fn persisted(&mut self, now: Time, number: WriteNumber) {
        todo!()
    }
    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        todo!()
    }
    /// Entries that a [`Fetch`] asked for: contiguous from `fetch.from`, at least one.
    pub fn fetched(&mut self, now: Time, fetch: Fetch, entries: Vec<Entry>) {
        todo!()
    }
    /// The connection to `peer`'s process was reset: it may be dead. Its appends under way are lost.
    pub fn peer_reset(&mut self, now: Time, peer: NodeId) {
        todo!()
    }
    /// Everything that must happen next. Call until it is empty, after any other call.
    pub fn take_ready(&mut self, now: Time) -> Ready {
        todo!()
    }
    pub fn id(&self) -> NodeId {
        self.id
    }
    pub fn term(&self) -> Term {
        todo!()
    }
    pub fn role(&self) -> RoleName {
        todo!()
    }
    /// The leader of the current term, if known; this node itself when it leads.
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }
    /// When the leader was last heard from (now, when this node leads).
    pub fn leader_contact(&self, now: Time) -> Option<Duration> {
        todo!()
    }
    pub fn commit(&self) -> Index {
        todo!()
    }
    /// Durable here, up to this index.
    pub fn persisted_index(&self) -> Index {
        todo!()
    }
    pub fn last(&self) -> EntryId {
        todo!()
    }
    /// The latest configuration in the log, committed or not (thesis 4.1).
    pub fn configuration(&self) -> &Configuration {
        todo!()
    }
    /// May this leader serve reads and take configuration changes: has it committed an entry of its own term (R57, R68)?
    pub fn has_committed_in_term(&self) -> bool {
        todo!()
    }
}
