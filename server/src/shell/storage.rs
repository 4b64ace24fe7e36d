//! The data directory at a start: locked, its identity read or made, its log recovered.

use raftkv_protocol::{NodeId, Revision};

use super::snapshot_workers::Place;
use super::store_workers::StoreFiles;
use super::{ServerError, recovery_mark};
use crate::config::Config;
use crate::disk::{RealDisk, identity, quarantine};
use crate::log::{Log, Recovered};
use crate::membership::Membership;
use crate::replica::{Restored, RestoredLog, RestoredState};
use crate::store::base::{Base, LsmBase};
use crate::store::history::History;
use crate::store::{StoreError, StoreNumber, companions_in, current_store, tables_in};

/// What the data directory holds.
pub(super) struct Storage {
    pub(super) disk: RealDisk,
    pub(super) identity: NodeId,
    /// `None`: the node is unformed.
    pub(super) log: Option<Log<RealDisk>>,
    pub(super) store: StoreFiles,
    /// Where stores are made.
    pub(super) place: Place,
    pub(super) restored: Option<Restored>,
    /// The membership as of the last configuration entry that is known.
    pub(super) membership: Option<Membership>,
}

/// Opens it, and makes it if it is not there.
pub(super) fn open(config: &Config) -> Result<Storage, ServerError> {
    let (disk, identity) = open_directory(config)?;
    if recovery_mark::read(&disk)?.is_some() {
        return Err(ServerError::RecoveryUnfinished {
            directory: config.data_dir.clone(),
        });
    }
    open_on(config, disk, identity)
}

/// Opens what stands on a disk that is locked already, under the identity that it has.
pub(super) fn open_on(config: &Config, disk: RealDisk, identity: NodeId) -> Result<Storage, ServerError> {
    let recovered = Log::open(disk.clone(), config.log, identity)?;
    let number = current_store(&disk)?;
    let place = place(config, &disk);
    place.remove_all_but(number);
    let (store, state) = open_store(&place, number)?;
    let Some(recovered) = recovered else {
        if state.is_some() {
            return Err(ServerError::StateWithoutLog);
        }
        return Ok(Storage {
            disk,
            identity,
            log: None,
            store,
            place,
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
    let recovered = match &state {
        Some(state) => recovered.behind(state.companions.applied)?,
        None => recovered,
    };
    let membership = membership(&recovered, state.as_ref())?;
    let quarantine = quarantine::load(&disk)?;
    let (restored_log, log) = RestoredLog::of(recovered);
    Ok(Storage {
        disk,
        identity,
        log: Some(log),
        store,
        place,
        restored: Some(Restored {
            log: restored_log,
            store: number,
            state,
            quarantine,
        }),
        membership,
    })
}

fn place(config: &Config, disk: &RealDisk) -> Place {
    Place {
        disk: disk.clone(),
        directory: config.data_dir.clone(),
        base: config.base.clone(),
    }
}

/// Opens base and history alone.
pub(super) fn open_current_store(config: &Config, disk: &RealDisk) -> Result<StoreFiles, ServerError> {
    let (files, _) = open_store(&place(config, disk), current_store(disk)?)?;
    Ok(files)
}

fn open_store(
    place: &Place,
    number: StoreNumber,
) -> Result<(StoreFiles, Option<RestoredState>), ServerError> {
    let base = LsmBase::open(&place.directory.join(base_directory(number)), &place.base)?;
    let view = base.view()?;
    let companions = companions_in(&view)?;
    let history = History::open(
        place.disk.clone(),
        number,
        companions.as_ref().map(|companions| companions.generation),
        companions
            .as_ref()
            .map_or(Revision(1), |companions| companions.oldest_kept),
    )?;
    let state = companions
        .map(|companions| {
            let tables = tables_in(&view)?;
            Ok::<_, StoreError>(RestoredState { companions, tables })
        })
        .transpose()?;
    let files = StoreFiles {
        number,
        base,
        history,
    };
    Ok((files, state))
}

/// The latest one that is known, from the log or from the base.
fn membership(
    recovered: &Recovered<RealDisk>,
    state: Option<&RestoredState>,
) -> Result<Option<Membership>, ServerError> {
    let in_log = recovered.configurations.last().map(|entry| &entry.payload);
    let in_base = state.and_then(|state| state.companions.configurations.last());
    let payload = in_log.or(in_base.map(|stored| &stored.payload));
    Ok(payload.map(|payload| Membership::decode(payload)).transpose()?)
}

/// Where the base of a store is, below the data directory.
pub(super) fn base_directory(store: StoreNumber) -> String {
    format!("base-{:04}", store.0)
}

/// The store whose base has this name.
pub(super) fn store_of_base(name: &str) -> Option<StoreNumber> {
    name.strip_prefix("base-")?.parse().ok().map(StoreNumber)
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
