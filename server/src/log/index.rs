//! Where entries stand: stretches of batches, in memory, shared by the log and its readers.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use raftkv_raft::Index;

/// A stretch takes in further batches up to this size: the more, the smaller the index; the less, the less is read for
/// one entry. At 64 KiB the index of 1 TB takes some 1.2 GB, that of the 10 GB a node keeps 12 MB.
const STRETCH_BYTES: u64 = 64 << 10;

/// Batches that stand one behind the other in one segment, and the entries of them that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) first_batch: u64,
    /// Chain of the batch before the first.
    pub(super) chain_before: u32,
    pub(super) first: Index,
    /// What the batches hold behind it was truncated later.
    pub(super) last: Index,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) batch: u64,
    pub(super) chain_before: u32,
}

/// What a batch does to the log, all its records taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Entries of earlier batches from here on are cut.
    cut_from: Option<Index>,
    /// Entries it adds.
    entries: Option<(Index, Index)>,
}

impl Content {
    /// An entry's record.
    pub(super) fn push(&mut self, index: Index) {
        let first = self.entries.map_or(index, |(first, _)| first);
        self.entries = Some((first, index));
    }

    /// A truncation's record.
    pub(super) fn cut_behind(&mut self, left: Index) {
        match self.entries {
            Some((first, last)) if first <= left => self.entries = Some((first, last.min(left))),
            _ => {
                self.entries = None;
                let cut = left.next();
                self.cut_from = Some(self.cut_from.map_or(cut, |before| before.min(cut)));
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct EntryIndex {
    stretches: VecDeque<Stretch>,
}

impl EntryIndex {
    pub(super) fn add(&mut self, place: Place, content: Content) {
        if let Some(cut) = content.cut_from {
            self.cut(cut);
        }
        let room = |stretch: &Stretch| {
            stretch.segment == place.segment
                && stretch.end == place.offset
                && stretch.end - stretch.offset < STRETCH_BYTES
        };
        let tail = self
            .stretches
            .back_mut()
            .filter(|tail| content.cut_from.is_none() && room(tail));
        match (tail, content.entries) {
            (Some(tail), Some((first, last))) => {
                assert_eq!(
                    first,
                    tail.last.next(),
                    "entries of neighbouring batches are contiguous"
                );
                tail.last = last;
                tail.end = place.end;
            }
            (Some(tail), None) => tail.end = place.end,
            (None, Some((first, last))) => self.stretches.push_back(Stretch {
                segment: place.segment,
                offset: place.offset,
                end: place.end,
                first_batch: place.batch,
                chain_before: place.chain_before,
                first,
                last,
            }),
            (None, None) => {}
        }
    }

    fn cut(&mut self, from: Index) {
        while self.stretches.back().is_some_and(|tail| tail.first >= from) {
            self.stretches.pop_back();
        }
        if let (Some(tail), Some(left)) = (self.stretches.back_mut(), from.previous()) {
            tail.last = tail.last.min(left);
        }
    }

    /// Forgets the segments below `segment`.
    pub(super) fn compact(&mut self, segment: u64) {
        while self.stretches.front().is_some_and(|head| head.segment < segment) {
            self.stretches.pop_front();
        }
    }

    /// The first entry that can be read from `segment` or a later one.
    pub(super) fn first_from(&self, segment: u64) -> Option<Index> {
        let at = self
            .stretches
            .partition_point(|stretch| stretch.segment < segment);
        self.stretches.get(at).map(|stretch| stretch.first)
    }

    /// Stretches that hold the entries from `from` to at most `to`, and no more than it takes to pass `max_bytes`; none
    /// if `from` is not here.
    pub(super) fn find_run(&self, from: Index, to: Index, max_bytes: usize) -> Vec<Stretch> {
        let Some(at) = self.find(from) else {
            return Vec::new();
        };
        let mut run = Vec::new();
        let mut bytes = 0;
        for stretch in self.stretches.range(at..) {
            if stretch.first > to || (run.len() > 1 && bytes >= max_bytes as u64) {
                break;
            }
            // The first stretch may begin long before `from`: it does not count.
            if !run.is_empty() {
                bytes += stretch.end - stretch.offset;
            }
            run.push(*stretch);
        }
        run
    }

    fn find(&self, index: Index) -> Option<usize> {
        let at = self.stretches.partition_point(|stretch| stretch.last < index);
        let found = self.stretches.get(at)?;
        (found.first <= index).then_some(at)
    }
}

/// The index, shared.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedIndex(Arc<RwLock<EntryIndex>>);

impl SharedIndex {
    pub(super) fn new(index: EntryIndex) -> SharedIndex {
        SharedIndex(Arc::new(RwLock::new(index)))
    }

    pub(super) fn read<T>(&self, ask: impl FnOnce(&EntryIndex) -> T) -> T {
        // No holder of the lock leaves the index half changed: a panic elsewhere does not make it wrong.
        ask(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut EntryIndex)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
