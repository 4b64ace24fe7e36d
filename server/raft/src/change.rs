//! Changes of who is in the group, by joint consensus (thesis 4.3): what a caller asks for, and why it may be refused.
//!
//! ```text
//!   {1,2,3}  --propose-->  {2,3,4} and {1,2,3}  --committed, leave_joint-->  {2,3,4}
//! ```
//! A change of voters takes two entries: the joint one, and, once that is committed, the one that leaves it (R59). Any
//! leader that finds a committed joint configuration asks its caller for the second ([`Ready::leave_joint`]), because only
//! the caller can encode an entry's payload. A change of learners alone takes one entry: no quorum changes with it.
//!
//! [`Ready::leave_joint`]: crate::Ready::leave_joint

use bytes::Bytes;
use thiserror::Error;

use crate::raft::Raft;
use crate::role::Role;
use crate::{Configuration, EntryId, Index, NodeId, Stamp, Time};

/// A configuration that asks for a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationChange {
    /// What the entry holds: [`Configuration::towards`] or [`Configuration::without_outgoing`] of the latest configuration.
    pub configuration: Configuration,
    /// Log time.
    pub stamp: Stamp,
    /// The same in the caller's encoding.
    pub payload: Bytes,
    /// What is checked beside safety.
    pub checks: ChangeChecks,
}

/// Which refusals an operator may override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeChecks {
    /// New voters must have caught up (R60), and a majority of the voters asked for must be alive (R64). Not asked on the way
    /// out of a joint configuration.
    All,
    /// Only what safety needs: the operator knows better.
    SafetyAlone,
    /// The configuration stays as it is; only what the caller's payload tells beside it changes, such as addresses.
    SameMembers,
}

/// A change that was not accepted: nothing of it is in any log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// The leader has not committed an entry of its term yet (R57): two leaders could each decide a change alone.
    #[error("this leader has not committed an entry of its term yet; retry soon")]
    NotCommittedInTerm,
    /// A change is under way: its entry is not committed, or its joint configuration not left (R57).
    #[error("another change is under way since index {since}")]
    UnderWay {
        /// The entry of its configuration.
        since: Index,
    },
    /// Leadership is being transferred.
    #[error("leadership is being transferred to {target}")]
    TransferUnderWay {
        /// To whom.
        target: NodeId,
    },
    /// The configuration could not decide anything, or contradicts itself (R64).
    #[error("the configuration can not work: {what}")]
    Contradiction {
        /// Why.
        what: &'static str,
    },
    /// It does not follow from the latest configuration: it was made from an older one, or skips a step.
    #[error("the configuration does not follow from the latest one, which has changed meanwhile")]
    NotASuccessor,
    /// It is the latest configuration.
    #[error("the configuration is in effect already")]
    NoChange,
    /// A new voter is not a learner that has caught up (R60). Can be overridden.
    #[error("{node} is to vote and has not caught up with the log yet")]
    NotCaughtUp {
        /// Which.
        node: NodeId,
    },
    /// No majority of the voters asked for has answered lately (R64). Can be overridden.
    #[error("of the {voters} voters asked for, {alive} have answered lately: that is no majority")]
    QuorumNotAlive {
        /// How many there would be.
        voters: usize,
        /// How many of them live, this node included.
        alive: usize,
    },
}

impl Raft {
    /// Appends a configuration. It is in effect at once (thesis 4.1), and rolled back if its entry is truncated.
    ///
    /// The way to change voters or learners: take [`Raft::configuration`], ask it for the configuration
    /// [`towards`](Configuration::towards) what is wanted, encode that, propose it. A change of voters is complete when the
    /// configuration without its outgoing half, which [`Ready::leave_joint`](crate::Ready::leave_joint) asks for, is
    /// committed.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn propose_change(&mut self, now: Time, change: ConfigurationChange) -> Result<EntryId, ChangeError> {
        let leader = self.leader();
        match &mut self.role {
            Role::Leader(leader) => leader.change(&mut self.shared, now, change),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(ChangeError::NotLeader { leader })
            }
        }
    }
}
