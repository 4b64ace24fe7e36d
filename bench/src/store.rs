//! The state machine in memory: `apply` and `look`. Drains, history and the base are measured by `storage.md`'s benchmark.

use std::hint::black_box;

use bytes::Bytes;
use raftkv_raft::{Entry, EntryId, EntryKind, Index, Stamp, Term};
use raftkv_server::store::{Looked, Store, StoreConfig};

use crate::Operation;
use crate::commands::{KEYS, key, put, scattered};

/// So many different commands are kept ready: more than a cache of the processor holds.
const COMMANDS: u64 = 4096;

/// Entries applied between two hand-overs of events.
const BATCH: u64 = 64;

/// An overwrite of one of 100,000 keys, far from the last.
#[must_use]
pub fn apply() -> Operation {
    let mut filled = Filled::new();
    let commands: Vec<Bytes> = (0..COMMANDS)
        .map(|n| put(scattered(n)).encoded().clone())
        .collect();
    let mut commands = commands.into_iter().cycle();
    Box::new(move || {
        let payload = commands.next().expect("the cycle has no end");
        filled.apply(payload);
    })
}

/// A read of one of 100,000 keys, far from the last.
#[must_use]
pub fn get() -> Operation {
    let filled = Filled::new();
    let keys: Vec<Bytes> = (0..COMMANDS).map(|n| key(scattered(n))).collect();
    let mut keys = keys.into_iter().cycle();
    Box::new(move || {
        let key = keys.next().expect("the cycle has no end");
        let looked = black_box(filled.store.look(&key));
        assert!(matches!(looked, Looked::Found(_)), "every key was written");
    })
}

struct Filled {
    store: Store,
    next: Index,
}

impl Filled {
    fn new() -> Filled {
        let mut filled = Filled {
            store: Store::new(Index::FIRST, StoreConfig::default()),
            next: Index::FIRST,
        };
        for number in 0..KEYS {
            filled.apply(put(number).encoded().clone());
        }
        filled
    }

    fn apply(&mut self, payload: Bytes) {
        let index = self.next;
        self.next = index.next();
        let entry = Entry {
            id: EntryId { term: Term(1), index },
            kind: EntryKind::Command,
            stamp: Stamp::default(),
            payload,
            configuration: None,
        };
        black_box(self.store.apply(&entry));
        // As after each batch; they go to history, which is measured elsewhere (storage.md).
        if index.get().is_multiple_of(BATCH) {
            black_box(self.store.take_events());
        }
    }
}
