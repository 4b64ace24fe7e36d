//! The threads beside the one that applies, as a node has them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_protocol::Revision;
use raftkv_server::disk::RealDisk;
use raftkv_server::store::base::{Base as _, CompactionStep, LsmBase};
use raftkv_server::store::history::History;
use raftkv_server::store::{BaseRecords, DrainStep, Frozen, GenerationNumber, Pressure, drain};

use super::spending::{Meter, Part, Spending};

/// What all threads share.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) base: LsmBase,
    pub(crate) history: History<RealDisk>,
    pub(crate) pressure: Pressure,
    pub(crate) spending: Arc<Spending>,
}

/// What the threads have done.
pub(crate) enum Done {
    Sealed(GenerationNumber),
    Drained {
        generation: GenerationNumber,
        rows: u64,
        took: Duration,
    },
    LookedUp {
        asked_at: Instant,
        found: BaseRecords,
    },
}

pub(crate) enum HistoryJob {
    Write,
    Seal(GenerationNumber),
    Trim(Revision),
}

/// A read that memory could not answer.
pub(crate) struct LookupJob {
    pub(crate) asked_at: Instant,
    pub(crate) key: Bytes,
}

/// The queues to the threads; they end when it is dropped.
pub(crate) struct Work {
    pub(crate) history: Sender<HistoryJob>,
    pub(crate) drain: Sender<Arc<Frozen>>,
    pub(crate) release: Sender<Vec<Arc<Frozen>>>,
    pub(crate) lookup: Sender<LookupJob>,
}

impl Work {
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        files: &Files,
        told: &Sender<Done>,
    ) -> Work {
        let (history, history_jobs) = channel();
        let (drain, drain_jobs) = channel();
        let (release, released) = channel();
        let (lookup, lookup_jobs) = channel();
        let (bell, rings) = channel();
        let start = |name: &str, run: Box<dyn FnOnce(Files, Sender<Done>) + Send + 'scope>| {
            let (files, told) = (files.clone(), told.clone());
            thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, move || run(files, told))
                .expect("a thread starts");
        };
        start(
            "history",
            Box::new(move |files, told| keep_history(&files, &history_jobs, &told)),
        );
        start(
            "drain",
            Box::new(move |files, told| drain_all(&files, &drain_jobs, &told, &bell)),
        );
        start(
            "release",
            Box::new(move |files, _| release_all(&files, &released)),
        );
        start("compact", Box::new(move |files, _| compact(&files, &rings)));
        start(
            "lookup",
            Box::new(move |files, told| look_up(&files, &lookup_jobs, &told)),
        );
        Work {
            history,
            drain,
            release,
            lookup,
        }
    }
}

fn keep_history(files: &Files, jobs: &Receiver<HistoryJob>, told: &Sender<Done>) {
    let history = &files.history;
    let mut meter = Meter::start(&files.spending);
    for job in jobs {
        match job {
            HistoryJob::Write => history.write_pending().expect("events are written"),
            HistoryJob::Seal(generation) => {
                history.seal(generation).expect("events are sealed");
                let _ = told.send(Done::Sealed(generation));
            }
            HistoryJob::Trim(oldest_kept) => history.trim(oldest_kept).expect("history is trimmed"),
        }
        meter.charge(Part::Events);
    }
}

fn drain_all(files: &Files, jobs: &Receiver<Arc<Frozen>>, told: &Sender<Done>, bell: &Sender<()>) {
    let mut meter = Meter::start(&files.spending);
    for frozen in jobs {
        drain_one(files, &frozen, told, &mut meter);
        let _ = bell.send(());
    }
}

fn release_all(files: &Files, released: &Receiver<Vec<Arc<Frozen>>>) {
    let mut meter = Meter::start(&files.spending);
    for generations in released {
        drop(generations);
        meter.charge(Part::Release);
    }
}

fn drain_one(files: &Files, frozen: &Frozen, told: &Sender<Done>, meter: &mut Meter) {
    let begun = Instant::now();
    let images = files
        .history
        .image_writer(frozen.number(), None)
        .expect("images begin");
    let mut since = begun;

    let mut done = |step| match step {
        DrainStep::Sorted => meter.charge(Part::Sort),
        DrainStep::RowsTaken => meter.charge(Part::Ingest),
        DrainStep::LookedUp => meter.charge(Part::Lookups),
        DrainStep::ImagesPut | DrainStep::ImagesFinished => meter.charge(Part::Images),
        DrainStep::RowsMade { bytes } => {
            meter.charge(Part::Rows);
            thread::sleep(files.pressure.rest(bytes, since.elapsed()));
            since = Instant::now();
        }
    };
    let report = drain(frozen, &files.base, images, &mut done).expect("the drain ends");
    meter.charge(Part::Ingest);
    let _ = told.send(Done::Drained {
        generation: frozen.number(),
        rows: report.rows,
        took: begun.elapsed(),
    });
}

fn compact(files: &Files, rings: &Receiver<()>) {
    let mut meter = Meter::start(&files.spending);
    for () in rings {
        let step = || files.base.compact_step().expect("compaction works");
        while files.base.needs_compaction() && step() == CompactionStep::Done {}
        meter.charge(Part::Compaction);
    }
}

fn look_up(files: &Files, jobs: &Receiver<LookupJob>, told: &Sender<Done>) {
    let mut meter = Meter::start(&files.spending);
    for LookupJob { asked_at, key } in jobs {
        let view = files.base.view().expect("a view");
        let found = BaseRecords::read(&view, &[key], None).expect("a lookup works");
        let _ = told.send(Done::LookedUp { asked_at, found });
        meter.charge(Part::Reads);
    }
}
