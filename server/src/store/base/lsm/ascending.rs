//! Lookups of many ascending keys.
//!
//! A lookup searches in each run of tables; a scan pays little per row, but for every row between two keys. Which is
//! cheaper depends on how many rows lie between, which nobody knows beforehand. So a scan is begun, with an allowance of
//! rows that grows with each key; when it is used up, the next keys are looked up one by one, and then a scan is tried
//! again.

use std::ops::Bound;

use bytes::Bytes;
use lsm_tree::{InternalValue, Slice};

use super::engine::engine_error;
use super::view::{EngineRows, LsmView};
use crate::store::base::BaseView;
use crate::store::error::StoreError;

/// A scan is cheaper than lookups as long as it passes at most this many rows per key (measured, `bench/storage.md`).
const ROWS_PER_KEY: usize = 8;
/// What a scan may pass before its first key, so that a gap in front of dense keys does not end it; little enough to
/// cost nothing beside [`LOOKUPS_BETWEEN_SCANS`].
const FIRST_ALLOWANCE: usize = 256;
/// So that a long dense stretch can not pay for a long sparse one after it.
const MOST_ALLOWANCE: usize = 1024;
/// Keys looked up one by one before a scan is tried again.
const LOOKUPS_BETWEEN_SCANS: usize = 4096;

pub(super) fn look_up(
    view: &LsmView,
    keys: &mut dyn Iterator<Item = Bytes>,
    found: &mut dyn FnMut(Bytes, Option<Bytes>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut scan = None;
    let mut lookups_left = 0;
    for key in keys {
        if lookups_left == 0 {
            match scan.get_or_insert_with(|| Scan::new(view, &key)).seek(&key)? {
                Seek::Row(value) => {
                    found(key, Some(value))?;
                    continue;
                }
                Seek::NoRow => {
                    found(key, None)?;
                    continue;
                }
                Seek::TooFar => {
                    scan = None;
                    lookups_left = LOOKUPS_BETWEEN_SCANS;
                }
            }
        }
        lookups_left -= 1;
        let value = view.get(&key)?;
        found(key, value)?;
    }
    Ok(())
}

enum Seek {
    Row(Bytes),
    NoRow,
    /// The allowance is used up.
    TooFar,
}

/// A walk through the rows, beside the keys that are looked up.
struct Scan {
    rows: EngineRows,
    /// The row after the last key, already taken from `rows`.
    ahead: Option<InternalValue>,
    allowance: usize,
}

impl Scan {
    fn new(view: &LsmView, from: &Bytes) -> Scan {
        Scan {
            rows: view.engine_rows(Bound::Included(Slice::from(from.clone())), Bound::Unbounded),
            ahead: None,
            allowance: FIRST_ALLOWANCE,
        }
    }

    fn seek(&mut self, key: &[u8]) -> Result<Seek, StoreError> {
        self.allowance = (self.allowance + ROWS_PER_KEY).min(MOST_ALLOWANCE);
        loop {
            if let Some(row) = &self.ahead {
                match (*row.key.user_key).cmp(key) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(Seek::Row(row.value.clone().into())),
                    std::cmp::Ordering::Greater => return Ok(Seek::NoRow),
                }
            }
            if self.allowance == 0 {
                return Ok(Seek::TooFar);
            }
            self.allowance -= 1;
            let next = self.rows.next().transpose();
            self.ahead = next.map_err(engine_error("scanning for old rows"))?;
            if self.ahead.is_none() {
                return Ok(Seek::NoRow);
            }
        }
    }
}
