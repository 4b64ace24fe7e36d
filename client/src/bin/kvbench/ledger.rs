//! What was acknowledged, and whether it is there.

mod by_revision;
mod by_value;

use std::collections::HashMap;

use raftkv_client::Revision;

use crate::target::Order;
use by_revision::ByRevision;
use by_value::ByValue;

/// For each key what may be read at the end, and the writes of which nobody knows whether they happened.
#[derive(Debug)]
pub(crate) struct Ledger {
    promises: Promises,
    unknown: HashMap<u64, Vec<u64>>,
    acknowledged: u64,
    violations: Vec<Violation>,
}

/// The acknowledged writes that can still be read.
#[derive(Debug)]
enum Promises {
    ByRevision(ByRevision),
    ByValue(ByValue),
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    key: u64,
    what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}: {}", self.key, self.what)
    }
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) write: u64,
    /// `None` from a store without revisions.
    pub(crate) revision: Option<Revision>,
    /// Writes from this number on began after the acknowledgement.
    pub(crate) next_write: u64,
}

/// A value as it was read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadBack {
    /// `None` from a store without revisions.
    pub(crate) revision: Option<Revision>,
    /// Which of our writes made it; `None`: none.
    pub(crate) write: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(keys: u64, order: Order) -> Ledger {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        Ledger {
            promises: match order {
                Order::ByRevision => Promises::ByRevision(ByRevision::new(keys)),
                Order::ByValue => Promises::ByValue(ByValue::new(keys)),
            },
            unknown: HashMap::new(),
            acknowledged: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn acknowledge(&mut self, key: u64, acknowledged: Acknowledged) {
        self.acknowledged += 1;
        let outcome = match &mut self.promises {
            Promises::ByRevision(promises) => promises.acknowledge(key, acknowledged),
            Promises::ByValue(promises) => {
                promises.acknowledge(key, acknowledged);
                Ok(())
            }
        };
        self.note(key, outcome);
    }

    /// Nobody knows whether this write happened.
    pub(crate) fn doubt(&mut self, key: u64, write: u64) {
        self.unknown.entry(key).or_default().push(write);
    }

    /// Compares what a key holds at the end with what was promised.
    pub(crate) fn check(&mut self, key: u64, found: Option<ReadBack>) {
        let in_doubt = self.unknown.get(&key).map_or(&[][..], Vec::as_slice);
        let outcome = match &self.promises {
            Promises::ByRevision(promises) => promises.judge(key, found, in_doubt),
            Promises::ByValue(promises) => promises.judge(key, found, in_doubt),
        };
        self.note(key, outcome);
    }

    fn note(&mut self, key: u64, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.violations.push(Violation { key, what });
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn in_doubt(&self) -> u64 {
        self.unknown.values().map(|writes| writes.len() as u64).sum()
    }

    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

/// A write as a sentence names it.
fn named(write: Option<u64>) -> String {
    write.map_or("no write of this run".to_owned(), |write| {
        format!("write {write}")
    })
}

#[cfg(test)]
mod tests;
