//! One generation of the overlay: what was written since the generation before it, newest state of each key.
//!
//! A put finds its key by hash, and a key that is new takes the next row. Nobody is in order until somebody reads in order:
//! [`Layer`] sorts then, on the reader's thread.

use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use raftkv_protocol::{LeaseId, Revision};

use super::held_rows::{HeldRow, HeldRows};
use super::layer::{Layer, Runs};
use super::record::{GenerationNumber, Lineage, Slot, Stored};

/// Charged for a key beside its own and its value's bytes: the rest of its row, its place in the index and in a sorted run,
/// and the header of the value's allocation.
pub(super) const ENTRY_OVERHEAD_BYTES: u64 = 176;

/// A key's newest state in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) slot: Slot,
    /// The revision of this generation's first change of the key: up to there, what is beneath was its state.
    pub(super) first_revision: Revision,
}

/// Invariant: each slot's lineage is over what the older generations and the base hold.
#[derive(Debug)]
pub(super) struct Generation {
    number: GenerationNumber,
    /// In the order in which their keys were first written; none ever moves or goes.
    rows: HeldRows,
    /// Where each key's row is.
    index: HashTable<Place>,
    hasher: KeyHasher,
    runs: Arc<Runs>,
    size_bytes: u64,
}

impl Generation {
    /// An empty one, with room for so many keys in its index: to make room later stops whoever writes.
    pub(super) fn with_capacity(number: GenerationNumber, keys: usize, hasher: KeyHasher) -> Generation {
        Generation {
            number,
            rows: HeldRows::default(),
            index: HashTable::with_capacity(keys),
            hasher,
            runs: Arc::default(),
            size_bytes: 0,
        }
    }

    pub(super) fn number(&self) -> GenerationNumber {
        self.number
    }

    /// Keys that it holds something of.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Memory it holds, about.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What it holds now, for readers; taken in no time.
    pub(super) fn layer(&self) -> Layer {
        Layer::growing(self.rows.clone(), self.runs.clone())
    }

    /// The same when nothing will be written to it any more.
    pub(super) fn last_layer(&self) -> Layer {
        Layer::complete(self.rows.clone())
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        self.rows.get(self.find(key)?).map(|row| &row.held)
    }

    /// Writes a live record over what this generation holds of the key already; its lineage. `None`: it holds nothing.
    pub(super) fn put_again(&mut self, key: &[u8], put: Put<'_>) -> Option<Lineage> {
        let held = self.get_mut(key)?;
        let (lineage, old_value) = match &mut held.slot {
            Slot::Live(old) => (after_another(old.lineage), mem::take(&mut old.value)),
            Slot::Deleted(_) => (created_at(put.revision), Bytes::new()),
        };
        let old_bytes = old_value.len();
        held.slot = Slot::Live(put.stored(lineage, written_over(old_value, put.value)));
        self.size_bytes = self.size_bytes + put.value.len() as u64 - old_bytes as u64;
        Some(lineage)
    }

    /// Writes a live record of a key that this generation holds nothing of yet, over `beneath`; its lineage.
    pub(super) fn put_first(&mut self, key: &[u8], put: Put<'_>, beneath: Beneath) -> Lineage {
        let lineage = beneath.after_put(put.revision);
        let value = Bytes::copy_from_slice(put.value);
        self.insert(key, Slot::Live(put.stored(lineage, value)), put.revision);
        lineage
    }

    /// Writes that the key is gone.
    pub(super) fn delete(&mut self, key: &[u8], revision: Revision) {
        match self.get_mut(key) {
            Some(held) => {
                let old_bytes = held.slot.live().map_or(0, |old| old.value.len());
                held.slot = Slot::Deleted(revision);
                self.size_bytes -= old_bytes as u64;
            }
            None => self.insert(key, Slot::Deleted(revision), revision),
        }
    }

    /// What the record's blind puts are over was looked up.
    pub(super) fn resolve(&mut self, key: &[u8], lineage: Lineage) {
        if let Some(Held {
            slot: Slot::Live(stored),
            ..
        }) = self.get_mut(key)
        {
            stored.lineage = lineage;
        }
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash(key);
        let is_it = |place: &Place| place.hash == hash && self.rows[place.row()].key.as_bytes() == key;
        self.index.find(hash.spread(), is_it).map(Place::row)
    }

    /// The row of a key with this hash, most likely of the key that was meant.
    pub(super) fn likely_place(&self, hash: Hash) -> Option<LikelyPlace<'_>> {
        let place = self.index.find(hash.spread(), |place| place.hash == hash)?;
        Some(LikelyPlace {
            rows: &self.rows,
            row: place.row(),
        })
    }

    fn get_mut(&mut self, key: &[u8]) -> Option<&mut Held> {
        let at = self.find(key)?;
        self.rows.get_mut(at).map(|row| &mut row.held)
    }

    fn insert(&mut self, key: &[u8], slot: Slot, first_revision: Revision) {
        let value_bytes = slot.live().map_or(0, |stored| stored.value.len());
        self.size_bytes += (key.len() + value_bytes) as u64 + ENTRY_OVERHEAD_BYTES;
        let hash = self.hasher.hash(key);
        let place = Place {
            hash,
            row: u32::try_from(self.rows.len())
                .expect("a generation is bounded in bytes, far below 2^32 keys"),
        };
        self.index
            .insert_unique(hash.spread(), place, |place| place.hash.spread());
        self.rows.push(HeldRow {
            key: key.into(),
            held: Held { slot, first_revision },
        });
    }
}

/// Where a key's row is. The hash is kept: a table that grows need not look at the rows, nor a search at those of other keys.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: Hash,
    row: u32,
}

impl Place {
    fn row(&self) -> usize {
        self.row as usize
    }
}

/// A row that nobody has looked at yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct LikelyPlace<'a> {
    rows: &'a HeldRows,
    row: usize,
}

impl<'a> LikelyPlace<'a> {
    pub(super) fn row(&self) -> Option<&'a HeldRow> {
        self.rows.get(self.row)
    }
}

/// Hashes keys for all generations of an overlay. Keyed, so that nobody can choose keys which collide; nothing but places in
/// indexes depends on it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHasher(DefaultHashBuilder);

impl KeyHasher {
    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        Hash(self.0.hash_one(key) as u32)
    }
}

/// Of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(u32);

impl Hash {
    /// The table takes buckets from the low bits and tags from the high ones.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// What a put writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put<'a> {
    pub(super) value: &'a [u8],
    pub(super) revision: Revision,
    pub(super) deadline_us: Option<u64>,
    pub(super) lease: Option<LeaseId>,
}

impl Put<'_> {
    /// `value` is a copy of its value.
    fn stored(self, lineage: Lineage, value: Bytes) -> Stored {
        Stored {
            value,
            mod_revision: self.revision,
            lineage,
            deadline_us: self.deadline_us,
            lease: self.lease,
        }
    }
}

/// What is known of the record that a generation's first put of a key replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beneath {
    /// Nobody looked.
    Unknown,
    /// There is none.
    Absent,
    /// It has this lineage.
    Live(Lineage),
}

impl Beneath {
    fn after_put(self, revision: Revision) -> Lineage {
        match self {
            Beneath::Absent => created_at(revision),
            Beneath::Live(Lineage::Known {
                create_revision,
                version,
            }) => Lineage::Known {
                create_revision,
                version: version + 1,
            },
            // Over what is itself not known yet: this generation's own count begins.
            Beneath::Unknown | Beneath::Live(Lineage::Over { .. }) => Lineage::Over {
                first: revision,
                writes: 1,
            },
        }
    }
}

/// A copy of `new`: in the memory of `old` where that is as long and nobody else reads it, so that a value which is written
/// over again and again costs no allocation.
fn written_over(old: Bytes, new: &[u8]) -> Bytes {
    if old.len() == new.len()
        && let Ok(mut memory) = old.try_into_mut()
    {
        memory.copy_from_slice(new);
        return memory.freeze();
    }
    Bytes::copy_from_slice(new)
}

fn created_at(revision: Revision) -> Lineage {
    Lineage::Known {
        create_revision: revision,
        version: 1,
    }
}

/// The lineage after one more put on top.
fn after_another(lineage: Lineage) -> Lineage {
    match lineage {
        Lineage::Known {
            create_revision,
            version,
        } => Lineage::Known {
            create_revision,
            version: version + 1,
        },
        Lineage::Over { first, writes } => Lineage::Over {
            first,
            writes: writes + 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &[u8], revision: u64) -> Put<'_> {
        Put {
            value,
            revision: Revision(revision),
            deadline_us: None,
            lease: None,
        }
    }

    fn value(held: Option<&Held>) -> &Bytes {
        let stored = held.and_then(|held| held.slot.live());
        &stored.expect("the key was put").value
    }

    #[test]
    fn a_value_takes_the_memory_of_the_one_before_unless_somebody_reads_that() {
        let mut generation = Generation::with_capacity(GenerationNumber(1), 1, KeyHasher::default());
        generation.put_first(b"key", put(b"first", 1), Beneath::Absent);
        let of_the_first = value(generation.get(b"key")).as_ptr();
        generation.put_again(b"key", put(b"again", 2));
        assert_eq!(value(generation.get(b"key")), "again");
        assert_eq!(value(generation.get(b"key")).as_ptr(), of_the_first);

        let read = value(generation.get(b"key")).clone();
        generation.put_again(b"key", put(b"third", 3));
        assert_eq!(read, "again", "who reads a value keeps it");
        let layer = generation.layer();
        generation.put_again(b"key", put(b"forth", 4));
        assert_eq!(value(layer.get(b"key")), "third", "so does who holds the state");
        assert_eq!(value(generation.get(b"key")), "forth");

        generation.put_again(b"key", put(b"of another length", 5));
        assert_eq!(value(generation.get(b"key")), "of another length");
    }
}
