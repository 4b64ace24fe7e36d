//! A scrub: all that is stored of a stretch of keys, as of one entry, hashed (R47).
//!
//! The chained hash of effects tells whether replicas *did* the same. It can not see what one of them lost or let rot since:
//! in a drain, a compaction, a snapshot, or on the disk. So the stored records themselves are hashed, a stretch at a time.
//!
//! The hash holds what a record *is*: key, value, creation, last change, version, lease, deadline. How a replica keeps it
//! is its own affair: in which generation, drained or not, with a lineage that is known or open. The end of the stretch is
//! part of the hash, so that equal hashes are of the same keys.
//!
//! Absent: the rows of leases, sessions and names of writes. Memory holds all of them, and what commands come to depends on
//! them at once; history, which is not the state; indices of deadlines and of what hangs on leases.

use bytes::Bytes;
use raftkv_raft::simulation::mark;

use super::base::{Base, BaseView};
use super::effects::EffectsHash;
use super::error::StoreError;
use super::machine::Store;
use super::record::{GenerationNumber, Lineage, Stored};
use super::state::{Overtaken, Pinned, State, companions_in};

/// Names one scrub of a node; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScrubNumber(pub u64);

/// Which records an entry wants hashed; the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubWanted {
    /// The first key; empty: the first of all.
    pub from: Bytes,
    /// At most so many keys; at least one.
    pub max_keys: u32,
    /// At most so many bytes of keys and values, but for a single record.
    pub max_bytes: u32,
}

/// Records to be hashed, as they are as of one entry.
#[derive(Clone, Debug)]
pub struct ScrubJob {
    /// Its name.
    pub scrub: ScrubNumber,
    /// What memory has as of the entry.
    pub pinned: Box<Pinned>,
    /// Up to where the base was drained then.
    pub drained: Option<GenerationNumber>,
    /// Which records.
    pub wanted: ScrubWanted,
}

/// The state that records are read from, and which; or the entry's state is gone.
pub type OpenedScrub<V> = Result<(State<V>, ScrubWanted), Overtaken>;

/// What they came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Of all of them, and of where they end.
    pub hash: u64,
    /// How many there are.
    pub keys: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
    /// The first key behind them; `None`: there is none.
    pub next: Option<Bytes>,
}

impl Store {
    /// What the entry that was applied last wants hashed, once.
    pub fn take_scrub(&mut self) -> Option<ScrubWanted> {
        self.scrub.take()
    }

    /// Holds the state for that. In no time.
    #[must_use]
    pub fn scrub_job(&self, scrub: ScrubNumber, wanted: ScrubWanted) -> ScrubJob {
        ScrubJob {
            scrub,
            pinned: Box::new(self.pin()),
            drained: self.overlay.drained(),
            wanted,
        }
    }
}

impl ScrubJob {
    /// The state that the records are read from.
    ///
    /// # Errors
    /// Of the base. Inside the result, when the base has drained further since than what was held: the entry's state is gone.
    pub fn open<B: Base>(self, base: &B) -> Result<OpenedScrub<B::View>, StoreError> {
        let view = base.view()?;
        let drained = companions_in(&view)?.map(|companions| companions.generation);
        if drained > self.drained {
            mark("scrub read across a drain");
        }
        let state = self.pinned.over(view)?;
        Ok(state.map(|state| (state, self.wanted)))
    }
}

impl ScrubWanted {
    /// Hashes the records.
    ///
    /// # Errors
    /// Of the base.
    pub fn read<V: BaseView>(&self, state: &State<V>) -> Result<Scrubbed, StoreError> {
        let mut hash = EffectsHash::EMPTY;
        let (mut keys, mut bytes) = (0, 0_u64);
        let mut next = None;
        for found in state.range(&self.from, None) {
            let (key, stored) = found?;
            let size = (key.len() + stored.value.len()) as u64;
            let is_full = keys >= u64::from(self.max_keys) || bytes + size > u64::from(self.max_bytes);
            if is_full && keys > 0 {
                next = Some(key);
                break;
            }
            add_record(&mut hash, &key, &stored);
            (keys, bytes) = (keys + 1, bytes + size);
        }
        hash.add(keys, u64::from(next.is_some()));
        hash.add_bytes(next.as_deref().unwrap_or_default());
        Ok(Scrubbed {
            hash: hash.value(),
            keys,
            bytes,
            next,
        })
    }
}

fn add_record(hash: &mut EffectsHash, key: &[u8], stored: &Stored) {
    let Lineage::Known {
        create_revision,
        version,
    } = stored.lineage
    else {
        unreachable!("the lineage of what a state holds is known");
    };
    hash.add_bytes(key);
    hash.add_bytes(&stored.value);
    hash.add(stored.mod_revision.0, create_revision.0);
    // Two bits tell none from a deadline of 0, and none from a lease of 0.
    let extras = u64::from(stored.deadline_us.is_some()) | u64::from(stored.lease.is_some()) << 1;
    hash.add(version, extras);
    hash.add(
        stored.deadline_us.unwrap_or(0),
        stored.lease.map_or(0, |lease| lease.0),
    );
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::{LeaseId, Revision};

    use super::*;

    fn record() -> Stored {
        Stored {
            value: Bytes::from_static(b"value"),
            mod_revision: Revision(7),
            lineage: Lineage::Known {
                create_revision: Revision(3),
                version: 2,
            },
            deadline_us: None,
            lease: None,
        }
    }

    fn hash_of(key: &[u8], stored: &Stored) -> u64 {
        let mut hash = EffectsHash::EMPTY;
        add_record(&mut hash, key, stored);
        hash.value()
    }

    #[test]
    fn each_part_of_a_record_counts() {
        let lineage = |create_revision, version| Lineage::Known {
            create_revision: Revision(create_revision),
            version,
        };
        let others = [
            Stored {
                value: Bytes::from_static(b"Value"),
                ..record()
            },
            Stored {
                mod_revision: Revision(8),
                ..record()
            },
            Stored {
                lineage: lineage(4, 2),
                ..record()
            },
            Stored {
                lineage: lineage(3, 3),
                ..record()
            },
            Stored {
                deadline_us: Some(0),
                ..record()
            },
            Stored {
                deadline_us: Some(9),
                ..record()
            },
            Stored {
                lease: Some(LeaseId(9)),
                ..record()
            },
        ];
        let mut hashes: Vec<u64> = others.iter().map(|other| hash_of(b"key", other)).collect();
        hashes.extend([hash_of(b"key", &record()), hash_of(b"kez", &record())]);
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }
}
