//! A held version of the tree.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom;
use lsm_tree::{AbstractTree, AnyTree, InternalValue, SeqNo, Slice, Table, Tree};

use super::ascending::Walk;
use super::engine::engine_error;
use crate::store::base::{BaseView, RowIter};
use crate::store::error::StoreError;

type EngineRows = Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<InternalValue>> + Send>;
/// The engine's type of a version to iterate over can not be named outside of it: only a closure can keep one.
type Rows = Box<dyn Fn((Bound<Slice>, Bound<Slice>)) -> EngineRows + Send + Sync>;

/// Everything: a held version has nothing newer than itself.
const ALL: SeqNo = SeqNo::MAX;

/// A walk begins with taking apart the indexes of the tables it comes to, a millisecond for a million rows. Fewer keys than
/// this are cheaper looked up one by one, through the engine's cache. Tests have small tables, and walk all the same.
const WORTH_A_WALK: usize = if cfg!(test) { 4 } else { 256 };

/// What all clones of a view share.
pub(super) struct Held {
    /// Tables that do not overlap, in key order; from new to old.
    runs: Vec<Vec<Table>>,
    rows: Rows,
    /// Numbers of the tables, by level.
    tables: Vec<Vec<u64>>,
    size_bytes: u64,
}

impl Held {
    /// Holds the tree's newest version.
    pub(super) fn newest(tree: &AnyTree) -> Held {
        loop {
            // The engine hands out the list of tables and the version to iterate apart from each other. The same list
            // before and after proves that the version between them is of that list.
            let version = tree.current_version();
            let iterated = tree.get_version_history_lock().latest_version();
            if tree.current_version().id() != version.id() {
                continue;
            }
            let levels = version.iter_levels().map(|level| {
                let tables = level.iter().flat_map(|run| run.iter());
                tables.map(Table::id).collect()
            });
            return Held {
                tables: levels.collect(),
                // Levels, and runs within a level, are in order from new to old.
                runs: version
                    .iter_levels()
                    .flat_map(|level| level.iter())
                    .map(|run| run.to_vec())
                    .collect(),
                size_bytes: version.iter_tables().map(|table| table.metadata.file_size).sum(),
                rows: Box::new(move |bounds| {
                    Box::new(Tree::create_internal_range(iterated.clone(), &bounds, ALL, None))
                }),
            };
        }
    }

    fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<InternalValue>> {
        let hash = standard_bloom::Builder::get_hash(key);
        for run in &self.runs {
            let at = run.partition_point(|table| **table.metadata.key_range.max() < *key);
            if let Some(table) = run.get(at)
                && **table.metadata.key_range.min() <= *key
                && let Some(row) = table.get(key, ALL, hash)?
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Numbers of the tables, by level.
    pub(super) fn tables(&self) -> &[Vec<u64>] {
        &self.tables
    }

    /// Bytes of its tables.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// A version of an [`super::LsmBase`], held. Clones are cheap.
pub struct LsmView {
    held: Arc<Held>,
    /// Where the last [`BaseView::get_ascending`] ended: a drain asks chunk by chunk, and the next chunk goes on there.
    walk: Mutex<Option<Walk>>,
}

impl Clone for LsmView {
    fn clone(&self) -> LsmView {
        LsmView::new(Arc::clone(&self.held))
    }
}

impl LsmView {
    pub(super) fn new(held: Arc<Held>) -> LsmView {
        let walk = Mutex::new(None);
        LsmView { held, walk }
    }

    /// Is it on its way through the tables?
    #[cfg(test)]
    pub(super) fn walks(&self) -> bool {
        self.walk.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl BaseView for LsmView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.held.get(key).map_err(engine_error("reading a row"))?;
        Ok(row.filter(|row| !row.is_tombstone()).map(|row| row.value.into()))
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>) -> RowIter {
        let to = to.map_or(Bound::Unbounded, |to| Bound::Excluded(Slice::from(to)));
        if matches!(&to, Bound::Excluded(to) if **to <= *from) {
            return Box::new(std::iter::empty());
        }
        Box::new(HeldRows {
            rows: (self.held.rows)((Bound::Included(Slice::from(from)), to)),
            _held: Arc::clone(&self.held),
        })
    }

    fn get_ascending(
        &self,
        keys: &mut dyn Iterator<Item = Bytes>,
        found: &mut dyn FnMut(Bytes, Option<Bytes>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Taken out, so that `found` may ask this view as well.
        let mut kept = self.walk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first: Vec<Bytes> = keys.take(WORTH_A_WALK).collect();
        let goes_on = kept
            .as_ref()
            .zip(first.first())
            .is_some_and(|(walk, key)| walk.is_before(key));
        if first.len() < WORTH_A_WALK && !goes_on {
            *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = kept;
            return first.into_iter().try_for_each(|key| {
                let value = self.get(&key)?;
                found(key, value)
            });
        }
        for key in first.into_iter().chain(keys) {
            let mut walk = match kept.take() {
                Some(walk) if walk.is_before(&key) => walk,
                _ => Walk::new(&self.held.runs),
            };
            let value = walk.look_up(&key).map_err(engine_error("reading old rows"))?;
            kept = Some(walk);
            found(key, value)?;
        }
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(())
    }
}

/// An iterator with the view it came from, so that the base knows which tables are still read.
struct HeldRows {
    rows: EngineRows,
    _held: Arc<Held>,
}

fn row(item: lsm_tree::Result<InternalValue>) -> Result<(Bytes, Bytes), StoreError> {
    let item = item.map_err(engine_error("iterating over rows"))?;
    Ok((item.key.user_key.into(), item.value.into()))
}

impl Iterator for HeldRows {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(row)
    }
}

impl DoubleEndedIterator for HeldRows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rows.next_back().map(row)
    }
}
