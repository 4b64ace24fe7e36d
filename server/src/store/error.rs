//! Why the store's files can not go on, or can not be opened.

use std::io;

use thiserror::Error;

/// Why the store's files (base engine, history, pointer) can not be used. After such an error while writing the process
/// stops: it is not known what the disk holds (R37).
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error(
        "{action} {file} failed: {source}; the node must stop: what the disk holds is not known any more"
    )]
    Io {
        action: &'static str,
        file: String,
        source: io::Error,
    },
    #[error(
        "the base engine failed while {action}: {what}; the node must stop. If it happens again at the next start, replace this node (kvctl member replace NAME)"
    )]
    Engine { action: &'static str, what: String },
    #[error(
        "the disk is full: the base engine failed while {action}; free room on the disk (--disk-reserve-mib says how much is kept) and start this node again"
    )]
    BaseFull { action: &'static str },
    #[error(
        "{file} is damaged at byte {offset}: {what}. Replace this node (kvctl member replace NAME) or restore the file"
    )]
    Damaged { file: String, offset: u64, what: String },
    #[error("{file} has format version {found}, this program reads up to {supported}")]
    NewerFormat {
        file: String,
        found: u16,
        supported: u16,
    },
    #[error("the store takes no more writes after an earlier failure; the node must stop (R37)")]
    Stopped,
}

/// Names the file and what was done to it.
pub(crate) fn io_error(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io {
        action,
        file: file.to_owned(),
        source,
    }
}
