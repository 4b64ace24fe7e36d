//! The durable Raft log: segments, group commit, recovery. `format.rs` draws the bytes.
//!
//! * [`Log`] writes: everything that waits becomes one batch, one write, one sync. It is one thread's.
//! * [`LogReader`] reads entries back from the files; the log keeps no copy of them, only where they stand.
//! * [`Log::open`] recovers: a tail that was torn off is cut and said, damage is refused.
//! * [`SparePool`] makes segment files ahead of need.
//! * [`LogThread`] is the one threaded part: the log, behind a queue.
//!
//! Everything but [`LogThread`] is deterministic and runs on the simulated disk as on the real one.
//!
//! What it does not do: it does not know what is committed beyond the hard state's word, it does not repair (a damaged
//! log is replaced from its peers), and it has one group's entries only, though records name a group.

mod append;
mod batch;
mod compaction;
mod config;
mod discard;
mod error;
mod format;
mod index;
mod names;
mod outline;
mod reader;
mod record;
mod recovery;
mod replay;
mod segment;
#[cfg(feature = "simulation")]
pub mod simulation;
mod spare;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub use append::{Log, Marked};
pub use config::{LogConfig, LogOwner};
pub use discard::discard;
pub use error::LogError;
pub use names::is_segment;
pub use reader::LogReader;
pub use recovery::{Recovered, TornTail};
pub use spare::SparePool;
pub use writer::{LogReport, LogThread};
