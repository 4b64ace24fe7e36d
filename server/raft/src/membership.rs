//! Who is in the group: voters, learners, and the two halves of a joint configuration (thesis 4.3).

use std::collections::BTreeSet;

use crate::NodeId;

/// One configuration. Quorums are computed in `quorum/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Who votes. Never empty.
    pub voters: BTreeSet<NodeId>,
    /// The outgoing half while a change is under way: its majority must agree too.
    pub outgoing: Option<BTreeSet<NodeId>>,
    /// Who receives the log and does not vote. Disjoint from `voters`.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A plain configuration of voters only.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration {
            voters: voters.into_iter().collect(),
            outgoing: None,
            learners: BTreeSet::new(),
        }
    }
}
