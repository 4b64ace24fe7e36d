//! `server recover`: a cluster of one node from a surviving data directory, after the majority is lost for ever.
//!
//! ```text
//! 1. mark: begun      what the old log holds is applied, and drained into the base; then nothing of the log is needed
//! 2. mark: in base    the old log goes, the node gets a new identity, a new log begins; the base's numbers point to it
//! 3. no mark          a server can start
//! ```
//! Each step can be done again after a crash in it: the marks say which, and carry the new cluster's id and identity. What
//! the steps do is in [`crate::recovery`].

use std::path::Path;

use raftkv_protocol::{ClusterId, NodeId, NodeName, Revision};

use super::ServerError;
use super::console::tell;
use super::recovery_mark::{self, RecoveryMark, Stage};
use super::storage::{self, Storage};
use crate::config::{Config, RecoverFlags};
use crate::disk::{RealDisk, identity};
use crate::log::LogConfig;
use crate::membership::Membership;
use crate::recovery::{self, BegunAnew, RecoveryError, StateFiles, Successor};

/// What the operator is told.
#[derive(Debug)]
struct Report {
    name: NodeName,
    membership: Membership,
    revision: Revision,
    replayed: u64,
}

/// Runs it, and says what was done.
///
/// # Errors
/// When a server runs on the directory, when it is no member's, and of the disk.
pub(super) fn run_recover(flags: &RecoverFlags) -> Result<(), ServerError> {
    let report = recover(&flags.data_dir, LogConfig::default())?;
    let Report { name, membership, .. } = &report;
    tell(format_args!(
        "{name} is now the only member of the new cluster {}, history epoch {}.",
        membership.cluster, membership.epoch
    ));
    tell(format_args!(
        "It goes on from revision {}, far behind all that may be lost; {} entries of the old log were applied for that.",
        report.revision, report.replayed
    ));
    tell(format_args!(
        "Start it with the flags it had, without --peers. Start the other nodes on empty data directories with --join, and let them in with `kvctl member add NAME`."
    ));
    Ok(())
}

fn recover(directory: &Path, log: LogConfig) -> Result<Report, ServerError> {
    let nothing = || ServerError::NothingToRecover {
        directory: directory.to_owned(),
    };
    // Opening makes a directory that is not there.
    if !directory.is_dir() {
        return Err(nothing());
    }
    let disk = RealDisk::open(directory)?;
    let known = identity::load(&disk).map_err(|source| ServerError::Identity {
        directory: directory.to_owned(),
        source,
    })?;
    let (old_identity, name) = known.ok_or_else(nothing)?;
    let mut config = Config::local(&name.0, directory.to_owned());
    config.log = log;
    let mut mark = match recovery_mark::read(&disk)? {
        Some(mark) => mark,
        None => RecoveryMark {
            stage: Stage::Log,
            cluster: ClusterId(random()?.max(1)),
            identity: NodeId(random()?),
        },
    };
    let mut replayed = 0;
    if mark.stage == Stage::Log {
        let storage = storage::open_on(&config, disk.clone(), old_identity)?;
        // Said before anything is marked: the directory stays what it is.
        let restored = storage.restored.as_ref();
        let Some(restored) = restored.filter(|restored| recovery::holds_anything(restored)) else {
            return Err(nothing());
        };
        if !recovery::is_of_a_member(restored, &name).map_err(|error| told(directory, error.into()))? {
            return Err(nothing());
        }
        if let Some(quarantine) = &restored.quarantine {
            return Err(ServerError::RecoveryFromQuarantine {
                directory: directory.to_owned(),
                explanation: quarantine.explanation(),
            });
        }
        recovery_mark::write(&disk, mark)?;
        replayed = fold(&config, storage)?;
        mark.stage = Stage::Base;
        recovery_mark::write(&disk, mark)?;
    }
    let begun = begin_anew(&config, &disk, &name, mark)?;
    recovery_mark::remove(&disk)?;
    Ok(Report {
        name,
        membership: begun.membership,
        revision: begun.revision,
        replayed,
    })
}

/// Step 1; how many entries the log held beyond the base.
fn fold(config: &Config, mut storage: Storage) -> Result<u64, ServerError> {
    let restored = storage.restored.take();
    let (Some(log), Some(restored)) = (&storage.log, restored) else {
        return Ok(0);
    };
    let files = StateFiles {
        base: &storage.store.base,
        history: &storage.store.history,
        store: config.store,
    };
    recovery::fold_log_into_base(&log.reader(), restored, &files)
        .map_err(|error| told(&config.data_dir, error))
}

/// Step 2.
fn begin_anew(
    config: &Config,
    disk: &RealDisk,
    name: &NodeName,
    mark: RecoveryMark,
) -> Result<BegunAnew, ServerError> {
    let files = storage::open_current_store(config, disk)?;
    let successor = Successor {
        cluster: mark.cluster,
        identity: mark.identity,
    };
    let state = (&files.base, &files.history);
    recovery::begin_anew((disk, config.log), state, name, successor)
        .map_err(|error| told(&config.data_dir, error))
}

/// What stopped a recovery of this directory.
fn told(directory: &Path, error: RecoveryError) -> ServerError {
    let directory = directory.to_owned();
    match error {
        RecoveryError::Log(source) => source.into(),
        RecoveryError::Store(source) => source.into(),
        RecoveryError::Members(source) => source.into(),
        RecoveryError::Identity(source) => ServerError::Identity { directory, source },
        RecoveryError::Nothing => ServerError::NothingToRecover { directory },
    }
}

fn random() -> Result<u64, ServerError> {
    getrandom::u64().map_err(ServerError::Randomness)
}

#[cfg(test)]
mod tests;
