//! One generation of the overlay: what was written since the generation before it, newest state of each key.

use bytes::Bytes;
use raftkv_protocol::{LeaseId, Revision};

use super::key::Key;
use super::record::{GenerationNumber, Lineage, Slot, Stored};

/// Charged for a key beside its own and its value's bytes: its share of the map's nodes, and the allocation's header.
pub(super) const ENTRY_OVERHEAD_BYTES: u64 = 176;

/// A persistent ordered map: a scan takes a copy in no time, and the writer goes on beside it. It costs what the map of the
/// standard library costs (bench/storage.md).
pub(super) type Map = imbl::OrdMap<Key, Held>;

/// A key's newest state in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) slot: Slot,
    /// The revision of this generation's first change of the key: up to there, what is beneath was its state.
    pub(super) first_revision: Revision,
}

/// Invariant: each slot's lineage is over what the older generations and the base hold.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    number: GenerationNumber,
    held: Map,
    size_bytes: u64,
}

impl Generation {
    pub(super) fn new(number: GenerationNumber) -> Generation {
        Generation {
            number,
            held: Map::new(),
            size_bytes: 0,
        }
    }

    pub(super) fn number(&self) -> GenerationNumber {
        self.number
    }

    /// Memory it holds, about.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn held(&self) -> &Map {
        &self.held
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        self.held.get(key)
    }

    /// Writes a live record over what this generation holds of the key already; its lineage. `None`: it holds nothing.
    pub(super) fn put_again(&mut self, key: &[u8], put: Put<'_>) -> Option<Lineage> {
        let held = self.held.get_mut(key)?;
        let (lineage, old_bytes) = match &held.slot {
            Slot::Live(old) => (after_another(old.lineage), old.value.len()),
            Slot::Deleted(_) => (created_at(put.revision), 0),
        };
        held.slot = Slot::Live(put.stored(lineage));
        self.size_bytes = self.size_bytes + put.value.len() as u64 - old_bytes as u64;
        Some(lineage)
    }

    /// Writes a live record of a key that this generation holds nothing of yet, over `beneath`; its lineage.
    pub(super) fn put_first(&mut self, key: &[u8], put: Put<'_>, beneath: Beneath) -> Lineage {
        let lineage = beneath.after_put(put.revision);
        self.insert(key, Slot::Live(put.stored(lineage)), put.revision);
        lineage
    }

    /// Writes that the key is gone.
    pub(super) fn delete(&mut self, key: &[u8], revision: Revision) {
        match self.held.get_mut(key) {
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
        }) = self.held.get_mut(key)
        {
            stored.lineage = lineage;
        }
    }

    fn insert(&mut self, key: &[u8], slot: Slot, first_revision: Revision) {
        let value_bytes = slot.live().map_or(0, |stored| stored.value.len());
        self.size_bytes += (key.len() + value_bytes) as u64 + ENTRY_OVERHEAD_BYTES;
        let held = Held { slot, first_revision };
        let replaced = self.held.insert(key.into(), held);
        assert!(replaced.is_none(), "an existing key is changed in place");
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
    fn stored(self, lineage: Lineage) -> Stored {
        Stored {
            value: Bytes::copy_from_slice(self.value),
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
