//! What it costs to keep the state: an ordered map in memory, drained into the base engine in the background.
//!
//! ```text
//! options.rs   the command line
//! product/     the product's own store under load: the default
//! load.rs      keys, values, distributions
//! overlay.rs   another map in memory, to compare shapes: std's BTreeMap or imbl's OrdMap
//! drain.rs     a frozen map into the base: old rows, before-images, one ingest
//! apply.rs     operations into the map; admission
//! run.rs       the other threads, and the report
//! lookups.rs   what single lookups, scans and reopening cost
//! process.rs   CPU, memory and bytes written, as /proc tells
//! ```
//! `bench/storage.md` tells how to run it and what came out.

mod apply;
mod drain;
mod load;
mod lookups;
mod options;
mod overlay;
mod process;
mod product;
mod run;

use std::error::Error;

use clap::Parser as _;

use options::{MapKind, Mode, Options};
use tikv_jemallocator::Jemalloc;

/// As in the server.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    match (options.mode, options.map) {
        (Mode::Lookups, _) => lookups::measure(&options),
        (Mode::Product, _) => product::measure(&options),
        (Mode::Map, MapKind::Std) => run::measure::<overlay::StdMap>(&options),
        (Mode::Map, MapKind::Imbl) => run::measure::<overlay::ImblMap>(&options),
    }
}
