//! Why the past can not be read.

use raftkv_protocol::Revision;
use thiserror::Error;

use crate::store::StoreError;

/// Why a read in the past has no answer.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Every node says so: the oldest kept revision is agreed through the log.
    #[error("the revision is compacted: the oldest that is kept is {oldest_kept}")]
    Compacted {
        /// The oldest that can be asked for.
        oldest_kept: Revision,
    },
    /// It has not come yet.
    #[error("the revision has not come yet: the current one is {current}")]
    Future {
        /// The newest that can be asked for.
        current: Revision,
    },
    /// Of the disk, or damage.
    #[error(transparent)]
    Store(#[from] StoreError),
}
