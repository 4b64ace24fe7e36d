//! Order of entries, revisions, conditions and expiry.

use bytes::Bytes;
use raftkv_protocol::{Answer, Command, Condition, Record, Revision, decode_command};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryKind, Index};

use super::deadlines::Deadlines;
use super::effects::EffectsHash;
use super::overlay::{Overlay, Stored};

/// Most keys that expire before one entry's command: bounds the time one entry takes. A backlog goes with the next
/// entries; the leader sends ticks for it.
pub const EXPIRIES_PER_ENTRY: usize = 1000;

/// Kinds of effects in the chained hash. Part of what replicas compare: numbers are only added.
mod effect {
    pub(super) const ENTRY: u64 = 1;
    pub(super) const PUT: u64 = 2;
    pub(super) const DELETED: u64 = 3;
    pub(super) const EXPIRED: u64 = 4;
}

/// The key-value state machine: a pure function of the entries applied to it (R73).
#[derive(Debug)]
pub struct Store {
    records: Overlay,
    deadlines: Deadlines,
    /// The index that must come next.
    next: Index,
    revision: Revision,
    /// Highest log time applied, microseconds.
    log_time_us: u64,
    effects: EffectsHash,
}

impl Store {
    /// An empty store at revision 1 whose next entry is `first`.
    #[must_use]
    pub fn new(first: Index) -> Store {
        Store {
            records: Overlay::default(),
            deadlines: Deadlines::default(),
            next: first,
            revision: Revision(1),
            log_time_us: 0,
            effects: EffectsHash::EMPTY,
        }
    }

    /// Applies the next entry. `None` for entries that answer nobody (no-ops, configurations, ticks).
    ///
    /// # Panics
    /// When `entry` is not the next one, or holds a command that can not be decoded: commands are checked before they are
    /// proposed, so going on would let this replica differ from the others.
    pub fn apply(&mut self, entry: &Entry) -> Option<Answer> {
        let id = entry.id;
        assert_eq!(
            id.index, self.next,
            "entries are applied in order, each exactly once"
        );
        self.next = id.index.next();
        // The leader's clock restarts from what it had applied: a stamp may be behind, time here never is (R74).
        self.log_time_us = self.log_time_us.max(entry.stamp.log_time_us);
        self.effects
            .add(effect::ENTRY ^ (id.index.get() << 8), self.log_time_us);
        self.expire_due();
        match entry.kind {
            EntryKind::Noop | EntryKind::Configuration => None,
            EntryKind::Command => match decode_command(&entry.payload) {
                Ok(command) => self.execute(&command),
                Err(error) => panic!(
                    "the command of entry {id} can not be decoded ({error}), though commands are checked before they are \
                     proposed: a newer version of this program may have written it. Start that version on this data \
                     directory, or replace this node"
                ),
            },
        }
    }

    /// The record of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Record> {
        self.records.get(key).map(Stored::record)
    }

    /// 1 for an empty store, +1 for each transaction that changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last entry that is part of the state; `None` before the first of all.
    #[must_use]
    pub fn applied(&self) -> Option<Index> {
        self.next.previous()
    }

    /// Chained hash of the effects of everything applied (divergence check, I7).
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.effects.value()
    }

    /// The log time reached, microseconds: never falls.
    #[must_use]
    pub fn log_time_us(&self) -> u64 {
        self.log_time_us
    }

    /// Are there keys that will expire? Then the leader keeps log time going.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.deadlines.next_us().is_some()
    }

    /// The log time at which the next key expires, microseconds.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.next_us()
    }

    /// All live keys in order (tests, simulator).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Record)> {
        self.records.iter().map(|(key, stored)| (key, stored.record()))
    }

    fn execute(&mut self, command: &Command<'_>) -> Option<Answer> {
        match *command {
            Command::Put {
                key,
                value,
                condition,
                ttl_ms,
            } => Some(self.put(key, value, condition, ttl_ms)),
            Command::Delete { key, condition } => Some(self.delete(key, condition)),
            Command::Tick => None,
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], condition: Condition, ttl_ms: Option<u64>) -> Answer {
        let deadline_us = ttl_ms.map(|ttl_ms| self.deadline_after(ttl_ms));
        let revision = Revision(self.revision.0 + 1);
        let old_deadline_us = match self.records.get_mut(key) {
            Some(stored) => {
                if !holds(condition, Some(stored.mod_revision)) {
                    let current = Some(stored.mod_revision);
                    return Answer::ConditionFailed { current };
                }
                let old_deadline_us = stored.deadline_us;
                stored.value = Bytes::copy_from_slice(value);
                stored.mod_revision = revision;
                stored.version += 1;
                stored.deadline_us = deadline_us;
                old_deadline_us
            }
            None if !holds(condition, None) => return Answer::ConditionFailed { current: None },
            None => {
                let stored = Stored {
                    value: Bytes::copy_from_slice(value),
                    create_revision: revision,
                    mod_revision: revision,
                    version: 1,
                    deadline_us,
                };
                self.records.insert(key, stored);
                None
            }
        };
        self.deadlines.change(key, old_deadline_us, deadline_us);
        self.revision = revision;
        self.effects.add(effect::PUT, deadline_us.unwrap_or(u64::MAX));
        self.effects.add_bytes(key);
        self.effects.add_bytes(value);
        Answer::Put { revision }
    }

    fn delete(&mut self, key: &[u8], condition: Condition) -> Answer {
        let current = self.records.get(key).map(|stored| stored.mod_revision);
        if !holds(condition, current) {
            return Answer::ConditionFailed { current };
        }
        let existed = match self.records.remove(key) {
            Some(stored) => {
                self.deadlines.change(key, stored.deadline_us, None);
                self.count_removal(effect::DELETED, key);
                true
            }
            None => false,
        };
        Answer::Deleted {
            existed,
            revision: self.revision,
        }
    }

    /// Deletes what is due, each key as a transaction of its own.
    fn expire_due(&mut self) {
        for _ in 0..EXPIRIES_PER_ENTRY {
            let Some((deadline_us, key)) = self.deadlines.take_due(self.log_time_us) else {
                return;
            };
            let stored = self.records.remove(key.as_bytes());
            assert_eq!(
                stored.and_then(|stored| stored.deadline_us),
                Some(deadline_us),
                "each deadline in the index belongs to a record that has it"
            );
            self.count_removal(effect::EXPIRED, key.as_bytes());
            mark("key expired");
        }
        if self
            .deadlines
            .next_us()
            .is_some_and(|next_us| next_us <= self.log_time_us)
        {
            mark("expiry backlog");
        }
    }

    /// One more revision, for a key that is gone.
    fn count_removal(&mut self, kind: u64, key: &[u8]) {
        self.revision.0 += 1;
        self.effects.add(kind, self.revision.0);
        self.effects.add_bytes(key);
    }

    fn deadline_after(&self, ttl_ms: u64) -> u64 {
        let from_us = if mutant("X26_local_clock_in_apply") {
            planted_local_clock_us()
        } else {
            self.log_time_us
        };
        from_us.saturating_add(ttl_ms.saturating_mul(1000))
    }
}

/// Does `condition` hold for a key last changed at `current` (`None`: it does not exist)?
fn holds(condition: Condition, current: Option<Revision>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => current.is_none(),
        Condition::ModRevision(revision) => current == Some(revision),
    }
}

/// What a wall clock would be to the replicas of a simulation: another value for each of them, the same in every run.
#[cfg(feature = "simulation")]
fn planted_local_clock_us() -> u64 {
    thread_local! {
        static READINGS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    READINGS.with(|readings| {
        readings.set(readings.get() + 1);
        readings.get()
    })
}

#[cfg(not(feature = "simulation"))]
fn planted_local_clock_us() -> u64 {
    unreachable!("mutants exist only under the feature `simulation`")
}
