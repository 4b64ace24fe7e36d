//! What the log knows of its entries without reading them: where it starts and ends, and the terms between.

use raftkv_raft::{EntryId, Index, Term};

/// Invariants: `term_runs` are ascending in index and term, the first begins right after `base`, none begins behind
/// `last`. `last` is `None` only before the founding entry, which is `base` then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    base: EntryId,
    last: Option<EntryId>,
    term_runs: Vec<(Index, Term)>,
}

impl Outline {
    pub(super) fn new(base: EntryId, last: Option<EntryId>) -> Outline {
        Outline {
            base,
            last,
            term_runs: Vec::new(),
        }
    }

    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    pub(super) fn last(&self) -> Option<EntryId> {
        self.last
    }

    pub(super) fn term_runs(&self) -> &[(Index, Term)] {
        &self.term_runs
    }

    /// The id of the entry at `index`, if the log reaches there.
    pub(super) fn entry_id(&self, index: Index) -> Option<EntryId> {
        let last = self.last?;
        if index < self.base.index || index > last.index {
            return None;
        }
        let runs = self.term_runs.partition_point(|(first, _)| *first <= index);
        let term = runs
            .checked_sub(1)
            .map_or(self.base.term, |run| self.term_runs[run].1);
        Some(EntryId { term, index })
    }

    /// Takes the next entry in; the reason if it is none.
    pub(super) fn push(&mut self, id: EntryId) -> Result<(), String> {
        let Some(last) = self.last else {
            if id != self.base {
                return Err(format!(
                    "entry {id} comes first, expected the founding entry {}",
                    self.base
                ));
            }
            self.last = Some(id);
            return Ok(());
        };
        if id.index != last.index.next() || id.term < last.term {
            return Err(format!("entry {id} follows entry {last}"));
        }
        if id.term > last.term || last == self.base {
            self.term_runs.push((id.index, id.term));
        }
        self.last = Some(id);
        Ok(())
    }

    /// Cuts every entry behind `left`; the reason if that entry is not here. An entry below the base may be left when
    /// the segments that held it were compacted: then the base moves there.
    pub(super) fn cut_behind(&mut self, left: EntryId) -> Result<(), String> {
        if left.index < self.base.index {
            self.base = left;
        } else if self.entry_id(left.index) != Some(left) {
            return Err(format!(
                "a truncation leaves entry {left}, which is not in the log"
            ));
        }
        let kept = self.term_runs.partition_point(|(first, _)| *first <= left.index);
        self.term_runs.truncate(kept);
        self.last = Some(left);
        Ok(())
    }

    /// Forgets what is at or below `base`, which is in the log.
    pub(super) fn compact(&mut self, base: EntryId) {
        assert_eq!(
            self.entry_id(base.index),
            Some(base),
            "only what is there is compacted"
        );
        let begun = self
            .term_runs
            .partition_point(|(first, _)| *first <= base.index.next());
        let term_behind = self.entry_id(base.index.next()).map(|id| id.term);
        self.term_runs.drain(..begun);
        if let Some(term) = term_behind {
            self.term_runs.insert(0, (base.index.next(), term));
        }
        self.base = base;
    }
}
