//! The engine's twin in memory, for the simulator and for tests.
//!
//! Its state is that of the last ingest that returned, and outlives the simulated process: what a crash leaves of the real
//! one. So there is nothing to crash. Deterministic: it has no threads, no chance, and no order but that of keys.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Base, BaseView, Row, RowIter};
use crate::store::error::StoreError;

type Rows = Arc<BTreeMap<Bytes, Bytes>>;

/// See the module. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct TwinBase {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    /// Rows that the next ingest still takes before it fails.
    fail_after: Option<u64>,
    /// Steps that are still taken before the process dies.
    crash_after: Option<u64>,
    has_crashed: bool,
    ingests: u64,
}

impl TwinBase {
    /// An empty one.
    #[must_use]
    pub fn new() -> TwinBase {
        TwinBase::default()
    }

    /// Lets the next ingest fail after it took this many rows, once; when it has fewer, at its end.
    pub fn fail_next_ingest(&self, after_rows: u64) {
        self.state().fail_after = Some(after_rows);
    }

    /// Lets the process crash inside an ingest, after so many more steps, over all ingests: to take a row is one, to make
    /// an ingest's rows the state is one.
    pub fn crash_after(&self, steps: u64) {
        self.state().crash_after = Some(steps);
    }

    /// Has the crash point been reached, and nobody said yet that the process is gone?
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state().has_crashed
    }

    /// The process is gone; the next one finds what the last ingest left that returned.
    pub fn process_crashed(&self) {
        self.state().has_crashed = false;
    }

    /// Takes back a crash point that was not reached.
    pub fn heal(&self) {
        self.state().crash_after = None;
    }

    /// How many ingests returned.
    #[must_use]
    pub fn ingests(&self) -> u64 {
        self.state().ingests
    }

    fn step(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.crash_after == Some(0) {
            state.crash_after = None;
            state.has_crashed = true;
        }
        state.crash_after = state.crash_after.map(|left| left - 1);
        if state.has_crashed {
            return Err(StoreError::Engine {
                action: "writing rows",
                what: "the simulated process has crashed".to_owned(),
            });
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Base for TwinBase {
    type View = TwinView;

    fn view(&self) -> Result<TwinView, StoreError> {
        Ok(TwinView {
            rows: Arc::clone(&self.state().rows),
        })
    }

    fn ingest(&self, rows: &mut dyn Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError> {
        let mut fail_after = self.state().fail_after.take();
        // The lock is not held while rows are asked for: they may come out of lookups in a view of this base.
        let mut ingested: Vec<Row> = Vec::new();
        for row in rows {
            fail_if_due(fail_after)?;
            self.step()?;
            fail_after = fail_after.map(|left| left - 1);
            let row = row?;
            let ascends = ingested.last().is_none_or(|last| last.key < row.key);
            assert!(
                ascends,
                "keys of an ingest ascend strictly, {:?} does not",
                row.key
            );
            ingested.push(row);
        }
        fail_if_due(fail_after.map(|_| 0))?;
        self.step()?;
        let mut state = self.state();
        let new = Arc::make_mut(&mut state.rows);
        for Row { key, value } in ingested {
            match value {
                Some(value) => new.insert(key, value),
                None => new.remove(&key),
            };
        }
        state.ingests += 1;
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        let rows = Arc::clone(&self.state().rows);
        rows.iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }
}

fn fail_if_due(fail_after: Option<u64>) -> Result<(), StoreError> {
    if fail_after == Some(0) {
        return Err(StoreError::Engine {
            action: "writing rows",
            what: "the test wants this ingest to fail".to_owned(),
        });
    }
    Ok(())
}

/// The state of a [`TwinBase`] as it was.
#[derive(Clone, Debug)]
pub struct TwinView {
    rows: Rows,
}

impl TwinView {
    /// The rows between the bounds; each step looks for the next key, so that the iterator can own the view.
    fn between(&self, from: &[u8], to: Option<&[u8]>) -> Between {
        Between {
            rows: Arc::clone(&self.rows),
            from: Bound::Included(Bytes::copy_from_slice(from)),
            to: to.map_or(Bound::Unbounded, |to| Bound::Excluded(Bytes::copy_from_slice(to))),
        }
    }
}

impl BaseView for TwinView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>) -> RowIter {
        Box::new(self.between(from, to))
    }

    fn get_ascending(
        &self,
        keys: &mut dyn Iterator<Item = Bytes>,
        found: &mut dyn FnMut(Bytes, Option<Bytes>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for key in keys {
            let value = self.rows.get(&key).cloned();
            found(key, value)?;
        }
        Ok(())
    }
}

struct Between {
    rows: Rows,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
}

impl Between {
    fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            // The map refuses such bounds with a panic.
            (Bound::Included(from), Bound::Excluded(to)) | (Bound::Excluded(from), Bound::Excluded(to)) => {
                from >= to
            }
            (Bound::Excluded(_) | Bound::Included(_) | Bound::Unbounded, _) => false,
        }
    }
}

impl Iterator for Between {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_empty() {
            return None;
        }
        let (key, value) = self.rows.range((self.from.clone(), self.to.clone())).next()?;
        self.from = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}

impl DoubleEndedIterator for Between {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.is_empty() {
            return None;
        }
        let bounds = (self.from.clone(), self.to.clone());
        let (key, value) = self.rows.range(bounds).next_back()?;
        self.to = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}
