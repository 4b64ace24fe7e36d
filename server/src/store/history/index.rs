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

/// Sorted runs, each at least twice as long as the next: adding costs a few nanoseconds an entry all in all, and a
/// search looks at a few runs only.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(Vec<Arc<[Pointer]>>);

impl Runs {
    /// Takes in pointers to entries behind all that are here.
    pub(super) fn add(&mut self, mut run: Vec<Pointer>) {
        run.sort_unstable();
        while let Some(before) = self.0.pop_if(|before| before.len() < 2 * run.len()) {
            run = merge(&before, &run);
        }
        if !run.is_empty() {
            self.0.push(run.into());
        }
    }

    /// All of them in order.
    pub(super) fn all(&self) -> Vec<Pointer> {
        self.0.iter().rev().fold(Vec::new(), |all, run| merge(run, &all))
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

fn merge(left: &[Pointer], right: &[Pointer]) -> Vec<Pointer> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() && r < right.len() {
        let take_left = left[l] < right[r];
        merged.push(if take_left { left[l] } else { right[r] });
        l += usize::from(take_left);
        r += usize::from(!take_left);
    }
    merged.extend_from_slice(&left[l..]);
    merged.extend_from_slice(&right[r..]);
    merged
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
