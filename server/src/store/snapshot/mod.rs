//! Snapshots: a consistent copy of the store on its way to a node that is too far behind (thesis 5.1, R48 to R54).
//!
//! A snapshot is what the base holds as of its last drain, and the history that explains it: both are immutable once
//! held, so sending one stops nothing and needs no copy. It travels in *parts* of bounded size. A part is asked for by its
//! [`Position`], so a lost part, a doubled one or a broken connection costs that part alone: the receiver says where it
//! is, the sender goes on from there.
//!
//! ```text
//! source.rs     what a sender holds: any part, by position
//! receiver.rs   fills a store of its own number; nothing of the present store is touched
//! part.rs       parts and positions as bytes
//! ```
//! Memory: one part at the sender for each receiver, and one part and a batch of [`BATCH_BYTES`] at the receiver, however
//! large the data is.

mod part;
mod receiver;
mod source;
#[cfg(test)]
mod tests;

pub use part::Position;
pub use receiver::{BATCH_BYTES, Received, Receiver, Taken, remove_history_of};
pub use source::Source;

/// Most bytes of rows or file in a part.
pub const PART_BYTES: usize = 1 << 20;
