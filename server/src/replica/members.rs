//! The configurations in this node's log: who the members are, with names and addresses.

use bytes::Bytes;
use raftkv_protocol::{Address, LeaderHint, Member};
use raftkv_raft::{self as raft, Entry, EntryKind, Index};

use super::Restored;
use crate::membership::{Membership, UnreadableMembership};
use crate::store::{Companions, StoredConfiguration};

/// Every membership in the log, the latest of which is effective: on append, not on commit (thesis 4.1, R56).
#[derive(Debug)]
pub(super) struct Members {
    /// Ascending by index; never empty.
    known: Vec<Known>,
    /// Entry 1, as long as this node knows it.
    founding: Option<StoredConfiguration>,
}

#[derive(Debug)]
struct Known {
    entry: StoredConfiguration,
    membership: Membership,
}

impl Known {
    fn of(entry: StoredConfiguration) -> Result<Known, UnreadableMembership> {
        let membership = Membership::decode(&entry.payload)?;
        Ok(Known { entry, membership })
    }
}

/// A copy of a configuration entry: one that was read back may be a slice of a much larger block.
fn stored(entry: &Entry) -> StoredConfiguration {
    StoredConfiguration {
        id: entry.id,
        payload: Bytes::copy_from_slice(&entry.payload),
    }
}

impl Members {
    /// From the configuration entries of the log, and those that the base holds of entries before it.
    pub(super) fn of(restored: &Restored) -> Result<Members, raft::RestoreError> {
        let companions = restored.state.as_ref().map(|state| &state.companions);
        let from_base = companions
            .iter()
            .flat_map(|companions| companions.configurations.clone());
        let from_log = restored.log.configurations.iter().map(stored);
        let mut entries: Vec<_> = from_base.chain(from_log).collect();
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id.index);
        let founding = companions.and_then(|companions| companions.founding.clone());
        let founding = founding.or_else(|| {
            let first = entries.first().filter(|first| first.id.index == Index::FIRST);
            first.cloned()
        });
        let known = entries.into_iter().map(Known::of).collect::<Result<Vec<_>, _>>();
        let known = known.map_err(|error| contradiction(error.to_string()))?;
        if known.is_empty() {
            return Err(contradiction("the log holds no configuration entry".to_owned()));
        }
        Ok(Members { known, founding })
    }

    /// As a received snapshot tells them.
    pub(super) fn received(companions: &Companions) -> Result<Members, UnreadableMembership> {
        let entries = companions.configurations.iter().cloned();
        let known = entries.map(Known::of).collect::<Result<Vec<_>, _>>()?;
        let members = Members {
            known,
            founding: companions.founding.clone(),
        };
        match members.known.is_empty() {
            true => Err(UnreadableMembership::missing()),
            false => Ok(members),
        }
    }

    /// Index and configuration of all of them, ascending.
    pub(super) fn configurations(&self) -> Vec<(Index, raft::Configuration)> {
        let pair = |known: &Known| (known.entry.id.index, known.membership.configuration());
        self.known.iter().map(pair).collect()
    }

    /// Entry 1's bytes, if this node knows them.
    pub(super) fn founding_payload(&self) -> Option<Bytes> {
        self.founding.as_ref().map(|founding| founding.payload.clone())
    }

    /// What goes into the base with a state that holds everything up to `applied`, while the log begins behind `base`.
    pub(super) fn to_store(
        &self,
        applied: Index,
        base: Index,
    ) -> (Vec<StoredConfiguration>, Option<StoredConfiguration>) {
        let up_to = |index: Index| self.known.partition_point(|known| known.entry.id.index <= index);
        let first = up_to(base).saturating_sub(1);
        let kept = &self.known[first..up_to(applied).max(first)];
        let configurations = kept.iter().map(|known| known.entry.clone()).collect();
        (configurations, self.founding.clone())
    }

    /// The log begins behind `base` now: of what was before, only the configuration in effect there is needed.
    pub(super) fn forget_before(&mut self, base: Index) {
        let up_to = self.known.partition_point(|known| known.entry.id.index <= base);
        self.known.drain(..up_to.saturating_sub(1));
    }

    /// The effective one.
    pub(super) fn current(&self) -> &Membership {
        let known = self
            .known
            .last()
            .expect("the configuration in effect is never cut");
        &known.membership
    }

    /// The one in effect as of `index`, or the oldest one known.
    pub(super) fn as_of(&self, index: Index) -> &Membership {
        self.latest_as_of(index).1
    }

    /// The same with the index of its entry.
    pub(super) fn latest_as_of(&self, index: Index) -> (Index, &Membership) {
        let up_to = self.known.partition_point(|known| known.entry.id.index <= index);
        let known = &self.known[up_to.saturating_sub(1)];
        (known.entry.id.index, &known.membership)
    }

    /// Does any configuration that is known name this node?
    pub(super) fn ever_named(&self, id: raft::NodeId) -> bool {
        let mut memberships = self.known.iter().map(|known| &known.membership);
        memberships.any(|membership| membership.member(id).is_some())
    }

    /// The entry of the effective one, encoded.
    pub(super) fn current_payload(&self) -> &Bytes {
        let known = self
            .known
            .last()
            .expect("the configuration in effect is never cut");
        &known.entry.payload
    }

    /// The log was changed: what was cut is forgotten, what was appended is learnt.
    pub(super) fn follow(&mut self, write: &raft::Write) {
        if let Some(from) = write.truncate_from {
            self.known.retain(|known| known.entry.id.index < from);
        }
        for entry in &write.entries {
            if entry.kind == EntryKind::Configuration {
                let known = Known::of(stored(entry));
                self.known
                    .push(known.expect("configurations are decoded before they reach the core"));
            }
        }
    }

    pub(super) fn address(&self, id: raft::NodeId) -> Option<&Address> {
        self.current().member(id).map(|member| &member.address)
    }

    /// More than one while a member is replaced by a node at its address.
    pub(super) fn at_address(&self, address: &Address) -> impl Iterator<Item = &Member> {
        self.current()
            .everyone()
            .filter(|member| member.address == *address)
    }

    pub(super) fn hint(&self, leader: Option<raft::NodeId>) -> Option<LeaderHint> {
        let member = self.current().member(leader?)?;
        Some(LeaderHint {
            name: member.name.clone(),
            address: member.address.clone(),
            http: member.http.clone(),
        })
    }
}

pub(super) fn contradiction(what: String) -> raft::RestoreError {
    raft::RestoreError::Contradiction { what }
}
