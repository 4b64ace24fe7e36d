//! The layers over history, as plainly as possible.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raftkv_protocol::Revision;

use crate::store::history::{Direction, KeyRange, Layers};
use crate::store::{GenerationNumber, Lineage, Slot, StoreError, Stored};

/// What a generation knows of a key, and when it changed it first.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) first: Revision,
    pub(super) slot: Slot,
}

#[derive(Clone, Debug)]
pub(super) struct PlainGeneration {
    pub(super) number: GenerationNumber,
    pub(super) changed: BTreeMap<Bytes, Changed>,
}

/// Generations that are not drained, oldest first, the last one active; and the base.
#[derive(Clone, Debug)]
pub(super) struct PlainLayers {
    pub(super) generations: Vec<PlainGeneration>,
    pub(super) base: BTreeMap<Bytes, Stored>,
}

impl PlainLayers {
    pub(super) fn active(&mut self) -> &mut PlainGeneration {
        self.generations.last_mut().unwrap()
    }

    /// The state of a key below generation `at` of the list, resolved.
    pub(super) fn beneath(&self, key: &[u8], at: usize) -> Option<Slot> {
        for (place, generation) in self.generations[..at].iter().enumerate().rev() {
            if let Some(changed) = generation.changed.get(key) {
                return Some(self.resolved(key, changed.slot.clone(), place));
            }
        }
        self.base.get(key).cloned().map(Slot::Live)
    }

    fn resolved(&self, key: &[u8], slot: Slot, place: usize) -> Slot {
        match slot {
            Slot::Live(mut stored) => {
                if let Lineage::Over { .. } = stored.lineage {
                    let beneath = self.beneath(key, place);
                    stored.lineage = stored.lineage.over(beneath.as_ref().and_then(Slot::live));
                }
                Slot::Live(stored)
            }
            Slot::Deleted(revision) => Slot::Deleted(revision),
        }
    }
}

impl Layers for PlainLayers {
    fn newest(&self, key: &[u8]) -> Result<Option<Slot>, StoreError> {
        Ok(self.beneath(key, self.generations.len()))
    }

    fn newest_at_or_below(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        let slots = self.generations.iter().rev().filter_map(|g| g.changed.get(key));
        let mut known = slots.map(|changed| changed.slot.clone());
        let found = known.find(|slot| slot.mod_revision() <= at);
        let base = self.base.get(key).filter(|stored| stored.mod_revision <= at);
        Ok(found.or_else(|| base.cloned().map(Slot::Live)))
    }

    fn slots(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<(Bytes, Slot), StoreError>> + '_> {
        let changed = self.generations.iter().flat_map(|g| g.changed.keys());
        let keys: BTreeSet<Bytes> = changed.chain(self.base.keys()).cloned().collect();
        let mut keys: Vec<Bytes> = keys.into_iter().filter(|key| range.contains(key)).collect();
        if direction == Direction::Descending {
            keys.reverse();
        }
        let slot = |key: Bytes| Ok((key.clone(), self.newest(&key)?.unwrap()));
        Box::new(keys.into_iter().map(slot))
    }
}
