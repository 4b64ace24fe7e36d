//! Waiting for memory once instead of once for each entry or read.
//!
//! What a put or a read looks at is seldom in a cache, and each load of it depends on the one before: place in the index, row,
//! value. Of one after the other the processor waits for each. Of many the first loads depend on nothing, nor do the second
//! ones, so it has them all under way at the same time.

use std::hint::black_box;

use bytes::Bytes;
use raftkv_protocol::{Command, decode_command};
use raftkv_raft::{Entry, EntryKind};

use super::generation::{Hash, LikelyPlace};
use super::machine::Store;

/// So many entries or reads at once: what they touch stays in the cache until their turn comes.
pub const TOUCHED_AT_ONCE: usize = 64;

/// Of fewer reads there is little to be had side by side, and their keys are hashed twice.
const LEAST_READS: usize = 4;

/// What the processor loads at once, and how much of a value is loaded so; behind that it sees by itself what comes next.
const LINE_BYTES: usize = 64;
const LINES_OF_A_VALUE: usize = 8;

impl Store {
    /// Loads what the puts among the first [`TOUCHED_AT_ONCE`] of `entries` will look at. Changes nothing, and nothing
    /// depends on it.
    pub fn touch<'a>(&self, entries: impl Iterator<Item = &'a Entry>) {
        let mut hashes = [None; TOUCHED_AT_ONCE];
        for (hash, entry) in hashes.iter_mut().zip(entries) {
            if entry.kind == EntryKind::Command
                && let Ok(Command::Put { key, .. }) = decode_command(&entry.payload)
            {
                *hash = Some(self.overlay.hash(key));
            }
        }
        self.touch_rows(&hashes);
    }

    /// Loads what reads of the first [`TOUCHED_AT_ONCE`] of `keys` will look at, and copy; `None` is a read of something else.
    /// Changes nothing, and nothing depends on it.
    pub fn touch_for_reads<'a>(&self, keys: impl ExactSizeIterator<Item = Option<&'a Bytes>>) {
        if keys.len() < LEAST_READS {
            return;
        }
        let mut hashes = [None; TOUCHED_AT_ONCE];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = key.map(|key| self.overlay.hash(key));
        }
        self.touch_rows(&hashes);
    }

    /// Each loop does one thing, so that nothing of it depends on what its other turns load.
    fn touch_rows(&self, hashes: &[Option<Hash>; TOUCHED_AT_ONCE]) {
        let places = hashes.map(|hash| self.overlay.likely_place(hash?));
        let rows = || places.iter().flatten().filter_map(LikelyPlace::row);
        for row in rows() {
            black_box((row.key.as_bytes().first().copied(), row.held.first_revision));
        }
        // A value is read, or written over in place, or freed.
        for row in rows() {
            let value = row.held.slot.live().map_or(&[][..], |stored| &stored.value);
            for byte in value.iter().step_by(LINE_BYTES).take(LINES_OF_A_VALUE) {
                black_box(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::tests::rig::Applier;

    #[test]
    fn a_likely_place_is_that_of_the_newest_row() {
        let mut applier = Applier::new();
        let keys: Vec<String> = (0..200).map(|number| format!("key{number}")).collect();
        for key in &keys {
            applier.put(1, key, None);
        }
        applier.freeze();
        for key in &keys[50..100] {
            applier.put(2, key, None);
        }
        let overlay = &applier.store.overlay;
        for key in &keys {
            let place = overlay.likely_place(overlay.hash(key.as_bytes()));
            let row = place.and_then(|place| place.row()).expect("it was put");
            // Two keys may share a hash; of 200 some do in one of a hundred thousand runs.
            assert_eq!(row.key.as_bytes(), key.as_bytes());
            assert_eq!(Some(&row.held), overlay.find(key.as_bytes()));
        }
    }
}
