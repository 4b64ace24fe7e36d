//! The threads beside apply, and what came of it all.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use raftkv_server::store::base::{Base as _, BaseView as _, CompactionStep, LsmBase};

use crate::apply::Apply;
use crate::drain::Drain;
use crate::load::{Keys, fill, key, row_key};
use crate::options::{Lineages, Options};
use crate::overlay::Overlay;
use crate::process::{self, Spent};

pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// What the threads tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    /// Frozen maps that are not drained yet.
    pub(crate) pending: AtomicU64,
    /// Rows that the drain under way has taken, and how many it has in all.
    pub(crate) drained: AtomicU64,
    pub(crate) draining: AtomicU64,
    drains: AtomicU64,
    /// The most that waited for compaction at any time.
    most_waiting: AtomicU64,
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 40, 3).expect("three digits are allowed")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn drain_thread<O: Overlay>(
    base: &LsmBase,
    options: &Options,
    shared: &Shared,
    frozen: Receiver<O>,
    events: &File,
) {
    let images = File::create(options.directory.join("images")).expect("a file for before-images");
    let mut images = BufWriter::with_capacity(BUFFER_BYTES, images);
    for overlay in frozen {
        shared.drained.store(0, Ordering::Relaxed);
        shared.draining.store(overlay.entries() as u64, Ordering::Relaxed);
        let mut drain = Drain {
            base,
            lineages: options.lineages,
            rows_per_s: options.drain_rows_per_s,
            images: &mut images,
            events,
            progress: &shared.drained,
        };
        drain.run(overlay.iter()).expect("the drain ends");
        shared.drained.store(0, Ordering::Relaxed);
        shared.pending.fetch_sub(1, Ordering::AcqRel);
        shared.drains.fetch_add(1, Ordering::Relaxed);
        // Values are freed here, not by apply.
        drop(overlay);
    }
}

fn compaction_thread(base: &LsmBase, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        shared
            .most_waiting
            .fetch_max(base.waiting_tables() as u64, Ordering::Relaxed);
        let step = base
            .needs_compaction()
            .then(|| base.compact_step().expect("compaction works"));
        if step != Some(CompactionStep::Done) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn reader_thread(base: &LsmBase, options: &Options, shared: &Shared) -> Histogram<u64> {
    let mut reads = histogram();
    let mut keys = Keys::new(options, 99);
    let pause = Duration::from_secs_f64(1.0 / options.reads_per_s.max(1) as f64);
    while options.reads_per_s > 0 && !shared.stop.load(Ordering::Relaxed) {
        thread::sleep(pause);
        let key = row_key(&key(keys.draw()));
        let begun = Instant::now();
        let found = base.view().and_then(|view| view.get(&key));
        reads.saturating_record(micros(begun.elapsed()));
        std::hint::black_box(found.expect("a read works"));
    }
    reads
}

/// Fills the base, runs the load, prints what it cost.
pub(crate) fn measure<O: Overlay>(options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.directory)?;
    let base = LsmBase::open(&options.directory.join("base"), &options.base_config())?;
    let shared = Arc::new(Shared::default());
    let events = File::create(options.directory.join("events"))?;
    let (sender, frozen) = sync_channel::<O>(1);
    let mut apply = Apply::new(options, &shared, events.try_clone()?, sender);
    apply.fill();
    if options.lineages != Lineages::MemoryOnly {
        fill(&base, options)?;
    }
    let before = process::now();
    let reads = thread::scope(|scope| {
        let (base, shared, events) = (&base, &*shared, &events);
        scope.spawn(move || drain_thread(base, options, shared, frozen, events));
        let compaction = scope.spawn(|| compaction_thread(base, shared));
        let reader = scope.spawn(|| reader_thread(base, options, shared));
        apply.run();
        shared.stop.store(true, Ordering::Relaxed);
        // The end of the last drain and compaction makes up for the beginning without any.
        compaction.join().expect("compaction ends");
        let reads = reader.join().expect("the reader ends");
        // Apply's end of the channel goes, and the drain thread with it.
        apply.frozen = sync_channel(1).0;
        reads
    });
    let spent = process::now().since(&before);
    println!(
        "{:?} {:?} {:?} {} keys, generation {} MiB, rate {:?}, {} %: {}",
        options.lineages,
        options.map,
        options.distribution,
        options.keys,
        options.generation_mib,
        options.rate,
        options.deletes_percent,
        report(options, &apply, &reads, &spent)
    );
    println!(
        "  base {} MiB, {} drains, most waiting tables {}",
        base.size_bytes() >> 20,
        shared.drains.load(Ordering::Relaxed),
        shared.most_waiting.load(Ordering::Relaxed),
    );
    Ok(())
}

fn report<O: Overlay>(
    options: &Options,
    apply: &Apply<'_, O>,
    reads: &Histogram<u64>,
    spent: &Spent,
) -> String {
    let put_bytes = apply.ops * (16 + options.value_bytes as u64);
    format!(
        "{:.0}k ops/s, {:.2} us CPU/op, batch us {}, held back {:.1} s, read us {}, resident {} MiB peak {}, written x{:.2}, foreign load {:.0} %",
        apply.ops as f64 / spent.elapsed.as_secs_f64() / 1000.0,
        spent.cpu.as_secs_f64() * 1e6 / apply.ops as f64,
        tail(&apply.batches),
        apply.held_back.as_secs_f64(),
        tail(reads),
        process::resident_mib(),
        process::peak_resident_mib(),
        spent.written_bytes as f64 / put_bytes as f64,
        spent.foreign_percent,
    )
}

fn tail(histogram: &Histogram<u64>) -> String {
    let at = |quantile| histogram.value_at_quantile(quantile);
    format!("p99 {} p99.9 {} max {}", at(0.99), at(0.999), histogram.max())
}
