//! The thread that owns the store: applies, reads, freezes when it is time, admits as a leader does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raftkv_protocol::{CheckedCommand, Command, Condition, Limits, Revision};
use raftkv_raft::{Entry, EntryId, EntryKind, Index, Stamp, Term, Time};
use raftkv_server::replica::{DrainRate, Throttle};
use raftkv_server::store::base::Base as _;
use raftkv_server::store::{Applied, BaseRecords, Frozen, GenerationNumber, Looked, Store};

use super::spending::{Meter, Part};
use super::threads::{Done, Files, HistoryJob, LookupJob, Work};
use crate::load::{Keys, key};
use crate::options::Options;
use crate::run::{histogram, micros};

/// As the shell does it.
const WRITE_EVENTS_AT_BYTES: u64 = 512 << 10;
/// What is looked at when a write may not be admitted yet.
const PAUSE: Duration = Duration::from_micros(200);
/// History keeps so many drained generations.
const KEPT_GENERATIONS: usize = 4;

enum Phase {
    Idle,
    Sealing(Arc<Frozen>),
    Draining(Arc<Frozen>),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) ops: u64,
    pub(crate) held_back: Duration,
    pub(crate) drains: u64,
    pub(crate) drained_rows: u64,
    pub(crate) puts: Histogram<u64>,
    pub(crate) reads: Histogram<u64>,
}

/// See the module.
pub(crate) struct Node<'a> {
    options: &'a Options,
    files: &'a Files,
    store: Store,
    work: Work,
    happened: Receiver<Done>,
    phase: Phase,
    throttle: Throttle,
    rate: DrainRate,
    keys: Keys,
    read_keys: Keys,
    value: Vec<u8>,
    /// Last revisions of drained generations.
    drained: VecDeque<Revision>,
    meter: Meter,
    begun: Instant,
    reads_asked: u64,
    outcome: Outcome,
}

impl<'a> Node<'a> {
    pub(crate) fn new(
        options: &'a Options,
        files: &'a Files,
        store: Store,
        work: Work,
        happened: Receiver<Done>,
    ) -> Node<'a> {
        Node {
            options,
            files,
            store,
            work,
            happened,
            phase: Phase::Idle,
            throttle: Throttle::default(),
            rate: DrainRate::default(),
            keys: Keys::new(options, 7),
            read_keys: Keys::new(options, 99),
            value: vec![b'v'; options.value_bytes],
            drained: VecDeque::new(),
            meter: Meter::start(&files.spending),
            begun: Instant::now(),
            reads_asked: 0,
            outcome: Outcome {
                ops: 0,
                held_back: Duration::ZERO,
                drains: 0,
                drained_rows: 0,
                puts: histogram(),
                reads: histogram(),
            },
        }
    }

    /// The threads may end.
    pub(crate) fn done(self) -> Outcome {
        self.files.pressure.set(1, 1);
        self.outcome
    }

    /// Applies until the time is over.
    pub(crate) fn run(&mut self) {
        self.begun = Instant::now();
        let end = self.begun + Duration::from_secs(self.options.seconds);
        let mut due = self.begun;
        let mut held_since = None;
        while Instant::now() < end && self.outcome.ops < self.options.operations {
            self.hear();
            self.read_what_is_due();
            self.freeze_if_due();
            if let Some(rate) = self.options.rate {
                due = self.begun + Duration::from_secs_f64(self.outcome.ops as f64 / rate as f64);
                if Instant::now() < due {
                    thread::sleep(PAUSE.min(due - Instant::now()));
                    continue;
                }
            }
            self.meter.charge(Part::Apply);
            if !self.may_write() {
                held_since.get_or_insert_with(Instant::now);
                thread::sleep(PAUSE);
                continue;
            }
            let held: Option<Instant> = held_since.take();
            self.outcome.held_back += held.map_or(Duration::ZERO, |since| since.elapsed());
            self.batch();
            let now = Instant::now();
            self.outcome
                .puts
                .saturating_record_n(micros(now - due), self.options.batch);
            // Without a rate, whoever has an answer asks again at once.
            due = now;
        }
    }

    fn may_write(&mut self) -> bool {
        let (_, active) = self.store.overlay_bytes();
        let limit = self.store.config().generation_bytes();
        self.files.pressure.set(active, limit);
        let is_idle = matches!(self.phase, Phase::Idle);
        let filled = if is_idle { 0 } else { active };
        let now = Time(micros(self.begun.elapsed()));
        self.throttle.observe(now, self.store.generation(), active);
        let allowance = self.throttle.allowance(now, self.rate, filled, limit);
        let bytes = self.options.batch * (self.options.value_bytes as u64 + 64);
        if (!is_idle && active >= limit) || allowance.is_some_and(|allowance| allowance < bytes) {
            return false;
        }
        self.throttle.admitted(bytes);
        true
    }

    fn batch(&mut self) {
        let first = self.store.applied().expect("the base was filled").next();
        let mut index = first;
        let mut entries = Vec::with_capacity(self.options.batch as usize);
        for _ in 0..self.options.batch {
            entries.push(self.entry(index));
            index = index.next();
        }
        self.meter.charge(Part::Load);
        self.store.touch(entries.iter());
        for at in 0..entries.len() {
            while self.store.apply(&entries[at]) == Applied::Waits {
                self.gather(&entries[at..]);
            }
        }
        self.outcome.ops += self.options.batch;
        if let Some(events) = self.store.take_events() {
            self.files.history.push(events);
            if self.files.history.pending_bytes() >= WRITE_EVENTS_AT_BYTES {
                let _ = self.work.history.send(HistoryJob::Write);
            }
        }
        self.release_drained();
        self.meter.charge(Part::Apply);
    }

    fn entry(&mut self, index: Index) -> Entry {
        let key = key(self.keys.draw());
        self.value[..8].copy_from_slice(&index.get().to_le_bytes());
        let command = match self.keys.percent() < self.options.deletes_percent {
            true => Command::Delete {
                key: &key,
                condition: Condition::Always,
            },
            false => Command::Put {
                key: &key,
                value: &self.value,
                condition: Condition::Always,
                ttl_ms: None,
            },
        };
        let checked = CheckedCommand::new(&command, &Limits::default()).expect("it is within the limits");
        Entry {
            id: EntryId { term: Term(1), index },
            kind: EntryKind::Command,
            stamp: Stamp::default(),
            payload: checked.encoded().clone(),
            configuration: None,
        }
    }

    /// What waiting entries depend on; a node has a thread for it, and the others wait all the same.
    fn gather(&mut self, waiting: &[Entry]) {
        self.meter.charge(Part::Apply);
        let missing = self.store.missing(waiting.iter());
        let keys: Vec<Bytes> = missing.keys.into_iter().collect();
        let view = self.files.base.view().expect("a view");
        let found = BaseRecords::read(&view, &keys, missing.ranges).expect("a lookup works");
        let through = missing.through.expect("an entry waits");
        self.store.gathered(through, found);
        self.meter.charge(Part::Reads);
    }

    fn read_what_is_due(&mut self) {
        let due = (self.begun.elapsed().as_secs_f64() * self.options.reads_per_s as f64) as u64;
        while self.reads_asked < due {
            self.reads_asked += 1;
            let key = Bytes::copy_from_slice(&key(self.read_keys.draw()));
            // Since when it was due: what this thread did meanwhile is part of the wait.
            let since_begun = self.reads_asked as f64 / self.options.reads_per_s as f64;
            let asked_at = self.begun + Duration::from_secs_f64(since_begun);
            match self.store.look(&key) {
                Looked::Found(_) | Looked::Absent => {
                    self.outcome.reads.saturating_record(micros(asked_at.elapsed()))
                }
                Looked::Unknown => drop(self.work.lookup.send(LookupJob { asked_at, key })),
            }
        }
    }

    fn hear(&mut self) {
        while let Ok(done) = self.happened.try_recv() {
            match done {
                Done::LookedUp { asked_at, found } => {
                    let key = found.records[0].0.clone();
                    match self.store.looked_up(found) {
                        Some(_) => self.outcome.reads.saturating_record(micros(asked_at.elapsed())),
                        None => drop(self.work.lookup.send(LookupJob { asked_at, key })),
                    }
                }
                Done::Sealed(generation) => self.sealed(generation),
                Done::Drained {
                    generation,
                    rows,
                    took,
                } => self.has_drained(generation, rows, took),
            }
        }
    }

    fn sealed(&mut self, generation: GenerationNumber) {
        let Phase::Sealing(frozen) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            panic!("generation {} was sealed, and none waits for it", generation.0);
        };
        let _ = self.work.drain.send(frozen.clone());
        self.phase = Phase::Draining(frozen);
    }

    fn has_drained(&mut self, generation: GenerationNumber, rows: u64, took: Duration) {
        let Phase::Draining(frozen) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            panic!("generation {} was drained, and none waits for it", generation.0);
        };
        self.rate.observe(frozen.size_bytes(), took);
        self.outcome.drains += 1;
        self.outcome.drained_rows += rows;
        self.store.drained_up_to(generation);
        self.drained.push_back(frozen.companions().revision);
        drop(frozen);
        if self.drained.len() > KEPT_GENERATIONS
            && let Some(oldest) = self.drained.pop_front()
        {
            let _ = self.work.history.send(HistoryJob::Trim(oldest));
        }
    }

    fn release_drained(&mut self) {
        let released = self.store.release();
        if !released.is_empty() {
            let _ = self.work.release.send(released);
        }
    }

    fn freeze_if_due(&mut self) {
        let (_, active) = self.store.overlay_bytes();
        if !matches!(self.phase, Phase::Idle) || active < self.store.config().freeze_bytes() {
            return;
        }
        let frozen = self.store.freeze(Vec::new(), None);
        let _ = self.work.history.send(HistoryJob::Seal(frozen.number()));
        self.phase = Phase::Sealing(frozen);
    }
}
