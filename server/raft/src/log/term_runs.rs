//! The term of every entry from the base on, as runs of equal terms: a log has few leaders and many entries.

use crate::{EntryId, Index, Term};

#[derive(Debug)]
pub(super) struct TermRuns {
    /// First index of a run and its term; ascending in both. Starts at the base, so it is never empty.
    runs: Vec<(Index, Term)>,
}

impl TermRuns {
    pub(super) fn new(base: EntryId, later: &[(Index, Term)]) -> TermRuns {
        let mut runs = TermRuns {
            runs: vec![(base.index, base.term)],
        };
        for (index, term) in later {
            runs.append(EntryId {
                term: *term,
                index: *index,
            });
        }
        runs
    }

    /// Notes one more entry (or the first of a run).
    pub(super) fn append(&mut self, id: EntryId) {
        if self.runs[self.runs.len() - 1].1 != id.term {
            self.runs.push((id.index, id.term));
        }
    }

    pub(super) fn truncate(&mut self, from: Index) {
        let keep = self.runs.partition_point(|(first, _)| *first < from);
        assert!(keep > 0, "the base is never cut: {from}");
        self.runs.truncate(keep);
    }

    /// What is before `base` is gone; the base's own term stays, for it answers for the compacted index (R17).
    pub(super) fn compact(&mut self, base: EntryId) {
        let first_after = self.runs.partition_point(|(first, _)| *first <= base.index);
        self.runs.drain(..first_after);
        self.runs.insert(0, (base.index, base.term));
    }

    /// The term at `index`, which the caller knows to be at least the base and within the log.
    pub(super) fn term_at(&self, index: Index) -> Term {
        let newest = self.runs[self.runs.len() - 1];
        if index >= newest.0 {
            return newest.1;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        self.runs[after - 1].1
    }

    /// The greatest index at or below `index` whose term is at most `term`.
    pub(super) fn last_index_up_to(&self, index: Index, term: Term) -> Option<Index> {
        let after = self.runs.partition_point(|(_, run)| *run <= term);
        if after == 0 {
            return None;
        }
        match self.runs.get(after) {
            Some((next_run, _)) if *next_run <= index => next_run.previous(),
            _ => Some(index),
        }
    }
}
