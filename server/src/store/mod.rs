//! The state machine.

use raftkv_protocol::{Answer, Record, Revision};
use raftkv_raft::{Entry, Index};

/// The key-value state machine: a pure function of the entries applied to it (R73).
#[derive(Debug)]
pub struct Store {}

#[allow(unused_variables, clippy::todo, missing_docs, clippy::new_without_default)]
impl Store {
    /// An empty store at revision 1 whose next entry is `first`.
    pub fn new(first: Index) -> Store {
        todo!()
    }
    /// Applies the next entry. `None` for entries that answer nobody (no-ops, configurations, ticks).
    pub fn apply(&mut self, entry: &Entry) -> Option<Answer> {
        todo!()
    }
    pub fn get(&self, key: &[u8]) -> Option<Record> {
        todo!()
    }
    pub fn revision(&self) -> Revision {
        todo!()
    }
    pub fn applied(&self) -> Option<Index> {
        todo!()
    }
    /// Chained hash of the effects of everything applied (divergence check, I7).
    pub fn state_hash(&self) -> u64 {
        todo!()
    }
    /// All live keys in order (tests, simulator).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Record)> {
        std::iter::empty()
    }
}
