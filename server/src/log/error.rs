//! Why the log can not go on, or can not be opened.

use std::io;

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::Index;
use thiserror::Error;

/// Why the log can not go on, or can not be opened. After any error of a running log the process stops (R37); only
/// [`LogError::NotInLog`] is an answer to a reader and no failure.
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
    #[error(
        "the log's files are gone, {file} says that there was one. Do not start this node without them, for it would forget its votes and what it has confirmed: restore the directory, or replace the node (kvctl member replace NAME) with an empty one"
    )]
    Lost { file: &'static str },
    #[error("log file {file} has format version {found}, this program reads up to {supported}")]
    NewerFormat {
        file: String,
        found: u16,
        supported: u16,
    },
    #[error("the log takes no more writes after an earlier failure; the node must stop (R37)")]
    Stopped,
    #[error("entry {wanted} is not in the log: it was truncated or compacted since it was asked for")]
    NotInLog { wanted: Index },
}

/// Names the file and what was done to it, for errors of the disk.
pub(super) fn io_error(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io {
        action,
        file: file.to_owned(),
        source,
    }
}
