//! Finding a key's entries: sorted (hash, place) pairs, eight bytes each, in memory while a generation is written and in
//! pages on disk afterwards.

use std::ops::Range;
use std::sync::Arc;

use bytes::BufMut;
use raftkv_protocol::Revision;

use super::format::{Entry, PAGE_BYTES, PAGE_ENTRIES, key_hash};
use crate::store::StoreError;

/// Hash of a key and the place of an entry of it; ordered by hash, then place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer(u64);

impl Pointer {
    pub(super) fn new(hash: u32, offset: u32) -> Pointer {
        Pointer(u64::from(hash) << 32 | u64::from(offset))
    }

    pub(super) fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.0 as u32)
    }

    /// The same entry, in a block that begins at `start`.
    pub(super) fn moved(self, start: u64) -> Pointer {
        let offset = u32::try_from(self.offset() + start).expect("a generation's blocks end within 4 GiB");
        Pointer::new(self.hash(), offset)
    }
}

/// Sorted pointers, wherever they are.
pub(super) trait Pointers {
    /// Where those of `hash` are, at most: the ends may take in others.
    fn around(&self, hash: u32) -> Range<usize>;
    fn get(&mut self, at: usize) -> Result<Pointer, StoreError>;
}

impl Pointers for &[Pointer] {
    fn around(&self, _hash: u32) -> Range<usize> {
        0..self.len()
    }

    fn get(&mut self, at: usize) -> Result<Pointer, StoreError> {
        Ok(self[at])
    }
}

/// The newest entry of `key` at or below `at`. Entries of one hash stand in the order of their revisions.
pub(super) fn newest(
    pointers: &mut impl Pointers,
    key: &[u8],
    at: Revision,
    read: &mut dyn FnMut(u64) -> Result<Entry, StoreError>,
) -> Result<Option<Entry>, StoreError> {
    let hash = key_hash(key);
    // Most hashes have one entry: it is read once.
    let mut held: Option<(u64, Entry)> = None;
    let mut read = |offset| match held.take().filter(|(place, _)| *place == offset) {
        Some((_, entry)) => Ok(entry),
        None => {
            let entry = read(offset)?;
            held = Some((offset, entry.clone()));
            Ok(entry)
        }
    };
    let around = pointers.around(hash);
    let start = partition(around.clone(), |i| Ok(pointers.get(i)?.hash() < hash))?;
    let end = partition(start..around.end, |i| Ok(pointers.get(i)?.hash() == hash))?;
    let above = partition(
        start..end,
        |i| Ok(read(pointers.get(i)?.offset())?.revision <= at),
    )?;
    for i in (start..above).rev() {
        let entry = read(pointers.get(i)?.offset())?;
        if entry.key == key {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The first of `range` for which `holds` no longer does.
fn partition(
    range: Range<usize>,
    mut holds: impl FnMut(usize) -> Result<bool, StoreError>,
) -> Result<usize, StoreError> {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = start + (end - start) / 2;
        if holds(middle)? {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    Ok(start)
}

/// So many runs of about one length become one.
const RUNS_MERGED_AT_ONCE: usize = 8;

/// Sorted runs. As many of about one length as [`RUNS_MERGED_AT_ONCE`] become one: each entry is moved once for every three bits of
/// their number, and a search looks at some dozens of runs at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Vec<Arc<Vec<Pointer>>>);

impl Runs {
    /// Takes in pointers to entries behind all that are here.
    pub(super) fn add(&mut self, mut run: Vec<Pointer>) {
        if run.is_empty() {
            return;
        }
        run.sort_unstable();
        self.0.push(Arc::new(run));
        while let Some(merged) = self.like_the_last() {
            let run = in_order(&self.0[merged..]);
            self.0.truncate(merged);
            self.0.push(Arc::new(run));
        }
    }

    /// Where those begin, in front of the last one, which are to become one with it.
    fn like_the_last(&self) -> Option<usize> {
        let class = |run: &Arc<Vec<Pointer>>| run.len().ilog2() / RUNS_MERGED_AT_ONCE.ilog2();
        let last = class(self.0.last()?);
        let alike = self.0.iter().rev().take_while(|run| class(run) <= last).count();
        (alike >= RUNS_MERGED_AT_ONCE).then(|| self.0.len() - alike)
    }

    /// All of them in order.
    pub(super) fn all(&self) -> Vec<Pointer> {
        in_order(&self.0)
    }

    /// As [`newest`]: what a later run holds is newer.
    pub(super) fn newest(
        &self,
        key: &[u8],
        at: Revision,
        read: &mut dyn FnMut(u64) -> Result<Entry, StoreError>,
    ) -> Result<Option<Entry>, StoreError> {
        for run in self.0.iter().rev() {
            let found = newest(&mut &run[..], key, at, read)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn in_order(runs: &[Arc<Vec<Pointer>>]) -> Vec<Pointer> {
    let mut all = Vec::with_capacity(runs.iter().map(|run| run.len()).sum());
    runs.iter().for_each(|run| all.extend_from_slice(run));
    // The stable sort sees the runs and merges them.
    all.sort();
    all
}

/// Appends one page of at most [`PAGE_ENTRIES`] pointers.
pub(super) fn put_page(out: &mut Vec<u8>, pointers: &[Pointer]) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u32_le(pointers.len() as u32);
    for pointer in pointers {
        out.put_u32_le(pointer.hash());
        out.put_u32_le(pointer.offset() as u32);
    }
    out.resize(start + PAGE_BYTES, 0);
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// A page as it was read.
pub(super) struct Page {
    pub(super) number: usize,
    bytes: Vec<u8>,
}

impl Page {
    /// `None` when the checksum is wrong.
    pub(super) fn decode(number: usize, bytes: Vec<u8>) -> Option<Page> {
        assert_eq!(bytes.len(), PAGE_BYTES, "pages are read whole");
        (crc32c::crc32c(&bytes[4..]) == field(&bytes, 0)).then_some(Page { number, bytes })
    }

    /// The pointer at this place of the page.
    pub(super) fn pointer(&self, at: usize) -> Pointer {
        assert!(at < PAGE_ENTRIES, "place {at} of a page");
        Pointer::new(field(&self.bytes, 8 + at * 8), field(&self.bytes, 12 + at * 8))
    }
}

fn field(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..at + 4].try_into().expect("four bytes are four bytes");
    u32::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_everything_in_order_and_stay_few() {
        let mut runs = Runs::default();
        let mut all = Vec::new();
        let mut most = 0;
        for batch in 0..3000_u32 {
            let length = [1, 1, 40, 3, 0, 700][batch as usize % 6];
            let begun = all.len() as u32;
            let run: Vec<Pointer> = (begun..begun + length)
                .map(|place| Pointer::new(key_hash(&(place % 977).to_le_bytes()), place))
                .collect();
            all.extend_from_slice(&run);
            runs.add(run);
            most = most.max(runs.0.len());
        }
        assert!(runs.0.iter().all(|run| run.is_sorted()));
        assert!(most <= 40, "{most} runs of {} pointers", all.len());
        all.sort_unstable();
        assert_eq!(runs.all(), all);
    }
}
