//! Apply's side: operations into the live map, events beside it, admission.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use raftkv_protocol::Revision;
use raftkv_server::store::{Lineage, Slot};

use crate::load::{Key, Keys, key, value};
use crate::options::{Lineages, Options};
use crate::overlay::{Overlay, fresh};
use crate::run::{BUFFER_BYTES, Shared, histogram, micros};

/// See the module.
pub(crate) struct Apply<'a, O: Overlay> {
    options: &'a Options,
    shared: Arc<Shared>,
    keys: Keys,
    template: Vec<u8>,
    overlay: O,
    revision: u64,
    events: BufWriter<File>,
    pub(crate) frozen: SyncSender<O>,
    index: BTreeMap<Key, (Revision, Revision, u64)>,
    pub(crate) batches: Histogram<u64>,
    /// How long admission held batches back, in all.
    pub(crate) held_back: Duration,
    pub(crate) ops: u64,
}

impl<'a, O: Overlay> Apply<'a, O> {
    pub(crate) fn new(
        options: &'a Options,
        shared: &Arc<Shared>,
        events: File,
        frozen: SyncSender<O>,
    ) -> Apply<'a, O> {
        Apply {
            options,
            shared: Arc::clone(shared),
            keys: Keys::new(options, 7),
            template: vec![b'v'; options.value_bytes],
            overlay: O::default(),
            revision: options.keys,
            events: BufWriter::with_capacity(BUFFER_BYTES, events),
            frozen,
            index: BTreeMap::new(),
            batches: histogram(),
            held_back: Duration::ZERO,
            ops: 0,
        }
    }

    /// What memory holds of the keys that the base is filled with.
    pub(crate) fn fill(&mut self) {
        let numbers = 0..self.options.keys;
        match self.options.lineages {
            Lineages::OldRows | Lineages::Unread => {}
            Lineages::MemoryOnly => {
                for number in numbers {
                    let value = value(&self.template, number);
                    self.overlay.put(key(number), value, Revision(number + 1), None);
                }
            }
            Lineages::Index => {
                let known = |number| (key(number), (Revision(number + 1), Revision(number + 1), 1));
                self.index = numbers.map(known).collect();
            }
        }
    }

    fn operation(&mut self) {
        let number = self.keys.draw();
        let key = key(number);
        self.revision += 1;
        let revision = Revision(self.revision);
        let is_delete = self.keys.percent() < self.options.deletes_percent;
        let event = if is_delete {
            if self.options.lineages == Lineages::Index {
                self.index.remove(&key);
            }
            self.overlay.delete(key, revision);
            Slot::Deleted(revision)
        } else {
            let value = value(&self.template, self.revision);
            let known = (self.options.lineages == Lineages::Index).then(|| self.indexed(key, revision));
            self.overlay.put(key, value.clone(), revision, known);
            fresh(value, revision, known)
        };
        let mut encoded = Vec::with_capacity(32 + event.encoded_len());
        encoded.extend_from_slice(&key);
        event.encode(&mut encoded);
        self.events.write_all(&encoded).expect("events are written");
    }

    fn indexed(&mut self, key: Key, revision: Revision) -> Lineage {
        let (created, changed, version) = self.index.entry(key).or_insert((revision, revision, 0));
        *changed = revision;
        *version += 1;
        Lineage::Known {
            create_revision: *created,
            version: *version,
        }
    }

    /// Holds a batch back while the map fills faster than the one before it drains: evenly, never for a whole drain.
    fn admit(&mut self) {
        let full = (self.options.generation_mib << 20) as f64;
        let started = Instant::now();
        loop {
            let pending = self.shared.pending.load(Ordering::Acquire) as f64;
            let draining = self.shared.draining.load(Ordering::Relaxed).max(1);
            let drained = self.shared.drained.load(Ordering::Relaxed) as f64 / draining as f64;
            // A tenth may always be filled ahead.
            if pending == 0.0 || pending - 1.0 + self.overlay.bytes() as f64 / full < drained + 0.1 {
                break;
            }
            thread::sleep(Duration::from_micros(500));
        }
        self.held_back += started.elapsed();
    }

    fn freeze_when_full(&mut self) {
        let full = self.options.generation_mib << 20;
        if self.options.lineages == Lineages::MemoryOnly || self.overlay.bytes() < full {
            return;
        }
        let overlay = std::mem::take(&mut self.overlay);
        self.events.flush().expect("events are written");
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        self.frozen.send(overlay).expect("the drain thread lives");
    }

    /// Applies until the time is over.
    pub(crate) fn run(&mut self) {
        let started = Instant::now();
        let end = started + Duration::from_secs(self.options.seconds);
        let mut snapshot = None;
        let mut snapshots = 0;
        while Instant::now() < end {
            if let Some(rate) = self.options.rate {
                let due = Duration::from_secs_f64(self.ops as f64 / rate as f64);
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
            self.admit();
            if self.options.snapshots_per_s > 0
                && started.elapsed().as_secs_f64() * self.options.snapshots_per_s as f64
                    > f64::from(snapshots)
            {
                drop(snapshot.take());
                snapshot = self.overlay.snapshot();
                snapshots += 1;
            }
            let begun = Instant::now();
            for _ in 0..self.options.batch {
                self.operation();
            }
            self.freeze_when_full();
            self.ops += self.options.batch;
            self.batches.saturating_record(micros(begun.elapsed()));
        }
        drop(snapshot);
    }
}
