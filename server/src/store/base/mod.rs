//! The base engine: where drained generations end up, larger than memory.
//!
//! ```text
//! mod.rs     what the store asks of an engine
//! lsm/       the real one
//! twin.rs    the one in memory, for the simulator
//! ```
//! # Rows
//! One ordered space of rows, told apart by the first byte of their key, so that a drain is one ascending pass:
//! ```text
//! 1 key                    a live record (`record.rs`)
//! 2 deadline (BE) key      "this key expires then"; empty value
//! 3                        the companions of the last drain
//! 4 lease (BE)             a lease (`leases.rs`)
//! 5 lease (BE) key         "this key hangs on this lease"; empty value
//! 6 session (BE)           a session (`sessions.rs`)
//! 7 index (BE)             what that entry did under an idempotency key (`once.rs`)
//! ```

mod lsm;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "simulation"))]
mod twin;

use bytes::Bytes;

pub use lsm::{BaseConfig, CompactionStep, LsmBase, LsmView};
#[cfg(any(test, feature = "simulation"))]
pub use twin::{TwinBase, TwinView};

use super::error::StoreError;

/// A change of one row: its new value, or `None` when it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// See the module.
    pub key: Bytes,
    /// `None`: the row is deleted.
    pub value: Option<Bytes>,
}

/// Rows of a range, in order, from both ends.
pub type RowIter = Box<dyn DoubleEndedIterator<Item = Result<(Bytes, Bytes), StoreError>> + Send>;

/// An engine. All clones are one.
pub trait Base: Clone + Send + Sync + 'static {
    /// A held version.
    type View: BaseView;

    /// The state as of the last ingest that returned, held: later ingests and compactions do not change it.
    ///
    /// # Errors
    /// Of the engine.
    fn view(&self) -> Result<Self::View, StoreError>;

    /// Adds all rows as one: after a crash all are there or none. Durable on return. Keys ascend strictly. When a row
    /// is an error the whole is given up, the engine as it was, and that error returned. One at a time.
    ///
    /// # Errors
    /// Of a row, or of the engine.
    fn ingest(&self, rows: &mut dyn Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError>;

    /// Bytes the engine holds on disk, about.
    fn size_bytes(&self) -> u64;
}

/// A version of the base, held for as long as this lives. It holds the tables of that version open (lsm-tree issue 321:
/// reading an old sequence number again would miss what a compaction dropped).
pub trait BaseView: Clone + Send + Sync + 'static {
    /// The row.
    ///
    /// # Errors
    /// Of the engine.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows `from..to` (`to` is not included; `None`: up to the end).
    fn range(&self, from: &[u8], to: Option<&[u8]>) -> RowIter;

    /// Looks up ascending `keys`, telling `found` of each in turn; as cheap as their nearness allows.
    ///
    /// # Errors
    /// Of the engine, or of `found`.
    fn get_ascending(
        &self,
        keys: &mut dyn Iterator<Item = Bytes>,
        found: &mut dyn FnMut(Bytes, Option<Bytes>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}
