//! The state machine: what the log's entries make of an empty store.
//!
//! [`Store::apply`] is a pure function of the state and the entry (R73): no clock, no random numbers, no hash order, no
//! settings of this node. Time comes in as the entry's log time alone (R74).
//!
//! # What holds
//! - `revision` is 1 when empty and grows by exactly 1 for each transaction that changes something. A failed condition, a
//!   delete of nothing, no-ops, ticks and configurations add none.
//! - A key's `version` counts its writes since it was created and starts at 1 again after a delete.
//! - Log time never falls: an entry with an older stamp is applied at the log time already reached.
//! - Before an entry's command, keys whose deadline has come are deleted in (deadline, key) order, each as a transaction of
//!   its own, at most [`EXPIRIES_PER_ENTRY`] per entry so that no entry's apply is unboundedly long. What is left over
//!   goes with the next entries.
//! - Nothing kept here is a slice of an entry: keys and values are copied, or a value of a hundred bytes would pin the
//!   whole block or frame it came in.
//!
//! # Layout
//! ```text
//! machine.rs     Store: order of entries, revisions, conditions, expiry
//! overlay.rs     the ordered map that holds the records
//! record.rs      records, in memory and on disk
//! base/          the engine under the overlay
//! history/       events and before-images on disk, reads in the past
//! error.rs       why the store's files can not be used
//! key.rs         a key's own copy, short ones inside the map's nodes
//! deadlines.rs   which keys expire, in (deadline, key) order; a hint, the record itself is checked
//! effects.rs     the chained hash of everything applied
//! ```
//! Later a base engine goes under `overlay.rs` and an event log beside it; neither is seen from above. Not here: history,
//! leases, sessions, transactions over several keys, snapshots.

pub mod base;
mod deadlines;
mod effects;
mod error;
pub mod history;
mod key;
mod machine;
mod overlay;
mod record;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use machine::{EXPIRIES_PER_ENTRY, Store};
pub use record::{GenerationNumber, Lineage, Slot, SlotRef, StoreNumber, Stored};
