//! Leases: keys that hang on one live as long as it does.
//!
//! Memory holds all leases, and which key hangs on which: both exactly, for each write of a key says what it hangs on from
//! then on. So a lease ends without a look at the records of its keys.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raftkv_protocol::LeaseId;
use raftkv_raft::simulation::{mark, mutant};

use super::base::Row;
use super::key::Key;
use super::rows;

const FORMAT_VERSION: u8 = 1;

/// Most leases at one time. What would be one more is refused: memory holds all of them.
pub(super) const MAX_LEASES: usize = 4 << 20;

/// Most keys on one lease, about: they are deleted with one entry.
pub(super) const MAX_KEYS_PER_LEASE: usize = 100_000;

/// Memory that a lease costs which a generation changed, about: its number, and what the table no longer shares with the one
/// of the generation before.
const CHANGED_BYTES: u64 = 128;

/// A lease, but for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredLease {
    /// How long it lives without renewal, milliseconds.
    pub(super) ttl_ms: u64,
    /// It ends at this log time, microseconds.
    pub(super) deadline_us: u64,
}

impl StoredLease {
    /// The value of its row: version, time to live, deadline; little-endian.
    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(17);
        out.put_u8(FORMAT_VERSION);
        out.put_u64_le(self.ttl_ms);
        out.put_u64_le(self.deadline_us);
        out.freeze()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// A sentence when the bytes are no lease of this version.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<StoredLease, &'static str> {
        if bytes.len() != 17 {
            return Err("a lease that has not 17 bytes");
        }
        if bytes.get_u8() != FORMAT_VERSION {
            return Err("a lease of another format version");
        }
        Ok(StoredLease {
            ttl_ms: bytes.get_u64_le(),
            deadline_us: bytes.get_u64_le(),
        })
    }
}

/// Persistent, as the overlay's maps are: a drain reads a copy that was taken in no time.
type Table = imbl::OrdMap<LeaseId, StoredLease>;

/// # Invariants
/// * `due` has each lease of `table` once, by its deadline.
/// * `attached` and `keys` say the same, of leases in `table` alone; no set in `keys` is empty.
#[derive(Debug, Default)]
pub(super) struct Leases {
    table: Table,
    due: BTreeSet<(u64, LeaseId)>,
    keys: BTreeMap<LeaseId, BTreeSet<Key>>,
    attached: BTreeMap<Key, LeaseId>,
    /// Granted, renewed or ended since the generation began.
    changed: BTreeSet<LeaseId>,
}

/// The leases that a generation changed, as of its end.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangedLeases {
    table: Table,
    changed: BTreeSet<LeaseId>,
}

impl ChangedLeases {
    /// Their rows, ascending; made as they are asked for.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.changed.iter().map(|id| Row {
            key: rows::lease_row(*id),
            value: self.table.get(id).map(|lease| lease.encode()),
        })
    }
}

impl Leases {
    /// As a base holds them.
    pub(super) fn restored(leases: Vec<(LeaseId, StoredLease)>, keys: Vec<(LeaseId, Key)>) -> Leases {
        let mut restored = Leases::default();
        for (id, lease) in leases {
            restored.due.insert((lease.deadline_us, id));
            restored.table.insert(id, lease);
        }
        for (id, key) in keys {
            if mutant("lease_comes_back_without_its_keys") {
                break;
            }
            restored.attach(&key, id);
        }
        restored
    }

    pub(super) fn count(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&StoredLease> {
        looks::at_one();
        self.table.get(&id)
    }

    /// Those behind `id`, ascending.
    pub(super) fn after(&self, id: LeaseId) -> impl Iterator<Item = (LeaseId, StoredLease)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.table.range((Excluded(id), Unbounded));
        behind
            .map(|(id, lease)| (*id, *lease))
            .inspect(|_| looks::at_one())
    }

    /// The keys that hang on a lease, ascending.
    pub(super) fn keys_of(&self, id: LeaseId) -> impl Iterator<Item = &Key> {
        self.keys.get(&id).into_iter().flatten()
    }

    pub(super) fn key_count(&self, id: LeaseId) -> usize {
        self.keys.get(&id).map_or(0, BTreeSet::len)
    }

    /// Makes a lease, or lets one live until another time.
    pub(super) fn set(&mut self, id: LeaseId, lease: StoredLease) {
        looks::at_one();
        if let Some(old) = self.table.insert(id, lease) {
            self.due.remove(&(old.deadline_us, id));
            mark("lease renewed");
            if mutant("X19_renewal_of_a_lease_not_stored") {
                self.due.insert((lease.deadline_us, id));
                return;
            }
        }
        self.due.insert((lease.deadline_us, id));
        self.changed.insert(id);
    }

    /// Ends a lease; the keys that hung on it, ascending.
    pub(super) fn end(&mut self, id: LeaseId) -> BTreeSet<Key> {
        looks::at_one();
        if let Some(lease) = self.table.remove(&id) {
            self.due.remove(&(lease.deadline_us, id));
        }
        self.changed.insert(id);
        let keys = self.keys.remove(&id).unwrap_or_default();
        for key in &keys {
            self.attached.remove(key);
        }
        keys
    }

    /// The key was written, and hangs on this lease now.
    pub(super) fn attach(&mut self, key: &Key, id: LeaseId) {
        self.attached.insert(key.clone(), id);
        self.keys.entry(id).or_default().insert(key.clone());
    }

    /// The key was written or deleted: it hangs on no lease until told otherwise. Costs nothing while no key hangs on one.
    pub(super) fn detach(&mut self, key: &[u8]) {
        if self.attached.is_empty() || mutant("key_stays_on_its_former_lease") {
            return;
        }
        let Some(id) = self.attached.remove(key) else {
            return;
        };
        if let Some(keys) = self.keys.get_mut(&id) {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&id);
            }
        }
    }

    /// The first deadline and its lease.
    pub(super) fn first_due(&self) -> Option<(u64, LeaseId)> {
        looks::at_one();
        self.due.first().copied()
    }

    /// Memory that its drain will hold on to for what changed since the generation began.
    pub(super) fn changed_bytes(&self) -> u64 {
        self.changed.len() as u64 * CHANGED_BYTES
    }

    /// What the generation that ends now changed.
    pub(super) fn take_changed(&mut self) -> ChangedLeases {
        ChangedLeases {
            table: self.table.clone(),
            changed: std::mem::take(&mut self.changed),
        }
    }
}

/// In unit tests each look at a lease is counted: that work does not grow with how many there are shows in no result.
#[cfg(not(test))]
mod looks {
    #[inline(always)]
    pub(super) const fn at_one() {}
}

#[cfg(test)]
pub(super) mod looks {
    use std::cell::Cell;

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn at_one() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// How many there were on this thread since the last call.
    pub(in crate::store) fn take() -> u64 {
        LOOKS.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let lease = StoredLease {
            ttl_ms: 0x0102,
            deadline_us: 7,
        };
        let golden = [1, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(lease.encode()[..], golden);
        assert_eq!(StoredLease::decode(&golden), Ok(lease));
        assert!(StoredLease::decode(&golden[1..]).is_err());
        assert!(StoredLease::decode(&[2; 17]).is_err());
    }

    #[test]
    fn a_key_hangs_on_one_lease_at_a_time() {
        let (mut leases, key) = (Leases::default(), Key::from(&b"k"[..]));
        let lease = StoredLease {
            ttl_ms: 1,
            deadline_us: 1,
        };
        leases.set(LeaseId(1), lease);
        leases.set(LeaseId(2), lease);
        leases.attach(&key, LeaseId(1));
        leases.detach(b"k");
        leases.attach(&key, LeaseId(2));
        assert_eq!(
            (leases.key_count(LeaseId(1)), leases.key_count(LeaseId(2))),
            (0, 1)
        );
        assert_eq!(leases.end(LeaseId(2)).len(), 1);
        assert!(leases.attached.is_empty() && leases.keys.is_empty());
        assert_eq!(leases.first_due(), Some((1, LeaseId(1))));
    }
}
