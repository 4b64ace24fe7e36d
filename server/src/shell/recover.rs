//! `server recover`: a cluster of one node from a surviving data directory, after the majority is lost for ever.
//!
//! ```text
//! 1. mark: begun      what the old log holds is applied, and drained into the base; then nothing of the log is needed
//! 2. mark: in base    the old log goes, the node gets a new identity, a new log begins; the base's numbers point to it
//! 3. no mark          a server can start
//! ```
//! Each step can be done again after a crash in it: the marks say which, and carry the new cluster's id and identity.
//!
//! Everything durable here counts, whether or not this node knew it to be committed: what was acknowledged was durable on a
//! majority, and this node may be the last one that has it. The new log begins behind its second entry, so that whoever
//! joins gets a snapshot first, and no log of it can be taken for one of the old cluster.

use std::path::Path;

use raftkv_protocol::{ClusterId, HistoryEpoch, Member, NodeId, NodeName, Revision};
use raftkv_raft::{Entry, EntryId, EntryKind, HardState, Index, Stamp, Term, Write, WriteNumber};

use super::ServerError;
use super::console::tell;
use super::recovery_mark::{self, RecoveryMark, Stage};
use super::storage::{self, Storage};
use crate::config::{Config, RecoverFlags};
use crate::disk::{RealDisk, identity};
use crate::log::{self, Log, LogConfig, LogOwner};
use crate::membership::{Membership, Tombstone};
use crate::store::base::{Base, LsmBase};
use crate::store::{
    Applied, BaseRecords, Companions, Store, StoreError, StoredConfiguration, companions_in, current_store,
    drain, rewrite_companions,
};

/// Entries are read back so many bytes at a time.
const READ_BYTES: usize = 4 << 20;

/// The second entry of the new log: its base.
const BASE: u64 = 2;

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
        "It goes on from revision {}; {} entries of the old log were applied for that.",
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
        let Some(restored) = &storage.restored else {
            return Err(nothing());
        };
        if let Some(quarantine) = &restored.quarantine {
            return Err(ServerError::RecoveryFromQuarantine {
                directory: directory.to_owned(),
                explanation: quarantine.explanation(),
            });
        }
        recovery_mark::write(&disk, mark)?;
        replayed = fold_log_into_base(&config, storage)?;
        mark.stage = Stage::Base;
        recovery_mark::write(&disk, mark)?;
    }
    let (membership, revision) = begin_anew(&config, &disk, &name, mark)?;
    recovery_mark::remove(&disk)?;
    Ok(Report {
        name,
        membership,
        revision,
        replayed,
    })
}

/// Applies all that is durable in the log, and puts the whole state into the base; how many entries that were.
fn fold_log_into_base(config: &Config, mut storage: Storage) -> Result<u64, ServerError> {
    let restored = storage.restored.take();
    let (Some(log), Some(restored)) = (&storage.log, restored) else {
        return Ok(0);
    };
    let in_base = restored.state.as_ref();
    let in_base = in_base.and_then(|state| state.companions.configurations.last().cloned());
    let in_log = restored.log.configurations.last().map(stored);
    let latest: Vec<StoredConfiguration> = in_log.or(in_base).into_iter().collect();
    let (base, last) = (restored.log.base.index, restored.log.last.index);
    let mut store = match restored.state {
        None => Store::new(base.next(), config.store),
        Some(state) => Store::over_base(&state.companions, state.tables, config.store),
    };
    let reader = log.reader();
    let from = store.applied().unwrap_or(base);
    let mut next = from.next();
    while next <= last {
        let entries = reader.read(next, last, READ_BYTES)?;
        for entry in &entries {
            apply(&mut store, entry, &storage.store.base)?;
            if let Some(events) = store.take_events() {
                storage.store.history.push(events);
            }
            if store.overlay_bytes().1 >= config.store.freeze_bytes() {
                drain_now(&mut store, &storage, latest.clone())?;
            }
            next = entry.id.index.next();
        }
    }
    drain_now(&mut store, &storage, latest)?;
    Ok(last.get().saturating_sub(from.get()))
}

fn apply(store: &mut Store, entry: &Entry, base: &LsmBase) -> Result<(), StoreError> {
    while store.apply(entry) == Applied::Waits {
        let missing = store.missing(std::iter::once(entry));
        let through = missing.through.unwrap_or(entry.id.index);
        let keys: Vec<_> = missing.keys.into_iter().collect();
        let found = BaseRecords::read(&base.view()?, &keys, missing.ranges)?;
        store.gathered(through, found);
    }
    Ok(())
}

fn drain_now(
    store: &mut Store,
    storage: &Storage,
    configurations: Vec<StoredConfiguration>,
) -> Result<(), StoreError> {
    let frozen = store.freeze(configurations, None);
    storage.store.history.seal(frozen.number())?;
    let images = storage.store.history.image_writer(frozen.number())?;
    drain(&frozen, &storage.store.base, images, &mut |_| {})?;
    store.drained_up_to(frozen.number());
    drop(store.release());
    Ok(())
}

/// New identity, new log, and a base that belongs to them.
fn begin_anew(
    config: &Config,
    disk: &RealDisk,
    name: &NodeName,
    mark: RecoveryMark,
) -> Result<(Membership, Revision), ServerError> {
    let nothing = || ServerError::NothingToRecover {
        directory: config.data_dir.clone(),
    };
    let store = current_store(disk)?;
    let base = LsmBase::open(
        &config.data_dir.join(storage::base_directory(store)),
        &config.base,
    )?;
    let companions = companions_in(&base.view()?)?.ok_or_else(nothing)?;
    let latest = companions.configurations.last().ok_or_else(nothing)?;
    let latest = Membership::decode(&latest.payload)?;
    let membership = if latest.cluster == mark.cluster {
        latest
    } else {
        alone(&latest, name, mark).ok_or_else(nothing)?
    };
    log::discard(disk)?;
    identity::replace(disk, name, mark.identity).map_err(|source| ServerError::Identity {
        directory: config.data_dir.clone(),
        source,
    })?;
    make_log(disk, config.log, mark, &membership)?;
    let founding = StoredConfiguration {
        id: place(1),
        payload: membership.encode(),
    };
    let revision = companions.revision;
    let companions = Companions {
        applied: place(BASE),
        configurations: vec![founding.clone()],
        founding: Some(founding),
        ..companions
    };
    rewrite_companions(&base, &companions)?;
    Ok((membership, revision))
}

/// The new cluster: this node alone. Nobody of the old one, this node's former identity included, can come back.
fn alone(old: &Membership, name: &NodeName, mark: RecoveryMark) -> Option<Membership> {
    let member = old.everyone().find(|member| member.name == *name)?;
    let itself = Member {
        identity: mark.identity,
        voter: true,
        ..member.clone()
    };
    let buried = old.everyone().map(|member| Tombstone {
        identity: member.identity,
        name: member.name.clone(),
    });
    Some(Membership {
        epoch: HistoryEpoch(old.epoch.0 + 1),
        removed: old.removed.iter().cloned().chain(buried).collect(),
        ..Membership::of(mark.cluster, vec![itself])
    })
}

/// A log of three entries that begins behind its second: founding, no-op, configuration.
fn make_log(
    disk: &RealDisk,
    config: LogConfig,
    mark: RecoveryMark,
    membership: &Membership,
) -> Result<(), ServerError> {
    let owner = LogOwner {
        cluster: mark.cluster,
        node: mark.identity,
    };
    let founding = configuration_at(1, membership);
    let noop = Entry {
        id: place(BASE),
        kind: EntryKind::Noop,
        stamp: Stamp::default(),
        payload: bytes::Bytes::new(),
        configuration: None,
    };
    let mut log = Log::create(disk.clone(), config, owner, &founding, committed(1))?;
    append(&mut log, noop)?;
    drop(log);
    // Opened again it writes a segment of its own, and the first can go.
    let recovered = Log::open(disk.clone(), config, mark.identity)?;
    let mut log = recovered.expect("a log was made just now").log;
    append(&mut log, configuration_at(BASE + 1, membership))?;
    log.cut_behind(place(BASE + 1).index)?;
    Ok(())
}

fn append(log: &mut Log<RealDisk>, entry: Entry) -> Result<(), ServerError> {
    let write = Write {
        number: WriteNumber::default(),
        hard_state: committed(entry.id.index.get()),
        truncate_from: None,
        entries: vec![entry],
    };
    log.append(&[write])?;
    log.sync()?;
    log.mark()?;
    Ok(())
}

fn configuration_at(index: u64, membership: &Membership) -> Entry {
    Entry {
        id: place(index),
        kind: EntryKind::Configuration,
        stamp: Stamp::default(),
        payload: membership.encode(),
        configuration: Some(membership.configuration().into()),
    }
}

fn committed(index: u64) -> HardState {
    HardState {
        term: Term(1),
        vote: None,
        commit: place(index).index,
    }
}

/// A place in the new log.
fn place(index: u64) -> EntryId {
    EntryId {
        term: Term(1),
        index: Index::new(index).expect("counted from 1"),
    }
}

fn stored(entry: &Entry) -> StoredConfiguration {
    StoredConfiguration {
        id: entry.id,
        payload: entry.payload.clone(),
    }
}

fn random() -> Result<u64, ServerError> {
    getrandom::u64().map_err(ServerError::Randomness)
}

#[cfg(test)]
mod tests;
