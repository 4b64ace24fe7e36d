//! Judgement where writes have no revisions: by what was acknowledged before what began.
//!
//! Weaker than revisions: of writes that overlapped in time, any may have been the last.

use super::{Acknowledged, ReadBack, named};

/// For each key the acknowledged writes that may be its last: those that no other began after and was acknowledged.
#[derive(Debug)]
pub(super) struct ByValue {
    last: Vec<Vec<Candidate>>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    write: u64,
    /// Writes are numbered as they begin, so those from this number on began after this one was acknowledged.
    next_write: u64,
}

impl ByValue {
    pub(super) fn new(keys: usize) -> ByValue {
        ByValue {
            last: vec![Vec::new(); keys],
        }
    }

    pub(super) fn acknowledge(&mut self, key: u64, acknowledged: Acknowledged) {
        let Acknowledged {
            write, next_write, ..
        } = acknowledged;
        let last = &mut self.last[key as usize];
        last.retain(|earlier| write < earlier.next_write);
        last.push(Candidate { write, next_write });
    }

    pub(super) fn judge(&self, key: u64, found: Option<ReadBack>, in_doubt: &[u64]) -> Result<(), String> {
        let last = &self.last[key as usize];
        let Some(newest) = last.last() else {
            // Never acknowledged: it may hold what an earlier run, or a write in doubt, left there.
            return Ok(());
        };
        let Some(found) = found else {
            return Err(format!(
                "write {}, which was acknowledged, is missing",
                newest.write
            ));
        };
        let is_known = |write| last.iter().any(|known| known.write == write) || in_doubt.contains(&write);
        if found.write.is_some_and(is_known) {
            return Ok(());
        }
        let found = named(found.write);
        Err(format!(
            "the value of {found} was read, where only writes up to {} that overlapped may be the last",
            newest.write
        ))
    }
}
