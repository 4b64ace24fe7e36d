//! Transfer of leadership to a node that the caller names (thesis 3.10).

use thiserror::Error;

use crate::raft::Raft;
use crate::role::Role;
use crate::{NodeId, Time};

/// A transfer that was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// The target leads already.
    #[error("{target} leads already")]
    LeadsAlready {
        /// This node.
        target: NodeId,
    },
    /// The target does not vote, is about to vote no more, or is not in the group at all (R66).
    #[error("{target} is not a voter")]
    NotAVoter {
        /// Who was asked for.
        target: NodeId,
    },
    /// A transfer to another node is under way.
    #[error("a transfer to {target} is under way")]
    UnderWay {
        /// To whom.
        target: NodeId,
    },
}

impl Raft {
    /// Hands leadership to `target`: proposals are refused from now on, `target` is brought level, and then told to campaign
    /// at once, which no voter's stickiness hinders (R66). Asked again for the same target it changes nothing.
    ///
    /// It ends with [`Transition::SteppedDown`](crate::Transition::SteppedDown), or, when the target has not taken over
    /// within an election time-out, with [`Transition::TransferAborted`](crate::Transition::TransferAborted): proposals are
    /// accepted again (R67).
    ///
    /// # Errors
    /// When this node does not lead, or `target` can not.
    pub fn transfer(&mut self, now: Time, target: NodeId) -> Result<(), TransferError> {
        let leader = self.leader();
        match &mut self.role {
            Role::Leader(leader) => leader.transfer(&mut self.shared, now, target),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(TransferError::NotLeader { leader })
            }
        }
    }

    /// To whom this leader is handing over.
    #[must_use]
    pub fn transfer_target(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.transfer_target(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// The voter that could take over soonest: alive, in steady replication, and furthest along. `None` when there is none,
    /// or this node does not lead.
    #[must_use]
    pub fn best_successor(&self, now: Time) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.best_successor(&self.shared, now),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }
}
