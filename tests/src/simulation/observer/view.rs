//! The observer's picture of one node.

use std::collections::VecDeque;
use std::sync::Arc;

use raftkv_raft::{Configuration, Entry, EntryKind, HardState, WriteNumber};

use crate::simulation::random::{mix, mix_bytes};

/// An entry as the observer keeps it: `chain` hashes it together with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    pub(crate) term: u64,
    pub(crate) chain: u64,
}

/// A write that was asked for and is not known durable.
#[derive(Clone, Debug)]
pub(crate) struct PendingWrite {
    pub(crate) number: WriteNumber,
    pub(crate) hard_state: HardState,
    /// Index of the first entry that is cut.
    pub(crate) truncate_from: Option<u64>,
    pub(crate) entries: Vec<Mirrored>,
}

impl PendingWrite {
    /// Does a snapshot take the place of the whole log? Nothing else cuts the founding entry.
    pub(crate) fn is_install(&self) -> bool {
        self.truncate_from == Some(1)
    }
}

/// One node identity: what it holds, what of it is durable, what it was last seen to be.
#[derive(Debug)]
pub(crate) struct NodeView {
    pub(crate) slot: usize,
    pub(crate) identity: u64,
    /// The log as the node sees it, index 1 first.
    pub(crate) log: Vec<Mirrored>,
    /// The log as a power failure would leave it, at the least.
    pub(crate) durable: Vec<Mirrored>,
    pub(crate) durable_hard_state: Option<HardState>,
    pub(crate) pending: VecDeque<PendingWrite>,
    /// Configurations in `log`, by index.
    pub(crate) configurations: Vec<(u64, Arc<Configuration>)>,
    pub(crate) term: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    /// The term it leads.
    pub(crate) leads: Option<u64>,
    /// The latest configuration in its log when it was last polled, before what that poll appended.
    pub(crate) governing: Option<Arc<Configuration>>,
    /// All configurations up to this index were found to follow each other lawfully.
    pub(crate) checked_change: Option<u64>,
    /// The last snapshot that it took in ends there.
    pub(crate) installed_up_to: u64,
    /// So much was decided when its process last started.
    pub(crate) started_behind: u64,
}

impl NodeView {
    pub(crate) fn new(slot: usize, identity: u64) -> NodeView {
        NodeView {
            slot,
            identity,
            log: Vec::new(),
            durable: Vec::new(),
            durable_hard_state: None,
            pending: VecDeque::new(),
            configurations: Vec::new(),
            term: 0,
            commit: 0,
            applied: 0,
            leads: None,
            governing: None,
            checked_change: None,
            installed_up_to: 0,
            started_behind: 0,
        }
    }

    /// Takes the first write that waits, if it is durable now that all up to `number` are.
    pub(crate) fn next_persisted(&mut self, number: WriteNumber) -> Option<PendingWrite> {
        self.pending.front().filter(|write| write.number <= number)?;
        self.pending.pop_front()
    }

    /// What a snapshot that was to be installed, and ends at `index`, stands for.
    pub(crate) fn installed(&self, index: u64) -> Option<&[Mirrored]> {
        let installs = self.pending.iter().filter(|write| write.is_install());
        let mut ending = installs.filter(|write| write.entries.len() as u64 == index);
        ending.next().map(|write| &write.entries[..])
    }

    /// Has it a log at all?
    pub(crate) fn is_formed(&self) -> bool {
        self.durable_hard_state.is_some()
    }

    pub(crate) fn chain_at(&self, index: u64) -> Option<u64> {
        at(&self.log, index).map(|entry| entry.chain)
    }

    pub(crate) fn durable_chain_at(&self, index: u64) -> Option<u64> {
        at(&self.durable, index).map(|entry| entry.chain)
    }

    /// The latest configuration in its log.
    pub(crate) fn configuration(&self) -> Option<Arc<Configuration>> {
        self.configurations
            .last()
            .map(|(_, configuration)| Arc::clone(configuration))
    }
}

/// The entry at an index of a mirrored log.
pub(crate) fn at(log: &[Mirrored], index: u64) -> Option<&Mirrored> {
    log.get(usize::try_from(index.checked_sub(1)?).ok()?)
}

/// The hash of an entry and all before it.
pub(crate) fn chain_of(before: u64, entry: &Entry) -> u64 {
    let kind = match entry.kind {
        EntryKind::Noop => 0,
        EntryKind::Command => 1,
        EntryKind::Configuration => 2,
    };
    let hash = mix(mix(before, entry.id.term.0), entry.id.index.get() << 2 | kind);
    let stamp = &entry.stamp;
    let session = mix(mix(stamp.session, stamp.sequence), stamp.first_unacknowledged);
    mix_bytes(mix(mix(hash, stamp.log_time_us), session), &entry.payload)
}
