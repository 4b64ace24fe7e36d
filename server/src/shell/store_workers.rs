//! The threads behind the store, so that the node thread never waits for a disk:
//!
//! ```text
//! history   writes events, seals them, drops what is trimmed
//! drain     puts frozen generations into the base, paced
//! release   gives back the memory of those that the base holds: at once, while the next one drains
//! compact   merges the base's tables after drains
//! lookup    reads records that memory does not hold
//! range     reads pages of ranges (`range_workers.rs`)
//! past      reads single keys as they were
//! check     reads log and history again, for their checksums
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::ServerError;
use super::inbox::{Letter, Mailbox, Work};
use super::panic_guard::PanicGuard;
use super::range_workers::RangeWorkers;
use crate::cold_files::check_cold_files;
use crate::disk::RealDisk;
use crate::log::LogReader;
use crate::metrics::StoreFigures;
use crate::replica::{Event, LookupNumber};
use crate::store::base::{Base, CompactionStep, LsmBase};
use crate::store::history::{EventBlock, History};
use crate::store::{
    BaseRecords, DrainStep, Frozen, GenerationNumber, Pressure, RangesWanted, StoreError, StoreNumber, drain,
};

/// Events are written when so many wait; nobody syncs before their generation ends.
const WRITE_EVENTS_AT_BYTES: u64 = 512 << 10;

/// Cold files are read again at this pace.
const CHECKED_BYTES_PER_SECOND: u64 = 4 << 20;

enum HistoryJob {
    /// Enough events wait.
    Write,
    Seal(GenerationNumber),
    Trim(Revision),
}

struct DrainJob {
    frozen: Arc<Frozen>,
    most_image_bytes: Option<u64>,
}

struct LookupJob {
    lookup: LookupNumber,
    keys: Vec<Bytes>,
    ranges: Option<Box<RangesWanted>>,
}

/// What is on disk of one store.
#[derive(Clone)]
pub(super) struct StoreFiles {
    pub(super) number: StoreNumber,
    pub(super) base: LsmBase,
    pub(super) history: History<RealDisk>,
}

/// The store's threads and the queues to them.
pub(super) struct StoreWorkers {
    files: StoreFiles,
    history_jobs: Sender<HistoryJob>,
    drain_jobs: Sender<DrainJob>,
    released: Sender<Vec<Arc<Frozen>>>,
    lookup_jobs: Sender<LookupJob>,
    ranges: RangeWorkers,
    checks: Sender<LogReader<RealDisk>>,
    pressure: Pressure,
    threads: Vec<JoinHandle<()>>,
}

impl StoreWorkers {
    /// Starts the threads on an open store.
    pub(super) fn start(files: StoreFiles, mailbox: &Mailbox) -> Result<StoreWorkers, ServerError> {
        let (history_jobs, history_queue) = mpsc::channel();
        let (drain_jobs, drain_queue) = mpsc::channel();
        let (lookup_jobs, lookup_queue) = mpsc::channel();
        let (compact_bell, compact_rings) = mpsc::channel();
        let pressure = Pressure::default();
        let kept = files.clone();
        let writer = worker("history", mailbox, move |mailbox| {
            keep_history(&kept, &history_queue, mailbox)
        })?;
        let drainer = Drainer {
            files: files.clone(),
            pressure: pressure.clone(),
            compact_bell,
        };
        let drainer = worker("drain", mailbox, move |mailbox| {
            drainer.run(&drain_queue, mailbox)
        })?;
        let (released, to_release) = mpsc::channel::<Vec<Arc<Frozen>>>();
        let releaser = worker("release", mailbox, move |_| {
            to_release.into_iter().for_each(drop);
            Ok(())
        })?;
        let compacted = files.base.clone();
        let compactor = worker("compact", mailbox, move |mailbox| {
            compact(&compacted, &compact_rings, mailbox)
        })?;
        let read = files.base.clone();
        let reader = worker("lookup", mailbox, move |mailbox| {
            look_up(&read, &lookup_queue, mailbox)
        })?;
        let (ranges, range_readers) = RangeWorkers::start(&files, mailbox)?;
        let (checks, wanted_checks) = mpsc::channel();
        let checked = files.clone();
        let checker = worker("check", mailbox, move |mailbox| {
            check_files(&checked, &wanted_checks, mailbox);
            Ok(())
        })?;
        let mut threads = vec![writer, drainer, releaser, compactor, reader, checker];
        threads.extend(range_readers);
        Ok(StoreWorkers {
            files,
            history_jobs,
            drain_jobs,
            released,
            lookup_jobs,
            ranges,
            checks,
            pressure,
            threads,
        })
    }

    /// The store that they work on.
    pub(super) fn files(&self) -> &StoreFiles {
        &self.files
    }

    /// What is on disk now.
    pub(super) fn figures(&self) -> StoreFigures {
        let history = self.files.history.statistics();
        StoreFigures {
            base_bytes: self.files.base.size_bytes(),
            waiting_tables: self.files.base.waiting_tables(),
            history_bytes: history.bytes,
            history_events: history.events,
        }
    }

    pub(super) fn record(&self, events: EventBlock) {
        self.files.history.push(events);
        if self.files.history.pending_bytes() >= WRITE_EVENTS_AT_BYTES {
            self.ask_history(HistoryJob::Write);
        }
    }

    pub(super) fn seal(&self, generation: GenerationNumber) {
        self.ask_history(HistoryJob::Seal(generation));
    }

    pub(super) fn trim(&self, oldest_kept: Revision) {
        self.ask_history(HistoryJob::Trim(oldest_kept));
    }

    fn ask_history(&self, job: HistoryJob) {
        // A thread that is gone has said why.
        let _ = self.history_jobs.send(job);
    }

    pub(super) fn drain(&self, frozen: Arc<Frozen>, most_image_bytes: Option<u64>) {
        let _ = self.drain_jobs.send(DrainJob {
            frozen,
            most_image_bytes,
        });
    }

    pub(super) fn discard(&self, released: Vec<Arc<Frozen>>) {
        let _ = self.released.send(released);
    }

    pub(super) fn look_up(&self, lookup: LookupNumber, keys: Vec<Bytes>, ranges: Option<Box<RangesWanted>>) {
        let _ = self.lookup_jobs.send(LookupJob { lookup, keys, ranges });
    }

    /// Reads pages of ranges.
    pub(super) fn ranges(&self) -> &RangeWorkers {
        &self.ranges
    }

    /// Reads this log and the history again; [`Event::FilesChecked`] tells what is wrong.
    pub(super) fn check_files(&self, log: LogReader<RealDisk>) {
        let _ = self.checks.send(log);
    }

    /// The generation that is written to holds `filled` of the `limit` bytes it may.
    pub(super) fn set_pressure(&self, filled: u64, limit: u64) {
        self.pressure.set(filled, limit);
    }

    /// Others take their place: the threads end by themselves once this is dropped. Until they have, they may still work on
    /// their files.
    pub(super) fn retire(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }

    /// Ends the threads: a drain that is under way is finished, nothing waits for the next one.
    pub(super) fn stop(self) {
        let StoreWorkers {
            history_jobs,
            drain_jobs,
            released,
            lookup_jobs,
            ranges,
            checks,
            threads,
            pressure,
            ..
        } = self;
        // A drain that is under way does not take its time any more.
        pressure.set(1, 1);
        drop((history_jobs, drain_jobs, released, lookup_jobs, ranges, checks));
        for thread in threads {
            // A panic was told by the thread's guard.
            let _ = thread.join();
        }
    }
}

/// A thread that ends with an error the node can not live with, or quietly.
pub(super) fn worker(
    name: &'static str,
    mailbox: &Mailbox,
    work: impl FnOnce(&Mailbox) -> Result<(), StoreError> + Send + 'static,
) -> Result<JoinHandle<()>, ServerError> {
    let mailbox = mailbox.clone();
    let run = move || {
        let _guard = PanicGuard::new(name, mailbox.clone());
        if let Err(error) = work(&mailbox) {
            mailbox.send(Letter::StoreFailed(error));
        }
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(ServerError::Threads)
}

fn keep_history(
    files: &StoreFiles,
    jobs: &Receiver<HistoryJob>,
    mailbox: &Mailbox,
) -> Result<(), StoreError> {
    let history = &files.history;
    for job in jobs {
        match job {
            // Several that wait have one write's work.
            HistoryJob::Write if history.pending_bytes() < WRITE_EVENTS_AT_BYTES => {}
            HistoryJob::Write => history.write_pending()?,
            HistoryJob::Seal(generation) => {
                history.seal(generation)?;
                mailbox.send(Letter::Event(Event::Sealed {
                    store: files.number,
                    generation,
                }));
            }
            HistoryJob::Trim(oldest_kept) => history.trim(oldest_kept)?,
        }
    }
    Ok(())
}

struct Drainer {
    files: StoreFiles,
    pressure: Pressure,
    compact_bell: Sender<()>,
}

impl Drainer {
    fn run(&self, jobs: &Receiver<DrainJob>, mailbox: &Mailbox) -> Result<(), StoreError> {
        for job in jobs {
            self.drain(&job.frozen, job.most_image_bytes, mailbox)?;
        }
        Ok(())
    }

    fn drain(
        &self,
        frozen: &Frozen,
        most_image_bytes: Option<u64>,
        mailbox: &Mailbox,
    ) -> Result<(), StoreError> {
        let images = self
            .files
            .history
            .image_writer(frozen.number(), most_image_bytes)?;
        let began = Instant::now();
        let mut since = began;
        let mut pace = |step| {
            if let DrainStep::RowsMade { bytes } = step {
                std::thread::sleep(self.pressure.rest(bytes, since.elapsed()));
                since = Instant::now();
            }
        };
        let report = drain(frozen, &self.files.base, images, &mut pace)?;
        tracing::debug!(
            generation = frozen.number().0,
            rows = report.rows,
            bytes = report.bytes,
            "drained into the base"
        );
        if let Some(oldest_kept) = report.past_given_up {
            tracing::warn!(
                oldest_kept = oldest_kept.0,
                "the disk has no room for what was written over: older revisions are given up on this node"
            );
        }
        // Before the next generation is frozen: a compaction beside it may have taken much since the last measurement.
        if let Ok(bytes) = self.files.history.free_bytes() {
            mailbox.send(Letter::Event(Event::FreeSpace { bytes }));
        }
        mailbox.send(Letter::Took(Work::Drain, began.elapsed()));
        mailbox.send(Letter::Event(Event::Drained {
            store: self.files.number,
            generation: frozen.number(),
            history: self.files.history.statistics(),
        }));
        // Without the compactor the base only grows; it has said why it is gone.
        let _ = self.compact_bell.send(());
        Ok(())
    }
}

/// Compacts after each drain, until there is nothing left to do. A disk that is too full for it loses nothing: the next
/// drain brings the next attempt.
fn compact(base: &LsmBase, rings: &Receiver<()>, mailbox: &Mailbox) -> Result<(), StoreError> {
    let mut has_room = true;
    loop {
        match compact_all_that_is_due(base, mailbox) {
            Err(StoreError::BaseFull { .. }) => {
                if std::mem::take(&mut has_room) {
                    tracing::warn!("the disk has no room to compact; it is tried again after each drain");
                }
            }
            other => {
                other?;
                has_room = true;
            }
        }
        if rings.recv().is_err() {
            return Ok(());
        }
        while rings.try_recv().is_ok() {}
    }
}

fn compact_all_that_is_due(base: &LsmBase, mailbox: &Mailbox) -> Result<(), StoreError> {
    while base.needs_compaction() {
        let began = Instant::now();
        if base.compact_step()? == CompactionStep::Nothing {
            break;
        }
        mailbox.send(Letter::Took(Work::Compaction, began.elapsed()));
    }
    Ok(())
}

fn look_up(base: &LsmBase, jobs: &Receiver<LookupJob>, mailbox: &Mailbox) -> Result<(), StoreError> {
    for LookupJob { lookup, keys, ranges } in jobs {
        let found = BaseRecords::read(&base.view()?, &keys, ranges)?;
        mailbox.send(Letter::Event(Event::LookedUp { lookup, found }));
    }
    Ok(())
}

fn check_files(files: &StoreFiles, jobs: &Receiver<LogReader<RealDisk>>, mailbox: &Mailbox) {
    while let Ok(log) = jobs.recv() {
        let mut rest = |bytes: u64| {
            let pause = Duration::from_micros(bytes * 1_000_000 / CHECKED_BYTES_PER_SECOND);
            // A stop does not wait for the rest of it.
            match jobs.recv_timeout(pause) {
                Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
                Err(RecvTimeoutError::Timeout) | Ok(_) => ControlFlow::Continue(()),
            }
        };
        if let Some(checked) = check_cold_files(&log, &files.history, &mut rest) {
            mailbox.send(Letter::Event(Event::FilesChecked(checked)));
        }
    }
}
