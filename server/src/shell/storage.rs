//! The data directory at a start: locked, its identity read or made, its log recovered.

use raftkv_protocol::NodeId;

use super::ServerError;
use crate::config::Config;
use crate::disk::{RealDisk, identity};
use crate::log::Log;
use crate::membership::Membership;
use crate::replica::RestoredLog;

/// What the data directory holds.
pub(super) struct Storage {
    pub(super) disk: RealDisk,
    pub(super) identity: NodeId,
    /// `None`: the node is unformed.
    pub(super) log: Option<Log<RealDisk>>,
    pub(super) restored: Option<RestoredLog>,
    /// The membership as of the last configuration entry in the log.
    pub(super) membership: Option<Membership>,
}

/// Opens it, and makes it if it is not there.
pub(super) fn open(config: &Config) -> Result<Storage, ServerError> {
    let (disk, identity) = open_directory(config)?;
    let Some(recovered) = Log::open(disk.clone(), config.log, identity)? else {
        return Ok(Storage {
            disk,
            identity,
            log: None,
            restored: None,
            membership: None,
        });
    };
    if let Some(tail) = &recovered.torn_tail {
        tracing::warn!(
            file = tail.file,
            offset = tail.offset,
            "the log ended in a write that was under way at the last stop and was never confirmed; it was cut off"
        );
    }
    let last_configuration = recovered.configurations.last();
    let membership = last_configuration
        .map(|entry| Membership::decode(&entry.payload))
        .transpose()?;
    Ok(Storage {
        disk,
        identity,
        restored: Some(RestoredLog {
            hard_state: recovered.hard_state,
            base: recovered.base,
            term_runs: recovered.term_runs,
            last: recovered.last,
            configurations: recovered.configurations,
        }),
        log: Some(recovered.log),
        membership,
    })
}

fn open_directory(config: &Config) -> Result<(RealDisk, NodeId), ServerError> {
    let disk = RealDisk::open(&config.data_dir)?;
    let fresh = NodeId(getrandom::u64().map_err(ServerError::Randomness)?);
    let identity = identity::load_or_create(&disk, &config.name, fresh);
    let identity = identity.map_err(|source| ServerError::Identity {
        directory: config.data_dir.clone(),
        source,
    })?;
    Ok((disk, identity))
}
