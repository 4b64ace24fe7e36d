//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use raftkv_server::store::base::BaseConfig;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Writes into the product's store, drained as a node drains them.
    Product,
    /// Writes into an ordered map of this program, drained: what the store's shape was chosen by.
    Map,
    /// Lookups, scans, reopening; loads first.
    Lookups,
}

/// The map in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapKind {
    Std,
    Imbl,
}

/// Where create_revision and version of a blind put come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lineages {
    /// The drain reads each key's old row, and keeps it as before-image.
    OldRows,
    /// Nothing is read and no before-image kept: what the reading costs is the difference.
    Unread,
    /// An index in memory of all keys, asked by apply; no before-images.
    Index,
    /// Nothing is drained at all: the floor.
    MemoryOnly,
}

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    Uniform,
    /// Exponent 0.99, as in YCSB, scattered over the key space.
    Zipfian,
}

/// Writes into an ordered map that is drained into the base engine: cost, memory, stalls.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value = "product")]
    pub(crate) mode: Mode,
    #[arg(long, value_enum, default_value = "std")]
    pub(crate) map: MapKind,
    #[arg(long, value_enum, default_value = "old-rows")]
    pub(crate) lineages: Lineages,
    #[arg(long, value_enum, default_value = "uniform")]
    pub(crate) distribution: Distribution,
    /// Keys that exist at the beginning, and that are drawn from.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    #[arg(long, default_value_t = 256)]
    pub(crate) value_bytes: usize,
    /// Of a hundred operations, so many are deletes.
    #[arg(long, default_value_t = 0)]
    pub(crate) deletes_percent: u8,
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: u64,
    /// Operations per second; without it, as fast as admission lets.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Memory for what is not in the base yet, as the server's flag of this name (product only).
    #[arg(long, default_value_t = 192)]
    pub(crate) overlay_mib: u64,
    /// Ends after so many operations, if that comes before the time is over (product only): for comparisons.
    #[arg(long, default_value_t = u64::MAX)]
    pub(crate) operations: u64,
    /// Bytes of a generation (map), and of an ingest that fills the base.
    #[arg(long, default_value_t = 64)]
    pub(crate) generation_mib: usize,
    /// Snapshots of the live map per second, each held until the next (imbl only).
    #[arg(long, default_value_t = 0)]
    pub(crate) snapshots_per_s: u64,
    /// Lookups per second in the base beside the writes.
    #[arg(long, default_value_t = 1000)]
    pub(crate) reads_per_s: u64,
    /// At most so many rows per second are drained, so that draining spreads over time; 0: as fast as it goes.
    #[arg(long, default_value_t = 0)]
    pub(crate) drain_rows_per_s: u64,
    #[arg(long, default_value_t = 4096)]
    pub(crate) block_bytes: u32,
    #[arg(long, default_value_t = 32)]
    pub(crate) cache_mib: u64,
    #[arg(long, default_value_t = 4)]
    pub(crate) level_zero_tables: u8,
    #[arg(long, default_value_t = 64)]
    pub(crate) table_mib: u64,
    #[arg(long, default_value_t = 10)]
    pub(crate) level_ratio: u16,
    /// An empty or missing directory; what is put there stays there.
    #[arg(long)]
    pub(crate) directory: PathBuf,
}

impl Options {
    pub(crate) fn base_config(&self) -> BaseConfig {
        BaseConfig {
            block_cache_bytes: self.cache_mib << 20,
            block_size_bytes: self.block_bytes,
            level_zero_tables: self.level_zero_tables,
            table_size_bytes: self.table_mib << 20,
            level_ratio: self.level_ratio,
            ..BaseConfig::default()
        }
    }
}
