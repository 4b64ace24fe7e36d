//! The real engine: one tree of the crate `lsm-tree`, written by bulk ingestion alone.
//!
//! ```text
//! engine.rs      LsmBase: open, ingest, compaction, what abandoned work left behind
//! view.rs        LsmView: a held version, its lookups and iterators
//! compacting.rs  beside a compaction: room on the disk, syncs
//! growing.rs     tables are synced while they grow
//! ascending.rs   lookups of many ascending keys: a walk through the tables beside them
//! ```
//! # What we rely on, read in the sources of lsm-tree 3.1.10
//! - An ingestion writes whole tables, syncs each and the directory `tables`, then writes and syncs a new list of tables
//!   (`v<N>`), then replaces `current` by a synced file, a rename and a sync of the directory. `current` is the commit
//!   point: an ingestion is there as a whole or not at all, and durable when it returns.
//! - Dropped before that, it leaves table files that no list names. Opening removes them; so does
//!   [`LsmBase`] itself, when nothing else writes.
//! - All rows of an ingestion get one sequence number. We use those numbers for nothing but the engine's own order:
//!   reads go to a held version and see all of it. The counter is not stored: on opening it is set past the highest
//!   number of any table.
//! - Deletes are strong tombstones. Weak ones may be used only for keys that are written once between two deletes.
//! - Bloom filters: ingested tables get one as long as `expect_point_read_hits` is off.
//!
//! # Why views, not snapshots by number
//! The engine's own reads take a lock that a change of version holds while it syncs files, and reading at an older number
//! misses what a compaction dropped (lsm-tree issue 321). A view keeps the version itself: its tables stay on disk, and no
//! lock of the engine is taken to read it. It reaches into parts of the engine that are public but not documented, another
//! reason to pin its version exactly.
//!
//! # Not here
//! A thread: whoever owns the base calls [`LsmBase::compact_step`] when [`LsmBase::needs_compaction`]. A lock file: the
//! data directory has one. Compression: rows are small, and CPU per write is what the store is measured by.

mod ascending;
mod compacting;
mod engine;
mod growing;
#[cfg(test)]
mod tests;
mod view;

pub use engine::{BaseConfig, CompactionStep, LsmBase};
pub use view::LsmView;
