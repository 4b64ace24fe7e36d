//! What commands do.

use std::borrow::Cow;

use bytes::Bytes;
use raftkv_protocol::{Answer, Command, Condition, Revision, Txn, TxnResult};
use raftkv_raft::Index;
use raftkv_raft::simulation::{mark, mutant};

use super::effects::kind;
use super::generation::{Beneath, Put};
use super::lookup::Truth;
use super::machine::Store;
use super::outcome::Outcome;
use super::record::{Slot, SlotRef};
use super::scrub::ScrubWanted;
use super::txn::{Change, Plan};

impl Store {
    /// Executes the command of the entry at `index`. `None`: it answers nobody.
    pub(super) fn execute(&mut self, index: Index, command: &Command<'_>) -> Option<Outcome> {
        match *command {
            Command::Put {
                key,
                value,
                condition,
                ttl_ms,
            } => Some(Ok(self.put(key, value, condition, ttl_ms))),
            Command::Delete { key, condition } => Some(Ok(self.delete(key, condition))),
            Command::Txn(ref txn) => Some(self.transact(txn)),
            Command::Once {
                idempotency_key,
                command,
            } => self.execute_once(index, idempotency_key, command),
            Command::GrantLease { id, ttl_ms } => Some(self.grant_lease(index, id, ttl_ms)),
            Command::RenewLeases { ref ids } => Some(self.renew_leases(ids)),
            Command::RevokeLease { id } => Some(self.revoke_lease(id)),
            Command::OpenSession { ttl_ms } => Some(self.open_session(index, ttl_ms)),
            Command::RenewSession { session } => Some(self.keep_session(session)),
            Command::CloseSession { session } => Some(self.close_session(session)),
            Command::Tick => None,
            Command::KeepHistoryFrom { oldest } => {
                self.keep_history_from(oldest);
                None
            }
            Command::Scrub {
                from,
                max_keys,
                max_bytes,
            } => {
                self.scrub = Some(ScrubWanted {
                    from: Bytes::copy_from_slice(from),
                    max_keys,
                    max_bytes,
                });
                None
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], condition: Condition, ttl_ms: Option<u64>) -> Answer {
        if condition != Condition::Always {
            let current = self.current_revision(key);
            if !holds(condition, current) {
                return Answer::ConditionFailed { current };
            }
        }
        let revision = self.next_revision();
        let put = Put {
            value,
            revision,
            deadline_us: ttl_ms.map(|ttl_ms| self.deadline_after(ttl_ms)),
            lease: None,
        };
        self.write(key, put);
        Answer::Put { revision }
    }

    fn delete(&mut self, key: &[u8], condition: Condition) -> Answer {
        let current = self.current_revision(key);
        if !holds(condition, current) {
            return Answer::ConditionFailed { current };
        }
        let existed = current.is_some();
        if existed {
            let revision = self.next_revision();
            self.remove(kind::DELETED, key, revision);
        }
        Answer::Deleted {
            existed,
            revision: self.revision,
        }
    }

    /// All of it at one revision, or nothing.
    fn transact(&mut self, txn: &Txn<'_>) -> Outcome {
        let plan = Plan::of(self, txn)?;
        if !plan.changes.is_empty() {
            let revision = self.next_revision();
            self.effects.add(kind::TXN, revision.0);
            for (key, change) in &plan.changes {
                self.carry_out(key, change, revision);
            }
        }
        Ok(Answer::Txn(TxnResult {
            revision: self.revision,
            branch: plan.branch,
            results: plan.results,
        }))
    }

    fn carry_out(&mut self, key: &[u8], change: &Change<'_>, revision: Revision) {
        match change {
            Change::Put {
                value,
                deadline_us,
                lease,
            } => {
                let value: &[u8] = match value {
                    Cow::Borrowed(value) => value,
                    Cow::Owned(value) => value,
                };
                let put = Put {
                    value,
                    revision,
                    deadline_us: *deadline_us,
                    lease: *lease,
                };
                self.write(key, put);
            }
            Change::Delete => self.remove(kind::DELETED, key, revision),
        }
    }

    /// The revision of a transaction that changes something.
    pub(super) fn next_revision(&mut self) -> Revision {
        self.revision.0 += 1;
        self.revision
    }

    /// Sets a key.
    fn write(&mut self, key: &[u8], put: Put<'_>) {
        self.forget_deadline(key);
        self.leases.detach(key);
        let lineage = match self.overlay.active_mut().put_again(key, put) {
            Some(lineage) => lineage,
            None => {
                let beneath = self.take_beneath(key);
                self.overlay.active_mut().put_first(key, put, beneath)
            }
        };
        if let Some(deadline_us) = put.deadline_us {
            self.deadlines.add(deadline_us, key.into());
        }
        let event = SlotRef::Live {
            value: put.value,
            mod_revision: put.revision,
            lineage,
            deadline_us: put.deadline_us,
            lease: put.lease,
        };
        self.events.push(key, event);
        self.effects.add(kind::PUT, put.deadline_us.unwrap_or(u64::MAX));
        self.effects.add_bytes(key);
        self.effects.add_bytes(put.value);
        if let Some(lease) = put.lease {
            self.leases.attach(&key.into(), lease);
            self.effects.add(kind::ATTACHED, lease.0);
        }
    }

    /// Deletes a key that is there.
    pub(super) fn remove(&mut self, kind: u64, key: &[u8], revision: Revision) {
        self.forget_deadline(key);
        self.leases.detach(key);
        if let Truth::Live(stored) = self.truth(key) {
            let bytes = stored.value.len() as u64;
            self.deleted.add(revision, bytes);
        }
        self.overlay.active_mut().delete(key, revision);
        self.cache.take(key);
        self.events.push(key, SlotRef::Deleted(revision));
        self.effects.add(kind, revision.0);
        self.effects.add_bytes(key);
    }

    fn keep_history_from(&mut self, oldest: Revision) {
        // Beyond the present there is nothing that could be kept or given up.
        let oldest = oldest.min(self.revision);
        if oldest == self.revision {
            self.deleted.keep_last(oldest);
        }
        if oldest > self.oldest_kept {
            mark("history given up through the log");
            self.oldest_kept = oldest;
            self.effects.add(kind::OLDEST_KEPT, oldest.0);
        }
    }

    /// The mod_revision of a key that an entry depends on.
    fn current_revision(&self, key: &[u8]) -> Option<Revision> {
        match self.truth(key) {
            Truth::Live(stored) => Some(stored.mod_revision),
            Truth::Absent => None,
            Truth::Unknown => unreachable!("an entry waits for the records that it depends on"),
        }
    }

    /// What a put of a key replaces in the layers beneath the active generation, where memory knows it. What the cache had of
    /// the key is old from now on.
    fn take_beneath(&mut self, key: &[u8]) -> Beneath {
        let cached = self.cache.take(key);
        // What the cache holds of a key is never in the active generation too.
        if let Some(held) = self.overlay.find_frozen(key) {
            return match &held.slot {
                Slot::Deleted(_) => Beneath::Absent,
                Slot::Live(stored) => Beneath::Live(stored.lineage),
            };
        }
        match cached
            .as_ref()
            .map(Option::as_ref)
            .or_else(|| self.gathered.get(key))
        {
            Some(Some(stored)) => Beneath::Live(stored.lineage),
            Some(None) => Beneath::Absent,
            None if self.overlay.drained().is_none() => Beneath::Absent,
            None => Beneath::Unknown,
        }
    }

    pub(super) fn deadline_after(&self, ttl_ms: u64) -> u64 {
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
