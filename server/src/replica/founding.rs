//! Entry 1: made by one node alone, the same on all.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::{Address, Admission, ClusterId, Founding, Introduction, Member, NodeId, NodeName};
use raftkv_raft::{self as raft, Entry, EntryId, EntryKind, HardState, Index, Stamp, Term};
use thiserror::Error;

use super::{Restored, RestoredLog};
use crate::membership::{Membership, UnreadableMembership};
use crate::store::StoreNumber;

/// Why a [`Founding`] is not for this node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum FoundingRefused {
    #[error("it is meant for node {meant}")]
    AnotherNode { meant: NodeId },
    #[error(transparent)]
    Unreadable(#[from] UnreadableMembership),
    #[error("it speaks of cluster {told} and carries the configuration of cluster {configured}")]
    TwoClusters { told: ClusterId, configured: ClusterId },
    #[error("its configuration does not name this node's identity")]
    NotNamed,
    #[error("its members are not those this node was told to form a cluster with")]
    OtherMembers,
    #[error("not all its members vote, each under an identity of its own")]
    NotAllVote,
    #[error("its founding entry is not of cluster {told}")]
    FoundedElsewhere { told: ClusterId },
}

/// The first entry of a cluster's log, with what it says.
#[derive(Clone, Debug)]
pub(super) struct Founded {
    /// What it says; for a node that joined later, the configuration that admitted it.
    pub(super) membership: Membership,
    pub(super) entry: Entry,
}

impl Founded {
    /// A new cluster of these voters.
    pub(super) fn new(cluster: ClusterId, mut members: Vec<Member>) -> Founded {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let membership = Membership::of(cluster, members);
        let payload = membership.encode();
        Founded::of(membership, payload)
    }

    /// Checks what a formed node sent: it must name this node, and be the cluster this node was told to form.
    pub(super) fn accept(founding: &Founding, ours: &Introduction) -> Result<Founded, FoundingRefused> {
        if founding.to != ours.identity {
            return Err(FoundingRefused::AnotherNode { meant: founding.to });
        }
        let membership = Membership::decode(&founding.configuration)?;
        if membership.cluster != founding.cluster {
            return Err(FoundingRefused::TwoClusters {
                told: founding.cluster,
                configured: membership.cluster,
            });
        }
        match membership.member(raft::NodeId(ours.identity.0)) {
            Some(member) if member.name == ours.name && member.address == ours.address => {}
            Some(_) | None => return Err(FoundingRefused::NotNamed),
        }
        if listed(&membership.members) != ours.peers {
            return Err(FoundingRefused::OtherMembers);
        }
        if membership.configuration().voters.len() != membership.members.len() {
            return Err(FoundingRefused::NotAllVote);
        }
        // The very bytes of the founder: entry 1 is the same on every node.
        let payload = Bytes::copy_from_slice(&founding.configuration);
        Ok(Founded::of(membership, payload))
    }

    /// Checks what a formed node sent to a node that joins a running cluster: a configuration names it, and the founding
    /// entry is that cluster's.
    pub(super) fn admit(admission: &Admission, ours: &Introduction) -> Result<Founded, FoundingRefused> {
        if admission.to != ours.identity {
            return Err(FoundingRefused::AnotherNode { meant: admission.to });
        }
        let membership = Membership::decode(&admission.configuration)?;
        let founding = Membership::decode(&admission.founding)?;
        if membership.cluster != admission.cluster {
            return Err(FoundingRefused::TwoClusters {
                told: admission.cluster,
                configured: membership.cluster,
            });
        }
        if founding.cluster != membership.cluster {
            return Err(FoundingRefused::FoundedElsewhere {
                told: admission.cluster,
            });
        }
        match membership.member(raft::NodeId(ours.identity.0)) {
            Some(member) if member.name == ours.name && member.address == ours.address => {}
            Some(_) | None => return Err(FoundingRefused::NotNamed),
        }
        let payload = Bytes::copy_from_slice(&admission.founding);
        let Founded { entry, .. } = Founded::of(founding, payload);
        Ok(Founded { membership, entry })
    }

    fn of(membership: Membership, payload: Bytes) -> Founded {
        let entry = Entry {
            id: EntryId {
                term: Term(1),
                index: Index::FIRST,
            },
            kind: EntryKind::Configuration,
            stamp: Stamp::default(),
            payload,
            configuration: Some(Arc::new(membership.configuration())),
        };
        Founded { membership, entry }
    }

    /// The hard state a log begins with: nobody was voted for in term 1, which has no leader.
    pub(super) fn hard_state(&self) -> HardState {
        HardState {
            term: self.entry.id.term,
            vote: None,
            commit: self.entry.id.index,
        }
    }

    /// What recovery would find of a log that holds this entry alone.
    pub(super) fn restored(&self) -> Restored {
        let log = RestoredLog {
            hard_state: self.hard_state(),
            base: self.entry.id,
            term_runs: Vec::new(),
            last: self.entry.id,
            configurations: vec![self.entry.clone()],
        };
        Restored {
            log,
            store: StoreNumber::FIRST,
            state: None,
            quarantine: None,
        }
    }
}

/// Names and addresses, sorted by name.
pub(super) fn listed(members: &[Member]) -> Vec<(NodeName, Address)> {
    let mut listed: Vec<_> = members
        .iter()
        .map(|member| (member.name.clone(), member.address.clone()))
        .collect();
    listed.sort();
    listed
}
