//! Order of entries, revisions, conditions and expiry.

use std::sync::Arc;

use raftkv_protocol::{Answer, Command, Condition, Revision, decode_command};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryId, EntryKind, Index};

use super::cache::Cache;
use super::companions::{Companions, StoredConfiguration};
use super::config::StoreConfig;
use super::deadlines::Deadlines;
use super::effects::EffectsHash;
use super::generation::{Beneath, Put};
use super::history::{EventBlock, EventBuffer};
use super::key::Key;
use super::lookup::{Gathered, Truth};
use super::overlay::{Frozen, Overlay};
use super::record::{GenerationNumber, Slot, SlotRef, Stored};

/// Most keys that expire before one entry's command: bounds the time one entry takes. A backlog goes with the next
/// entries; the leader sends ticks for it.
pub const EXPIRIES_PER_ENTRY: usize = 1000;

/// Kinds of effects in the chained hash. Part of what replicas compare: numbers are only added.
mod effect {
    pub(super) const ENTRY: u64 = 1;
    pub(super) const PUT: u64 = 2;
    pub(super) const DELETED: u64 = 3;
    pub(super) const EXPIRED: u64 = 4;
    pub(super) const OLDEST_KEPT: u64 = 5;
}

/// What became of [`Store::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The entry is part of the state. `None` for entries that answer nobody.
    Done(Option<Answer>),
    /// Nothing changed: records that memory does not hold must be looked up first; [`Store::missing`] names them.
    Waits,
}

/// The key-value state machine: a pure function of the entries applied to it (R73).
#[derive(Debug)]
pub struct Store {
    pub(super) config: StoreConfig,
    pub(super) overlay: Overlay,
    pub(super) cache: Cache,
    pub(super) gathered: Gathered,
    pub(super) deadlines: Deadlines,
    /// The index that must come next.
    next: Index,
    applied: Option<EntryId>,
    revision: Revision,
    oldest_kept: Revision,
    /// Highest log time applied, microseconds.
    log_time_us: u64,
    effects: EffectsHash,
    events: EventBuffer,
    /// Bytes of the values that the active generation's deletes took away: their before-images will be as large.
    deleted_bytes: u64,
}

impl Store {
    /// An empty store at revision 1 whose next entry is `first`, over an empty base.
    #[must_use]
    pub fn new(first: Index, config: StoreConfig) -> Store {
        Store {
            overlay: Overlay::over(None),
            cache: Cache::with_capacity(config.cache_bytes),
            config,
            gathered: Gathered::default(),
            deadlines: Deadlines::default(),
            next: first,
            applied: None,
            revision: Revision(1),
            oldest_kept: Revision(1),
            log_time_us: 0,
            effects: EffectsHash::EMPTY,
            events: EventBuffer::default(),
            deleted_bytes: 0,
        }
    }

    /// The state that a base holds; `deadlines` are its deadline rows.
    #[must_use]
    pub fn over_base(
        companions: &Companions,
        deadlines: impl IntoIterator<Item = (u64, Key)>,
        config: StoreConfig,
    ) -> Store {
        let mut hints = Deadlines::default();
        for (deadline_us, key) in deadlines {
            hints.add(deadline_us, key);
        }
        Store {
            overlay: Overlay::over(Some(companions.generation)),
            deadlines: hints,
            applied: Some(companions.applied),
            revision: companions.revision,
            oldest_kept: companions.oldest_kept,
            log_time_us: companions.log_time_us,
            effects: EffectsHash::restored(companions.effects),
            ..Store::new(companions.applied.index.next(), config)
        }
    }

    /// Applies the next entry, or says that it has to wait.
    ///
    /// # Panics
    /// When `entry` is not the next one, or holds a command that can not be decoded: commands are checked before they are
    /// proposed, so going on would let this replica differ from the others.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        let id = entry.id;
        assert_eq!(
            id.index, self.next,
            "entries are applied in order, each exactly once"
        );
        // The leader's clock restarts from what it had applied: a stamp may be behind, time here never is (R74).
        let log_time_us = self.log_time_us.max(entry.stamp.log_time_us);
        let command = match entry.kind {
            EntryKind::Noop | EntryKind::Configuration => None,
            EntryKind::Command => Some(decoded(entry)),
        };
        if !self.is_expiry_ready(log_time_us)
            || command.as_ref().is_some_and(|command| !self.is_ready(command))
        {
            mark("entry waits for a lookup");
            return Applied::Waits;
        }
        self.next = id.index.next();
        self.applied = Some(id);
        self.log_time_us = log_time_us;
        self.effects
            .add(effect::ENTRY ^ (id.index.get() << 8), self.log_time_us);
        self.expire_due();
        let answer = command.and_then(|command| self.execute(&command));
        self.gathered.passed(id.index);
        Applied::Done(answer)
    }

    /// 1 for an empty store, +1 for each transaction that changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read; agreed through the log.
    #[must_use]
    pub fn oldest_kept(&self) -> Revision {
        self.oldest_kept
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

    /// Lets the chain differ from what the log says, as a defect of memory or program would.
    #[cfg(any(test, feature = "simulation"))]
    pub fn corrupt(&mut self) {
        self.effects.add(0, 0);
    }

    /// The log time reached, microseconds: never falls.
    #[must_use]
    pub fn log_time_us(&self) -> u64 {
        self.log_time_us
    }

    /// Are there keys that may expire? Then the leader keeps log time going.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// The log time at which the next key may expire, microseconds.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.next_us()
    }

    /// The events recorded since the last call, for history; `None` when there are none. Taken after each batch.
    pub fn take_events(&mut self) -> Option<EventBlock> {
        self.events.take(self.overlay.active().number(), self.log_time_us)
    }

    /// Memory the overlay holds, and that of the generation which is written to, bytes.
    #[must_use]
    pub fn overlay_bytes(&self) -> (u64, u64) {
        (self.overlay.size_bytes(), self.overlay.active().size_bytes())
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The generation that is written to.
    #[must_use]
    pub fn generation(&self) -> GenerationNumber {
        self.overlay.active().number()
    }

    /// Generations that wait for their drain, the one under way included.
    #[must_use]
    pub fn undrained(&self) -> usize {
        self.overlay.undrained()
    }

    /// The base holds everything up to this generation.
    #[must_use]
    pub fn drained(&self) -> Option<GenerationNumber> {
        self.overlay.drained()
    }

    /// Ends the generation that is written to: it goes to the base with what the caller adds.
    ///
    /// # Panics
    /// Before the first entry was applied, or when events were not taken.
    pub fn freeze(
        &mut self,
        configurations: Vec<StoredConfiguration>,
        founding: Option<StoredConfiguration>,
    ) -> Arc<Frozen> {
        assert!(
            self.events.is_empty(),
            "a generation's events are taken before it ends"
        );
        let companions = Companions {
            generation: self.overlay.active().number(),
            applied: self.applied.expect("a generation ends behind an entry"),
            revision: self.revision,
            log_time_us: self.log_time_us,
            effects: self.effects.value(),
            oldest_kept: self.oldest_kept,
            configurations,
            founding,
        };
        self.deleted_bytes = 0;
        self.overlay.freeze(companions)
    }

    /// Bytes of the values that were deleted since the last generation was frozen.
    #[must_use]
    pub fn deleted_bytes(&self) -> u64 {
        self.deleted_bytes
    }

    /// The base holds generation `number` now.
    pub fn drained_up_to(&mut self, number: GenerationNumber) {
        self.overlay.drained_up_to(number);
    }

    /// Lets go of what the base holds while the overlay is beyond its bound. The caller drops what it gets where that may
    /// take its time.
    pub fn release(&mut self) -> Vec<Arc<Frozen>> {
        let released = self.overlay.release(self.config.overlay_bytes);
        if !released.is_empty() {
            // What was gathered for a waiting entry may have been written by one before it, and is in no map any more.
            self.gathered.clear();
        }
        released
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
            Command::Txn(_)
            | Command::Once { .. }
            | Command::GrantLease { .. }
            | Command::RenewLeases { .. }
            | Command::RevokeLease { .. }
            | Command::OpenSession { .. }
            | Command::RenewSession { .. }
            | Command::CloseSession { .. } => panic!(
                "the log holds a command that this version does not execute, though it refuses to propose one: a newer version \
                 of this program wrote it. Start that version on this data directory"
            ),
            Command::Tick => None,
            Command::KeepHistoryFrom { oldest } => {
                self.keep_history_from(oldest);
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
        let deadline_us = ttl_ms.map(|ttl_ms| self.deadline_after(ttl_ms));
        let revision = Revision(self.revision.0 + 1);
        self.forget_deadline(key);
        let put = Put {
            value,
            revision,
            deadline_us,
        };
        let lineage = match self.overlay.active_mut().put_again(key, put) {
            Some(lineage) => lineage,
            None => {
                let beneath = self.take_beneath(key);
                self.overlay.active_mut().put_first(key, put, beneath)
            }
        };
        if let Some(deadline_us) = deadline_us {
            self.deadlines.add(deadline_us, key.into());
        }
        self.revision = revision;
        let event = SlotRef::Live {
            value,
            mod_revision: revision,
            lineage,
            deadline_us,
        };
        self.events.push(key, event);
        self.effects.add(effect::PUT, deadline_us.unwrap_or(u64::MAX));
        self.effects.add_bytes(key);
        self.effects.add_bytes(value);
        Answer::Put { revision }
    }

    fn delete(&mut self, key: &[u8], condition: Condition) -> Answer {
        let current = self.current_revision(key);
        if !holds(condition, current) {
            return Answer::ConditionFailed { current };
        }
        let existed = current.is_some();
        if existed {
            self.remove(effect::DELETED, key);
        }
        Answer::Deleted {
            existed,
            revision: self.revision,
        }
    }

    /// Deletes what is due, each key as a transaction of its own.
    fn expire_due(&mut self) {
        let mut expired = 0;
        while expired < EXPIRIES_PER_ENTRY {
            let Some((deadline_us, key)) = self.deadlines.take_due(self.log_time_us) else {
                return;
            };
            if self.expires_at(key.as_bytes(), deadline_us) {
                self.remove(effect::EXPIRED, key.as_bytes());
                mark("key expired");
                expired += 1;
            } else {
                mark("deadline of a changed key passed over");
            }
        }
        if self.deadlines.due(self.log_time_us).next().is_some() {
            mark("expiry backlog");
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

    /// One more revision, for a key that is gone.
    fn remove(&mut self, kind: u64, key: &[u8]) {
        self.revision.0 += 1;
        self.forget_deadline(key);
        if let Truth::Live(stored) = self.truth(key) {
            self.deleted_bytes += stored.value.len() as u64;
        }
        self.overlay.active_mut().delete(key, self.revision);
        self.cache.take(key);
        self.events.push(key, SlotRef::Deleted(self.revision));
        self.effects.add(kind, self.revision.0);
        self.effects.add_bytes(key);
    }

    /// Drops the hint of the deadline that the key had, if memory knows it; else the hint stays, and is passed over.
    fn forget_deadline(&mut self, key: &[u8]) {
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

    fn keep_history_from(&mut self, oldest: Revision) {
        // Beyond the present there is nothing that could be kept or given up.
        let oldest = oldest.min(self.revision);
        if oldest > self.oldest_kept {
            mark("history given up through the log");
            self.oldest_kept = oldest;
            self.effects.add(effect::OLDEST_KEPT, oldest.0);
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

    fn deadline_after(&self, ttl_ms: u64) -> u64 {
        let from_us = if mutant("X26_local_clock_in_apply") {
            planted_local_clock_us()
        } else {
            self.log_time_us
        };
        from_us.saturating_add(ttl_ms.saturating_mul(1000))
    }
}

/// The command of an entry.
///
/// # Panics
/// When it does not decode.
pub(super) fn decoded(entry: &Entry) -> Command<'_> {
    match decode_command(&entry.payload) {
        Ok(command) => command,
        Err(error) => panic!(
            "the command of entry {} can not be decoded ({error}), though commands are checked before they are proposed: a \
             newer version of this program may have written it. Start that version on this data directory, or replace this \
             node",
            entry.id
        ),
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
