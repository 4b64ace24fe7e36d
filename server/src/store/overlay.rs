//! What memory holds of the state: the generation that is written to, and those before it, down to what the base holds.

use std::collections::VecDeque;
use std::sync::Arc;

use raftkv_raft::simulation::mutant;

use super::base::Row;
use super::companions::Companions;
use super::generation::{Generation, Hash, Held, KeyHasher, LikelyPlace};
use super::layer::Layer;
use super::record::{GenerationNumber, Stored};
use super::tables::ChangedTables;

/// A generation that is not written to any more, with everything that goes into the base beside its records.
#[derive(Debug)]
pub struct Frozen {
    generation: Generation,
    layer: Arc<Layer>,
    companions: Companions,
    tables: ChangedTables,
}

impl Frozen {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> GenerationNumber {
        self.generation.number()
    }

    /// What the base learns beside the records.
    #[must_use]
    pub fn companions(&self) -> &Companions {
        &self.companions
    }

    /// Memory it holds, about.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.generation.size_bytes() + self.tables.size_bytes
    }

    /// What of it is of leases, sessions and names of writes.
    fn table_bytes(&self) -> u64 {
        self.tables.size_bytes
    }

    /// Rows of leases, sessions and names of writes, ascending.
    pub(super) fn table_rows(&self) -> impl Iterator<Item = Row> {
        self.tables.rows()
    }

    pub(super) fn layer(&self) -> &Layer {
        &self.layer
    }
}

/// # Invariants
/// * Numbers ascend without gaps from `frozen`'s front to `active`; `dropped` is the number before them.
/// * `drained >= dropped`: memory lets go only of what the base holds.
#[derive(Debug)]
pub(super) struct Overlay {
    hasher: KeyHasher,
    active: Generation,
    /// Oldest first.
    frozen: VecDeque<Arc<Frozen>>,
    /// The base holds everything up to this generation.
    drained: Option<GenerationNumber>,
    /// Memory holds nothing of the generations up to this one any more.
    dropped: Option<GenerationNumber>,
}

impl Overlay {
    /// Over a base that holds everything up to `drained`.
    pub(super) fn over(drained: Option<GenerationNumber>) -> Overlay {
        let first = drained.map_or(GenerationNumber(1), GenerationNumber::next);
        let hasher = KeyHasher::default();
        Overlay {
            active: Generation::with_capacity(first, 0, hasher.clone()),
            hasher,
            frozen: VecDeque::new(),
            drained,
            dropped: drained,
        }
    }

    pub(super) fn active(&self) -> &Generation {
        &self.active
    }

    pub(super) fn active_mut(&mut self) -> &mut Generation {
        &mut self.active
    }

    pub(super) fn drained(&self) -> Option<GenerationNumber> {
        self.drained
    }

    pub(super) fn dropped(&self) -> Option<GenerationNumber> {
        self.dropped
    }

    /// The newest that memory holds of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<&Held> {
        self.active.get(key).or_else(|| self.find_frozen(key))
    }

    /// The newest that the frozen generations hold of a key.
    pub(super) fn find_frozen(&self, key: &[u8]) -> Option<&Held> {
        self.frozen
            .iter()
            .rev()
            .find_map(|frozen| frozen.generation.get(key))
    }

    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    /// The newest row of a key with this hash.
    pub(super) fn likely_place(&self, hash: Hash) -> Option<LikelyPlace<'_>> {
        let frozen = self.frozen.iter().rev().map(|frozen| &frozen.generation);
        let mut generations = std::iter::once(&self.active).chain(frozen);
        generations.find_map(|generation| generation.likely_place(hash))
    }

    /// The key's state now, if `base` is what some version of the base holds of it that is no older than what memory
    /// dropped. That version may hold generations that are still in memory too: their slots are passed over.
    pub(super) fn resolved(&self, key: &[u8], base: Option<Stored>) -> Option<Stored> {
        let frozen = self.frozen.iter().map(|frozen| &frozen.generation);
        let layers = frozen.chain([&self.active]);
        let slots = layers.filter_map(|generation| generation.get(key));
        slots.fold(base, |beneath, held| held.slot.on_top_of(beneath))
    }

    /// Begins a new generation; the one until now only waits for its drain.
    pub(super) fn freeze(&mut self, companions: Companions, tables: ChangedTables) -> Arc<Frozen> {
        // As many keys come as came, or to make room for them costs little beside what they bring.
        let number = self.active.number().next();
        let next = Generation::with_capacity(number, self.active.len(), self.hasher.clone());
        let frozen = Arc::new(Frozen {
            layer: Arc::new(self.active.last_layer()),
            generation: std::mem::replace(&mut self.active, next),
            companions,
            tables,
        });
        self.frozen.push_back(frozen.clone());
        frozen
    }

    /// The base holds everything up to `number` now.
    pub(super) fn drained_up_to(&mut self, number: GenerationNumber) {
        assert!(
            self.drained < Some(number) && number < self.active.number(),
            "generation {number:?} was drained after {:?}, {:?} is written to",
            self.drained,
            self.active.number()
        );
        self.drained = Some(number);
    }

    /// Lets go of drained generations, oldest first, while memory holds more than `limit_bytes`. They are returned: to give
    /// back the memory of a large one takes its time, which should not be the caller's.
    pub(super) fn release(&mut self, limit_bytes: u64) -> Vec<Arc<Frozen>> {
        let mut released = Vec::new();
        while self.size_bytes() > limit_bytes || mutant("generation_dropped_before_its_drain") {
            let Some(oldest) = self.frozen.front() else { break };
            if self.drained < Some(oldest.number()) && !mutant("generation_dropped_before_its_drain") {
                break;
            }
            self.dropped = Some(oldest.number());
            released.extend(self.frozen.pop_front());
        }
        released
    }

    /// Generations that wait for their drain, the one under way included.
    pub(super) fn undrained(&self) -> usize {
        self.frozen
            .iter()
            .filter(|frozen| self.drained < Some(frozen.number()))
            .count()
    }

    /// Memory that all of it holds, about.
    pub(super) fn size_bytes(&self) -> u64 {
        let frozen: u64 = self.frozen.iter().map(|frozen| frozen.size_bytes()).sum();
        frozen + self.active.size_bytes()
    }

    /// What of it is of leases, sessions and names of writes.
    pub(super) fn table_bytes(&self) -> u64 {
        self.frozen.iter().map(|frozen| frozen.table_bytes()).sum()
    }

    /// All generations as they are now, newest first; in no time.
    pub(super) fn layers(&self) -> Vec<Arc<Layer>> {
        let frozen = self.frozen.iter().rev().map(|frozen| frozen.layer.clone());
        std::iter::once(Arc::new(self.active.layer()))
            .chain(frozen)
            .collect()
    }
}
