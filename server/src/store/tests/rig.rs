//! A store over the base's twin and a history on a simulated disk; what a replica does around it, in one call each.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::{Answer, CheckedCommand, Command, Condition, Limits, Record, Revision};
use raftkv_raft::{Entry, EntryId, EntryKind, Index, Stamp, Term};

use crate::disk::{SimulatedDisk, SimulatedFile};
use crate::store::base::{Base, TwinBase};
use crate::store::history::History;
use crate::store::snapshot::Source;
use crate::store::{
    Applied, BaseRecords, Frozen, GenerationNumber, Looked, Outcome, State, Store, StoreConfig, StoreNumber,
    companions_in, drain, tables_in,
};

/// Applies commands one after the other, at log times in milliseconds.
pub(in crate::store) struct Applier<B: Base = TwinBase> {
    pub(in crate::store) store: Store,
    config: StoreConfig,
    next: Index,
    base: B,
    disk: SimulatedDisk,
    history: History<SimulatedDisk>,
    frozen: VecDeque<Arc<Frozen>>,
    /// Everything applied: the log.
    log: Vec<Entry>,
}

impl Applier {
    /// Memory holds everything.
    pub(in crate::store) fn new() -> Applier {
        Applier::with_overlay(1 << 30)
    }

    /// Drained generations are let go beyond so many bytes.
    pub(in crate::store) fn with_overlay(overlay_bytes: u64) -> Applier {
        Applier::over(TwinBase::new(), overlay_bytes)
    }
}

impl<B: Base> Applier<B> {
    /// The same over another base, which is empty.
    pub(in crate::store) fn over(base: B, overlay_bytes: u64) -> Applier<B> {
        let config = StoreConfig {
            overlay_bytes,
            cache_bytes: overlay_bytes.min(1 << 20),
        };
        let disk = SimulatedDisk::new(1);
        Applier {
            store: Store::new(Index::FIRST, config),
            config,
            next: Index::FIRST,
            base,
            history: open_history(&disk, None, Revision(1)),
            disk,
            frozen: VecDeque::new(),
            log: Vec::new(),
        }
    }

    pub(in crate::store) fn entry(&mut self, kind: EntryKind, log_time_ms: u64, payload: Bytes) -> Entry {
        let index = self.next;
        self.next = index.next();
        Entry {
            id: EntryId { term: Term(1), index },
            kind,
            stamp: Stamp {
                log_time_us: log_time_ms * 1000,
                ..Stamp::default()
            },
            payload,
            configuration: None,
        }
    }

    /// Of a command that is not refused.
    pub(in crate::store) fn apply(&mut self, log_time_ms: u64, command: &Command<'_>) -> Option<Answer> {
        let outcome = self.execute(log_time_ms, command);
        outcome.map(|outcome| outcome.expect("not refused"))
    }

    pub(in crate::store) fn execute(&mut self, log_time_ms: u64, command: &Command<'_>) -> Option<Outcome> {
        let encoded = match command {
            Command::Tick => CheckedCommand::tick(),
            Command::KeepHistoryFrom { oldest } => CheckedCommand::keep_history_from(*oldest),
            Command::Scrub {
                from,
                max_keys,
                max_bytes,
            } => CheckedCommand::scrub(from, *max_keys, *max_bytes),
            _ => CheckedCommand::new(command, &Limits::default()).unwrap(),
        };
        self.apply_checked(log_time_ms, &encoded)
    }

    pub(in crate::store) fn apply_checked(
        &mut self,
        log_time_ms: u64,
        command: &CheckedCommand,
    ) -> Option<Outcome> {
        let mut entry = self.entry(EntryKind::Command, log_time_ms, command.encoded().clone());
        if let Some(once) = command.once() {
            entry.stamp.session = once.session.0;
            entry.stamp.sequence = once.sequence;
            entry.stamp.first_unacknowledged = once.first_unacknowledged;
        }
        self.log.push(entry.clone());
        self.apply_first(&[entry])
    }

    /// Applies the first of the entries that wait: looks up what it waits for, as often as it takes, and what is known to be
    /// needed by those behind it.
    pub(in crate::store) fn apply_first(&mut self, waiting: &[Entry]) -> Option<Outcome> {
        let entry = &waiting[0];
        self.store.touch(waiting.iter());
        for _ in 0..10 {
            let hash = self.store.state_hash();
            match self.store.apply(entry) {
                Applied::Done(outcome) => {
                    if let Some(events) = self.store.take_events() {
                        self.history.push(events);
                    }
                    return outcome;
                }
                Applied::Waits => {
                    assert_eq!(
                        self.store.state_hash(),
                        hash,
                        "an entry that waits changes nothing"
                    );
                    let missing = self.store.missing(waiting.iter());
                    assert!(
                        !missing.is_empty(),
                        "an entry that waits lacks a record or a range"
                    );
                    let keys: Vec<Bytes> = missing.keys.into_iter().collect();
                    let found = BaseRecords::read(&self.base.view().unwrap(), &keys, missing.ranges).unwrap();
                    self.store
                        .gathered(missing.through.expect("an entry waits"), found);
                }
            }
        }
        panic!("{entry:?} waits for ever")
    }

    pub(in crate::store) fn put(
        &mut self,
        log_time_ms: u64,
        key: &str,
        ttl_ms: Option<u64>,
    ) -> Option<Answer> {
        self.apply(
            log_time_ms,
            &put(key.as_bytes(), b"value", Condition::Always, ttl_ms),
        )
    }

    pub(in crate::store) fn freeze(&mut self) {
        if self.store.applied().is_some() && !self.log.is_empty() {
            let frozen = self.store.freeze(Vec::new(), None);
            self.frozen.push_back(frozen);
        }
    }

    pub(in crate::store) fn drain(&mut self) {
        self.drain_with_images(None);
    }

    /// With so much room for before-images.
    pub(in crate::store) fn drain_with_images(&mut self, most_image_bytes: Option<u64>) {
        let Some(frozen) = self.frozen.pop_front() else {
            return;
        };
        self.history.seal(frozen.number()).unwrap();
        let images = self
            .history
            .image_writer(frozen.number(), most_image_bytes)
            .unwrap();
        drain(&frozen, &self.base, images, &mut |_| {}).unwrap();
        self.store.drained_up_to(frozen.number());
        self.store.release();
    }

    pub(in crate::store) fn look_up(&mut self, key: &[u8]) {
        if self.store.look(key) == Looked::Unknown {
            let asked = [Bytes::copy_from_slice(key)];
            let found = BaseRecords::read(&self.base.view().unwrap(), &asked, None).unwrap();
            let expected = self.get(key);
            let records = self.store.looked_up(found).expect("nothing drained meanwhile");
            assert_eq!(records, [(Bytes::copy_from_slice(key), expected)]);
        }
    }

    /// Starts again from what the base and history hold, and applies the rest of the log.
    pub(in crate::store) fn restart(&mut self) {
        let view = self.base.view().unwrap();
        let companions = companions_in(&view).unwrap();
        self.frozen.clear();
        self.history = match &companions {
            None => open_history(&self.disk, None, Revision(1)),
            Some(companions) => open_history(&self.disk, Some(companions.generation), companions.oldest_kept),
        };
        let (store, from) = match companions {
            None => (Store::new(Index::FIRST, self.config), Index::FIRST),
            Some(companions) => {
                let tables = tables_in(&view).unwrap();
                let from = companions.applied.index.next();
                (Store::over_base(&companions, tables, self.config), from)
            }
        };
        self.store = store;
        let log = self.log.clone();
        let behind = log.partition_point(|entry| entry.id.index < from);
        for at in behind..log.len() {
            self.apply_first(&log[at..]);
        }
    }

    /// What it would send to another node.
    pub(in crate::store) fn source(&self) -> Source<B::View, SimulatedFile> {
        let source = Source::open(&self.base, &self.history).unwrap();
        source.expect("something was drained")
    }

    pub(in crate::store) fn disk(&self) -> &SimulatedDisk {
        &self.disk
    }

    pub(in crate::store) fn base(&self) -> &B {
        &self.base
    }

    pub(in crate::store) fn history(&self) -> &History<SimulatedDisk> {
        &self.history
    }

    /// The state now, held.
    pub(in crate::store) fn hold(&self) -> State<B::View> {
        let pinned = self.store.pin().over(self.base.view().unwrap()).unwrap();
        pinned.expect("nothing drains between the two")
    }

    pub(in crate::store) fn get(&self, key: &[u8]) -> Option<Record> {
        let stored = self.hold().get(key).unwrap()?;
        Some(stored.record().expect("resolved"))
    }

    pub(in crate::store) fn keys(&self) -> Vec<Vec<u8>> {
        let state = self.hold();
        state
            .range(&[], None)
            .map(|item| item.unwrap().0.to_vec())
            .collect()
    }
}

fn open_history(
    disk: &SimulatedDisk,
    through: Option<GenerationNumber>,
    oldest_kept: Revision,
) -> History<SimulatedDisk> {
    History::open(disk.clone(), StoreNumber::FIRST, through, oldest_kept).unwrap()
}

pub(in crate::store) fn put<'a>(
    key: &'a [u8],
    value: &'a [u8],
    condition: Condition,
    ttl_ms: Option<u64>,
) -> Command<'a> {
    Command::Put {
        key,
        value,
        condition,
        ttl_ms,
    }
}

pub(in crate::store) fn delete(key: &[u8], condition: Condition) -> Command<'_> {
    Command::Delete { key, condition }
}
