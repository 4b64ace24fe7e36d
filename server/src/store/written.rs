//! What a transaction wrote so far.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use raftkv_protocol::{ErrorCode, Failure};

/// What became of a key so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is as the store has it.
    Untouched,
    /// It was put, by the change at this place.
    Put(usize),
    /// It was deleted, if it was there at all.
    Gone,
}

/// Keys and ranges that a transaction wrote so far. What is refused as written twice is told by the operations alone: which
/// keys there are does not matter.
///
/// # Invariants
/// * No key was put and deleted, be it by name or with a range.
/// * `ranges` do not touch, and none is empty.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    /// With the places of their changes.
    puts: BTreeMap<&'a [u8], usize>,
    /// Deleted by name.
    deletes: BTreeSet<&'a [u8]>,
    /// Deleted: the first key, and the first behind.
    ranges: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

impl<'a> Written<'a> {
    pub(super) fn fate(&self, key: &[u8]) -> Fate {
        match self.puts.get(key) {
            Some(place) => Fate::Put(*place),
            None if self.deletes.contains(key) || self.is_in_range(key) => Fate::Gone,
            None => Fate::Untouched,
        }
    }

    /// Keys of a range that were put, ascending.
    pub(super) fn put_in(&self, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = &'a [u8]> {
        let bounds = (Included(from), to.map_or(Unbounded, Excluded));
        let puts = (!is_empty(from, to)).then(|| self.puts.range::<[u8], _>(bounds));
        puts.into_iter().flatten().map(|(key, _)| *key)
    }

    /// A key is put, by the change at `place`.
    ///
    /// # Errors
    /// When it was written before.
    pub(super) fn put(&mut self, key: &'a [u8], place: usize) -> Result<(), Failure> {
        match self.fate(key) {
            Fate::Untouched => {
                self.puts.insert(key, place);
                Ok(())
            }
            Fate::Put(_) | Fate::Gone => Err(twice()),
        }
    }

    /// A key is deleted by name.
    ///
    /// # Errors
    /// When it was put, or deleted by name, before.
    pub(super) fn delete(&mut self, key: &'a [u8]) -> Result<(), Failure> {
        match !self.puts.contains_key(key) && self.deletes.insert(key) {
            true => Ok(()),
            false => Err(twice()),
        }
    }

    /// A range is deleted.
    ///
    /// # Errors
    /// When one of its keys was put before.
    pub(super) fn delete_range(&mut self, from: &'a [u8], to: Option<&'a [u8]>) -> Result<(), Failure> {
        if self.put_in(from, to).next().is_some() {
            return Err(twice());
        }
        if is_empty(from, to) {
            return Ok(());
        }
        let (mut first, mut end) = (from, to);
        let before = self.ranges.range::<[u8], _>((Unbounded, Included(from)));
        if let Some((other, other_end)) = before.last()
            && other_end.is_none_or(|other_end| other_end >= from)
        {
            (first, end) = (other, further(end, *other_end));
        }
        let behind = self.ranges.range::<[u8], _>((Included(from), Unbounded));
        let touched = behind.take_while(|(other, _)| end.is_none_or(|end| **other <= end));
        for (other, other_end) in touched.map(|(other, end)| (*other, *end)).collect::<Vec<_>>() {
            self.ranges.remove(other);
            end = further(end, other_end);
        }
        self.ranges.insert(first, end);
        Ok(())
    }

    fn is_in_range(&self, key: &[u8]) -> bool {
        let mut before = self.ranges.range::<[u8], _>((Unbounded, Included(key)));
        before
            .next_back()
            .is_some_and(|(_, to)| to.is_none_or(|to| key < to))
    }
}

/// Can no key be in `from..to`?
fn is_empty(from: &[u8], to: Option<&[u8]>) -> bool {
    to.is_some_and(|to| to <= from)
}

/// The one that is further behind.
fn further<'a>(one: Option<&'a [u8]>, other: Option<&'a [u8]>) -> Option<&'a [u8]> {
    Some(one?.max(other?))
}

fn twice() -> Failure {
    Failure::new(
        ErrorCode::BadRequest,
        "a transaction writes a key at most once; this one would do so twice, or both put it and delete a range that it is in: \
         nothing was changed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ranges: &[(&'static str, Option<&'static str>)]) -> Written<'static> {
        let mut written = Written::default();
        for (from, to) in ranges {
            written
                .delete_range(from.as_bytes(), to.map(str::as_bytes))
                .expect("nothing was put");
        }
        written
    }

    #[test]
    fn ranges_that_touch_become_one() {
        for (ranges, expected) in [
            (&[("b", Some("c")), ("c", Some("d"))][..], &[("b", Some("d"))][..]),
            (
                &[("c", Some("d")), ("a", Some("b"))],
                &[("a", Some("b")), ("c", Some("d"))],
            ),
            (
                &[
                    ("a", Some("b")),
                    ("c", Some("d")),
                    ("e", Some("g")),
                    ("b", Some("f")),
                ],
                &[("a", Some("g"))],
            ),
            (&[("c", Some("d")), ("a", None), ("x", Some("y"))], &[("a", None)]),
            (&[("a", Some("z")), ("b", Some("c"))], &[("a", Some("z"))]),
            (&[("b", Some("b")), ("c", Some("a"))], &[]),
        ] {
            let expected = expected
                .iter()
                .map(|(from, to)| (from.as_bytes(), to.map(str::as_bytes)));
            assert_eq!(written(ranges).ranges, expected.collect(), "{ranges:?}");
        }
    }

    #[test]
    fn a_key_is_put_once_and_in_no_deleted_range() {
        let mut written = written(&[("b", Some("d"))]);
        assert_eq!(written.fate(b"b"), Fate::Gone);
        assert!(written.put(b"bb", 0).is_err() && written.put(b"b", 0).is_err());
        // Beside the range.
        written.put(b"a", 0).expect("untouched");
        written.put(b"d", 1).expect("untouched");
        assert!(written.put(b"a", 2).is_err() && written.delete(b"a").is_err());
        assert_eq!(
            (written.fate(b"d"), written.fate(b"e")),
            (Fate::Put(1), Fate::Untouched)
        );
        assert_eq!(written.put_in(b"", None).collect::<Vec<_>>(), [b"a", b"d"]);
        assert!(written.delete_range(b"", Some(b"aa")).is_err());
        assert!(written.delete_range(b"d", None).is_err());
    }

    #[test]
    fn deletes_overlap_but_for_the_same_name() {
        let mut written = written(&[("b", Some("d"))]);
        written.delete(b"c").expect("a range does not name it");
        assert!(written.delete(b"c").is_err());
        written.delete_range(b"c", Some(b"e")).expect("nothing was put");
        assert_eq!(written.fate(b"dd"), Fate::Gone);
    }
}
