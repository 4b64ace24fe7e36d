//! What was acknowledged, and whether it is there.

use std::collections::HashMap;

use raftkv_client::Revision;

/// For each key the newest acknowledged write, and the writes of which nobody knows whether they happened.
///
/// Revisions order the writes of a key, so only the newest can still be read; two that claim the same revision are an
/// error in themselves.
#[derive(Debug)]
pub(crate) struct Ledger {
    newest: Vec<Option<Acknowledged>>,
    unknown: HashMap<u64, Vec<u64>>,
    acknowledged: u64,
    violations: Vec<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acknowledged {
    revision: Revision,
    write: u64,
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

/// A value as it was read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadBack {
    pub(crate) revision: Revision,
    /// Which of our writes made it; `None`: none.
    pub(crate) write: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(keys: u64) -> Ledger {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        Ledger {
            newest: vec![None; keys],
            unknown: HashMap::new(),
            acknowledged: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn acknowledge(&mut self, key: u64, write: u64, revision: Revision) {
        self.acknowledged += 1;
        let newest = &mut self.newest[key as usize];
        match newest {
            Some(known) if known.revision == revision => {
                let what = format!(
                    "writes {} and {write} were both acknowledged at revision {revision}",
                    known.write
                );
                self.violations.push(Violation { key, what });
            }
            Some(known) if known.revision > revision => {}
            Some(_) | None => *newest = Some(Acknowledged { revision, write }),
        }
    }

    /// Nobody knows whether this write happened.
    pub(crate) fn doubt(&mut self, key: u64, write: u64) {
        self.unknown.entry(key).or_default().push(write);
    }

    /// Compares what a key holds at the end with what was promised.
    pub(crate) fn check(&mut self, key: u64, found: Option<ReadBack>) {
        if let Err(what) = self.judge(key, found) {
            self.violations.push(Violation { key, what });
        }
    }

    fn judge(&self, key: u64, found: Option<ReadBack>) -> Result<(), String> {
        let Some(known) = self.newest[key as usize] else {
            // Never acknowledged: it may hold what an earlier run, or a write in doubt, left there.
            return Ok(());
        };
        let Acknowledged { revision, write } = known;
        let Some(found) = found else {
            return Err(format!(
                "write {write}, acknowledged at revision {revision}, is missing"
            ));
        };
        if found.revision < revision {
            return Err(format!(
                "revision {} was read, after {revision} was acknowledged",
                found.revision
            ));
        }
        if found.revision == revision && found.write == Some(write) {
            return Ok(());
        }
        let in_doubt = self.unknown.get(&key);
        let was_in_doubt = found
            .write
            .is_some_and(|found| in_doubt.is_some_and(|writes| writes.contains(&found)));
        if found.revision > revision && was_in_doubt {
            return Ok(());
        }
        Err(format!(
            "the value of {} was read at revision {}, where write {write} was acknowledged at revision {revision}",
            found
                .write
                .map_or("no write of this run".to_owned(), |found| format!(
                    "write {found}"
                )),
            found.revision
        ))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Key 0 was written by writes 1 and 2, acknowledged in the other order; write 3 is in doubt.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(1);
        ledger.acknowledge(0, 2, Revision(20));
        ledger.acknowledge(0, 1, Revision(10));
        ledger.doubt(0, 3);
        ledger
    }

    fn is_fine(revision: u64, write: Option<u64>) -> bool {
        let mut ledger = ledger();
        ledger.check(
            0,
            Some(ReadBack {
                revision: Revision(revision),
                write,
            }),
        );
        ledger.violations().is_empty()
    }

    #[test]
    fn the_newest_acknowledged_write_or_a_later_one_in_doubt_must_be_there() {
        assert!(is_fine(20, Some(2)));
        assert!(is_fine(21, Some(3)), "the write in doubt happened");
    }

    #[test]
    fn lost_old_foreign_and_resurrected_values_are_found() {
        let mut missing = ledger();
        missing.check(0, None);
        assert_eq!(missing.violations().len(), 1);
        assert!(!is_fine(10, Some(1)), "an older write came back");
        assert!(
            !is_fine(20, Some(1)),
            "the value of another write at this revision"
        );
        assert!(!is_fine(20, None), "a damaged value");
        assert!(!is_fine(21, Some(1)), "an acknowledged write was applied twice");
        assert!(!is_fine(19, Some(3)), "the acknowledged write is gone");
    }

    #[test]
    fn one_revision_belongs_to_one_write() {
        let mut ledger = ledger();
        ledger.acknowledge(0, 4, Revision(20));
        assert_eq!(ledger.violations().len(), 1);
    }
}
