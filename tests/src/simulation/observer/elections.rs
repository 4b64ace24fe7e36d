//! Terms, votes and leaders: I1, I2, I6, I8, I25.

use raftkv_raft::{Raft, RoleName};

use super::Observer;

impl Observer {
    /// A node says that it was elected.
    pub(super) fn elected(&mut self, view: usize, term: u64) {
        self.elections += 1;
        let first = *self.leaders.entry(term).or_insert(view);
        if first != view {
            let what = format!(
                "leads term {term}, which node{} led already",
                self.views[first].slot + 1
            );
            self.violate_at("I1", view, what);
        }
        self.check_right_to_lead(view, term);
        // A leader that was elected late, in a term that is over, owes nothing to the later ones (paper §5.4).
        let decided = self.decided_in.partition_point(|decided_in| *decided_in < term);
        let expected = decided.checked_sub(1).map(|last| self.decided[last]);
        let decided = decided as u64;
        let found = self.views[view].chain_at(decided);
        if decided > 0 && found != expected {
            let what = format!("was elected in term {term} without the decided entries up to {decided}");
            self.violate_at("I6", view, what);
        }
    }

    pub(super) fn check_term(&mut self, view: usize, raft: &Raft) {
        let term = raft.term().0;
        let before = self.views[view].term;
        if term < before {
            self.violate_at("I8", view, format!("the term fell from {before} to {term}"));
        }
        self.views[view].term = term;
        let leads = (raft.role() == RoleName::Leader).then_some(term);
        if let Some(term) = leads
            && self.leaders.get(&term) != Some(&view)
        {
            self.violate_at("I1", view, format!("leads term {term} without an election"));
        }
    }

    /// A vote became durable or visible.
    pub(super) fn voted(&mut self, view: usize, term: u64, candidate: u64) {
        let first = *self.votes.entry((view, term)).or_insert(candidate);
        if first != candidate {
            let what = format!("voted for {first:016x} and for {candidate:016x} in term {term}");
            self.violate_at("I2", view, what);
        }
    }
}
