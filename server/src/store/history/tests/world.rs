//! A store's life around its history: apply, freeze, drain, trim, crash, replay; and what it should know, told plainly.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use raftkv_protocol::{Record, Revision};

use super::layers::{Changed, PlainGeneration, PlainLayers};
use crate::disk::{SimulatedDisk, SimulatedFile};
use crate::store::history::{Direction, EventBuffer, History, HistoryError, KeyRange, Layers, Past};
use crate::store::{GenerationNumber, Lineage, Slot, StoreError, StoreNumber, Stored};

/// One key's part of a transaction: its new value, or `None`: deleted.
type Change = (Bytes, Option<Bytes>);
type State = BTreeMap<Bytes, Record>;

/// Everything that ever happened.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// By revision, from 1.
    states: Vec<State>,
    /// The transactions that made them, from revision 2 on: the log.
    log: Vec<Vec<Change>>,
}

impl Model {
    fn new() -> Model {
        Model {
            states: vec![State::new()],
            log: Vec::new(),
        }
    }

    fn current(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    fn at(&self, revision: Revision) -> &State {
        &self.states[revision.0 as usize - 1]
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let mut state = self.states.last().unwrap().clone();
        let revision = Revision(self.current().0 + 1);
        for (key, value) in &changes {
            let old = state.remove(key);
            let Some(value) = value else {
                assert!(old.is_some());
                continue;
            };
            let record = Record {
                value: value.clone(),
                create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                mod_revision: revision,
                version: old.as_ref().map_or(0, |old| old.version) + 1,
                lease: None,
            };
            state.insert(key.clone(), record);
        }
        self.states.push(state);
        self.log.push(changes);
    }
}

/// What an ingest makes durable.
#[derive(Clone, Debug)]
struct Base {
    through: Option<GenerationNumber>,
    revision: Revision,
    rows: BTreeMap<Bytes, Stored>,
    oldest_kept: Revision,
}

pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) rng: Rng,
    pub(super) history: Option<History<SimulatedDisk>>,
    pub(super) model: Model,
    layers: PlainLayers,
    /// How many of `layers.generations` are sealed.
    sealed: usize,
    base: Base,
    /// As the log has it.
    agreed_oldest: Revision,
    /// The past up to here was given up, if no crash came before the drain was over.
    given_up: Revision,
    buffer: EventBuffer,
    keys: u64,
    /// Some drains have no room for images.
    pub(super) lacks_room: bool,
    /// Readers that began earlier, and the revisions that they may ask for.
    readers: Vec<Past<SimulatedFile, PlainLayers>>,
}

pub(super) const STORE: StoreNumber = StoreNumber(1);

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let disk = SimulatedDisk::new(rng.u64(..));
        World {
            disk,
            keys: [2, 6, 40][rng.usize(..3)],
            rng,
            history: None,
            model: Model::new(),
            layers: PlainLayers {
                generations: Vec::new(),
                base: BTreeMap::new(),
            },
            sealed: 0,
            base: Base {
                through: None,
                revision: Revision(1),
                rows: BTreeMap::new(),
                oldest_kept: Revision(1),
            },
            agreed_oldest: Revision(1),
            given_up: Revision(1),
            buffer: EventBuffer::default(),
            lacks_room: true,
            readers: Vec::new(),
        }
    }

    pub(super) fn history(&self) -> &History<SimulatedDisk> {
        self.history.as_ref().unwrap()
    }

    fn active_number(&self) -> GenerationNumber {
        self.layers.generations.last().unwrap().number
    }

    /// Opens history and replays the log behind the base.
    pub(super) fn start(&mut self) -> Result<(), StoreError> {
        self.readers.clear();
        self.buffer = EventBuffer::default();
        let Base {
            through, oldest_kept, ..
        } = self.base;
        let history = History::open(self.disk.clone(), STORE, through, oldest_kept)?;
        assert!(
            history.oldest_kept() <= self.agreed_oldest.max(oldest_kept).max(self.given_up),
            "history from {} on, agreed is {}",
            history.oldest_kept(),
            self.agreed_oldest
        );
        self.history = Some(history);
        let number = through.map_or(GenerationNumber(1), GenerationNumber::next);
        self.layers = PlainLayers {
            generations: vec![PlainGeneration {
                number,
                changed: BTreeMap::new(),
            }],
            base: self.base.rows.clone(),
        };
        self.sealed = 0;
        let behind = self.base.revision.0 as usize - 1;
        for (place, changes) in self.model.log.clone().iter().enumerate().skip(behind) {
            let revision = Revision(place as u64 + 2);
            self.apply_to_layers(revision, changes);
            if self.rng.u8(..3) == 0 {
                self.push_block(revision);
            }
            if self.rng.u8(..12) == 0 {
                self.push_block(revision);
                self.freeze();
            }
        }
        self.push_block(self.model.current());
        Ok(())
    }

    fn push_block(&mut self, revision: Revision) {
        let number = self.active_number();
        if let Some(block) = self.buffer.take(number, revision.0 * 10) {
            self.history().push(block);
        }
    }

    /// What apply does: the active generation, and the event.
    fn apply_to_layers(&mut self, revision: Revision, changes: &[Change]) {
        let before = self.model.at(Revision(revision.0 - 1)).clone();
        for (key, value) in changes {
            let looks = self.rng.bool();
            let deadline_us = (self.rng.u8(..4) == 0).then(|| self.rng.u64(..));
            let active = self.layers.active();
            let slot = match value {
                None => Slot::Deleted(revision),
                Some(value) => Slot::Live(Stored {
                    value: value.clone(),
                    mod_revision: revision,
                    lineage: lineage(
                        active.changed.get(key),
                        before.get(key).filter(|_| looks),
                        revision,
                        looks,
                    ),
                    deadline_us,
                    lease: None,
                }),
            };
            self.buffer.push(key, slot.borrowed());
            let first = active.changed.get(key).map_or(revision, |changed| changed.first);
            active.changed.insert(key.clone(), Changed { first, slot });
        }
    }

    /// A batch of transactions.
    pub(super) fn apply(&mut self) {
        for _ in 0..self.rng.u8(1..5) {
            let changes = self.random_changes();
            self.model.apply(changes.clone());
            self.apply_to_layers(self.model.current(), &changes);
        }
        self.push_block(self.model.current());
    }

    fn random_changes(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        let count = if self.rng.u8(..4) == 0 { 3 } else { 1 };
        for _ in 0..count {
            let key = Bytes::from(format!("key{}", self.rng.u64(..self.keys)));
            if changes.iter().any(|(changed, _)| *changed == key) {
                continue;
            }
            let exists = self.model.states.last().unwrap().contains_key(&key);
            let length = [0, 5, 600, 3000][self.rng.usize(..4)];
            let value = Bytes::from(vec![self.rng.u8(..); length]);
            let is_deletion = exists && self.rng.u8(..3) == 0;
            changes.push((key, (!is_deletion).then_some(value)));
        }
        changes
    }

    pub(super) fn freeze(&mut self) {
        let number = self.active_number().next();
        self.layers.generations.push(PlainGeneration {
            number,
            changed: BTreeMap::new(),
        });
    }

    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        if self.sealed + 1 < self.layers.generations.len() {
            let number = self.layers.generations[self.sealed].number;
            self.history().seal(number)?;
            self.sealed += 1;
        }
        Ok(())
    }

    /// Images, and then the ingest.
    pub(super) fn drain(&mut self) -> Result<(), StoreError> {
        if self.sealed == 0 {
            return self.seal();
        }
        let generation = self.layers.generations[0].clone();
        let kept_before = self.history().oldest_kept();
        let most_bytes = (self.lacks_room && self.rng.u8(..6) == 0).then_some(0);
        let mut writer = self.history().image_writer(generation.number, most_bytes)?;
        let gives_up = self.rng.u8(..8) == 0;
        let mut rows = self.layers.base.clone();
        let mut revision = self.base.revision;
        for (key, changed) in &generation.changed {
            let old = self.layers.base.get(key);
            writer.push(key, changed.first, old)?;
            revision = revision.max(changed.slot.mod_revision());
            match &changed.slot {
                Slot::Live(stored) => {
                    let mut stored = stored.clone();
                    stored.lineage = stored.lineage.over(old);
                    rows.insert(key.clone(), stored);
                }
                Slot::Deleted(_) => {
                    rows.remove(key);
                }
            }
        }
        if gives_up {
            return Ok(());
        }
        writer.finish()?;
        self.layers.base.clone_from(&rows);
        self.layers.generations.remove(0);
        self.sealed -= 1;
        // Where it had to give them up, it keeps less than is agreed.
        let oldest_kept = self.history().oldest_kept();
        if most_bytes.is_some() && !generation.changed.is_empty() {
            self.given_up = revision;
            assert_eq!(oldest_kept, kept_before.max(revision));
        } else {
            assert_eq!(oldest_kept, kept_before);
        }
        self.base = Base {
            through: Some(generation.number),
            revision,
            rows,
            oldest_kept: self.agreed_oldest,
        };
        Ok(())
    }

    pub(super) fn trim(&mut self) -> Result<(), StoreError> {
        let oldest = self.rng.u64(self.agreed_oldest.0..=self.model.current().0);
        self.agreed_oldest = Revision(oldest);
        self.history().trim(self.agreed_oldest)
    }

    /// Up to `steps` of anything, or to the first error.
    pub(super) fn live(&mut self, steps: usize) -> Result<(), StoreError> {
        for _ in 0..steps {
            match self.rng.u8(..16) {
                0..=6 => self.apply(),
                7 => self.history().write_pending()?,
                8 | 9 => self.freeze(),
                10 | 11 => self.seal()?,
                12 | 13 => self.drain()?,
                14 => {
                    let past = self.past();
                    self.readers.push(past);
                }
                _ => self.trim()?,
            }
            if self.rng.u8(..8) == 0 {
                self.check_some(&self.past())?;
            }
            if let Some(reader) = self.readers.first() {
                self.check_some(reader)?;
            }
        }
        Ok(())
    }

    pub(super) fn past(&self) -> Past<SimulatedFile, PlainLayers> {
        Past::new(self.history(), self.layers.clone(), self.model.current())
    }

    /// The process is gone, in one way or the other.
    pub(super) fn crash(&mut self) {
        self.readers.clear();
        self.history = None;
        if self.rng.bool() {
            self.disk.process_crashed();
        } else {
            self.disk.power_lost();
        }
    }

    fn key(&self, number: u64) -> Bytes {
        Bytes::from(format!("key{number}"))
    }

    fn check_some(&self, past: &Past<SimulatedFile, PlainLayers>) -> Result<(), StoreError> {
        let mut rng = Rng::with_seed(self.disk.operations());
        let oldest = past.view().oldest_kept();
        let at = Revision(rng.u64(oldest.0..=past_current(past)));
        let key = self.key(rng.u64(..self.keys));
        let found = kept(past.record_at(&key, at))?;
        assert_eq!(found, self.model.at(at).get(&key).cloned(), "{key:?} at {at}");
        Ok(())
    }

    /// Every key and range at every kept revision, and all events.
    pub(super) fn check_all(&self) -> Result<(), StoreError> {
        let past = self.past();
        let (oldest, current) = (past.view().oldest_kept(), self.model.current());
        for at in oldest.0..=current.0 {
            let at = Revision(at);
            for number in 0..self.keys {
                let key = self.key(number);
                let found = kept(past.record_at(&key, at))?;
                assert_eq!(found, self.model.at(at).get(&key).cloned(), "{key:?} at {at}");
            }
            self.check_range(&past, at, &KeyRange::all())?;
            let from = self.key(at.0 % self.keys);
            self.check_range(&past, at, &KeyRange { from, to: None })?;
            self.check_range(&past, at, &KeyRange::prefix(b"key1"))?;
        }
        let refused = past.record_at(b"key0", Revision(current.0 + 1));
        assert!(matches!(refused, Err(HistoryError::Future { .. })));
        if oldest > Revision(1) {
            let refused = past.record_at(b"key0", Revision(oldest.0 - 1));
            assert!(matches!(refused, Err(HistoryError::Compacted { oldest_kept }) if oldest_kept == oldest));
        }
        self.check_events(&past)
    }

    fn check_range(
        &self,
        past: &Past<SimulatedFile, PlainLayers>,
        at: Revision,
        range: &KeyRange,
    ) -> Result<(), StoreError> {
        let state = self.model.at(at).clone().into_iter();
        let mut expected: Vec<_> = state.filter(|(key, _)| range.contains(key)).collect();
        for direction in [Direction::Ascending, Direction::Descending] {
            let found: Result<Vec<_>, _> = kept(past.range_at(range, at, direction))?.collect();
            assert_eq!(found?, expected, "{range:?} at {at}, {direction:?}");
            expected.reverse();
        }
        Ok(())
    }

    fn check_events(&self, past: &Past<SimulatedFile, PlainLayers>) -> Result<(), StoreError> {
        let oldest = past.view().oldest_kept();
        let current = self.model.current();
        for range in [KeyRange::all(), KeyRange::key(b"key1")] {
            for from in [oldest.0, (oldest.0 + current.0) / 2, current.0] {
                let from = Revision(from);
                let events = match past.view().events(from, current, range.clone()) {
                    Ok(events) => events,
                    Err(HistoryError::Compacted { oldest_kept }) => {
                        assert_eq!((from, oldest_kept.0), (oldest, oldest.0 + 1));
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let mut found = Vec::new();
                for event in events {
                    let event = event?;
                    assert!(event.log_time_us >= event.revision.0 * 10);
                    let record = kept(past.resolve(&event.key, event.slot))?;
                    found.push((event.revision, event.key, record));
                }
                assert_eq!(found, self.expected_events(from, &range), "events from {from}");
            }
        }
        Ok(())
    }

    fn expected_events(&self, from: Revision, range: &KeyRange) -> Vec<(Revision, Bytes, Option<Record>)> {
        let mut expected = Vec::new();
        for (place, changes) in self.model.log.iter().enumerate() {
            let revision = Revision(place as u64 + 2);
            for (key, _) in changes.iter().filter(|(key, _)| range.contains(key)) {
                if revision >= from {
                    expected.push((revision, key.clone(), self.model.at(revision).get(key).cloned()));
                }
            }
        }
        expected
    }
}

fn lineage(known: Option<&Changed>, old: Option<&Record>, revision: Revision, looks: bool) -> Lineage {
    match known.map(|changed| &changed.slot) {
        Some(Slot::Live(stored)) => match stored.lineage {
            Lineage::Known {
                create_revision,
                version,
            } => Lineage::Known {
                create_revision,
                version: version + 1,
            },
            Lineage::Over { first, writes } => Lineage::Over {
                first,
                writes: writes + 1,
            },
        },
        None if !looks => Lineage::Over {
            first: revision,
            writes: 1,
        },
        Some(Slot::Deleted(_)) | None => Lineage::Known {
            create_revision: old.map_or(revision, |old| old.create_revision),
            version: old.map_or(0, |old| old.version) + 1,
        },
    }
}

fn past_current<L: Layers>(past: &Past<SimulatedFile, L>) -> u64 {
    past.current.0
}

/// What was asked for is kept: any error is the disk's.
fn kept<T>(result: Result<T, HistoryError>) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        HistoryError::Store(error) => error,
        HistoryError::Compacted { .. } | HistoryError::Future { .. } => panic!("{error}"),
    })
}
