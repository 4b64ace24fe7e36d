//! The ordered map that holds the records.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{Record, Revision};

use super::key::Key;

/// A record as the store keeps it: what a reader sees, and the deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// An allocation of its own.
    pub(super) value: Bytes,
    pub(super) create_revision: Revision,
    pub(super) mod_revision: Revision,
    pub(super) version: u64,
    /// Log time at which the key expires, microseconds.
    pub(super) deadline_us: Option<u64>,
}

impl Stored {
    /// The record as a read returns it. Shares the value.
    pub(super) fn record(&self) -> Record {
        Record {
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
        }
    }
}

/// All records, in key order.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    records: BTreeMap<Key, Stored>,
}

impl Overlay {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.records.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Stored> {
        self.records.get_mut(key)
    }

    /// Adds a key that is not there yet; copies it.
    pub(super) fn insert(&mut self, key: &[u8], record: Stored) {
        let replaced = self.records.insert(key.into(), record);
        assert!(
            replaced.is_none(),
            "an existing key is changed in place, never inserted"
        );
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Stored> {
        self.records.remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Stored)> {
        self.records.iter().map(|(key, record)| (key.as_bytes(), record))
    }
}
