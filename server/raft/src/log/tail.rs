//! The entries kept in memory: the end of the log.

use std::collections::VecDeque;

use crate::{Entry, Index};

/// How much one message or hand-over may hold. One entry always fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) last: Index,
    pub(crate) max_entries: usize,
    pub(crate) max_bytes: usize,
}

/// Some entries in a row, and what they weigh.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) size_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Tail {
    first: Index,
    entries: VecDeque<Entry>,
    size_bytes: usize,
}

impl Tail {
    pub(super) fn starting_at(first: Index) -> Tail {
        Tail {
            first,
            entries: VecDeque::new(),
            size_bytes: 0,
        }
    }

    pub(super) fn first(&self) -> Index {
        self.first
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.size_bytes += entry.size_bytes();
        self.entries.push_back(entry);
    }

    pub(super) fn truncate(&mut self, from: Index) {
        if from <= self.first {
            *self = Tail::starting_at(from);
            return;
        }
        for entry in self.entries.drain(self.place(from).min(self.entries.len())..) {
            self.size_bytes -= entry.size_bytes();
        }
    }

    pub(super) fn evict(&mut self, limit: usize, up_to: Index) {
        while self.size_bytes > limit && self.first <= up_to {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.size_bytes -= entry.size_bytes();
            self.first = self.first.next();
        }
    }

    /// The log starts after `base` now.
    pub(super) fn compact(&mut self, base: Index) {
        while self.first <= base {
            if let Some(entry) = self.entries.pop_front() {
                self.size_bytes -= entry.size_bytes();
            }
            self.first = self.first.next();
        }
    }

    pub(super) fn slice(&self, from: Index, limits: Limits) -> Option<Batch> {
        if from < self.first {
            return None;
        }
        let available = self.between(from, limits.last).take(limits.max_entries);
        let (mut count, mut size_bytes) = (0, 0);
        for entry in available {
            if count > 0 && size_bytes + entry.size_bytes() > limits.max_bytes {
                break;
            }
            count += 1;
            size_bytes += entry.size_bytes();
        }
        let entries = self.between(from, limits.last).take(count).cloned().collect();
        Some(Batch { entries, size_bytes })
    }

    pub(super) fn from(&self, from: Index) -> Vec<Entry> {
        assert!(
            from >= self.first,
            "{from} is below the tail, which starts at {}",
            self.first
        );
        self.entries
            .range(self.place(from).min(self.entries.len())..)
            .cloned()
            .collect()
    }

    pub(super) fn size_bytes_between(&self, from: Index, to: Index) -> usize {
        assert!(
            from >= self.first,
            "{from} is below the tail, which starts at {}",
            self.first
        );
        self.between(from, to).map(Entry::size_bytes).sum()
    }

    fn between(&self, from: Index, to: Index) -> impl Iterator<Item = &Entry> {
        let end = self.place(to.next()).min(self.entries.len());
        self.entries.range(self.place(from).min(end)..end)
    }

    fn place(&self, index: Index) -> usize {
        usize::try_from(index.distance_from(self.first)).unwrap_or(usize::MAX)
    }
}
