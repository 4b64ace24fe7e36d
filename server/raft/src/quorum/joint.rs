//! One or two sets of voters: in a joint configuration each half must agree by itself (thesis 4.3).

use std::collections::BTreeSet;

use super::majority;
use crate::simulation::mutant;
use crate::{Configuration, NodeId};

/// The greatest value that a quorum has reached, in both halves when there are two.
pub(crate) fn reached<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(NodeId) -> Option<T>,
) -> Option<T> {
    let incoming = majority::reached(&configuration.voters, &value);
    let Some(outgoing) = &configuration.outgoing else {
        return incoming;
    };
    if mutant("X16_joint_quorum_of_the_union") {
        let union: BTreeSet<NodeId> = configuration.voters.union(outgoing).copied().collect();
        return majority::reached(&union, &value);
    }
    if mutant("X16_joint_quorum_of_the_new_half") {
        return incoming;
    }
    incoming.min(majority::reached(outgoing, &value))
}

/// Do the nodes that `agrees` names form a quorum?
pub(crate) fn has_quorum(configuration: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    reached(configuration, |node| agrees(node).then_some(())).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint(voters: &[u64], outgoing: &[u64]) -> Configuration {
        Configuration {
            outgoing: Some(outgoing.iter().copied().map(NodeId).collect()),
            ..Configuration::of_voters(voters.iter().copied().map(NodeId))
        }
    }

    #[test]
    fn r58_both_halves_must_agree() {
        let configuration = joint(&[1, 2, 3], &[3, 4, 5]);
        let agrees = |nodes: &[u64]| has_quorum(&configuration, |node| nodes.contains(&node.0));
        assert!(
            !agrees(&[1, 2, 3]),
            "a majority of the union, but one of three in the outgoing half"
        );
        assert!(!agrees(&[3, 4, 5]));
        assert!(agrees(&[2, 3, 4]));
        assert!(agrees(&[1, 2, 4, 5]));
    }

    #[test]
    fn r58_the_slower_half_decides_how_far() {
        let configuration = joint(&[1, 2, 3], &[4]);
        assert_eq!(reached(&configuration, |node| Some(10 - node.0)), Some(6));
    }

    #[test]
    fn r28_learners_and_strangers_do_not_count() {
        let mut configuration = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
        configuration.learners.insert(NodeId(4));
        assert!(!has_quorum(&configuration, |node| [1, 4, 9].contains(&node.0)));
    }
}
