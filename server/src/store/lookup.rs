//! What memory knows of a key, and what has to be looked up in the base.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftkv_protocol::{Command, Condition, Record};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryKind, Index};

use super::key::Key;
use super::machine::{EXPIRIES_PER_ENTRY, Store, decoded};
use super::record::{GenerationNumber, Lineage, Slot, Stored};

/// Most keys of one lookup for waiting entries; the next ones follow when these are there.
const KEYS_PER_LOOKUP: usize = 4096;

/// The state of a key as far as memory knows it.
pub(super) enum Truth<'a> {
    /// A record; its lineage may be open.
    Live(&'a Stored),
    /// The key does not exist.
    Absent,
    /// The base must be asked.
    Unknown,
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The record.
    Found(Record),
    /// The key does not exist.
    Absent,
    /// The base must be asked; then [`Store::looked_up`] tells.
    Unknown,
}

/// What the base holds of some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRecords {
    /// The base held at least everything up to this generation when it was asked.
    pub through: Option<GenerationNumber>,
    /// Each key with its record.
    pub records: Vec<(Bytes, Option<Stored>)>,
}

/// Records for the entries that wait at the head of the queue. Nothing is applied while they wait, so what the base holds
/// of a key that memory does not know stays true until the entry is applied.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: BTreeMap<Key, Option<Stored>>,
    /// Of entries up to here.
    through: Option<Index>,
}

impl Gathered {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.through = None;
    }

    /// The entry at `index` was applied.
    pub(super) fn passed(&mut self, index: Index) {
        if self.through.is_some_and(|through| through <= index) {
            self.clear();
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Stored>> {
        if self.records.is_empty() {
            return None;
        }
        self.records.get(key).map(Option::as_ref)
    }
}

impl Store {
    pub(super) fn truth(&self, key: &[u8]) -> Truth<'_> {
        if let Some(held) = self.overlay.find(key) {
            return match &held.slot {
                Slot::Live(stored) => Truth::Live(stored),
                Slot::Deleted(_) => Truth::Absent,
            };
        }
        let known = self.cache.get(key).or_else(|| self.gathered.get(key));
        match known {
            Some(Some(stored)) => Truth::Live(stored),
            Some(None) => Truth::Absent,
            // A base that never held anything.
            None if self.overlay.drained().is_none() => Truth::Absent,
            None => Truth::Unknown,
        }
    }

    /// The record of `key` at the latest state.
    #[must_use]
    pub fn look(&self, key: &[u8]) -> Looked {
        let stored = match self.truth(key) {
            Truth::Live(stored) => stored,
            Truth::Absent => return Looked::Absent,
            Truth::Unknown => return Looked::Unknown,
        };
        if let Some(record) = stored.record() {
            return Looked::Found(record);
        }
        // Its lineage was resolved after its generation was frozen: then the cache has the whole of it.
        match self.cache.get(key) {
            Some(Some(resolved)) if resolved.mod_revision == stored.mod_revision => {
                resolved.record().map_or(Looked::Unknown, Looked::Found)
            }
            _ => Looked::Unknown,
        }
    }

    /// What a reader asked the base for: the keys' records now, in the same order. `None` when memory has let go of a newer
    /// generation in the meantime: ask again. They are kept for the next reader.
    pub fn looked_up(&mut self, found: BaseRecords) -> Option<Vec<(Bytes, Option<Record>)>> {
        if found.through < self.overlay.dropped() && !mutant("old_lookup_believed") {
            mark("lookup overtaken by a drain");
            return None;
        }
        let now = |(key, base): (Bytes, Option<Stored>)| {
            let stored = self.keep(&key, base);
            let record = stored.map(|stored| stored.record().expect("what was looked up is resolved"));
            (key, record)
        };
        Some(found.records.into_iter().map(now).collect())
    }

    /// The key's record now, with what the base holds beneath; kept where the next reader finds it.
    fn keep(&mut self, key: &[u8], base: Option<Stored>) -> Option<Stored> {
        let Some(held) = self.overlay.find(key) else {
            let base = base.as_ref().map(owned);
            self.cache.insert(key.into(), base.clone());
            return base;
        };
        let is_open = matches!(
            &held.slot,
            Slot::Live(Stored {
                lineage: Lineage::Over { .. },
                ..
            })
        );
        let resolved = self.overlay.resolved(key, base);
        let Some(stored) = resolved.as_ref().filter(|_| is_open) else {
            return resolved;
        };
        mark("lineage resolved for a reader");
        if self.overlay.active().get(key).is_some() {
            self.overlay.active_mut().resolve(key, stored.lineage);
        } else {
            self.cache.insert(key.into(), resolved.clone());
        }
        resolved
    }

    /// What the first of `waiting` and those behind it need of the base; empty when the first does not wait.
    #[must_use]
    pub fn missing<'a>(&self, waiting: impl Iterator<Item = &'a Entry>) -> Missing {
        let mut missing = Missing::default();
        for entry in waiting {
            if missing.keys.len() >= KEYS_PER_LOOKUP {
                break;
            }
            missing.through = Some(entry.id.index);
            self.miss_due(self.log_time_us().max(entry.stamp.log_time_us), &mut missing);
            if entry.kind == EntryKind::Command
                && let Some(key) = depends_on(&decoded(entry))
            {
                self.miss(key, &mut missing);
            }
        }
        missing
    }

    /// Records of keys that may expire by then.
    fn miss_due(&self, log_time_us: u64, missing: &mut Missing) {
        let mut expiring = 0;
        for (deadline_us, key) in self.deadlines.due(log_time_us) {
            if expiring >= EXPIRIES_PER_ENTRY || missing.keys.len() >= KEYS_PER_LOOKUP {
                return;
            }
            match self.truth(key.as_bytes()) {
                Truth::Unknown => drop(missing.keys.insert(Bytes::copy_from_slice(key.as_bytes()))),
                Truth::Live(stored) if stored.deadline_us == Some(deadline_us) => expiring += 1,
                Truth::Live(_) | Truth::Absent => {}
            }
        }
    }

    fn miss(&self, key: &[u8], missing: &mut Missing) {
        if matches!(self.truth(key), Truth::Unknown) {
            missing.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// What [`Store::missing`] named was looked up, and nothing was applied since.
    pub fn gathered(&mut self, through: Index, found: BaseRecords) {
        if found.through < self.overlay.dropped() && !mutant("old_lookup_believed") {
            mark("lookup for an entry overtaken by a drain");
            return;
        }
        for (key, record) in found.records {
            if mutant("gathered_record_of_a_key_lost") {
                self.gathered.records.insert(key[..].into(), None);
                continue;
            }
            self.gathered
                .records
                .insert(key[..].into(), record.as_ref().map(owned));
        }
        self.gathered.through = Some(through);
    }

    /// Has memory what the command depends on?
    pub(super) fn is_ready(&self, command: &Command<'_>) -> bool {
        depends_on(command).is_none_or(|key| !matches!(self.truth(key), Truth::Unknown))
    }

    /// Has memory the records of all keys that may expire by then?
    pub(super) fn is_expiry_ready(&self, log_time_us: u64) -> bool {
        let mut expiring = 0;
        for (deadline_us, key) in self.deadlines.due(log_time_us) {
            match self.truth(key.as_bytes()) {
                Truth::Unknown => return false,
                Truth::Live(stored) if stored.deadline_us == Some(deadline_us) => expiring += 1,
                Truth::Live(_) | Truth::Absent => {}
            }
            if expiring >= EXPIRIES_PER_ENTRY {
                return true;
            }
        }
        true
    }
}

/// What has to be looked up before entries can be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Ascending.
    pub keys: BTreeSet<Bytes>,
    /// For entries up to here.
    pub through: Option<Index>,
}

/// The key whose old record decides what a command does.
fn depends_on<'a>(command: &Command<'a>) -> Option<&'a [u8]> {
    match *command {
        Command::Put {
            condition: Condition::Always,
            ..
        }
        | Command::Tick
        | Command::KeepHistoryFrom { .. } => None,
        Command::Txn(_)
        | Command::Once { .. }
        | Command::GrantLease { .. }
        | Command::RenewLeases { .. }
        | Command::RevokeLease { .. }
        | Command::OpenSession { .. }
        | Command::RenewSession { .. }
        | Command::CloseSession { .. } => None,
        Command::Put { key, .. } | Command::Delete { key, .. } => Some(key),
    }
}

/// A copy that pins no block of the base's.
fn owned(stored: &Stored) -> Stored {
    Stored {
        value: Bytes::copy_from_slice(&stored.value),
        ..stored.clone()
    }
}
