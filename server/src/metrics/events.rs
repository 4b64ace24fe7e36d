//! What a node told its operator, counted.

use raftkv_raft::{NodeId, Transition};

use crate::replica::Notice;

/// How often each happened in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    /// Another node was followed than before, or this one began to lead.
    pub(crate) leader_changes: u64,
    /// This node was elected.
    pub(crate) elections_won: u64,
    /// It led, and leads no more.
    pub(crate) leaderships_lost: u64,
    /// A follower got a whole snapshot.
    pub(crate) snapshots_sent: u64,
    /// A snapshot took the place of this node's state.
    pub(crate) snapshots_received: u64,
    /// Two nodes were seen to have made different states of one log.
    pub(crate) differences: u64,
    /// A file of log or history was found damaged.
    pub(crate) damaged_files: u64,
    /// Met last.
    pub(super) leader: Option<NodeId>,
}

impl EventCounts {
    /// The node said this.
    pub(crate) fn count(&mut self, notice: &Notice, itself: NodeId) {
        match notice {
            Notice::Transition(Transition::Elected { .. }) => {
                self.elections_won += 1;
                self.follow(itself);
            }
            Notice::Transition(Transition::Follows {
                leader: Some(leader), ..
            }) => self.follow(*leader),
            Notice::Transition(Transition::SteppedDown { .. }) => self.leaderships_lost += 1,
            Notice::SnapshotDelivered { .. } => self.snapshots_sent += 1,
            Notice::SnapshotInstalled { .. } => self.snapshots_received += 1,
            Notice::StatesDiffer { .. } => self.differences += 1,
            Notice::ColdFileDamaged { .. } => self.damaged_files += 1,
            _ => {}
        }
    }

    fn follow(&mut self, leader: NodeId) {
        if self.leader.replace(leader) != Some(leader) {
            self.leader_changes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use raftkv_raft::{StepDown, Term};

    use super::*;

    #[test]
    fn a_leader_that_is_met_again_is_no_change() {
        let mut counts = EventCounts::default();
        let mut count = |transition| {
            counts.count(&Notice::Transition(transition), NodeId(1));
            (
                counts.leader_changes,
                counts.elections_won,
                counts.leaderships_lost,
            )
        };
        let follows = |term, leader: Option<u64>| Transition::Follows {
            term: Term(term),
            leader: leader.map(NodeId),
        };
        assert_eq!(count(follows(1, Some(2))), (1, 0, 0));
        assert_eq!(count(follows(1, None)), (1, 0, 0));
        assert_eq!(count(follows(2, Some(2))), (1, 0, 0));
        let elected = Transition::Elected {
            term: Term(3),
            noop: raftkv_raft::Index::FIRST,
        };
        assert_eq!(count(elected), (2, 1, 0));
        let lost = Transition::SteppedDown {
            term: Term(4),
            reason: StepDown::HigherTerm,
        };
        assert_eq!(count(lost), (2, 1, 1));
        assert_eq!(count(follows(4, Some(3))), (3, 1, 1));
    }
}
