//! Judgement where each write has a revision: they order the writes of a key, so only the newest can still be read.

use raftkv_client::Revision;

use super::{Acknowledged, ReadBack, named};

/// For each key the newest acknowledged write. Two that claim the same revision are an error in themselves.
#[derive(Debug)]
pub(super) struct ByRevision {
    newest: Vec<Option<Newest>>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    revision: Revision,
    write: u64,
}

impl ByRevision {
    pub(super) fn new(keys: usize) -> ByRevision {
        ByRevision {
            newest: vec![None; keys],
        }
    }

    pub(super) fn acknowledge(&mut self, key: u64, acknowledged: Acknowledged) -> Result<(), String> {
        let write = acknowledged.write;
        let revision = acknowledged
            .revision
            .ok_or_else(|| format!("write {write} was acknowledged without a revision"))?;
        let newest = &mut self.newest[key as usize];
        match newest {
            Some(known) if known.revision == revision => Err(format!(
                "writes {} and {write} were both acknowledged at revision {revision}",
                known.write
            )),
            Some(known) if known.revision > revision => Ok(()),
            Some(_) | None => {
                *newest = Some(Newest { revision, write });
                Ok(())
            }
        }
    }

    pub(super) fn judge(&self, key: u64, found: Option<ReadBack>, in_doubt: &[u64]) -> Result<(), String> {
        let Some(Newest { revision, write }) = self.newest[key as usize] else {
            // Never acknowledged: it may hold what an earlier run, or a write in doubt, left there.
            return Ok(());
        };
        let Some(found) = found else {
            return Err(format!(
                "write {write}, acknowledged at revision {revision}, is missing"
            ));
        };
        let found_at = found.revision.ok_or("it was read without a revision")?;
        if found_at < revision {
            return Err(format!(
                "revision {found_at} was read, after {revision} was acknowledged"
            ));
        }
        if found_at == revision && found.write == Some(write) {
            return Ok(());
        }
        let was_in_doubt = found.write.is_some_and(|found| in_doubt.contains(&found));
        if found_at > revision && was_in_doubt {
            return Ok(());
        }
        let found = named(found.write);
        Err(format!(
            "the value of {found} was read at revision {found_at}, where write {write} was acknowledged at {revision}"
        ))
    }
}
