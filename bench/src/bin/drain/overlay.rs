//! The map in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use imbl::OrdMap;
use raftkv_protocol::Revision;
use raftkv_server::store::{Lineage, Slot, Stored};

use crate::load::Key;

/// Memory that an entry takes beside its value, about: key, slot, share of a node.
const ENTRY_BYTES: usize = 16 + 64;

/// An ordered map of slots, with what it holds in bytes.
pub(crate) trait Overlay: Default + Send + Sync + 'static {
    type Snapshot: Send;
    /// `known`: from an index; otherwise the put is blind.
    fn put(&mut self, key: Key, value: Bytes, revision: Revision, known: Option<Lineage>);
    fn delete(&mut self, key: Key, revision: Revision);
    fn bytes(&self) -> usize;
    fn entries(&self) -> usize;
    fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> + Send;
    /// `None` when the map has none.
    fn snapshot(&self) -> Option<Self::Snapshot>;
}

pub(crate) fn fresh(value: Bytes, revision: Revision, known: Option<Lineage>) -> Slot {
    let blind = Lineage::Over {
        first: revision,
        writes: 1,
    };
    Slot::Live(Stored {
        value,
        mod_revision: revision,
        lineage: known.unwrap_or(blind),
        deadline_us: None,
        lease: None,
    })
}

/// The slot after a put over `slot`.
fn put_over(slot: &mut Slot, value: Bytes, revision: Revision) -> isize {
    match slot {
        Slot::Live(stored) => {
            let grown = value.len() as isize - stored.value.len() as isize;
            stored.value = value;
            stored.mod_revision = revision;
            match &mut stored.lineage {
                Lineage::Known { version, .. } => *version += 1,
                Lineage::Over { writes, .. } => *writes += 1,
            }
            grown
        }
        Slot::Deleted(_) => {
            let grown = value.len() as isize;
            let anew = Lineage::Known {
                create_revision: revision,
                version: 1,
            };
            *slot = fresh(value, revision, Some(anew));
            grown
        }
    }
}

fn delete_over(slot: &mut Slot, revision: Revision) -> isize {
    let freed = slot.live().map_or(0, |stored| stored.value.len() as isize);
    *slot = Slot::Deleted(revision);
    -freed
}

#[derive(Default)]
pub(crate) struct StdMap {
    slots: BTreeMap<Key, Slot>,
    bytes: usize,
}

impl Overlay for StdMap {
    type Snapshot = ();

    fn put(&mut self, key: Key, value: Bytes, revision: Revision, known: Option<Lineage>) {
        match self.slots.entry(key) {
            Entry::Occupied(mut slot) => {
                self.bytes = self
                    .bytes
                    .saturating_add_signed(put_over(slot.get_mut(), value, revision));
            }
            Entry::Vacant(place) => {
                self.bytes += ENTRY_BYTES + value.len();
                place.insert(fresh(value, revision, known));
            }
        }
    }

    fn delete(&mut self, key: Key, revision: Revision) {
        match self.slots.entry(key) {
            Entry::Occupied(mut slot) => {
                self.bytes = self
                    .bytes
                    .saturating_add_signed(delete_over(slot.get_mut(), revision));
            }
            Entry::Vacant(place) => {
                self.bytes += ENTRY_BYTES;
                place.insert(Slot::Deleted(revision));
            }
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn entries(&self) -> usize {
        self.slots.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> + Send {
        self.slots.iter()
    }

    fn snapshot(&self) -> Option<()> {
        None
    }
}

#[derive(Default)]
pub(crate) struct ImblMap {
    slots: OrdMap<Key, Slot>,
    bytes: usize,
}

impl Overlay for ImblMap {
    type Snapshot = OrdMap<Key, Slot>;

    fn put(&mut self, key: Key, value: Bytes, revision: Revision, known: Option<Lineage>) {
        if let Some(slot) = self.slots.get_mut(&key) {
            self.bytes = self.bytes.saturating_add_signed(put_over(slot, value, revision));
            return;
        }
        self.bytes += ENTRY_BYTES + value.len();
        self.slots.insert(key, fresh(value, revision, known));
    }

    fn delete(&mut self, key: Key, revision: Revision) {
        if let Some(slot) = self.slots.get_mut(&key) {
            self.bytes = self.bytes.saturating_add_signed(delete_over(slot, revision));
            return;
        }
        self.bytes += ENTRY_BYTES;
        self.slots.insert(key, Slot::Deleted(revision));
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn entries(&self) -> usize {
        self.slots.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> + Send {
        self.slots.iter()
    }

    fn snapshot(&self) -> Option<OrdMap<Key, Slot>> {
        Some(self.slots.clone())
    }
}
