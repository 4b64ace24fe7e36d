//! A persistent vector of a generation's rows: it grows at its end, rows change in place, and a copy is made in no time.
//!
//! A tree of three levels, where a copy shares all nodes and whoever changes a shared one copies that first. Its leaves are
//! small, for a write after each copy that a reader takes copies one of them: with 80,000 writes and 1,000 listings a second
//! that is nearly every write. Nodes hold their children in place, so a row is three loads away, of which the first two
//! nearly always hit a cache.

use std::ops::Index;
use std::sync::Arc;

use super::generation::Held;
use super::key::Key;

const LEAF_ROWS: usize = 16;
const BRANCH_LEAVES: usize = 64;
const BRANCH_ROWS: usize = LEAF_ROWS * BRANCH_LEAVES;

/// A key and what its generation holds of it.
#[derive(Clone, Debug)]
pub(super) struct HeldRow {
    pub(super) key: Key,
    pub(super) held: Held,
}

type Leaf = [Option<HeldRow>; LEAF_ROWS];
type Branch = [Option<Arc<Leaf>>; BRANCH_LEAVES];

/// See the module. All rows below `len` are there.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldRows {
    branches: Arc<Vec<Arc<Branch>>>,
    len: usize,
}

impl HeldRows {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> Option<&HeldRow> {
        let branch = self.branches.get(at / BRANCH_ROWS)?;
        let leaf = branch[at / LEAF_ROWS % BRANCH_LEAVES].as_ref()?;
        leaf[at % LEAF_ROWS].as_ref()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut HeldRow> {
        self.place(at)?.as_mut()
    }

    /// Puts a row behind the last.
    pub(super) fn push(&mut self, row: HeldRow) {
        let at = self.len;
        if at.is_multiple_of(BRANCH_ROWS) {
            Arc::make_mut(&mut self.branches).push(Arc::new([const { None }; BRANCH_LEAVES]));
        }
        *self.place(at).expect("its branch was made") = Some(row);
        self.len += 1;
    }

    fn place(&mut self, at: usize) -> Option<&mut Option<HeldRow>> {
        let branch = Arc::make_mut(&mut self.branches).get_mut(at / BRANCH_ROWS)?;
        let leaf = &mut Arc::make_mut(branch)[at / LEAF_ROWS % BRANCH_LEAVES];
        let leaf = leaf.get_or_insert_with(|| Arc::new([const { None }; LEAF_ROWS]));
        Some(&mut Arc::make_mut(leaf)[at % LEAF_ROWS])
    }
}

impl Index<usize> for HeldRows {
    type Output = HeldRow;

    fn index(&self, at: usize) -> &HeldRow {
        self.get(at).expect("the row is below the length")
    }
}

#[cfg(test)]
mod tests {
    use raftkv_protocol::Revision;

    use super::*;
    use crate::store::record::Slot;

    fn row(number: usize, revision: u64) -> HeldRow {
        HeldRow {
            key: number.to_string().as_bytes().into(),
            held: Held {
                slot: Slot::Deleted(Revision(revision)),
                first_revision: Revision(1),
            },
        }
    }

    fn revisions(rows: &HeldRows) -> Vec<u64> {
        (0..rows.len())
            .map(|at| {
                assert_eq!(rows[at].key.as_bytes(), at.to_string().as_bytes());
                rows[at].held.slot.mod_revision().0
            })
            .collect()
    }

    #[test]
    fn copies_keep_what_they_held_while_the_original_grows_and_changes() {
        let mut rows = HeldRows::default();
        let mut model: Vec<u64> = Vec::new();
        let mut copies = Vec::new();
        for revision in 0..6000_u64 {
            if revision % 3 == 0 && !model.is_empty() {
                let at = (revision as usize * 7919) % model.len();
                rows.get_mut(at).expect("it is there").held.slot = Slot::Deleted(Revision(revision));
                model[at] = revision;
            } else {
                rows.push(row(model.len(), revision));
                model.push(revision);
            }
            if revision % 501 == 0 {
                copies.push((rows.clone(), model.clone()));
            }
        }
        copies.push((rows, model));
        for (rows, model) in &copies {
            assert_eq!(&revisions(rows), model);
            assert!(rows.get(model.len()).is_none(), "nothing is behind the last");
        }
    }
}
