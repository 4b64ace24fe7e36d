//! What memory knows of a key, and what has to be looked up in the base.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftkv_protocol::{Command, Keys, Record};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryKind, Index};

use super::base::BaseView;
use super::error::StoreError;
use super::key::Key;
use super::machine::{Store, decoded};
use super::needs::{Need, tell_needs};
use super::ranges::{GatheredRanges, RangesFound, RangesWanted};
use super::record::{GenerationNumber, Lineage, Slot, Stored};
use super::state::{companions_in, records_of};

/// Most keys of one lookup for waiting entries; the next ones follow when these are there.
pub(super) const KEYS_PER_LOOKUP: usize = 4096;

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
    /// What ranges hold, if they were asked for.
    pub ranges: Option<RangesFound>,
}

impl BaseRecords {
    /// Asks `view` for ascending `keys`, and for ranges as they are with what memory held.
    ///
    /// # Errors
    /// Of the base.
    pub fn read(
        view: &impl BaseView,
        keys: &[Bytes],
        ranges: Option<Box<RangesWanted>>,
    ) -> Result<BaseRecords, StoreError> {
        let through = companions_in(view)?.map(|companions| companions.generation);
        let mut records = Vec::with_capacity(keys.len());
        records_of(view, keys, &mut |key, record| records.push((key, record)))?;
        let ranges = ranges.map(|ranges| ranges.read(view.clone())).transpose()?;
        Ok(BaseRecords {
            through,
            records,
            ranges,
        })
    }
}

/// Records for the entries that wait at the head of the queue. Nothing is applied while they wait, so what the base holds
/// of a key that memory does not know stays true until the entry is applied.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    records: BTreeMap<Key, Option<Stored>>,
    /// Of entries up to here.
    through: Option<Index>,
    /// Of the first of them.
    pub(super) ranges: Option<GatheredRanges>,
}

impl Gathered {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.through = None;
        self.ranges = None;
    }

    /// The entry at `index` was applied.
    pub(super) fn passed(&mut self, index: Index) {
        self.ranges = None;
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

    /// Is the key in a range of which all was read?
    fn cover(&self, key: &[u8]) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| ranges.cover(key))
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
            None if self.gathered.cover(key) => Truth::Absent,
            None => Truth::Unknown,
        }
    }

    /// The same, where a record counts as unknown as long as its lineage is open.
    pub(super) fn whole(&self, key: &[u8]) -> Truth<'_> {
        let stored = match self.truth(key) {
            Truth::Live(stored) if is_open(stored) => stored,
            known => return known,
        };
        // Its lineage was resolved after its generation was frozen: then the whole of it is here.
        let resolved = [self.cache.get(key), self.gathered.get(key)];
        let mut resolved = resolved.into_iter().flatten().flatten();
        resolved
            .find(|resolved| resolved.mod_revision == stored.mod_revision && !is_open(resolved))
            .map_or(Truth::Unknown, Truth::Live)
    }

    /// The record of `key` at the latest state.
    #[must_use]
    pub fn look(&self, key: &[u8]) -> Looked {
        match self.whole(key) {
            Truth::Live(stored) => stored.record().map_or(Looked::Unknown, Looked::Found),
            Truth::Absent => Looked::Absent,
            Truth::Unknown => Looked::Unknown,
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
        let is_open = held.slot.live().is_some_and(is_open);
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

    /// What the first of `waiting` and those behind it need of the base; nothing when the first does not wait. Ranges are read
    /// for the first alone: what those behind it will find in theirs is not told before it is applied.
    #[must_use]
    pub fn missing<'a>(&self, waiting: impl Iterator<Item = &'a Entry>) -> Missing {
        let mut missing = Missing::default();
        for entry in waiting {
            if missing.keys.len() >= KEYS_PER_LOOKUP {
                break;
            }
            let is_first = missing.through.is_none();
            missing.through = Some(entry.id.index);
            self.miss_due(self.log_time_us().max(entry.stamp.log_time_us), &mut missing);
            if entry.kind == EntryKind::Command {
                self.miss(entry, &mut missing);
                if is_first {
                    missing.ranges = self.ranges_wanted(entry);
                }
            }
            if missing.ranges.is_some() {
                break;
            }
        }
        missing
    }

    /// Names the keys that the entry's command depends on, as far as memory does not know them.
    fn miss(&self, entry: &Entry, missing: &mut Missing) {
        tell_needs(&decoded(entry), &mut |keys, need| {
            if let Keys::One(key) = keys
                && !self.knows(key, need)
            {
                missing.add(key);
            }
        });
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
            let record = record.as_ref().map(owned);
            self.gather(&key, record);
        }
        self.gathered.through = Some(through);
        if let Some(ranges) = found.ranges {
            self.gather_ranges(ranges);
        }
    }

    /// Keeps the whole record of a key, where memory lacks something of it.
    pub(super) fn gather_whole(&mut self, key: &[u8], stored: Stored) {
        match self
            .overlay
            .find(key)
            .map(|held| held.slot.live().is_some_and(is_open))
        {
            Some(false) => {}
            Some(true) if self.overlay.active().get(key).is_some() => {
                self.overlay.active_mut().resolve(key, stored.lineage);
            }
            Some(true) | None => drop(self.gathered.records.insert(key.into(), Some(stored))),
        }
    }

    /// Keeps what the base holds of a key, or what that makes of a record whose lineage is open.
    fn gather(&mut self, key: &[u8], base: Option<Stored>) {
        let held = self.overlay.find(key);
        if !held.is_some_and(|held| held.slot.live().is_some_and(is_open)) {
            self.gathered.records.insert(key.into(), base);
            return;
        }
        let resolved = self.overlay.resolved(key, base);
        match &resolved {
            Some(stored) if self.overlay.active().get(key).is_some() => {
                let lineage = stored.lineage;
                self.overlay.active_mut().resolve(key, lineage);
            }
            Some(_) | None => drop(self.gathered.records.insert(key.into(), resolved)),
        }
    }

    /// Has memory what the entry's command depends on?
    pub(super) fn is_ready(&self, entry: Index, command: &Command<'_>) -> bool {
        let mut is_ready = true;
        tell_needs(command, &mut |keys, need| {
            is_ready = is_ready
                && match keys {
                    Keys::One(key) => self.knows(key, need),
                    Keys::Range { .. } => self.has_ranges_of(entry),
                };
        });
        is_ready
    }

    fn knows(&self, key: &[u8], need: Need) -> bool {
        let truth = match need {
            Need::Record => self.truth(key),
            Need::Whole => self.whole(key),
        };
        !matches!(truth, Truth::Unknown)
    }
}

/// What has to be looked up before entries can be applied.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// Ascending.
    pub keys: BTreeSet<Bytes>,
    /// Of the first entry.
    pub ranges: Option<Box<RangesWanted>>,
    /// For entries up to here.
    pub through: Option<Index>,
}

impl Missing {
    /// Is nothing missing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_none()
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        self.keys.insert(Bytes::copy_from_slice(key));
    }
}

/// Is its creation told by what is beneath?
fn is_open(stored: &Stored) -> bool {
    matches!(stored.lineage, Lineage::Over { .. })
}

/// A copy that pins no block of the base's.
pub(super) fn owned(stored: &Stored) -> Stored {
    Stored {
        value: Bytes::copy_from_slice(&stored.value),
        ..stored.clone()
    }
}
