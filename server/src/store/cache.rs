//! Records of the base that were looked up lately, so that a read that comes again finds them in memory.

use std::hash::{BuildHasherDefault, DefaultHasher};

use quick_cache::Weighter;
use quick_cache::unsync::{Cache as Bounded, DefaultLifecycle};

use super::key::Key;
use super::record::Stored;

/// Charged for an entry beside its key's and value's bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 220;
/// Sizes the cache's table at first; it grows.
const USUAL_RECORD_BYTES: u64 = 512;

/// What the base holds of some keys: a record, or that there is none. Each write of a key removes what is cached of it, so
/// what is here is the key's state unless memory holds something newer.
///
/// Its hash is not keyed: which record is evicted must be the same in every run of a seed.
pub(super) struct Cache {
    records: Bounded<Key, Option<Stored>, Weight, BuildHasherDefault<DefaultHasher>>,
}

impl Cache {
    pub(super) fn with_capacity(bytes: u64) -> Cache {
        let items = (bytes / USUAL_RECORD_BYTES).clamp(16, 1 << 20) as usize;
        Cache {
            records: Bounded::with(
                items,
                bytes,
                Weight,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// `Some(None)`: the key is known not to be there.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Stored>> {
        if self.records.is_empty() {
            return None;
        }
        self.records.get(key).map(Option::as_ref)
    }

    pub(super) fn insert(&mut self, key: Key, record: Option<Stored>) {
        self.records.insert(key, record);
    }

    /// Takes out what is cached of a key.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<Option<Stored>> {
        if self.records.is_empty() {
            return None;
        }
        self.records.remove(key).map(|(_, record)| record)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("records", &self.records.len())
            .finish()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Option<Stored>> for Weight {
    fn weight(&self, key: &Key, record: &Option<Stored>) -> u64 {
        let value_bytes = record.as_ref().map_or(0, |stored| stored.value.len());
        (key.as_bytes().len() + value_bytes) as u64 + ENTRY_OVERHEAD_BYTES
    }
}
