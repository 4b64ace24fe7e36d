//! What the tests compare a log with: the writes it was given, in memory.

use bytes::Bytes;
use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{Entry, EntryId, EntryKind, HardState, Index, Stamp, Term, Write, WriteNumber};

use crate::disk::SimulatedDisk;
use crate::log::{Log, LogConfig, LogError, LogOwner, Recovered};
use crate::membership::Membership;

pub(super) const NODE: NodeId = NodeId(0x11);
pub(super) const OWNER: LogOwner = LogOwner {
    cluster: ClusterId(0xc1),
    node: NODE,
};

/// Small, so that a few batches fill a segment.
pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 4096,
        spare_segments: 1,
    }
}

pub(super) fn index(number: u64) -> Index {
    Index::new(number).unwrap()
}

pub(super) fn id(term: u64, number: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: index(number),
    }
}

pub(super) fn founding() -> Entry {
    configuration(id(1, 1))
}

pub(super) fn configuration(id: EntryId) -> Entry {
    let membership = Membership::of(OWNER.cluster, Vec::new());
    Entry {
        id,
        kind: EntryKind::Configuration,
        stamp: Stamp::default(),
        payload: membership.encode(),
        configuration: Some(std::sync::Arc::new(membership.configuration())),
    }
}

/// A command whose payload tells which it is.
pub(super) fn command(id: EntryId, payload_bytes: usize) -> Entry {
    let seed = id.term.0.wrapping_mul(31).wrapping_add(id.index.get());
    let payload: Vec<u8> = (0..payload_bytes as u64)
        .map(|at| (seed.wrapping_mul(7) + at) as u8)
        .collect();
    Entry {
        id,
        kind: EntryKind::Command,
        stamp: Stamp {
            log_time_us: id.index.get() * 1000,
            session: seed,
            sequence: id.index.get(),
            first_unacknowledged: 3,
        },
        payload: Bytes::from(payload),
        configuration: None,
    }
}

pub(super) fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: (term.is_multiple_of(2)).then_some(raftkv_raft::NodeId(term)),
        commit: index(commit),
    }
}

/// A log as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
    pub(super) next_write: u64,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            hard_state: hard_state(1, 1),
            entries: vec![founding()],
            next_write: 1,
        }
    }

    pub(super) fn last(&self) -> EntryId {
        self.entries.last().unwrap().id
    }

    /// A write that follows, taken in.
    pub(super) fn write(
        &mut self,
        hard_state: HardState,
        truncate_from: Option<u64>,
        entries: Vec<Entry>,
    ) -> Write {
        let write = Write {
            number: WriteNumber(self.next_write),
            hard_state,
            truncate_from: truncate_from.map(index),
            entries,
        };
        self.next_write += 1;
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.id.index < from);
        }
        self.entries.extend(write.entries.iter().cloned());
        self.hard_state = hard_state;
        write
    }

    /// A write of so many entries, of one payload size, in the present term.
    pub(super) fn commands(&mut self, count: u64, payload_bytes: usize) -> Write {
        let (term, last) = (self.hard_state.term.0, self.last().index.get());
        let entries = (1..=count)
            .map(|step| command(id(term, last + step), payload_bytes))
            .collect();
        self.write(self.hard_state, None, entries)
    }

    /// A leader of the next term cuts the tail from `from` on and adds its no-op.
    pub(super) fn conflict(&mut self, from: u64) -> Write {
        let term = self.hard_state.term.0 + 1;
        let noop = Entry {
            kind: EntryKind::Noop,
            payload: Bytes::new(),
            ..command(id(term, from), 0)
        };
        self.write(
            hard_state(term, self.hard_state.commit.get()),
            Some(from),
            vec![noop],
        )
    }
}

pub(super) fn create(disk: &SimulatedDisk) -> Log<SimulatedDisk> {
    Log::create(disk.clone(), config(), OWNER, &founding(), hard_state(1, 1)).unwrap()
}

pub(super) fn open(disk: &SimulatedDisk) -> Recovered<SimulatedDisk> {
    Log::open(disk.clone(), config(), NODE)
        .unwrap()
        .expect("there is a log")
}

/// Everything that recovery says, read entries included, is as the model has it.
pub(super) fn expect(recovered: &Recovered<SimulatedDisk>, model: &Model) {
    assert_eq!(recovered.hard_state, model.hard_state);
    assert_eq!(recovered.last, model.last());
    assert_eq!(recovered.owner, OWNER);
    assert_eq!(entries(&recovered.log), model.entries);
    let configurations: Vec<Entry> = model
        .entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Configuration)
        .cloned()
        .collect();
    assert_eq!(recovered.configurations, configurations);
    assert_eq!(recovered.base, id(1, 1));
    assert_eq!(recovered.term_runs, term_runs(&model.entries[1..]));
}

pub(super) fn term_runs(entries: &[Entry]) -> Vec<(Index, Term)> {
    let mut runs: Vec<(Index, Term)> = Vec::new();
    for entry in entries {
        if runs.last().is_none_or(|(_, term)| *term != entry.id.term) {
            runs.push((entry.id.index, entry.id.term));
        }
    }
    runs
}

/// All entries that the log's reader finds.
pub(super) fn entries(log: &Log<SimulatedDisk>) -> Vec<Entry> {
    read_all(log).unwrap()
}

pub(super) fn read_all(log: &Log<SimulatedDisk>) -> Result<Vec<Entry>, LogError> {
    let (reader, end) = (log.reader(), log.last().index);
    let mut entries: Vec<Entry> = match reader.read(log.base().index, end, 1 << 20) {
        // The base itself is there only as long as it is the founding entry and nothing was compacted.
        Err(LogError::NotInLog { .. }) => Vec::new(),
        read => read?,
    };
    let mut next = entries
        .last()
        .map_or(log.base().index, |last| last.id.index)
        .next();
    while next <= end {
        entries.extend(reader.read(next, end, 1 << 20)?);
        next = entries.last().unwrap().id.index.next();
    }
    Ok(entries)
}

/// Are `entries` those of the model behind `base`, and perhaps the founding entry?
pub(super) fn is_suffix(entries: &[Entry], base: EntryId, model: &Model) -> bool {
    let base_at = base.index.get() as usize;
    let from = match entries.first() {
        Some(first) if first.id == founding().id => 0,
        Some(_) | None => base_at,
    };
    entries == &model.entries[from..] && model.entries[base_at - 1].id == base
}
