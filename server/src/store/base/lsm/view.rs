//! A held version of the tree.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom;
use lsm_tree::{AbstractTree, AnyTree, InternalValue, SeqNo, Slice, Table, Tree};

use super::ascending;
use super::engine::engine_error;
use crate::store::base::{BaseView, RowIter};
use crate::store::error::StoreError;

/// The newest row of a version, deletes included.
type FoundRow = lsm_tree::Result<Option<InternalValue>>;
pub(super) type EngineRows = Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<InternalValue>> + Send>;
/// The engine's type of a held version can not be named outside of it: only closures can keep one.
type Lookup = Box<dyn Fn(&[u8]) -> FoundRow + Send + Sync>;
type Rows = Box<dyn Fn((Bound<Slice>, Bound<Slice>)) -> EngineRows + Send + Sync>;

/// Everything: a held version has nothing newer than itself.
const ALL: SeqNo = SeqNo::MAX;

/// What all clones of a view share.
pub(super) struct Held {
    lookup: Lookup,
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
                size_bytes: version.iter_tables().map(|table| table.metadata.file_size).sum(),
                lookup: Box::new(move |key| {
                    let hash = standard_bloom::Builder::get_hash(key);
                    // Levels, and runs within a level, are in order from new to old.
                    for run in version.iter_levels().flat_map(|level| level.iter()) {
                        if let Some(table) = run.get_for_key(key)
                            && let Some(row) = table.get(key, ALL, hash)?
                        {
                            return Ok(Some(row));
                        }
                    }
                    Ok(None)
                }),
                rows: Box::new(move |bounds| {
                    Box::new(Tree::create_internal_range(iterated.clone(), &bounds, ALL, None))
                }),
            };
        }
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
#[derive(Clone)]
pub struct LsmView {
    held: Arc<Held>,
}

impl LsmView {
    pub(super) fn new(held: Arc<Held>) -> LsmView {
        LsmView { held }
    }

    /// Rows between the bounds, as the engine has them: without deletes.
    pub(super) fn engine_rows(&self, from: Bound<Slice>, to: Bound<Slice>) -> EngineRows {
        (self.held.rows)((from, to))
    }
}

impl BaseView for LsmView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = (self.held.lookup)(key).map_err(engine_error("reading a row"))?;
        Ok(row.filter(|row| !row.is_tombstone()).map(|row| row.value.into()))
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>) -> RowIter {
        let to = to.map_or(Bound::Unbounded, |to| Bound::Excluded(Slice::from(to)));
        if matches!(&to, Bound::Excluded(to) if **to <= *from) {
            return Box::new(std::iter::empty());
        }
        Box::new(HeldRows {
            rows: self.engine_rows(Bound::Included(Slice::from(from)), to),
            _held: Arc::clone(&self.held),
        })
    }

    fn get_ascending(
        &self,
        keys: &mut dyn Iterator<Item = Bytes>,
        found: &mut dyn FnMut(Bytes, Option<Bytes>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        ascending::look_up(self, keys, found)
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
