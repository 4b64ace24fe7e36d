//! What lookups, scans and reopening cost by themselves.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raftkv_server::store::base::{Base as _, BaseView, LsmBase};

use crate::load::{Keys, fill, key, row_key};
use crate::options::Options;
use crate::process;

fn per_key(elapsed: Duration, keys: u64) -> f64 {
    elapsed.as_secs_f64() * 1e6 / keys as f64
}

/// Fills the base unless it is there, reopens it, and looks things up.
pub(crate) fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let directory = options.directory.join("base");
    if !directory.exists() {
        std::fs::create_dir_all(&options.directory)?;
        fill(&LsmBase::open(&directory, &options.base_config())?, options)?;
        println!("filled; run again to measure a process that has just opened it");
        return Ok(());
    }
    let begun = Instant::now();
    let base = LsmBase::open(&directory, &options.base_config())?;
    let opened = begun.elapsed();
    let (size, resident) = (base.size_bytes() >> 20, process::resident_mib());
    println!(
        "{} keys: open {opened:.1?}, base {size} MiB, resident {resident} MiB",
        options.keys
    );
    let view = base.view()?;
    random(options, &view)?;
    for stride in [1, 2, 4, 8, 16, 32, 64, 128] {
        ascending(options, &view, stride)?;
    }
    println!("resident {} MiB", process::resident_mib());
    Ok(())
}

fn random(options: &Options, view: &impl BaseView) -> Result<(), Box<dyn Error>> {
    let mut keys = Keys::new(options, 3);
    for pass in ["first", "second"] {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3)?;
        let begun = Instant::now();
        let count = 200_000;
        for _ in 0..count {
            let key = row_key(&key(keys.draw()));
            let at = Instant::now();
            std::hint::black_box(view.get(&key)?);
            histogram.saturating_record(at.elapsed().as_nanos() as u64);
        }
        println!(
            "{pass} random lookups: mean {:.2} us, p50 {} p99 {} p99.9 {} max {} ns",
            per_key(begun.elapsed(), count),
            histogram.value_at_quantile(0.5),
            histogram.value_at_quantile(0.99),
            histogram.value_at_quantile(0.999),
            histogram.max()
        );
    }
    Ok(())
}

/// Every `stride`th key: one by one, by a scan, and as the view decides.
fn ascending(options: &Options, view: &impl BaseView, stride: u64) -> Result<(), Box<dyn Error>> {
    let count = (options.keys / stride).min(200_000);
    let keys = || (0..count).map(|number| row_key(&key(number * stride)));
    let begun = Instant::now();
    for key in keys() {
        std::hint::black_box(view.get(&key)?);
    }
    let singly = per_key(begun.elapsed(), count);
    let begun = Instant::now();
    let mut wanted = keys().peekable();
    for row in view.range(&[1], Some(&[2])) {
        let (key, value) = row?;
        if wanted.next_if(|wanted| *wanted <= key).is_some() {
            std::hint::black_box(value);
        }
        if wanted.peek().is_none() {
            break;
        }
    }
    let scanned = per_key(begun.elapsed(), count);
    let begun = Instant::now();
    let mut all = keys();
    loop {
        let mut chunk = all.by_ref().take(512).peekable();
        if chunk.peek().is_none() {
            break;
        }
        let mut found = |_, value: Option<Bytes>| {
            std::hint::black_box(value);
            Ok(())
        };
        view.get_ascending(&mut chunk, &mut found)?;
    }
    let decided = per_key(begun.elapsed(), count);
    println!(
        "each {stride:>3}th key, us per key: singly {singly:.2}, scan {scanned:.2}, get_ascending {decided:.2}"
    );
    Ok(())
}
