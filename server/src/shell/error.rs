//! Why a server can not start, or had to stop.

use std::io;
use std::path::PathBuf;

use raftkv_raft::RestoreError;
use thiserror::Error;

use crate::config::HostPort;
use crate::disk::DataDirectoryError;
use crate::disk::identity::IdentityError;
use crate::disk::quarantine::QuarantineError;
use crate::log::LogError;
use crate::store::StoreError;

/// One sentence for the operator.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ServerError {
    #[error(
        "{address} is taken by another program ({flag}): stop that program, or choose another port with {flag}"
    )]
    PortTaken { flag: &'static str, address: HostPort },
    #[error("can not listen on {address} ({flag}): {source}")]
    Listen {
        flag: &'static str,
        address: HostPort,
        source: io::Error,
    },
    #[error("{0} (--tls-cert, --tls-key, --tls-ca)")]
    Tls(#[from] raftkv_tls::TlsError),
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    #[error("the data directory {} can not be used: {source}", directory.display())]
    Identity {
        directory: PathBuf,
        source: IdentityError,
    },
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the data directory holds a state and no log: restore it from a copy, or replace the node (kvctl member replace NAME) with an empty one"
    )]
    StateWithoutLog,
    #[error(
        "the log does not make sense ({0}): do not start this node on it, replace it (kvctl member replace NAME)"
    )]
    Restore(#[from] RestoreError),
    #[error("the log's founding entry can not be read: {0}")]
    Founding(#[from] crate::membership::UnreadableMembership),
    #[error("the consensus settings do not fit each other: {0}")]
    Settings(#[from] raftkv_raft::ConfigError),
    #[error("the system gives no random numbers: {0}")]
    Randomness(getrandom::Error),
    #[error("the server's threads can not be started: {0}")]
    Threads(io::Error),
    #[error("the node's thread ended unexpectedly; the lines above say why")]
    NodeThread,
    #[error(
        "the {part} thread ended unexpectedly, so the node stops; the lines above say why: report them, and start it again"
    )]
    Panicked { part: &'static str },
    #[error(
        "a received snapshot was gone when it was to be installed; this is a defect of the server, start it again"
    )]
    SnapshotLost,
    #[error(
        "a recovery was begun on the data directory {} and not completed: run `server recover --data-dir {} --new-cluster` again",
        directory.display(),
        directory.display()
    )]
    RecoveryUnfinished { directory: PathBuf },
    #[error("the data directory {} holds no member of a cluster, or nothing beyond the founding of one: there is nothing to recover from it", directory.display())]
    NothingToRecover { directory: PathBuf },
    #[error("the data directory {} can not be recovered from: {explanation}. Recover from another node's directory; if there is none, remove the file `quarantine` from this one: what differs is then the new cluster's state", directory.display())]
    RecoveryFromQuarantine { directory: PathBuf, explanation: String },
    #[error("{action} the mark of a recovery failed: {source}")]
    RecoveryMark { action: &'static str, source: io::Error },
    #[error("the local cluster can not be run: {source}")]
    Dev { source: io::Error },
    #[error("{name} stopped with an error; its own lines above say why")]
    DevNode { name: String },
}
