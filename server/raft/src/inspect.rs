//! What only the simulator's observer may see: the leader's knowledge of its peers, and the election timer.

use crate::role::Role;
use crate::{Index, NodeId, Raft, Time};

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Who.
    pub peer: NodeId,
    /// Proven to match.
    pub matched: Option<Index>,
    /// Sent next.
    pub next: Index,
}

impl Raft {
    /// What this leader knows of its peers; nothing on any other role.
    pub fn peer_progress(&self) -> impl Iterator<Item = PeerProgress> {
        let peers = match &self.role {
            Role::Leader(leader) => Some(leader.peer_progress()),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        peers.into_iter().flatten()
    }

    /// When this node campaigns, if it does not lead and nothing restarts its timer (R6).
    #[must_use]
    pub fn election_deadline(&self) -> Time {
        self.shared.election_deadline
    }
}
