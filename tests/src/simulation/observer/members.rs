//! Who is a member: one change at a time, each quorum meets the next one's (I24); who was removed never leads again (I25).

use std::sync::Arc;

use raftkv_raft::{Configuration, NodeId};

use super::Observer;

/// A configuration that stands in a log.
type Standing = (u64, Arc<Configuration>);

impl Observer {
    /// Every configuration that votes may be counted by now: the latest decided one, and what may yet be decided after it.
    /// Empty as long as no cluster was formed.
    pub(crate) fn configurations_in_force(&self) -> Vec<Arc<Configuration>> {
        let mut in_force: Vec<_> = self.decided_configuration().cloned().into_iter().collect();
        let present = self.current.iter().filter_map(|&view| self.views.get(view));
        for (index, configuration) in present.flat_map(|view| &view.configurations) {
            if *index > self.decided.len() as u64 && !in_force.contains(configuration) {
                in_force.push(Arc::clone(configuration));
            }
        }
        in_force
    }

    /// The latest one that was decided.
    pub(crate) fn decided_configuration(&self) -> Option<&Arc<Configuration>> {
        self.decided_configurations
            .last()
            .map(|(_, configuration)| configuration)
    }

    /// The slot of the machine that drew an identity.
    pub(crate) fn slot_of(&self, identity: NodeId) -> Option<usize> {
        let view = *self.by_identity.get(&identity.0)?;
        Some(self.views[view].slot)
    }

    /// Was it a member, and is none any more?
    pub(crate) fn was_removed(&self, identity: NodeId) -> bool {
        was_removed(&self.decided_configurations, identity)
    }

    /// What a node that was just elected has to be: no decided configuration of an earlier term may have removed it.
    pub(super) fn check_right_to_lead(&mut self, view: usize, term: u64) {
        let identity = NodeId(self.views[view].identity);
        let decided = self.decided_in.partition_point(|decided_in| *decided_in < term) as u64;
        let known = self
            .decided_configurations
            .partition_point(|(index, _)| *index <= decided);
        if was_removed(&self.decided_configurations[..known], identity) {
            let what = format!("was elected in term {term}, after it had been removed");
            self.violate_at("I25", view, what);
        }
        // As long as its removal is not decided, the others may need it still (thesis 4.2.2).
        let node = &self.views[view];
        let committed = node
            .configurations
            .partition_point(|(index, _)| *index <= node.commit);
        let mut counting = node.configurations[committed.saturating_sub(1)..].iter();
        if !counting.any(|(_, configuration)| configuration.is_voter(identity)) {
            let what = format!("was elected in term {term}, though no configuration lets it vote");
            self.violate_at("I25", view, what);
        }
    }

    /// Each configuration in a log follows a decided one, by a step after which no two majorities are strangers, and comes
    /// from a leader that had decided something in its own term (thesis 4.1, and the erratum to it).
    pub(super) fn check_changes(&mut self, view: usize) {
        let node = &self.views[view];
        let latest = node.configurations.last().map(|(index, _)| *index);
        if node.checked_change == latest {
            return;
        }
        let pairs = node.configurations.windows(2);
        let wrong = pairs.filter_map(|pair| self.wrong_change(view, &pair[0], &pair[1]));
        let wrong: Vec<String> = wrong.collect();
        self.views[view].checked_change = latest;
        for what in wrong {
            self.violate_at("I24", view, what);
        }
    }

    fn wrong_change(&self, view: usize, before: &Standing, next: &Standing) -> Option<String> {
        let node = &self.views[view];
        let decided = self.decided.get(before.0 as usize - 1).copied();
        if decided.is_none() || decided != node.chain_at(before.0) {
            let (before, next) = (before.0, next.0);
            return Some(format!(
                "the configuration at {next} stands behind that at {before}, which is not decided"
            ));
        }
        if !is_step(&before.1, &next.1) {
            return Some(format!("{:?} is no step from {:?}", next.1, before.1));
        }
        let term = node.log.get(next.0 as usize - 1)?.term;
        let first = self.decided_terms.partition_point(|decided| *decided < term);
        let is_ready = first + 1 < next.0 as usize && self.decided_terms.get(first) == Some(&term);
        (!is_ready).then(|| {
            format!(
                "the configuration at {} came before anything of its term {term} was decided",
                next.0
            )
        })
    }
}

fn was_removed(decided: &[Standing], identity: NodeId) -> bool {
    let is_member = |(_, configuration): &Standing| configuration.is_member(identity);
    decided.last().is_some_and(|latest| !is_member(latest)) && decided.iter().any(is_member)
}

/// Does every majority of one meet every majority of the other?
fn is_step(before: &Configuration, next: &Configuration) -> bool {
    match (&before.outgoing, &next.outgoing) {
        (None, None) => before.voters == next.voters,
        (None, Some(outgoing)) => before.voters == *outgoing,
        (Some(_), None) => before.voters == next.voters,
        (Some(_), Some(_)) => before == next,
    }
}
