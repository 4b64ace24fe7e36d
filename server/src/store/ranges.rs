//! Ranges that a transaction depends on.
//!
//! What they hold is read before the entry is applied, on the thread that looks records up: from the very state that the entry
//! is applied to, memory over base, pinned while the entry is the first that waits. Nothing is applied until the answer is
//! there, so it is still true then, wherever a drain has got meanwhile. Keys that are due are in it too; the entry ends them
//! first, and its command finds them gone.
//!
//! What one transaction may depend on is bounded, and told by the state alone: so each replica refuses the same ones.

use bytes::Bytes;
use raftkv_protocol::{ErrorCode, Failure, Keys, MAX_TXN_KEYS, MAX_TXN_RANGE_BYTES};
use raftkv_raft::{Entry, Index};

use super::base::BaseView;
use super::error::StoreError;
use super::history::KeyRange;
use super::lookup::owned;
use super::machine::{Store, decoded};
use super::needs::tell_needs;
use super::record::Stored;
use super::state::{Overtaken, Pinned, State};

/// Ranges to be read for the first entry that waits, and from which state.
#[derive(Clone, Debug)]
pub struct RangesWanted {
    entry: Index,
    /// Ascending, apart from each other.
    ranges: Vec<KeyRange>,
    pinned: Pinned,
}

/// What they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangesFound {
    entry: Index,
    ranges: Vec<KeyRange>,
    held: HeldInRanges,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HeldInRanges {
    /// These keys, ascending, each with its whole record.
    Records(Vec<(Bytes, Stored)>),
    /// More than one transaction may depend on.
    TooMuch,
    /// The base has drained further than what was pinned: ask again.
    Overtaken,
}

impl RangesWanted {
    /// Reads them over `view`, of the store's base as it is now.
    ///
    /// # Errors
    /// Of the base.
    pub fn read<V: BaseView>(self, view: V) -> Result<RangesFound, StoreError> {
        let RangesWanted {
            entry,
            ranges,
            pinned,
        } = self;
        let held = match pinned.over(view)? {
            Ok(state) => held_in(&ranges, &state)?,
            Err(Overtaken) => HeldInRanges::Overtaken,
        };
        Ok(RangesFound { entry, ranges, held })
    }
}

fn held_in<V: BaseView>(ranges: &[KeyRange], state: &State<V>) -> Result<HeldInRanges, StoreError> {
    let mut records = Vec::new();
    let mut bytes = 0;
    for KeyRange { from, to } in ranges {
        for record in state.range(from, to.as_deref()) {
            let (key, stored) = record?;
            bytes += key.len() + stored.value.len();
            if records.len() == MAX_TXN_KEYS || bytes > MAX_TXN_RANGE_BYTES {
                return Ok(HeldInRanges::TooMuch);
            }
            records.push((Bytes::copy_from_slice(&key), owned(&stored)));
        }
    }
    Ok(HeldInRanges::Records(records))
}

/// The ranges of the entry that is applied next, once they were read.
#[derive(Debug)]
pub(super) struct GatheredRanges {
    entry: Index,
    ranges: Vec<KeyRange>,
    /// Their keys, ascending; `None`: more than one transaction may depend on.
    keys: Option<Vec<Bytes>>,
}

impl GatheredRanges {
    /// Was all read of a range that the key is in? Then it is there, or nowhere.
    pub(super) fn cover(&self, key: &[u8]) -> bool {
        let at = self.ranges.partition_point(|range| range.from <= key);
        let range = at.checked_sub(1).map(|at| &self.ranges[at]);
        self.keys.is_some() && range.is_some_and(|range| range.contains(key))
    }
}

impl Store {
    /// The ranges that the command of the entry which is applied next depends on; `None`: on none, or they were read.
    pub(super) fn ranges_wanted(&self, entry: &Entry) -> Option<Box<RangesWanted>> {
        if self.has_ranges_of(entry.id.index) {
            return None;
        }
        let mut ranges = Vec::new();
        tell_needs(&decoded(entry), &mut |keys, _| {
            if let Keys::Range { from, to } = keys {
                ranges.push(KeyRange {
                    from: Bytes::copy_from_slice(from),
                    to: to.map(Bytes::copy_from_slice),
                });
            }
        });
        if ranges.is_empty() {
            return None;
        }
        Some(Box::new(RangesWanted {
            entry: entry.id.index,
            ranges: merged(ranges),
            pinned: self.pin(),
        }))
    }

    /// Were the ranges of this entry's command read?
    pub(super) fn has_ranges_of(&self, entry: Index) -> bool {
        let ranges = self.gathered.ranges.as_ref();
        ranges.is_some_and(|ranges| ranges.entry == entry)
    }

    /// What was asked for the entry that is applied next was read.
    pub(super) fn gather_ranges(&mut self, found: RangesFound) {
        let keys = match found.held {
            HeldInRanges::Overtaken => return,
            HeldInRanges::TooMuch => None,
            HeldInRanges::Records(records) => {
                let mut keys = Vec::with_capacity(records.len());
                for (key, stored) in records {
                    self.gather_whole(&key, stored);
                    keys.push(key);
                }
                Some(keys)
            }
        };
        self.gathered.ranges = Some(GatheredRanges {
            entry: found.entry,
            ranges: found.ranges,
            keys,
        });
    }

    /// May the transaction that is executed depend on all that its ranges hold?
    ///
    /// # Errors
    /// When that is too much.
    pub(super) fn check_ranges(&self) -> Result<(), Failure> {
        match &self.gathered.ranges {
            Some(GatheredRanges { keys: None, .. }) => Err(too_much()),
            Some(_) | None => Ok(()),
        }
    }

    /// Keys of `from..to`, ascending, that were there before the entry which is executed; some of them have expired with it.
    pub(super) fn gathered_in(&self, from: &[u8], to: Option<&[u8]>) -> &[Bytes] {
        let ranges = self.gathered.ranges.as_ref();
        let keys = ranges.and_then(|ranges| ranges.keys.as_deref());
        let keys = keys.unwrap_or_else(|| unreachable!("an entry waits for the ranges that it depends on"));
        let begin = keys.partition_point(|key| key[..] < *from);
        let end = to.map_or(keys.len(), |to| keys.partition_point(|key| key[..] < *to));
        &keys[begin..end.max(begin)]
    }
}

fn too_much() -> Failure {
    let message = format!(
        "the ranges of the transaction hold more than {MAX_TXN_KEYS} keys, or more than {MAX_TXN_RANGE_BYTES} bytes of keys \
         and values; nothing was changed. Name narrower ranges"
    );
    Failure::new(ErrorCode::TooLarge, message)
}

/// The same keys in ranges that ascend and do not touch.
fn merged(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.retain(|range| range.to.as_ref().is_none_or(|to| range.from < *to));
    ranges.sort_unstable_by(|one, other| one.from.cmp(&other.from));
    let mut merged: Vec<KeyRange> = Vec::new();
    for range in ranges {
        let Some(last) = merged.last_mut() else {
            merged.push(range);
            continue;
        };
        match (&last.to, &range.to) {
            (Some(end), _) if *end < range.from => merged.push(range),
            (Some(end), Some(to)) => last.to = Some(end.max(to).clone()),
            (None, _) | (Some(_), None) => last.to = None,
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_read_as_one() {
        let range = |(from, to): (&'static str, Option<&'static str>)| KeyRange {
            from: from.into(),
            to: to.map(Bytes::from),
        };
        for (ranges, expected) in [
            (vec![], vec![]),
            (vec![("b", Some("a")), ("c", Some("c"))], vec![]),
            (
                vec![("c", Some("d")), ("a", Some("b"))],
                vec![("a", Some("b")), ("c", Some("d"))],
            ),
            (vec![("a", Some("b")), ("b", Some("c"))], vec![("a", Some("c"))]),
            (
                vec![("a", Some("z")), ("b", Some("c")), ("y", Some("zz"))],
                vec![("a", Some("zz"))],
            ),
            (
                vec![("a", Some("c")), ("b", None), ("d", Some("e"))],
                vec![("a", None)],
            ),
            (
                vec![("b", None), ("a", Some("aa"))],
                vec![("a", Some("aa")), ("b", None)],
            ),
        ] {
            let ranges = ranges.into_iter().map(range).collect();
            let expected: Vec<_> = expected.into_iter().map(range).collect();
            assert_eq!(merged(ranges), expected);
        }
    }
}
