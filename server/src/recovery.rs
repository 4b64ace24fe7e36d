//! What a recovery makes of a surviving data directory, on whatever disk it stands: everything that its log holds goes into
//! the base, and a cluster of one goes on from there. `server recover` runs it on real disks, the simulator on its own.
//!
//! **Everything durable here counts**, whether or not this node knew it to be committed: what was acknowledged was durable on
//! a majority, and this node may be the last one that has it.
//!
//! **The new log goes on where the old one ended**, in a later term. Sessions, the leases whose ids the server chose, and
//! idempotency keys are named after the place of their entry, and live on: a log that counted from one again would give their
//! names away a second time. And it begins behind its founding entry, so that whoever joins gets a snapshot first, and no log
//! of it can be taken for one of the old cluster.
//!
//! **Revisions and names leap.** Clients remember the revisions, sessions and leases of entries that this directory never had.
//! None of them may become somebody else's: a put under the condition that a key is as a lost write left it would meet another
//! write, a session would get another's answers, a lease would keep another's keys. So all of them go on far behind
//! ([`LEAP`]); the revisions in between are a generation of history without events.

use raftkv_protocol::{ClusterId, HistoryEpoch, Member, NodeId, NodeName, Revision};
use raftkv_raft::simulation::mutant;
use raftkv_raft::{Entry, EntryId, EntryKind, HardState, Index, Stamp, Term, Write, WriteNumber};
use thiserror::Error;

use crate::disk::Disk;
use crate::disk::identity::{self, IdentityError};
use crate::log::{self, Log, LogConfig, LogError, LogOwner, LogReader};
use crate::membership::{Membership, Tombstone, UnreadableMembership};
use crate::replica::Restored;
use crate::store::base::Base;
use crate::store::history::History;
use crate::store::{
    Applied, BaseRecords, Companions, Store, StoreConfig, StoreError, StoredConfiguration, companions_in,
    drain, rewrite_companions,
};

/// How far revisions and names leap: further than any log goes on that this node had no part in, which at a million entries a second
/// takes twelve days. A revision that is a number of JSON holds nine thousand recoveries.
pub const LEAP: u64 = 1_000_000_000_000;

/// Entries are read back so many bytes at a time.
const READ_BYTES: usize = 4 << 20;

/// The planted bugs of this module, and what each one does. See [`raftkv_raft::simulation`].
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "recovery_counts_from_one_again",
        "the log of a recovered cluster begins again at its first index",
    ),
    (
        "recovery_gives_names_again",
        "a recovered cluster gives revisions, and names to sessions and leases, as the old one may have given those that were lost",
    ),
    (
        "recovery_keeps_the_old_cluster",
        "a recovered directory goes on as the member of the old cluster that it was (R65)",
    ),
    (
        "recovery_leaves_the_uncommitted_out",
        "a recovery takes from the log only what this node knew to be committed",
    ),
];

/// Why a directory can not be recovered, or not now.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RecoveryError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Members(#[from] UnreadableMembership),
    #[error("it holds no member of a cluster, or nothing beyond the founding of one")]
    Nothing,
}

/// Who goes on: drawn once, before anything is changed, and the same however often a recovery is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The new cluster.
    pub cluster: ClusterId,
    /// What the node is in it.
    pub identity: NodeId,
}

/// Where a state is kept.
pub struct StateFiles<'a, B, D: Disk> {
    /// The base.
    pub base: &'a B,
    /// The history behind it.
    pub history: &'a History<D>,
    /// What the state machine keeps to meanwhile.
    pub store: StoreConfig,
}

/// What has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunAnew {
    /// The new cluster: this node alone.
    pub membership: Membership,
    /// The store goes on from there: far behind all that the directory held.
    pub revision: Revision,
    /// The new log begins behind this entry, the last one of the old log.
    pub base: EntryId,
    /// See [`Companions::names_from`].
    pub names_from: u64,
}

/// Is there anything beyond the founding of a cluster? Else nothing was ever acknowledged, and there is nothing to recover.
#[must_use]
pub fn holds_anything(restored: &Restored) -> bool {
    restored.state.is_some() || restored.log.last.index > Index::FIRST
}

/// Was `name` a member when this was written last? A node that was removed holds a state that others have gone on from, and no
/// place from which it could go on.
///
/// # Errors
/// When the members can not be read.
pub fn is_of_a_member(restored: &Restored, name: &NodeName) -> Result<bool, UnreadableMembership> {
    let Some(latest) = latest_configuration(restored) else {
        return Ok(false);
    };
    let members = Membership::decode(&latest.payload)?;
    Ok(members.everyone().any(|member| member.name == *name))
}

fn latest_configuration(restored: &Restored) -> Option<StoredConfiguration> {
    let in_log = restored.log.configurations.last().map(stored);
    in_log.or_else(|| restored.state.as_ref()?.companions.configurations.last().cloned())
}

/// Applies all that is durable in the log, and puts the whole state into the base; how many entries that were. Can be done
/// again after a crash in it.
///
/// # Errors
/// Of the disk; and when the directory does not hold anything ([`holds_anything`]).
pub fn fold_log_into_base<B: Base, D: Disk>(
    reader: &LogReader<D>,
    restored: Restored,
    files: &StateFiles<'_, B, D>,
) -> Result<u64, RecoveryError> {
    if !holds_anything(&restored) {
        return Err(RecoveryError::Nothing);
    }
    let latest: Vec<StoredConfiguration> = latest_configuration(&restored).into_iter().collect();
    let base = restored.log.base.index;
    let last = match mutant("recovery_leaves_the_uncommitted_out") {
        true => restored.log.hard_state.commit.min(restored.log.last.index),
        false => restored.log.last.index,
    };
    let mut store = match restored.state {
        None => Store::new(base.next(), files.store),
        Some(state) => Store::over_base(&state.companions, state.tables, files.store),
    };
    let from = store.applied().unwrap_or(base);
    let mut next = from.next();
    while next <= last {
        let entries = reader.read(next, last, READ_BYTES)?;
        for entry in &entries {
            apply(&mut store, entry, files.base)?;
            if let Some(events) = store.take_events() {
                files.history.push(events);
            }
            if store.overlay_bytes().1 >= files.store.freeze_bytes() {
                drain_now(&mut store, files, latest.clone())?;
            }
            next = entry.id.index.next();
        }
    }
    drain_now(&mut store, files, latest)?;
    Ok(last.get().saturating_sub(from.get()))
}

fn apply<B: Base>(store: &mut Store, entry: &Entry, base: &B) -> Result<(), StoreError> {
    while store.apply(entry) == Applied::Waits {
        let missing = store.missing(std::iter::once(entry));
        let through = missing.through.unwrap_or(entry.id.index);
        let keys: Vec<_> = missing.keys.into_iter().collect();
        let found = BaseRecords::read(&base.view()?, &keys, missing.ranges)?;
        store.gathered(through, found);
    }
    Ok(())
}

fn drain_now<B: Base, D: Disk>(
    store: &mut Store,
    files: &StateFiles<'_, B, D>,
    configurations: Vec<StoredConfiguration>,
) -> Result<(), StoreError> {
    let frozen = store.freeze(configurations, None);
    files.history.seal(frozen.number())?;
    let images = files.history.image_writer(frozen.number(), None)?;
    drain(&frozen, files.base, images, &mut |_| {})?;
    store.drained_up_to(frozen.number());
    drop(store.release());
    Ok(())
}

/// Gives a directory whose base holds everything a new identity, a new log, and a base that belongs to them. Can be done again
/// after a crash in it.
///
/// # Errors
/// When the base is no member's, and of the disk.
pub fn begin_anew<B: Base, D: Disk>(
    (disk, log): (&D, LogConfig),
    (base, history): (&B, &History<D>),
    name: &NodeName,
    successor: Successor,
) -> Result<BegunAnew, RecoveryError> {
    let mut companions = companions_in(&base.view()?)?.ok_or(RecoveryError::Nothing)?;
    let latest = companions.configurations.last().ok_or(RecoveryError::Nothing)?;
    let latest = Membership::decode(&latest.payload)?;
    let membership = if latest.cluster == successor.cluster {
        latest
    } else {
        let membership = alone(&latest, name, successor).ok_or(RecoveryError::Nothing)?;
        leap(&mut companions, history)?;
        membership
    };
    log::discard(disk)?;
    identity::replace(disk, name, membership.members[0].identity)?;
    let begins_behind = match mutant("recovery_counts_from_one_again") {
        true => place(1, 2),
        false => companions.applied,
    };
    make_log((disk, log), &membership, begins_behind)?;
    let founding = StoredConfiguration {
        id: place(1, 1),
        payload: membership.encode(),
    };
    let (revision, names_from) = (companions.revision, companions.names_from);
    let companions = Companions {
        applied: begins_behind,
        configurations: vec![founding.clone()],
        founding: Some(founding),
        ..companions
    };
    rewrite_companions(base, &companions)?;
    Ok(BegunAnew {
        membership,
        revision,
        base: begins_behind,
        names_from,
    })
}

/// History first: the base's ingest says that this generation is there.
fn leap<D: Disk>(companions: &mut Companions, history: &History<D>) -> Result<(), StoreError> {
    if mutant("recovery_gives_names_again") {
        return Ok(());
    }
    companions.generation = companions.generation.next();
    companions.revision = Revision(companions.revision.0.saturating_add(LEAP));
    companions.names_from = companions.names_from.saturating_add(LEAP);
    history.leap(companions.generation, companions.revision)
}

/// The new cluster: this node alone. Nobody of the old one, this node's former identity included, can come back.
fn alone(old: &Membership, name: &NodeName, successor: Successor) -> Option<Membership> {
    let member = old.everyone().find(|member| member.name == *name)?;
    if mutant("recovery_keeps_the_old_cluster") {
        return Some(Membership::of(old.cluster, vec![member.clone()]));
    }
    let itself = Member {
        identity: successor.identity,
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
        ..Membership::of(successor.cluster, vec![itself])
    })
}

/// A log that holds its configuration alone, behind the last entry of the old one.
fn make_log<D: Disk>(
    (disk, config): (&D, LogConfig),
    membership: &Membership,
    base: EntryId,
) -> Result<(), RecoveryError> {
    let owner = LogOwner {
        cluster: membership.cluster,
        node: membership.members[0].identity,
    };
    let founding = configuration_at(place(1, 1), membership);
    let first = EntryId {
        term: base.term.next(),
        index: base.index.next(),
    };
    let committed = |commit: EntryId| HardState {
        term: commit.term,
        vote: None,
        commit: commit.index,
    };
    let mut log = Log::create(disk.clone(), config, owner, &founding, committed(founding.id))?;
    log.begin_anew(base, committed(base))?;
    let write = Write {
        number: WriteNumber::default(),
        hard_state: committed(first),
        truncate_from: None,
        entries: vec![configuration_at(first, membership)],
    };
    log.append(&[write])?;
    log.sync()?;
    log.mark()?;
    Ok(())
}

/// The configuration entry that makes these the members.
#[must_use]
pub fn configuration_at(id: EntryId, membership: &Membership) -> Entry {
    Entry {
        id,
        kind: EntryKind::Configuration,
        stamp: Stamp::default(),
        payload: membership.encode(),
        configuration: Some(membership.configuration().into()),
    }
}

fn place(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index::new(index).expect("counted from 1"),
    }
}

fn stored(entry: &Entry) -> StoredConfiguration {
    StoredConfiguration {
        id: entry.id,
        payload: entry.payload.clone(),
    }
}

#[cfg(all(test, feature = "simulation"))]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_list_for_the_simulator_is_complete() {
        let code = include_str!("recovery.rs")
            .split("mod tests {")
            .next()
            .unwrap_or_default();
        let calls = code.split("mutant(\"").skip(1);
        let used: BTreeSet<_> = calls.filter_map(|rest| rest.split('"').next()).collect();
        let listed: BTreeSet<_> = super::MUTANTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(used, listed);
    }
}
