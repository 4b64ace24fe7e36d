//! What a node is given at its start.

use raftkv_protocol::Introduction;
use raftkv_raft::{self as raft, Entry};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Label, identity, addresses and peer list of this node; `formed` is ignored.
    pub introduction: Introduction,
    /// Consensus.
    pub raft: raft::Config,
    /// Sizes.
    pub limits: raftkv_protocol::Limits,
    /// Most requests waiting at once; beyond: `Overloaded`.
    pub max_pending_requests: usize,
    /// How long a request waits for a leader, at most.
    pub leader_wait: std::time::Duration,
    /// Program version, for status.
    pub version: String,
}

/// What recovery found of this node's log; see [`crate::log::Recovered`].
#[derive(Clone, Debug)]
pub struct RestoredLog {
    /// Term, vote, commit.
    pub hard_state: raft::HardState,
    /// See [`crate::log::Recovered::base`].
    pub base: raft::EntryId,
    /// Runs of terms.
    pub term_runs: Vec<(raft::Index, raft::Term)>,
    /// Last entry.
    pub last: raft::EntryId,
    /// Configuration entries, the founding one included.
    pub configurations: Vec<Entry>,
}
