//! A generation as readers hold it: its rows as of one moment, put in order when somebody first reads them in order.
//!
//! A generation's rows stand in the order in which their keys came. Few are ever read in order before they drain, and to
//! keep a tree in order for them would cost each put more than all else it does. So whoever reads sorts, on its own thread:
//! the rows are cut into *runs*, whose sizes are powers of two, as in the binary number of how many there are. Neither the
//! keys of a run nor their places ever change, so a run that was sorted serves everybody after, and the next reader sorts
//! only what has come since.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::generation::Held;
use super::held_rows::{HeldRow, HeldRows};

/// The last rows, fewer than this, are sorted by each reader anew.
const SMALLEST_RUN: usize = 64;

/// Places of rows, in the order of their keys.
type Run = Arc<[u32]>;

/// The sorted runs of a generation that is written to, by where they begin and how long they are.
#[derive(Debug, Default)]
pub(super) struct Runs {
    sorted: Mutex<BTreeMap<(usize, usize), Run>>,
}

impl Runs {
    fn get(&self, rows: &HeldRows, range: Range<usize>) -> Run {
        let name = (range.start, range.len());
        let lock = || self.sorted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut already = Vec::new();
        {
            let runs = lock();
            let mut at = range.start;
            let longest = |at: usize| runs.range((at, 1)..=(at, range.end - at)).next_back();
            while at < range.end
                && let Some(((_, len), run)) = longest(at)
            {
                if *len == range.len() {
                    return run.clone();
                }
                already.push(run.clone());
                at += len;
            }
        }
        // Not under the lock: others may read what is sorted already.
        let run = sorted(rows, &range, &already);
        let mut runs = lock();
        runs.retain(|(start, len), _| *start < range.start || start + len > range.end);
        runs.insert(name, run.clone());
        run
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layer {
    rows: HeldRows,
    /// `None`: nothing will come any more, and all of it is one run.
    growing: Option<Arc<Runs>>,
    runs: OnceLock<Vec<Run>>,
}

impl Layer {
    /// Of a generation that is written to.
    pub(super) fn growing(rows: HeldRows, runs: Arc<Runs>) -> Layer {
        Layer {
            rows,
            growing: Some(runs),
            runs: OnceLock::new(),
        }
    }

    /// Of one that is not any more.
    pub(super) fn complete(rows: HeldRows) -> Layer {
        Layer {
            rows,
            growing: None,
            runs: OnceLock::new(),
        }
    }

    fn runs(&self) -> &[Run] {
        self.runs.get_or_init(|| match &self.growing {
            None => vec![sorted(&self.rows, &(0..self.rows.len()), &[])],
            Some(runs) => cut(self.rows.len())
                .map(|range| match range.len() < SMALLEST_RUN {
                    true => sorted(&self.rows, &range, &[]),
                    false => runs.get(&self.rows, range),
                })
                .collect(),
        })
    }

    /// What it holds of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        let found = |run: &Run| {
            let at = run.binary_search_by(|&at| self.key(at).cmp(key)).ok()?;
            self.rows.get(run[at] as usize)
        };
        self.runs().iter().find_map(found).map(|row| &row.held)
    }

    /// The rows of `from..to` (`None`: to the last key), each run by itself. No key is in two of them.
    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = SortedRows<'_>> {
        let bounds = (from.to_vec(), to.map(<[u8]>::to_vec));
        self.runs().iter().map(move |run| {
            let (from, to) = (&bounds.0[..], bounds.1.as_deref());
            let begin = run.partition_point(|&at| self.key(at) < from);
            let end = to.map_or(run.len(), |to| run.partition_point(|&at| self.key(at) < to));
            SortedRows {
                rows: &self.rows,
                run: &run[begin..end.max(begin)],
            }
        })
    }

    /// All rows of a generation that is complete.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn whole(&self) -> SortedRows<'_> {
        let [run] = self.runs() else {
            panic!("a generation that is written to has no order of its own");
        };
        SortedRows {
            rows: &self.rows,
            run,
        }
    }

    fn key(&self, at: u32) -> &[u8] {
        self.rows[at as usize].key.as_bytes()
    }
}

/// The runs of so many rows, the last of them smaller than the smallest that is kept.
fn cut(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = rows - start;
        let len = match rest.checked_ilog2()? {
            log if rest >= SMALLEST_RUN => 1 << log,
            _ => rest,
        };
        start += len;
        Some(start - len..start)
    })
}

/// The places in `range` in the order of their keys. What of it is sorted already, from its beginning on, is only merged.
fn sorted(rows: &HeldRows, range: &Range<usize>, already: &[Run]) -> Run {
    let known = already.iter().flat_map(|run| run.iter().copied());
    let rest = range.start + already.iter().map(|run| run.len()).sum::<usize>();
    let places = known.chain(rest as u32..range.end as u32);
    let key = |at: u32| rows[at as usize].key.as_bytes();
    // Keys of one run often begin alike. Behind that, eight bytes tell nearly all of them apart, without a look at the row.
    let alike = shared_prefix(range.clone().map(|at| key(at as u32)));
    let mut order: Vec<(u64, u32)> = places.map(|at| (head(&key(at)[alike..]), at)).collect();
    let by_key = |(head, at): &(u64, u32), (other_head, other_at): &(u64, u32)| {
        head.cmp(other_head).then_with(|| key(*at).cmp(key(*other_at)))
    };
    match already.is_empty() {
        // In place: as little memory beside as there can be.
        true => order.sort_unstable_by(by_key),
        // Finds what is in order, and merges it.
        false => order.sort_by(by_key),
    }
    order.into_iter().map(|(_, at)| at).collect()
}

/// How many bytes all of them begin with.
fn shared_prefix<'k>(mut keys: impl Iterator<Item = &'k [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |alike, key| {
        let pairs = first[..alike].iter().zip(key);
        pairs.take_while(|(one, other)| one == other).count()
    })
}

/// The first eight bytes as a number of the same order; equal heads need a second look.
fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = bytes.len().min(head.len());
    head[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(head)
}

/// Rows of one run, in order, from both ends.
#[derive(Debug)]
pub(super) struct SortedRows<'l> {
    rows: &'l HeldRows,
    run: &'l [u32],
}

impl<'l> Iterator for SortedRows<'l> {
    type Item = &'l HeldRow;

    fn next(&mut self) -> Option<&'l HeldRow> {
        let at = self.run.split_off_first()?;
        self.rows.get(*at as usize)
    }
}

impl DoubleEndedIterator for SortedRows<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let at = self.run.split_off_last()?;
        self.rows.get(*at as usize)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftkv_protocol::Revision;

    use super::*;
    use crate::store::record::Slot;

    fn row(key: &[u8]) -> HeldRow {
        HeldRow {
            key: key.into(),
            held: Held {
                slot: Slot::Deleted(Revision(1)),
                first_revision: Revision(1),
            },
        }
    }

    fn rows_of<'k>(keys: impl Iterator<Item = &'k [u8]>) -> HeldRows {
        let mut rows = HeldRows::default();
        keys.for_each(|key| rows.push(row(key)));
        rows
    }

    /// Keys that begin alike, longer and shorter than what tells them apart at once, in no order.
    fn keys(count: u32) -> Vec<Bytes> {
        let one = |n: u32| {
            let scattered = n.wrapping_mul(0x9e37_79b9);
            let filler = "x".repeat((scattered % 40) as usize);
            format!("shared/{filler}/{scattered:010}").into()
        };
        (0..count).map(one).collect()
    }

    fn in_order(layer: &Layer, from: &[u8], to: Option<&[u8]>) -> Vec<Bytes> {
        let rows = layer.range(from, to).flat_map(|run| {
            let run: Vec<_> = run
                .map(|row| Bytes::copy_from_slice(row.key.as_bytes()))
                .collect();
            assert!(run.is_sorted(), "a run is in order");
            run
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn readers_of_a_growing_generation_find_what_was_there_when_they_came() {
        let keys = keys(77 * SMALLEST_RUN as u32 + 17);
        let (mut rows, runs) = (HeldRows::default(), Arc::<Runs>::default());
        let mut layers = Vec::new();
        for (before, key) in keys.iter().enumerate() {
            if before % 700 == 0 {
                layers.push((before, Layer::growing(rows.clone(), runs.clone())));
            }
            rows.push(row(key));
        }
        // The newest first: what it sorted must not be taken for what an older one sees.
        for (len, layer) in layers.iter().rev() {
            let mut expected = keys[..*len].to_vec();
            expected.sort_unstable();
            assert_eq!(in_order(layer, b"", None), expected, "{len} rows");
            let (from, to) = (&expected[len / 3..], &expected[len / 2..]);
            if let (Some(from), Some(to)) = (from.first(), to.first()) {
                let inside = &expected[len / 3..len / 2];
                assert_eq!(in_order(layer, from, Some(to)), inside, "{len} rows");
                assert_eq!(in_order(layer, to, Some(from)), Vec::<Bytes>::new(), "backwards");
            }
            for (place, key) in keys.iter().enumerate() {
                assert_eq!(layer.get(key).is_some(), place < *len, "{key:?} of {len}");
            }
        }
    }

    #[test]
    fn what_was_sorted_serves_the_next_reader_and_goes_when_a_longer_run_holds_it() {
        let (mut rows, runs) = (HeldRows::default(), Arc::<Runs>::default());
        let names = |rows: &HeldRows| -> Vec<(usize, usize)> {
            Layer::growing(rows.clone(), runs.clone()).runs();
            runs.sorted
                .lock()
                .expect("not poisoned")
                .keys()
                .copied()
                .collect()
        };
        let all = keys(4 * SMALLEST_RUN as u32);
        let mut seen = Vec::new();
        for key in &all {
            rows.push(row(key));
            if rows.len() % SMALLEST_RUN == 0 {
                seen.push(names(&rows));
            }
        }
        let run = SMALLEST_RUN;
        let expected = vec![
            vec![(0, run)],
            vec![(0, 2 * run)],
            vec![(0, 2 * run), (2 * run, run)],
            vec![(0, 4 * run)],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_complete_generation_is_one_run_from_both_ends() {
        let mut keys = keys(3000);
        let layer = Layer::complete(rows_of(keys.iter().map(|key| &key[..])));
        keys.sort_unstable();
        let bytes = |row: &HeldRow| Bytes::copy_from_slice(row.key.as_bytes());
        assert_eq!(layer.whole().map(bytes).collect::<Vec<_>>(), keys);
        keys.reverse();
        assert_eq!(layer.whole().rev().map(bytes).collect::<Vec<_>>(), keys);
        let mut ends = layer.whole();
        assert_eq!(ends.by_ref().take(1000).count(), 1000);
        assert_eq!(ends.rev().count(), 2000);
    }

    #[test]
    fn keys_of_which_one_is_the_beginning_of_the_other_are_in_order() {
        let keys = [
            &b""[..],
            b"\0",
            b"a",
            b"a\0",
            b"a\0\0",
            b"a\0b",
            b"aaaaaaaaaaaaaaaa",
            b"aaaaaaaaaaaaaaaa\0",
        ];
        let layer = Layer::complete(rows_of(keys.iter().rev().copied()));
        let found: Vec<_> = layer.whole().map(|row| row.key.as_bytes()).collect();
        assert_eq!(found, keys);
    }
}
