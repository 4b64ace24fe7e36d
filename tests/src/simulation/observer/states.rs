//! The state on disk and in memory against the model: I7, I15.
//!
//! Revisions number the states, so whatever a node holds (memory over its base, a base alone, a scan that was held, history
//! at a kept revision) must be the model's state of that revision, to the last field.

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{LeaseId, Record, Revision};
use raftkv_raft::{EntryId, Index};
use raftkv_server::disk::SimulatedDisk;
use raftkv_server::store::base::{Base, TwinBase, TwinView};
use raftkv_server::store::history::{Direction, History, HistoryError, KeyRange, Layers, Past};
use raftkv_server::store::{
    Companions, Slot, State, Store, StoreError, Stored, Tables, companions_in, tables_in,
};

use super::Observer;
use super::model::Outcome;

/// An outcome without the words for people.
fn told(outcome: raftkv_server::store::Outcome) -> Outcome {
    outcome.map_err(|failure| failure.code)
}

fn are_same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: impl Iterator<Item = T>,
    expected: impl Iterator<Item = T>,
) -> Result<(), String> {
    let (found, expected): (Vec<T>, Vec<T>) = (found.collect(), expected.collect());
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what} are {found:?}, the log says {expected:?}")),
    }
}

/// What is read of the past, and where.
pub(crate) struct PastCheck<'a> {
    pub(crate) history: &'a History<SimulatedDisk>,
    pub(crate) state: &'a State<TwinView>,
    pub(crate) revisions: &'a [Revision],
}

/// A key with its record and its deadline.
type Row = (Bytes, Record, Option<u64>);

fn row((key, stored): (Bytes, Stored)) -> Result<Row, String> {
    match stored.record() {
        Some(record) => Ok((key, record, stored.deadline_us)),
        None => Err(format!("the lineage of {key:?} is not known")),
    }
}

/// All rows of a state, read from the front and from the back.
fn rows(state: &State<TwinView>) -> Result<Vec<Row>, String> {
    let read = |item: Result<(Bytes, Stored), StoreError>| row(item.map_err(|error| error.to_string())?);
    let forwards: Vec<Row> = state.range(&[], None).map(read).collect::<Result<_, _>>()?;
    let mut backwards: Vec<Row> = state.range(&[], None).rev().map(read).collect::<Result<_, _>>()?;
    backwards.reverse();
    if forwards != backwards {
        return Err(format!("forwards {forwards:?}, backwards {backwards:?}"));
    }
    Ok(forwards)
}

impl Observer {
    /// A drain has come into a base.
    pub(crate) fn drained(&mut self, slot: usize, base: &TwinBase) {
        if !self.is_watched(slot) {
            return;
        }
        let checked = self.check_base(base);
        if let Err(what) = checked {
            self.violate("I15", Some(slot), format!("after a drain {what}"));
        }
    }

    /// A log begins behind `begin`: what is not in it must be in the base.
    pub(crate) fn log_cut(&mut self, slot: usize, begin: EntryId, base: &TwinBase) {
        if !self.is_watched(slot) {
            return;
        }
        let companions = base.view().and_then(|view| companions_in(&view));
        let applied = companions.map(|companions| companions.map(|companions| companions.applied.index));
        let is_covered = match &applied {
            Ok(applied) => begin.index <= applied.unwrap_or(Index::FIRST),
            Err(_) => false,
        };
        if !is_covered {
            let what = format!("the log begins behind {begin}, the base holds {applied:?}");
            self.violate("I15", Some(slot), what);
        }
    }

    /// Everything a store holds in memory over what its base holds, as of now.
    pub(crate) fn check_whole_state(&mut self, slot: usize, store: &Store, base: &TwinBase) {
        if !self.is_watched(slot) {
            return;
        }
        let held = base.view().and_then(|view| store.pin().over(view));
        match held {
            Ok(Ok(state)) => self.check_scan(slot, &state),
            Ok(Err(_)) => {
                let what = "what the base holds does not fit to what memory holds".to_owned();
                self.violate("I7", Some(slot), what);
            }
            Err(error) => self.violate("I7", Some(slot), error.to_string()),
        }
        let applied = store.applied().map_or(0, Index::get);
        if let Err(what) = self.check_leases(applied, store) {
            self.violate("I7", Some(slot), format!("at index {applied} {what}"));
        }
        let (oldest_kept, expected) = (store.oldest_kept().0, self.model.oldest_kept_at_index(applied));
        if Some(oldest_kept) != expected {
            let what = format!(
                "keeps history from {oldest_kept} on at index {applied}, the model from {expected:?}"
            );
            self.violate("I7", Some(slot), what);
        }
    }

    /// The leases that memory holds, and how many keys it believes to hang on each.
    fn check_leases(&self, applied: u64, store: &Store) -> Result<(), String> {
        let held = store.leases_after(LeaseId(0), store.log_time_us());
        let held = held.into_iter();
        let held = held.map(|lease| (lease.id, lease.ttl_ms, lease.remaining_ms, lease.key_count));
        let (revision, now_us) = (store.revision().0, store.log_time_us());
        let expected = self.model.leases_at(applied).map(|(id, lease)| {
            let remaining_ms = lease.deadline_us.saturating_sub(now_us) / 1000;
            let keys = self.model.keys_on(*id, revision).len() as u64;
            (*id, lease.ttl_ms, remaining_ms, keys)
        });
        are_same("the leases in memory", held, expected)
    }

    /// A state that was held for a while: that of one revision, whatever was drained in the meantime.
    pub(crate) fn check_scan(&mut self, slot: usize, state: &State<TwinView>) {
        if !self.is_watched(slot) {
            return;
        }
        let revision = state.revision().0;
        let checked = rows(state).and_then(|rows| self.check_rows(revision, &rows));
        if let Err(what) = checked {
            self.violate("I7", Some(slot), format!("a scan at revision {revision}: {what}"));
        }
    }

    fn check_rows(&self, revision: u64, found: &[Row]) -> Result<(), String> {
        let mut expected = self.model.state_at(revision);
        let mut found = found.iter();
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return Ok(()),
                (Some((key, record, deadline_us)), Some(found))
                    if (key, record, deadline_us) == (&found.0, &found.1, found.2) => {}
                (expected, found) => return Err(format!("holds {found:?}, the log says {expected:?}")),
            }
        }
    }

    /// A base holds the state of one entry, and says so.
    fn check_base(&self, base: &TwinBase) -> Result<(), String> {
        let told = |error: StoreError| error.to_string();
        let view = base.view().map_err(told)?;
        let Some(companions) = companions_in(&view).map_err(told)? else {
            return Err("the base holds no companions".to_owned());
        };
        self.check_companions(&companions)?;
        let revision = companions.revision.0;
        let empty = Store::over_base(
            &companions,
            Tables::default(),
            raftkv_server::store::StoreConfig::default(),
        );
        let state = match empty.pin().over(view.clone()).map_err(told)? {
            Ok(state) => state,
            Err(_) => return Err("the base does not fit to itself".to_owned()),
        };
        self.check_rows(revision, &rows(&state)?)?;
        let mut expected: Vec<(u64, Bytes)> = self
            .model
            .state_at(revision)
            .filter_map(|(key, _, deadline_us)| Some((deadline_us?, key.clone())))
            .collect();
        expected.sort();
        let tables = tables_in(&view).map_err(told)?;
        let found: Vec<(u64, Bytes)> = tables
            .deadlines()
            .map(|(deadline_us, key)| (deadline_us, Bytes::copy_from_slice(key.as_bytes())))
            .collect();
        if found != expected {
            return Err(format!(
                "the base holds deadlines {found:?}, the log says {expected:?}"
            ));
        }
        self.check_tenure(companions.applied.index.get(), revision, &tables)
    }

    /// Leases with what hangs on them, sessions with their answers, and names, as of one entry.
    fn check_tenure(&self, index: u64, revision: u64, tables: &Tables) -> Result<(), String> {
        let leases = self.model.leases_at(index);
        let leases = leases.map(|(id, lease)| (*id, lease.ttl_ms, lease.deadline_us));
        are_same("the leases in the base", tables.leases(), leases)?;
        let on = |id: LeaseId| {
            let keys = self.model.keys_on(id, revision).into_iter();
            keys.map(move |key| (id, key))
        };
        let attached = tables.attached();
        let attached = attached.map(|(id, key)| (id, Bytes::copy_from_slice(key.as_bytes())));
        let ids = self.model.leases_at(index).map(|(id, _)| *id);
        are_same("the keys on leases in the base", attached, ids.flat_map(on))?;
        let sessions = self.model.sessions_at(index);
        let sessions = sessions.map(|(id, session)| (*id, session.deadline_us, session.outcomes.clone()));
        let found = tables.sessions().map(|(id, deadline_us, outcomes)| {
            let told = outcomes
                .into_iter()
                .map(|(sequence, outcome)| (sequence, told(outcome)));
            (id, deadline_us, told.collect())
        });
        are_same("the sessions in the base", found, sessions)?;
        let names = self.model.names_at(index);
        let names = names.map(|(at, named)| (*at, named.name.clone(), named.outcome.clone()));
        let found = tables.remembered();
        let found = found.map(|(at, key, outcome)| (at.get(), key.to_vec(), told(outcome)));
        are_same("the idempotency keys in the base", found, names)
    }

    fn check_companions(&self, companions: &Companions) -> Result<(), String> {
        let index = companions.applied.index.get();
        let found = (
            Some(companions.revision.0),
            Some(companions.log_time_us),
            Some(companions.oldest_kept.0),
            Some(companions.effects),
        );
        let expected = (
            self.model.revision_at_index(index),
            self.model.log_time_at_index(index),
            self.model.oldest_kept_at_index(index),
            self.state_hashes.get(&index).copied(),
        );
        if found != expected {
            return Err(format!(
                "the base says {found:?} of entry {index}, the log {expected:?}"
            ));
        }
        if companions.configurations.is_empty() {
            return Err("the base holds no configuration".to_owned());
        }
        Ok(())
    }

    /// A drain had no room for its images: its node knows nothing of the past before `oldest_kept` any more.
    pub(crate) fn past_given_up(&mut self, oldest_kept: Revision) {
        self.past_given_up = self.past_given_up.max(oldest_kept.0);
    }

    /// Nobody may refuse what is from here on.
    pub(super) fn oldest_kept_anywhere(&self) -> u64 {
        self.model.oldest_kept().max(self.past_given_up)
    }

    /// Reads of the past.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn check_past(
        &mut self,
        slot: usize,
        check: &PastCheck<'_>,
        rng: &mut Rng,
    ) -> Result<(), StoreError> {
        if !self.is_watched(slot) {
            return Ok(());
        }
        let agreed = self.oldest_kept_anywhere();
        let oldest_kept = check.history.oldest_kept();
        if oldest_kept.0 > agreed {
            let what = format!("history begins at {oldest_kept}, agreed is {agreed}");
            self.violate("I7", Some(slot), what);
        }
        let keys: Vec<Bytes> = self.model.keys().cloned().collect();
        let layers = Held {
            state: check.state,
            keys: &keys,
        };
        let past = Past::new(check.history, layers, check.state.revision());
        for &at in check.revisions {
            let found = read_at(&past, at, &keys, rng);
            let checked = match found {
                Err(HistoryError::Store(error)) => return Err(error),
                Err(HistoryError::Compacted { oldest_kept: told })
                    if at < oldest_kept && told == oldest_kept =>
                {
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
                Ok(_) if at < oldest_kept => Err("is told though it is not kept".to_owned()),
                Ok((rows, one)) => self.check_past_rows(at.0, &rows, one),
            };
            if let Err(what) = checked {
                let what = format!(
                    "revision {at}, read at {} with history from {oldest_kept} on: {what}",
                    check.state.revision()
                );
                self.violate("I7", Some(slot), what);
            }
        }
        Ok(())
    }

    fn check_past_rows(
        &self,
        at: u64,
        found: &[(Bytes, Record)],
        one: Option<(Bytes, Option<Record>)>,
    ) -> Result<(), String> {
        let expected = self.model.state_at(at).map(|(key, record, _)| (key, record));
        if !expected.eq(found.iter().map(|(key, record)| (key, record))) {
            let expected: Vec<_> = self.model.state_at(at).collect();
            return Err(format!("holds {found:?}, the log says {expected:?}"));
        }
        if let Some((key, record)) = one
            && record != self.model.record_at(&key, at)
        {
            return Err(format!(
                "{key:?} was {record:?}, the log says {:?}",
                self.model.record_at(&key, at)
            ));
        }
        Ok(())
    }
}

type PastRead = (Vec<(Bytes, Record)>, Option<(Bytes, Option<Record>)>);

/// A whole range, from one end or the other, and one key.
fn read_at<L: Layers>(
    past: &Past<raftkv_server::disk::SimulatedFile, L>,
    at: Revision,
    keys: &[Bytes],
    rng: &mut Rng,
) -> Result<PastRead, HistoryError> {
    let direction = if rng.bool() {
        Direction::Ascending
    } else {
        Direction::Descending
    };
    let range = past.range_at(&KeyRange::all(), at, direction)?;
    let mut rows = range.collect::<Result<Vec<_>, _>>()?;
    if direction == Direction::Descending {
        rows.reverse();
    }
    let one = match rng.choice(keys) {
        Some(key) => Some((key.clone(), past.record_at(key, at)?)),
        None => None,
    };
    Ok((rows, one))
}

/// A held state as the layers under history.
struct Held<'a> {
    state: &'a State<TwinView>,
    /// All keys that there ever were.
    keys: &'a [Bytes],
}

impl Layers for Held<'_> {
    fn newest(&self, key: &[u8]) -> Result<Option<Slot>, StoreError> {
        match self.state.newest_up_to(key, Revision(u64::MAX))? {
            Some(Slot::Live(_)) => Ok(self.state.get(key)?.map(Slot::Live)),
            deleted_or_unknown => Ok(deleted_or_unknown),
        }
    }

    fn newest_at_or_below(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        self.state.newest_up_to(key, at)
    }

    fn slots(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<(Bytes, Slot), StoreError>> + '_> {
        let range = range.clone();
        let inside = self.keys.iter().filter(move |key| range.contains(key));
        let slot = |key: &Bytes| {
            let newest = self.newest(key).transpose()?;
            Some(newest.map(|slot| (key.clone(), slot)))
        };
        match direction {
            Direction::Ascending => Box::new(inside.filter_map(slot)),
            Direction::Descending => Box::new(inside.rev().filter_map(slot)),
        }
    }
}
