//! Order of entries, and the numbers of the whole state.

use std::sync::Arc;

use raftkv_protocol::{Command, Revision, decode_command};
use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryId, EntryKind, Index};

use super::cache::Cache;
use super::companions::{Companions, StoredConfiguration};
use super::config::StoreConfig;
use super::deadlines::Deadlines;
use super::effects::{EffectsHash, kind};
use super::history::{EventBlock, EventBuffer};
use super::leases::Leases;
use super::lookup::Gathered;
use super::once::OnceTable;
use super::outcome::Outcome;
use super::overlay::{Frozen, Overlay};
use super::record::GenerationNumber;
use super::scrub::ScrubWanted;
use super::sessions::Sessions;
use super::tables::{ChangedTables, Tables};

/// What became of [`Store::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The entry is part of the state, and came to this. `None` for entries that answer nobody.
    Done(Option<Outcome>),
    /// Nothing changed: records that memory does not hold must be looked up first; [`Store::missing`] names them.
    Waits,
}

/// What the active generation's deletes took away: their before-images will be as large.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeletedBytes {
    bytes: u64,
    /// The last revision that deleted something, and its part of them.
    last: (Revision, u64),
}

impl DeletedBytes {
    pub(super) fn add(&mut self, revision: Revision, bytes: u64) {
        self.bytes += bytes;
        if self.last.0 != revision {
            self.last = (revision, 0);
        }
        self.last.1 += bytes;
    }

    /// History is given up before `revision`, the present one.
    pub(super) fn keep_last(&mut self, revision: Revision) {
        self.bytes = match self.last.0 == revision {
            true => self.last.1,
            false => 0,
        };
    }
}

/// The key-value state machine: a pure function of the entries applied to it (R73).
#[derive(Debug)]
pub struct Store {
    pub(super) config: StoreConfig,
    pub(super) overlay: Overlay,
    pub(super) cache: Cache,
    pub(super) gathered: Gathered,
    pub(super) deadlines: Deadlines,
    pub(super) leases: Leases,
    pub(super) sessions: Sessions,
    pub(super) once: OnceTable,
    /// The index that must come next.
    next: Index,
    applied: Option<EntryId>,
    pub(super) revision: Revision,
    pub(super) oldest_kept: Revision,
    /// Highest log time applied, microseconds.
    pub(super) log_time_us: u64,
    pub(super) effects: EffectsHash,
    names_from: u64,
    pub(super) events: EventBuffer,
    pub(super) deleted: DeletedBytes,
    /// What the last entry wants hashed.
    pub(super) scrub: Option<ScrubWanted>,
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
            leases: Leases::default(),
            sessions: Sessions::default(),
            once: OnceTable::default(),
            next: first,
            applied: None,
            revision: Revision(1),
            oldest_kept: Revision(1),
            log_time_us: 0,
            effects: EffectsHash::EMPTY,
            names_from: 0,
            events: EventBuffer::default(),
            deleted: DeletedBytes::default(),
            scrub: None,
        }
    }

    /// The state that a base holds.
    #[must_use]
    pub fn over_base(companions: &Companions, tables: Tables, config: StoreConfig) -> Store {
        let mut deadlines = Deadlines::default();
        for (deadline_us, key) in tables.deadlines {
            deadlines.add(deadline_us, key);
        }
        Store {
            overlay: Overlay::over(Some(companions.generation)),
            deadlines,
            leases: Leases::restored(tables.leases, tables.attached),
            sessions: Sessions::restored(tables.sessions),
            once: OnceTable::restored(tables.remembered),
            applied: Some(companions.applied),
            revision: companions.revision,
            oldest_kept: companions.oldest_kept,
            log_time_us: companions.log_time_us,
            effects: EffectsHash::restored(companions.effects),
            names_from: companions.names_from,
            ..Store::new(companions.applied.index.next(), config)
        }
    }

    /// The number that the entry `index` names what it makes with, and no other entry ever does, not one that a recovery lost.
    pub(super) fn fresh_name(&self, index: Index) -> u64 {
        self.names_from + index.get()
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
            || command
                .as_ref()
                .is_some_and(|command| !self.is_ready(id.index, command))
        {
            mark("entry waits for a lookup");
            return Applied::Waits;
        }
        self.next = id.index.next();
        self.applied = Some(id);
        self.log_time_us = log_time_us;
        self.effects
            .add(kind::ENTRY ^ (id.index.get() << 8), self.log_time_us);
        self.expire_due();
        let outcome = command.and_then(|command| self.execute_entry(entry, &command));
        self.gathered.passed(id.index);
        Applied::Done(outcome)
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

    /// Are there keys, leases or sessions that may expire? Then the leader keeps log time going.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.next_deadline_us().is_some()
    }

    /// The log time at which the next of them may expire, microseconds. Names of writes are not among them: nobody sees
    /// when one is forgotten, and log time would have to go on for a day behind each.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let of_leases = self.leases.first_due().map(|(deadline_us, _)| deadline_us);
        if mutant("log_time_rests_while_leases_run") {
            return self.deadlines.next_us();
        }
        let all = [self.deadlines.next_us(), of_leases, self.sessions.next_us()];
        all.into_iter().flatten().min()
    }

    /// The events recorded since the last call, for history; `None` when there are none. Taken after each batch.
    pub fn take_events(&mut self) -> Option<EventBlock> {
        self.events.take(self.overlay.active().number(), self.log_time_us)
    }

    /// Memory the overlay holds, and that of the generation which is written to, bytes: records, and what else goes into the
    /// base with them. A load of renewals alone writes no record, and would else hold on to every generation for ever.
    #[must_use]
    pub fn overlay_bytes(&self) -> (u64, u64) {
        let changed = self.changed_bytes();
        let active = self.overlay.active().size_bytes();
        (self.overlay.size_bytes() + changed, active + changed)
    }

    /// What of the overlay's memory is of leases, sessions and idempotency keys.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.overlay.table_bytes() + self.changed_bytes()
    }

    /// Of the tables, what the generation that is written to has changed.
    fn changed_bytes(&self) -> u64 {
        self.leases.changed_bytes() + self.sessions.changed_bytes() + self.once.changed_bytes()
    }

    /// Leases that have not ended.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.count()
    }

    /// Sessions that have not ended.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.count()
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
            names_from: self.names_from,
        };
        self.deleted = DeletedBytes::default();
        let tables = ChangedTables {
            size_bytes: self.changed_bytes(),
            leases: self.leases.take_changed(),
            sessions: self.sessions.take_changed(),
            remembered: self.once.take_changed(),
        };
        self.overlay.freeze(companions, tables)
    }

    /// Bytes of the values that were deleted since the last generation was frozen, and that history has to keep.
    #[must_use]
    pub fn deleted_bytes(&self) -> u64 {
        self.deleted.bytes
    }

    /// The base holds generation `number` now.
    pub fn drained_up_to(&mut self, number: GenerationNumber) {
        self.overlay.drained_up_to(number);
    }

    /// Lets go of what the base holds while the overlay is beyond its bound. The caller drops what it gets where that may
    /// take its time.
    pub fn release(&mut self) -> Vec<Arc<Frozen>> {
        // The generation that is written to takes its share with all that it changed.
        let left = self.config.overlay_bytes.saturating_sub(self.changed_bytes());
        let released = self.overlay.release(left);
        if !released.is_empty() {
            // What was gathered for a waiting entry may have been written by one before it, and is in no map any more.
            self.gathered.clear();
        }
        released
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
