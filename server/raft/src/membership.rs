//! Who is in the group: voters, learners, and the two halves of a joint configuration (thesis 4.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::simulation::{mark, mutant};
use crate::{Index, NodeId};

/// One configuration. Quorums are computed in `quorum/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Who votes. Never empty.
    pub voters: BTreeSet<NodeId>,
    /// The outgoing half while a change is under way: its majority must agree too.
    pub outgoing: Option<BTreeSet<NodeId>>,
    /// Who receives the log and does not vote. Disjoint from `voters`; a voter of the outgoing half that is to be a learner
    /// stands here already, and goes on voting in that half until it is left (R58).
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

    /// Does `node` vote, in either half?
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.as_ref().is_some_and(|half| half.contains(&node))
    }

    /// Does `node` receive the log, as voter or learner?
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Everyone who receives the log, in ascending order, once each.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut members = self.voters.clone();
        members.extend(self.outgoing.iter().flatten());
        members.extend(&self.learners);
        members
    }

    /// The entry that starts a change to `voters` and `learners`: a joint configuration, or, when the voters stay the same and
    /// no quorum changes, the new one at once.
    #[must_use]
    pub fn towards(&self, voters: BTreeSet<NodeId>, learners: BTreeSet<NodeId>) -> Configuration {
        Configuration {
            outgoing: (voters != self.voters).then(|| self.voters.clone()),
            voters,
            learners,
        }
    }

    /// What is left of a joint configuration once its outgoing half is done with; a plain one as it is.
    #[must_use]
    pub fn without_outgoing(&self) -> Configuration {
        Configuration {
            voters: self.voters.clone(),
            outgoing: None,
            learners: self.learners.clone(),
        }
    }

    /// What keeps this configuration from deciding anything, if something does: an empty half, or a node that is voter
    /// and learner in one half (R58, R64).
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        if self.voters.is_empty() {
            return Some("it has no voters");
        }
        if self.outgoing.as_ref().is_some_and(BTreeSet::is_empty) {
            return Some("its outgoing half has no voters");
        }
        if !self.voters.is_disjoint(&self.learners) {
            return Some("a node is voter and learner in it");
        }
        None
    }
}

/// All configurations of the log: the one as of its base, and every later one with the index of its entry.
///
/// A configuration takes effect when it is appended, committed or not, and truncation rolls it back (R56): both fall out
/// of keeping them beside the log, in its order.
#[derive(Debug)]
pub(crate) struct Configurations {
    base: (Index, Arc<Configuration>),
    /// Since when the members as of the base are members, where that is known to be earlier than the base.
    base_since: BTreeMap<NodeId, Index>,
    later: Vec<(Index, Arc<Configuration>)>,
}

impl Configurations {
    pub(crate) fn new(
        base: Index,
        configuration: Configuration,
        later: Vec<(Index, Configuration)>,
    ) -> Configurations {
        Configurations {
            base: (base, Arc::new(configuration)),
            base_since: BTreeMap::new(),
            later: later
                .into_iter()
                .map(|(index, configuration)| (index, Arc::new(configuration)))
                .collect(),
        }
    }

    /// The one in effect.
    pub(crate) fn latest(&self) -> &Arc<Configuration> {
        &self.later.last().unwrap_or(&self.base).1
    }

    /// The index of the one in effect (the base's, when it is older).
    pub(crate) fn latest_index(&self) -> Index {
        self.later.last().unwrap_or(&self.base).0
    }

    /// The last one at or below `commit`.
    pub(crate) fn committed(&self, commit: Index) -> &Arc<Configuration> {
        let after = self.later.partition_point(|(index, _)| *index <= commit);
        match after.checked_sub(1) {
            Some(place) => &self.later[place].1,
            None => &self.base.1,
        }
    }

    /// The index of the configuration since which `node` is a member without a gap: its present stay (R22).
    pub(crate) fn member_since(&self, node: NodeId) -> Index {
        let mut since = self.base_since.get(&node).copied().unwrap_or(self.base.0);
        let mut was_member = self.base.1.is_member(node);
        for (index, configuration) in &self.later {
            let is_member = configuration.is_member(node);
            if is_member && !was_member {
                since = *index;
            }
            was_member = is_member;
        }
        since
    }

    pub(crate) fn append(&mut self, index: Index, configuration: Arc<Configuration>) {
        assert!(
            self.later.last().unwrap_or(&self.base).0 < index,
            "configurations are appended in the log's order: {index} after {:?}",
            self.later.last()
        );
        self.later.push((index, configuration));
    }

    /// The log starts after `base` now; the configuration as of there stays, and everyone's stay with it (R22).
    pub(crate) fn compact(&mut self, base: Index) {
        let configuration = self.committed(base).clone();
        let up_to_base = self.later.partition_point(|(index, _)| *index <= base);
        let later = self.later.split_off(up_to_base);
        let since = configuration
            .members()
            .into_iter()
            .map(|member| (member, self.member_since(member)));
        self.base_since = since.collect();
        self.base = (base, configuration);
        self.later = later;
    }

    /// A snapshot up to `base` took the log's place: its configuration is the only one (R51). One that stood in the old log,
    /// committed nowhere, must not outlive it, whatever its index.
    pub(crate) fn reset(&mut self, base: Index, configuration: Configuration) {
        if !self.later.is_empty() {
            mark("configuration entries gave way to a snapshot");
        }
        if mutant("X18_phantom_configuration_kept_over_a_snapshot") {
            self.base = (Index::FIRST, Arc::new(configuration));
            return;
        }
        *self = Configurations::new(base, configuration, Vec::new());
    }

    /// The log lost everything from `from` on: back to the configuration before it (R56).
    pub(crate) fn truncate(&mut self, from: Index) {
        let keep = self.later.partition_point(|(index, _)| *index < from);
        if keep == self.later.len() {
            return;
        }
        mark("truncated a configuration entry");
        if mutant("X14_configuration_kept_over_truncation") {
            return;
        }
        self.later.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number).unwrap()
    }

    fn voters(ids: &[u64]) -> Configuration {
        Configuration::of_voters(ids.iter().copied().map(NodeId))
    }

    #[test]
    fn r56_truncation_rolls_back_to_the_configuration_before() {
        let mut all = Configurations::new(index(1), voters(&[1, 2, 3]), Vec::new());
        all.append(index(5), Arc::new(voters(&[1, 2])));
        all.append(index(8), Arc::new(voters(&[1])));
        all.truncate(index(8));
        assert_eq!(**all.latest(), voters(&[1, 2]));
        all.truncate(index(6));
        assert_eq!(**all.latest(), voters(&[1, 2]));
        all.truncate(index(2));
        assert_eq!(**all.latest(), voters(&[1, 2, 3]));
    }

    #[test]
    fn committed_is_the_last_one_at_or_below_commit() {
        let all = Configurations::new(index(1), voters(&[1]), vec![(index(5), voters(&[1, 2]))]);
        assert_eq!(**all.committed(index(4)), voters(&[1]));
        assert_eq!(**all.committed(index(5)), voters(&[1, 2]));
    }

    #[test]
    fn r22_a_second_stay_starts_at_the_configuration_that_admitted_the_node_again() {
        let all = Configurations::new(
            index(1),
            voters(&[1, 2]),
            vec![(index(4), voters(&[1])), (index(7), voters(&[1, 2]))],
        );
        assert_eq!(all.member_since(NodeId(1)), index(1));
        assert_eq!(all.member_since(NodeId(2)), index(7));
    }
}
