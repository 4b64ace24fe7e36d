//! One page of a range: read from a state that is held, or from history beneath it.
//!
//! A page is bounded in keys and bytes, and tells the last key that it passed, so that the next one can go on behind it. The
//! state of a listing is kept between its pages where there is memory for it ([`PageReader`]); where it is not, history
//! tells the same, at the price of a look for each key that changed since.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv_protocol::{KeyValue, Record, Revision, Shape};
use raftkv_raft::simulation::mutant;

use super::base::{Base, BaseView};
use super::error::StoreError;
use super::history::{Direction, History, HistoryError, KeyRange, Past};
use super::record::Stored;
use super::state::{Pinned, State};
use crate::disk::Disk;

/// What a record takes beside key and value while the page is in memory, bytes. It counts, or a page of very short keys
/// would hold many times what was allowed.
const RECORD_BYTES: usize = 64;

/// Names the reading of one page, and the state that is kept from it; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u64);

/// What a page is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Which keys.
    pub range: KeyRange,
    /// In which order.
    pub direction: Direction,
    /// What of them.
    pub shape: Shape,
    /// At most so many keys; at least one.
    pub max_keys: u32,
    /// At most so many bytes of keys and values, but for a single key.
    pub max_bytes: u32,
    /// As of when.
    pub at: PageAt,
}

/// As of when a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAt {
    /// The state that is held.
    Held,
    /// Just after this revision.
    Revision(Revision),
    /// What was the latest state at this log time, microseconds.
    LogTime(u64),
}

/// A page that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The state that it is of.
    pub at: Revision,
    /// Its keys; none where they were only counted.
    pub kvs: Vec<KeyValue>,
    /// How many it passed.
    pub count: u64,
    /// The last of them, if there are more behind it.
    pub last: Option<Bytes>,
}

/// From what a page is read.
#[derive(Clone, Debug)]
pub enum PageSource {
    /// From what memory has, over the newest version of the base.
    Memory(Box<Pinned>),
    /// From a state that was kept.
    Kept(PageNumber),
}

/// What becomes of the state when more pages follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is kept under the page's number, until it is released.
    ForMore,
    /// It is let go.
    Nothing,
}

/// A page to be read.
#[derive(Clone, Debug)]
pub struct PageJob {
    /// Its name.
    pub page: PageNumber,
    /// From what.
    pub source: PageSource,
    /// What it is to hold.
    pub wanted: PageWanted,
    /// What becomes of the state.
    pub keep: Keep,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// The page.
    Read(Page),
    /// The base has drained further than what was pinned: pin anew.
    Overtaken,
    /// No state of that number is kept.
    NotKept,
    /// The revision is not kept any more; the oldest that is.
    Compacted {
        /// The oldest.
        oldest_kept: Revision,
    },
    /// The revision has not come yet.
    Future {
        /// The newest.
        current: Revision,
    },
}

/// Reads pages, and keeps states for their next ones: those that it is told to.
#[derive(Debug)]
pub struct PageReader<V> {
    kept: BTreeMap<PageNumber, State<V>>,
}

impl<V> Default for PageReader<V> {
    fn default() -> PageReader<V> {
        PageReader {
            kept: BTreeMap::new(),
        }
    }
}

impl<V: BaseView> PageReader<V> {
    /// How many states are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The state that the page is read from.
    ///
    /// # Errors
    /// Of the base. Inside the result, what becomes of the page when there is no such state.
    pub fn open<B: Base<View = V>>(
        &self,
        base: &B,
        source: PageSource,
    ) -> Result<Result<State<V>, PageOutcome>, StoreError> {
        match source {
            PageSource::Memory(pinned) => {
                let state = pinned.over(base.view()?)?;
                Ok(state.map_err(|_| PageOutcome::Overtaken))
            }
            PageSource::Kept(number) => Ok(self.kept.get(&number).cloned().ok_or(PageOutcome::NotKept)),
        }
    }

    /// Reads the page, and keeps the state if that is wanted and more pages follow.
    ///
    /// # Errors
    /// Of base or history.
    pub fn read<D: Disk>(
        &mut self,
        history: &History<D>,
        state: State<V>,
        (page, keep): (PageNumber, Keep),
        wanted: &PageWanted,
    ) -> Result<PageOutcome, StoreError> {
        let read = match read_page(&state, history, wanted) {
            Ok(read) => read,
            Err(HistoryError::Compacted { oldest_kept }) => {
                return Ok(PageOutcome::Compacted { oldest_kept });
            }
            Err(HistoryError::Future { current }) => return Ok(PageOutcome::Future { current }),
            Err(HistoryError::Store(error)) => return Err(error),
        };
        if keep == Keep::ForMore && read.last.is_some() {
            self.kept.insert(page, state);
        }
        Ok(PageOutcome::Read(read))
    }

    /// Lets a state go that was kept.
    pub fn release(&mut self, number: PageNumber) {
        self.kept.remove(&number);
    }
}

/// Reads one page. A page of an older revision holds, beside itself, what [`Past::range_at`] says.
///
/// # Errors
/// When the revision is not kept any more, or has not come yet. Of base or history.
pub fn read_page<V: BaseView, D: Disk>(
    state: &State<V>,
    history: &History<D>,
    wanted: &PageWanted,
) -> Result<Page, HistoryError> {
    let at = match wanted.at {
        PageAt::Held => state.revision(),
        PageAt::Revision(at) => at,
        PageAt::LogTime(log_time_us) => history.view().revision_at(log_time_us, state.revision())?,
    };
    if at == state.revision() || mutant("page_read_from_a_newer_state") {
        let records = state.range(&wanted.range.from, wanted.range.to.as_deref());
        let records = records.map_one_way(wanted.direction, |(key, stored)| (key, known(&stored)));
        return gather(records, at, wanted).map_err(HistoryError::from);
    }
    let past = Past::new(history, state.clone(), state.revision());
    if let Some(key) = wanted.range.only_key() {
        let record = past.record_at(&key, at)?;
        let found = record.map(|record| Ok((key, record)));
        return gather(found.into_iter(), at, wanted).map_err(HistoryError::from);
    }
    let records = past.range_at(&wanted.range, at, wanted.direction)?;
    gather(records, at, wanted).map_err(HistoryError::from)
}

fn known(stored: &Stored) -> Record {
    stored
        .record()
        .expect("the lineage of what a state holds is known")
}

/// An item of a range that is read.
type Found = Result<(Bytes, Record), StoreError>;

fn gather(
    mut records: impl Iterator<Item = Found>,
    at: Revision,
    wanted: &PageWanted,
) -> Result<Page, StoreError> {
    let mut page = Page {
        at,
        kvs: Vec::new(),
        count: 0,
        last: None,
    };
    let (mut bytes, mut last) = (0, Bytes::new());
    while let Some((key, record)) = records.next().transpose()? {
        bytes += match wanted.shape {
            Shape::Records => RECORD_BYTES + key.len() + record.value.len(),
            Shape::KeysOnly => RECORD_BYTES + key.len(),
            Shape::CountOnly => 0,
        };
        let is_full = page.count >= u64::from(wanted.max_keys) || bytes > wanted.max_bytes as usize;
        if is_full && page.count > 0 {
            page.last = Some(last);
            return Ok(page);
        }
        page.count += 1;
        last = key.clone();
        match wanted.shape {
            Shape::Records => page.kvs.push(KeyValue { key, record }),
            Shape::KeysOnly => page.kvs.push(KeyValue {
                key,
                record: Record {
                    value: Bytes::new(),
                    ..record
                },
            }),
            Shape::CountOnly => {}
        }
    }
    Ok(page)
}

/// A range from the end where its order begins.
trait OneWay<T>: DoubleEndedIterator<Item = Result<T, StoreError>> + Sized {
    fn map_one_way<U>(
        mut self,
        direction: Direction,
        map: impl Fn(T) -> U,
    ) -> impl Iterator<Item = Result<U, StoreError>> {
        std::iter::from_fn(move || {
            let next = match direction {
                Direction::Ascending => self.next(),
                Direction::Descending => self.next_back(),
            };
            next.map(|item| item.map(&map))
        })
    }
}

impl<T, I: DoubleEndedIterator<Item = Result<T, StoreError>>> OneWay<T> for I {}
