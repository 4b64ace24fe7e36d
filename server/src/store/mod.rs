//! The state machine: what the log's entries make of an empty store.
//!
//! [`Store::apply`] is a pure function of the state and the entry (R73): no clock, no random numbers, no hash order, no
//! settings of this node. Time comes in as the entry's log time alone (R74).
//!
//! # Layers
//! ```text
//!            memory                                disk
//!   active generation  (written to)      events of each generation   \
//!   frozen generations (draining)   -->  before-images of each drain  } history/
//!   cache of records read back           base engine                    base/
//! ```
//! Writes go into the active generation, which finds keys by hash; whoever reads it in order sorts it. When it is large or
//! old enough it is frozen; [`drain`] puts it into the base as one atomic ingest, on a thread of its own. The numbers that a restart needs ([`Companions`]) are in the
//! same ingest, so the base is always the state as of one entry (R45), and the log behind that entry is not needed for it.
//!
//! The apply path never reads the base. A put that depends on nothing replaces a record unseen; creation and version are
//! then counted on top of what is beneath ([`Lineage`]), and known when something looks, at the latest in the drain. An
//! entry that depends on a record which memory does not hold *waits* ([`Applied::Waits`]) until it was looked up.
//!
//! # What holds
//! - `revision` is 1 when empty and grows by exactly 1 for each transaction that changes something. A failed condition, a
//!   delete of nothing, no-ops, ticks and configurations add none.
//! - A key's `version` counts its writes since it was created and starts at 1 again after a delete.
//! - Log time never falls: an entry with an older stamp is applied at the log time already reached.
//! - Before an entry's command, what is due ends: keys in (deadline, key) order, each as a transaction of its own; then
//!   leases in (deadline, id) order, each with the keys that hang on it as one transaction; then sessions, and names of
//!   writes. At most [`EXPIRIES_PER_ENTRY`] per entry (and what hangs on one lease beyond that) so that no entry's apply is
//!   unboundedly long. What is left over goes with the next entries.
//! - Memory holds all leases, sessions and names of writes. Each generation carries the rows of those that it changed.
//! - What memory lets go of, the base holds; what the base holds, history explains (events and before-images are durable
//!   before the ingest commits).
//! - Nothing kept here is a slice of an entry: keys and values are copied, or a value of a hundred bytes would pin the
//!   whole block or frame it came in.
//!
//! # Files
//! ```text
//! machine.rs     Store: order of entries, the numbers of the whole state
//! execute.rs     what commands do                 txn.rs         transactions, planned before anything changes
//! expiry.rs      what ends by itself              outcome.rs     what commands come to, as it is kept
//! needs.rs       what a command depends on        ranges.rs      what the ranges that it depends on hold
//! written.rs     what a transaction wrote so far
//! tenure.rs      commands about leases, sessions and idempotency keys, which are the tables of
//! leases.rs sessions.rs once.rs, from the base by way of tables.rs
//! lookup.rs      what memory knows of a key, what must be asked of the base, and what it said
//! overlay.rs     the generations in memory        generation.rs  one of them: keys by hash, their rows in
//! held_rows.rs   a persistent vector, and in order for readers by layer.rs
//! cache.rs       records read back lately         deadlines.rs   which keys may expire: hints, the record itself decides
//! state.rs       the state of one moment, held: point reads and ordered iteration over all layers
//! page.rs        one page of a range, from a held state or from history
//! scrub.rs       stored records as of one entry, hashed, to be compared with those of other replicas
//! drain.rs       a frozen generation goes into the base     pressure.rs  how much it hurries
//! record.rs      records, in memory and on disk   rows.rs        keys of the base's rows
//! companions.rs  what goes into the base beside the records
//! pointer.rs     which fill of the data directory is current
//! base/          the engine under the overlay     history/       events and before-images
//! snapshot/      a copy of base and history, on its way to another node
//! key.rs         a key's own copy, short ones in place
//! effects.rs     the chained hash of everything applied
//! config.rs error.rs
//! ```

pub mod base;
mod cache;
mod companions;
mod config;
mod deadlines;
mod drain;
mod effects;
mod error;
mod execute;
mod expiry;
mod generation;
mod held_rows;
pub mod history;
mod key;
mod layer;
mod leases;
mod lookup;
mod machine;
mod needs;
mod once;
mod outcome;
mod overlay;
mod page;
mod pointer;
mod pressure;
mod ranges;
mod record;
mod rows;
mod scrub;
mod sessions;
pub mod snapshot;
mod state;
mod tables;
mod tenure;
#[cfg(test)]
mod tests;
mod touch;
mod txn;
mod written;

pub use companions::{Companions, StoredConfiguration};
pub use config::StoreConfig;
pub use drain::{DrainReport, DrainStep, drain, rewrite_companions};
pub use error::StoreError;
pub use expiry::EXPIRIES_PER_ENTRY;
pub use key::Key;
pub use lookup::{BaseRecords, Looked, Missing};
pub use machine::{Applied, Store};
pub use outcome::Outcome;
pub use overlay::Frozen;
pub use page::{
    Keep, Page, PageAt, PageJob, PageNumber, PageOutcome, PageReader, PageSource, PageWanted, read_page,
};
pub use pointer::{current_store, make_current};
pub use pressure::Pressure;
pub use ranges::{RangesFound, RangesWanted};
pub use record::{GenerationNumber, Lineage, Slot, SlotRef, StoreNumber, Stored};
pub use scrub::{OpenedScrub, ScrubJob, ScrubNumber, ScrubWanted, Scrubbed};
pub use state::{Overtaken, Pinned, Records, State, companions_in, record_in, records_of};
pub use tables::{Tables, tables_in};
pub use touch::TOUCHED_AT_ONCE;
