//! What a node is given at its start.

use raftkv_protocol::{Address, Introduction};
use raftkv_raft::{self as raft, Entry};

use super::Quarantine;
use super::scrub::ScrubConfig;
use crate::disk::Disk;
use crate::log::{Log, Recovered};
use crate::store::history::HistoryLimits;
use crate::store::{Companions, StoreConfig, StoreNumber, Tables};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Label, identity, addresses and peer list of this node; `formed` is ignored.
    pub introduction: Introduction,
    /// A member of the cluster that an unformed node asks to be let in; `None`: it forms one with its peers.
    pub join: Option<Address>,
    /// Consensus.
    pub raft: raft::Config,
    /// Sizes.
    pub limits: raftkv_protocol::Limits,
    /// Most requests waiting at once; beyond: `Overloaded`.
    pub max_pending_requests: usize,
    /// How long a request waits for a leader, at most.
    pub leader_wait: std::time::Duration,
    /// The state machine's memory.
    pub store: StoreConfig,
    /// When it drains, and what is kept behind it.
    pub retention: RetentionConfig,
    /// When what the members have stored is compared.
    pub scrub: ScrubConfig,
    /// Program version, for status.
    pub version: String,
}

/// When the overlay drains beside its size, and how much of log and history is kept behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// The generation that is written to is frozen after so many bytes of entries, though it may be small: they are what a
    /// restart has to replay.
    pub freeze_log_bytes: u64,
    /// ... and after this time.
    pub freeze_age: std::time::Duration,
    /// Entries kept behind what the base holds, for followers that are behind; at most so many bytes of them.
    pub log_tail_bytes: u64,
    /// ... and at most so many.
    pub log_tail_entries: u64,
    /// How much of history is kept. The leader's settings decide, through the log.
    pub history: HistoryLimits,
    /// Puts are refused while the disk has less room than this, bytes: what is needed to drain, to delete and to compact
    /// must stay.
    pub reserve_bytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        RetentionConfig {
            freeze_log_bytes: 96 << 20,
            freeze_age: std::time::Duration::from_secs(300),
            log_tail_bytes: 64 << 20,
            log_tail_entries: 1_000_000,
            history: HistoryLimits {
                max_age_us: 3600 * 1_000_000,
                max_events: 10_000_000,
                max_bytes: 1 << 30,
            },
            reserve_bytes: 512 << 20,
        }
    }
}

/// What a node starts from.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its log.
    pub log: RestoredLog,
    /// Which store is current.
    pub store: StoreNumber,
    /// What its base holds; `None` before the first drain.
    pub state: Option<RestoredState>,
    /// What an earlier process found, if it was the odd one; see [`crate::disk::quarantine`].
    pub quarantine: Option<Quarantine>,
}

/// What the base holds; see [`crate::store::companions_in`].
#[derive(Clone, Debug)]
pub struct RestoredState {
    /// The state machine's numbers.
    pub companions: Companions,
    /// What memory holds all of.
    pub tables: Tables,
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

impl RestoredLog {
    /// What a node needs to know of it, and the log itself.
    pub fn of<D: Disk>(recovered: Recovered<D>) -> (RestoredLog, Log<D>) {
        let Recovered {
            log,
            hard_state,
            base,
            term_runs,
            last,
            configurations,
            ..
        } = recovered;
        let restored = RestoredLog {
            hard_state,
            base,
            term_runs,
            last,
            configurations,
        };
        (restored, log)
    }
}
