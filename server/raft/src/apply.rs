//! Handing committed entries to the state machine: in order, each once, and not faster than it applies them (R73, R78).

use std::collections::VecDeque;

use crate::log::{Limits, Log};
use crate::simulation::mark;
use crate::{Config, Entry, Fetch, FetchPurpose, Index};

#[derive(Debug)]
pub(crate) struct Apply {
    applied: Index,
    /// The last entry handed out.
    handed: Index,
    /// Read back from the durable log, to be handed out next.
    fetched: Vec<Entry>,
    /// Last index and size of each batch that is handed out and not applied.
    unapplied: VecDeque<(Index, usize)>,
    unapplied_bytes: usize,
}

impl Apply {
    pub(crate) fn new(applied: Index) -> Apply {
        Apply {
            applied,
            handed: applied,
            fetched: Vec::new(),
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
        }
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn applied_up_to(&mut self, index: Index) {
        assert!(
            index <= self.handed,
            "applied up to {index} is reported, entries were handed out up to {}",
            self.handed
        );
        self.applied = self.applied.max(index);
        while let Some((last, size_bytes)) = self.unapplied.front() {
            if *last > index {
                break;
            }
            self.unapplied_bytes -= size_bytes;
            self.unapplied.pop_front();
        }
    }

    /// A snapshot up to `index` takes the state's place: what was handed out, or read back for it, is part of it.
    pub(crate) fn jump(&mut self, index: Index) {
        assert!(
            index >= self.handed,
            "applied never goes back: a snapshot up to {index}, entries were handed out up to {}",
            self.handed
        );
        *self = Apply::new(index);
    }

    /// The next batch of what is committed *and* durable here (R29): `ready` is the lesser of the two.
    pub(crate) fn next_batch(&mut self, log: &Log, ready: Index, config: &Config) -> Vec<Entry> {
        if self.handed >= ready || self.unapplied_bytes >= config.max_apply_bytes {
            return Vec::new();
        }
        let entries = if self.fetched.is_empty() {
            let limits = Limits {
                last: ready,
                max_entries: usize::MAX,
                max_bytes: config.max_apply_bytes,
            };
            match log.slice(self.handed.next(), limits) {
                Some(batch) => batch.entries,
                None => return Vec::new(),
            }
        } else {
            std::mem::take(&mut self.fetched)
        };
        self.hand_out(&entries);
        entries
    }

    fn hand_out(&mut self, entries: &[Entry]) {
        let last = entries.last().expect("at least one entry is ready").id.index;
        assert!(
            entries[0].id.index == self.handed.next(),
            "entries are handed out without gaps"
        );
        let size_bytes = entries.iter().map(Entry::size_bytes).sum();
        self.handed = last;
        self.unapplied.push_back((last, size_bytes));
        self.unapplied_bytes += size_bytes;
    }

    /// What has to be read back before more can be handed out: after a restart, entries below the tail.
    pub(crate) fn wanted_fetch(&self, log: &Log, ready: Index, config: &Config) -> Option<Fetch> {
        let from = self.handed.next();
        let is_full = self.unapplied_bytes >= config.max_apply_bytes;
        if !self.fetched.is_empty() || from > ready || from >= log.tail_first() || is_full {
            return None;
        }
        let below_tail = log.tail_first().previous().expect("the tail starts above `from`");
        Some(Fetch {
            purpose: FetchPurpose::Apply,
            from,
            to: ready.min(below_tail),
            max_bytes: config.max_apply_bytes,
        })
    }

    /// Committed entries never change, so what was asked for still fits; the terms are checked all the same.
    pub(crate) fn take_fetched(&mut self, log: &Log, entries: Vec<Entry>) {
        for entry in &entries {
            assert!(
                log.holds(entry.id),
                "the durable log gave entry {} for apply, the log holds {:?} there",
                entry.id,
                log.id_at(entry.id.index)
            );
        }
        mark("fetched for apply");
        self.fetched = entries;
    }
}
