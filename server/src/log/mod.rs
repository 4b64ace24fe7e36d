//! The durable Raft log.

use std::io;

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{Entry, EntryId, HardState, Index, Term, Write};
use thiserror::Error;

use crate::disk::Disk;

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of one segment file, bytes; a multiple of 4096. A single larger batch gets a segment of its own size.
    pub segment_size_bytes: u64,
    /// Zero-filled segments kept ready ahead of need.
    pub spare_segments: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_size_bytes: 64 << 20,
            spare_segments: 1,
        }
    }
}

/// Whose log it is; in each segment's header (R40).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOwner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Why the log can not go on, or can not be opened. After any error of a running log the process stops (R37).
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum LogError {
    #[error(
        "{action} {file} failed: {source}; the node must stop: what the disk holds is not known any more"
    )]
    Io {
        action: &'static str,
        file: String,
        source: io::Error,
    },
    #[error(
        "log file {file} is damaged at byte {offset}: {what}; synced data follows it, so this is no torn write. Do not start this node on it: replace it (kvctl member replace NAME) or restore the file"
    )]
    Damaged { file: String, offset: u64, what: String },
    #[error(
        "log file {file} belongs to node {found_node} of cluster {found_cluster}, expected node {expected_node}"
    )]
    Foreign {
        file: String,
        found_cluster: ClusterId,
        found_node: NodeId,
        expected_node: NodeId,
    },
    #[error("log file {file} has format version {found}, this program reads up to {supported}")]
    NewerFormat {
        file: String,
        found: u16,
        supported: u16,
    },
}

/// What recovery found.
pub struct Recovered<D: Disk> {
    /// Ready to append.
    pub log: Log<D>,
    /// Whose it is.
    pub owner: LogOwner,
    /// The last hard state.
    pub hard_state: HardState,
    /// The entry below the first that the log can still read (the founding entry's own id as long as nothing was cut).
    pub base: EntryId,
    /// Terms of the entries after `base`, as runs.
    pub term_runs: Vec<(Index, Term)>,
    /// The last entry.
    pub last: EntryId,
    /// All configuration entries still in the log, the founding one included, ascending.
    pub configurations: Vec<Entry>,
    /// A tail that was never acknowledged and was cut, for the operator's log.
    pub torn_tail: Option<TornTail>,
}

/// An unacknowledged tail that recovery cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In this file.
    pub file: String,
    /// From this byte on.
    pub offset: u64,
}

/// The durable log of one node: appended to by one thread.
pub struct Log<D: Disk> {
    _disk: D,
}

/// Reads entries back, from any thread, beside appends.
#[derive(Clone)]
pub struct LogReader<D: Disk> {
    _disk: D,
}

#[allow(
    unused_variables,
    clippy::todo,
    missing_docs,
    clippy::needless_pass_by_value,
    clippy::missing_errors_doc
)]
impl<D: Disk> Log<D> {
    /// Makes the log of a newly formed node, with its founding entry (index 1) and hard state; durable on return.
    /// A crash before the return leaves either no log ([`Log::open`] says `None`) or the whole of it.
    pub fn create(
        disk: D,
        config: LogConfig,
        owner: LogOwner,
        founding: &Entry,
        hard_state: HardState,
    ) -> Result<Log<D>, LogError> {
        todo!()
    }
    /// Opens and recovers; `None` when there is no log (the node is unformed). What was replayed is synced before return.
    pub fn open(disk: D, config: LogConfig, node: NodeId) -> Result<Option<Recovered<D>>, LogError> {
        todo!()
    }
    /// Writes all of `writes` as one batch; not durable until [`Log::sync`].
    pub fn append(&mut self, writes: &[Write]) -> Result<(), LogError> {
        todo!()
    }
    /// Makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        todo!()
    }
    /// Writes a mark batch that proves the last batch was synced, if none follows it yet; durable on return. Called when
    /// nothing was appended for 50 ms. Returns whether one was needed.
    pub fn mark(&mut self) -> Result<Marked, LogError> {
        todo!()
    }
    pub fn reader(&self) -> LogReader<D> {
        todo!()
    }
}

/// What [`Log::mark`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Marked {
    Written,
    NotNeeded,
}

#[allow(unused_variables, clippy::todo, missing_docs, clippy::missing_errors_doc)]
impl<D: Disk> LogReader<D> {
    /// Entries from `from` to at most `to`, stopping after the one that passes `max_bytes`; at least one. Checks checksums.
    pub fn read(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        todo!()
    }
}
