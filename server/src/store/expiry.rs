//! What ends by itself when log time has come: before an entry's command, in a fixed order.

use raftkv_raft::simulation::{mark, mutant};

use super::effects::kind;
use super::lookup::{KEYS_PER_LOOKUP, Missing, Truth};
use super::machine::Store;
use super::record::Stored;

/// Most keys that expire before one entry's command: bounds the time one entry takes. A backlog goes with the next
/// entries; the leader sends ticks for it.
pub const EXPIRIES_PER_ENTRY: usize = 1000;

impl Store {
    /// Ends what is due.
    pub(super) fn expire_due(&mut self) {
        let mut left = EXPIRIES_PER_ENTRY;
        self.expire_keys(&mut left);
        self.expire_leases(&mut left);
        self.expire_sessions(&mut left);
        self.forget_names(&mut left);
    }

    /// Each key as a transaction of its own.
    fn expire_keys(&mut self, left: &mut usize) {
        while *left > 0 {
            let Some((deadline_us, key)) = self.deadlines.take_due(self.log_time_us) else {
                return;
            };
            if self.expires_at(key.as_bytes(), deadline_us) {
                let revision = self.next_revision();
                self.remove(kind::EXPIRED, key.as_bytes(), revision);
                mark("key expired");
                *left -= 1;
            } else {
                mark("deadline of a changed key passed over");
            }
        }
        if self.deadlines.due(self.log_time_us).next().is_some() {
            mark("expiry backlog");
        }
    }

    /// Each lease with all that hangs on it.
    fn expire_leases(&mut self, left: &mut usize) {
        while let Some((deadline_us, id)) = self.leases.first_due() {
            if deadline_us > self.log_time_us || *left == 0 {
                return;
            }
            if mutant("expired_lease_leaves_its_keys") {
                self.leases.end(id);
                continue;
            }
            mark("lease expired");
            let deleted = self.end_lease(id);
            if deleted > 0 {
                mark("lease expired with its keys");
            }
            *left = left.saturating_sub(1 + deleted);
        }
    }

    fn expire_sessions(&mut self, left: &mut usize) {
        while *left > 0
            && let Some((_, id)) = self.sessions.first_due(self.log_time_us)
        {
            mark("session expired");
            self.sessions.end(id);
            self.effects.add(kind::SESSION_ENDED, id.0);
            *left -= 1;
        }
    }

    fn forget_names(&mut self, left: &mut usize) {
        while *left > 0
            && self
                .once
                .next_us()
                .is_some_and(|until_us| until_us <= self.log_time_us)
        {
            self.once.forget_first();
            self.effects.add(kind::FORGOTTEN, 0);
            *left -= 1;
        }
    }

    /// Has the key this very deadline?
    fn expires_at(&self, key: &[u8], deadline_us: u64) -> bool {
        match self.truth(key) {
            Truth::Live(stored) => stored.deadline_us == Some(deadline_us),
            Truth::Absent => false,
            Truth::Unknown => unreachable!("an entry that may expire a key waits for its record"),
        }
    }

    /// Drops the hint of the deadline that the key had, if memory knows it; else the hint stays, and is passed over.
    pub(super) fn forget_deadline(&mut self, key: &[u8]) {
        if self.deadlines.is_empty() {
            return;
        }
        let Truth::Live(Stored {
            deadline_us: Some(deadline_us),
            ..
        }) = self.truth(key)
        else {
            return;
        };
        let deadline_us = *deadline_us;
        self.deadlines.remove(deadline_us, key);
    }

    /// Has memory the records of all keys that may expire by then?
    pub(super) fn is_expiry_ready(&self, log_time_us: u64) -> bool {
        let mut expiring = 0;
        for (deadline_us, key) in self.deadlines.due(log_time_us) {
            match self.truth(key.as_bytes()) {
                Truth::Unknown => return false,
                Truth::Live(stored) if stored.deadline_us == Some(deadline_us) => expiring += 1,
                Truth::Live(_) | Truth::Absent => {}
            }
            if expiring >= EXPIRIES_PER_ENTRY {
                return true;
            }
        }
        true
    }

    /// Records of keys that may expire by then.
    pub(super) fn miss_due(&self, log_time_us: u64, missing: &mut Missing) {
        let mut expiring = 0;
        for (deadline_us, key) in self.deadlines.due(log_time_us) {
            if expiring >= EXPIRIES_PER_ENTRY || missing.keys.len() >= KEYS_PER_LOOKUP {
                return;
            }
            match self.truth(key.as_bytes()) {
                Truth::Unknown => missing.add(key.as_bytes()),
                Truth::Live(stored) if stored.deadline_us == Some(deadline_us) => expiring += 1,
                Truth::Live(_) | Truth::Absent => {}
            }
        }
    }
}
