//! The product's own store under load: `Store` with its generations, the drain, history, the base, as the threads of a node
//! drive them. Only the threads' loops are this program's; what they call is what a node calls.
//!
//! ```text
//! mod.rs       fills the base, runs the load, tells what it cost
//! node.rs      the thread that applies, reads, freezes, admits
//! threads.rs   history, drain, compaction, lookups
//! spending.rs  CPU of each thread, by what it was spent on
//! ```

mod node;
mod spending;
mod threads;

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use hdrhistogram::Histogram;
use raftkv_protocol::Revision;
use raftkv_raft::{EntryId, Index, Term};
use raftkv_server::disk::RealDisk;
use raftkv_server::store::base::{Base as _, LsmBase};
use raftkv_server::store::history::History;
use raftkv_server::store::{
    Companions, GenerationNumber, Pressure, Store, StoreConfig, StoreNumber, Tables, rewrite_companions,
};

use self::node::Node;
use self::spending::{PARTS, Part, Spending};
use self::threads::{Files, Work};
use crate::load::fill;
use crate::options::Options;
use crate::process;

/// Fills the base, runs the load, prints what it cost.
pub(crate) fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.directory)?;
    let base = LsmBase::open(&options.directory.join("base"), &options.base_config())?;
    fill(&base, options)?;
    let companions = filled(options);
    rewrite_companions(&base, &companions)?;
    let disk = RealDisk::open(&options.directory.join("data"))?;
    let history = History::open(disk, StoreNumber::FIRST, None, companions.revision)?;
    let config = StoreConfig {
        overlay_bytes: options.overlay_mib << 20,
        ..StoreConfig::default()
    };
    let store = Store::over_base(&companions, Tables::default(), config);
    let files = Files {
        base,
        history,
        pressure: Pressure::default(),
        spending: Arc::new(Spending::default()),
    };
    let before = process::now();
    let (told, happened) = channel();
    let done = thread::scope(|scope| {
        let work = Work::start(scope, &files, &told);
        let mut node = Node::new(options, &files, store, work, happened);
        node.run();
        // The end of the last drain and compaction makes up for the beginning without any.
        node.done()
    });
    let spent = process::now().since(&before);
    println!(
        "{:?} {} keys, overlay {} MiB, rate {:?}, {} % deletes",
        options.distribution, options.keys, options.overlay_mib, options.rate, options.deletes_percent,
    );
    let per_op = |ns: u64| ns as f64 / 1000.0 / done.ops as f64;
    let all = spent.cpu.as_nanos() as u64;
    let load = files.spending.of(Part::Load);
    println!(
        "  {:.0}k ops/s, CPU {:.2} us/op without making the load ({:.2}), held back {:.1} s",
        done.ops as f64 / spent.elapsed.as_secs_f64() / 1000.0,
        per_op(all.saturating_sub(load)),
        per_op(load),
        done.held_back.as_secs_f64(),
    );
    let parts = PARTS.iter().filter(|(part, _)| *part != Part::Load);
    let parts: Vec<String> = parts
        .map(|(part, name)| format!("{name} {:.3}", per_op(files.spending.of(*part))))
        .collect();
    println!("  us/op: {}", parts.join(", "));
    println!(
        "  {} drains of {:.0}k rows, base {} MiB in {} waiting tables, written x{:.2}, resident {} MiB peak {}, foreign load {:.0} %",
        done.drains,
        done.drained_rows as f64 / 1000.0 / done.drains.max(1) as f64,
        files.base.size_bytes() >> 20,
        files.base.waiting_tables(),
        spent.written_bytes as f64 / (done.ops * (16 + options.value_bytes as u64)) as f64,
        process::resident_mib(),
        process::peak_resident_mib(),
        spent.foreign_percent,
    );
    distribution("puts", &done.puts);
    distribution("reads", &done.reads);
    Ok(())
}

/// What the base holds when it was just filled.
fn filled(options: &Options) -> Companions {
    let index = Index::new(options.keys).expect("there are keys");
    let revision = Revision(options.keys + 1);
    Companions {
        generation: GenerationNumber(0),
        applied: EntryId { term: Term(1), index },
        revision,
        log_time_us: 1,
        effects: 0,
        oldest_kept: revision,
        configurations: Vec::new(),
        founding: None,
        names_from: 0,
    }
}

/// Upper ends of the columns, microseconds.
const COLUMNS: [u64; 9] = [50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

fn distribution(name: &str, histogram: &Histogram<u64>) {
    let at = |quantile| histogram.value_at_quantile(quantile);
    println!(
        "  {name}: {} of them, us p50 {} p99 {} p99.9 {} p99.99 {} max {}",
        histogram.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        histogram.max()
    );
    let mut below = 0;
    let mut columns = Vec::new();
    for end in COLUMNS {
        let count = histogram.count_between(0, end);
        columns.push(format!("<={end}: {}", count.saturating_sub(below)));
        below = count;
    }
    columns.push(format!("more: {}", histogram.len().saturating_sub(below)));
    println!("    {}", columns.join(", "));
}
