//! The configurations in this node's log: who the members are, with names and addresses.

use raftkv_protocol::{Address, LeaderHint, Member};
use raftkv_raft::{self as raft, Entry, EntryKind, Index};

use crate::membership::{Membership, UnreadableMembership};

/// Every membership in the log, the latest of which is effective: on append, not on commit (thesis 4.1, R56).
#[derive(Debug)]
pub(super) struct Members {
    /// Ascending by index; never empty.
    known: Vec<(Index, Membership)>,
}

impl Members {
    /// From the configuration entries of the log.
    pub(super) fn of(configurations: &[Entry]) -> Result<Members, raft::RestoreError> {
        let known = configurations
            .iter()
            .map(|entry| Ok((entry.id.index, Membership::decode(&entry.payload)?)))
            .collect::<Result<Vec<_>, UnreadableMembership>>()
            .map_err(|error| contradiction(error.to_string()))?;
        if known.is_empty() {
            return Err(contradiction("the log holds no configuration entry".to_owned()));
        }
        Ok(Members { known })
    }

    /// The effective one.
    pub(super) fn current(&self) -> &Membership {
        let (_, membership) = self.known.last().expect("the founding membership is never cut");
        membership
    }

    /// The log was changed: what was cut is forgotten, what was appended is learnt.
    pub(super) fn follow(&mut self, write: &raft::Write) {
        if let Some(from) = write.truncate_from {
            self.known.retain(|(index, _)| *index < from);
        }
        for entry in &write.entries {
            if entry.kind == EntryKind::Configuration {
                let membership = Membership::decode(&entry.payload)
                    .expect("configurations are decoded before they reach the core");
                self.known.push((entry.id.index, membership));
            }
        }
    }

    pub(super) fn address(&self, id: raft::NodeId) -> Option<&Address> {
        self.current().member(id).map(|member| &member.address)
    }

    pub(super) fn at_address(&self, address: &Address) -> Option<&Member> {
        self.current()
            .members
            .iter()
            .find(|member| member.address == *address)
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
