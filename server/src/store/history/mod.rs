//! What every key was: events of each change, and what the base held before a drain changed it.
//!
//! One generation's history is two files, `format.rs` draws them. **Events** are appended as batches apply and sealed
//! when the generation is frozen. **Before-images** are written by the drain: for each key that the generation changed,
//! the record that the base held before, or that it held none. So the state of a key at a kept revision R is
//! ```text
//! its current record, if that is not newer than R
//! else its newest event at or below R
//! else the first of its images whose generation changed it first behind R
//! else what the layers (overlay, frozen generations, base) know of it at or below R
//! ```
//! # Life of a generation
//! ```text
//! EventBuffer::push .. take -> History::push      apply: in memory and readable at once
//! History::write_pending                          the history thread: all that waits, as one write
//! History::seal                                   frozen: the rest, index and footer, synced
//! History::image_writer .. push .. finish         drain: synced, before the ingest commits; given up if they are too many
//! History::trim                                   dropped as a whole, oldest first
//! ```
//! # What holds
//! - Recovery never cuts a file: with a base through generation g the files of later ones are deleted (the log is
//!   replayed), those up to g are complete. Anything else is damage, and refused.
//! - Generations are kept without gaps, and their revisions follow one another without gaps.
//! - The newest drained generation is never trimmed: its two files say at the next start that history is whole.
//! - A reader holds the generations that it began with; a trim takes away their names only.
//! - After a failed write nothing more is written (R37).
//!
//! # Memory
//! Events that wait to be written; for the generations that are not sealed 8 bytes for each event (their index, twice
//! that while it is merged); for sealed ones 4 bytes for each 511 entries, 16 for each 64 KiB of events or 32 KiB of
//! images: about 1 MiB for each GiB. An iterator over events holds a piece of 64 KiB, or one entry if that is larger; one
//! over a range in the past the keys of 32 KiB of images for each generation behind its revision.
//!
//! # Layout
//! ```text
//! handle.rs      History: the handle that all threads share       view.rs     HistoryView: what a reader holds
//! open.rs        what is found at the start                       events.rs   all events of some revisions, in order
//! buffer.rs      EventBuffer: what apply fills                    past.rs     Past: records and ranges at a revision
//! generation.rs  one generation, from its first event on          range.rs    which keys, in which order
//! images.rs      ImageWriter, and the keys of images in order     limits.rs   how much is kept
//! file.rs        one file: blocks, sealing, reading               format.rs   its bytes
//! index.rs       a key's entries                                  names.rs    names of files
//! shared.rs      what all handles share                           error.rs    why the past can not be read
//! transfer.rs    files on their way to another node, in a snapshot
//! ```
//! Not here: threads, clocks, and the decision what to keep: the oldest kept revision is agreed through the log. Only where the
//! disk has no room for a drain's images a node keeps less than is agreed ([`ImageWriter`]).

mod buffer;
mod error;
mod events;
mod file;
mod format;
mod generation;
mod handle;
mod images;
mod index;
mod limits;
mod names;
mod open;
mod past;
mod range;
mod shared;
#[cfg(feature = "simulation")]
pub mod simulation;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;
mod view;

pub use buffer::{EventBlock, EventBuffer};
pub use error::HistoryError;
pub use events::{Event, Events};
pub use handle::History;
pub use images::ImageWriter;
pub use limits::{GenerationStatistics, HistoryLimits, HistoryStatistics};
pub use names::store_of;
pub use past::{Layers, Past, PastRange};
pub use range::{Direction, KeyRange};
pub use transfer::{HistoryFile, IncomingFile};
pub use view::HistoryView;
