//! What the core knows of the log: the terms of all its entries, the entries of its tail, and what of it is durable.
//!
//! ```text
//!   base        tail.first             last
//!    |-----------|----------------------|
//!    | terms only| entries in memory    |      persisted <= written <= last
//! ```
//! Entries below the tail come back from the durable log by [`Fetch`](crate::Fetch). An entry leaves the tail only when
//! it is durable and applied, so what the core still has to write or hand out never needs a fetch, but for the entries
//! that a restart left unapplied.
//!
//! The base moves up when the durable log is compacted, and jumps when a snapshot takes the log's place. After a jump
//! `persisted` may lie below the base until the snapshot is durable: then it tells what the old log holds for sure.

mod durability;
mod tail;
mod term_runs;

use crate::simulation::{buggify, mark};
use crate::{Entry, EntryId, Index, Term, Time, WriteNumber};
use durability::Durability;
pub(crate) use durability::Span;
use tail::Tail;
pub(crate) use tail::{Batch, Limits};
use term_runs::TermRuns;

/// The log as the core sees it.
#[derive(Debug)]
pub(crate) struct Log {
    base: EntryId,
    last: EntryId,
    runs: TermRuns,
    tail: Tail,
    durability: Durability,
}

impl Log {
    /// The log of a node that starts: everything durable, nothing in memory.
    pub(crate) fn restored(base: EntryId, later_runs: &[(Index, Term)], last: EntryId) -> Log {
        let log = Log {
            base,
            last,
            runs: TermRuns::new(base, later_runs),
            tail: Tail::starting_at(last.index.next()),
            durability: Durability::new(last.index),
        };
        assert_eq!(
            log.id_at(last.index),
            Some(last),
            "restored terms agree with the last entry"
        );
        log
    }

    /// The founding entry, or a snapshot's last one.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// Index of the first entry that is in memory (one past the last entry when none is).
    pub(crate) fn tail_first(&self) -> Index {
        self.tail.first()
    }

    /// The id of the entry at `index`; `None` below the base and beyond the end.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        if index < self.base.index || index > self.last.index {
            return None;
        }
        Some(EntryId {
            term: self.runs.term_at(index),
            index,
        })
    }

    /// Is this very entry in the log (or is it the base)?
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// The greatest id at or below `index` with a term of at most `term`; the base when there is none (R24).
    pub(crate) fn greatest_up_to(&self, index: Index, term: Term) -> EntryId {
        let index = index.min(self.last.index).max(self.base.index);
        let found = self.runs.last_index_up_to(index, term).unwrap_or(self.base.index);
        self.id_at(found).expect("between base and last")
    }

    /// Appends entries that follow the last one (R16: terms never fall).
    ///
    /// # Panics
    /// When they leave a gap or lower the term.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            assert!(
                entry.id.index == self.last.index.next() && entry.id.term >= self.last.term,
                "entry {} can not follow {}",
                entry.id,
                self.last
            );
            self.last = entry.id;
            self.runs.append(entry.id);
            self.tail.append(entry);
        }
    }

    /// Cuts every entry from `from` on. What is under way to disk can from now on prove only what is left (R35).
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.base.index && from <= self.last.index,
            "a cut from {from} lies in the log {}..={}",
            self.base,
            self.last
        );
        mark("truncated");
        let keep = from
            .previous()
            .expect("an index above the base has one before it");
        self.runs.truncate(from);
        self.tail.truncate(from);
        self.durability.truncate(from);
        self.last = self.id_at_kept(keep);
    }

    fn id_at_kept(&self, index: Index) -> EntryId {
        EntryId {
            term: self.runs.term_at(index),
            index,
        }
    }

    /// Entries from `from` on, as many as `limits` allow (at least one, when there is one); `None` below the tail.
    pub(crate) fn slice(&self, from: Index, limits: Limits) -> Option<Batch> {
        self.tail.slice(from, limits)
    }

    /// Uncommitted or just committed entries `from..=to`, for accounting; all must be in the tail.
    pub(crate) fn size_bytes_between(&self, from: Index, to: Index) -> usize {
        self.tail.size_bytes_between(from, to)
    }

    /// Drops entries from the front while the tail is over `limit` bytes, but only durable ones up to `applied`. Slow
    /// followers do not hold entries here: they are fed by fetches.
    pub(crate) fn evict(&mut self, limit: usize, applied: Index) {
        let limit = if buggify("evict the tail to the minimum") {
            0
        } else {
            limit
        };
        self.tail.evict(limit, applied.min(self.persisted()));
    }

    /// Durable here, up to this index of the log as it is now.
    pub(crate) fn persisted(&self) -> Index {
        self.durability.persisted()
    }

    /// All writes up to this one are durable.
    pub(crate) fn persisted_write(&self) -> WriteNumber {
        self.durability.persisted_write()
    }

    /// The number of the next write.
    pub(crate) fn next_write(&self) -> WriteNumber {
        self.durability.next_write()
    }

    /// When the oldest write that is not finished was handed out.
    pub(crate) fn oldest_write_started(&self) -> Option<Time> {
        self.durability.oldest_started()
    }

    /// The durable log starts after `base` now: what the core knows of older entries goes.
    ///
    /// # Panics
    /// When the log does not hold `base`, or not durably: what was cut is not known to be in a snapshot.
    pub(crate) fn compact(&mut self, base: EntryId) {
        assert!(
            self.holds(base) && base.index <= self.persisted(),
            "the log {}..={}, durable up to {}, can not be cut after {base}",
            self.base,
            self.last,
            self.persisted()
        );
        self.runs.compact(base);
        self.tail.compact(base.index);
        self.base = base;
    }

    /// Gives the whole log up for a snapshot whose last entry is `base` (R50). `committed` is what the old log shares with
    /// every other one.
    pub(crate) fn reset(&mut self, base: EntryId, committed: Index) {
        self.base = base;
        self.last = base;
        self.runs = TermRuns::new(base, &[]);
        self.tail = Tail::starting_at(base.index.next());
        self.durability.reset(base.index, committed);
    }

    /// Hands out the step that makes the last [`Log::reset`] durable.
    pub(crate) fn start_install(&mut self, now: Time) -> WriteNumber {
        self.durability.start_install(self.base.index, now)
    }

    /// Is there a cut or an entry that no write carries yet?
    pub(crate) fn has_unwritten(&self) -> bool {
        self.durability.has_unwritten(self.last.index)
    }

    /// Hands out the next write: its number, the cut, and all entries that no write carried yet.
    pub(crate) fn start_write(&mut self, now: Time) -> (Span, Vec<Entry>) {
        let span = self.durability.start_write(self.last.index, now);
        let entries = self.tail.from(span.first);
        assert!(
            span.first > self.last.index || entries.first().map(|entry| entry.id.index) == Some(span.first),
            "unwritten entries from {} on are in memory",
            span.first
        );
        (span, entries)
    }

    /// Writes up to `number` are durable.
    pub(crate) fn finish_writes(&mut self, number: WriteNumber) {
        self.durability.finish(number, self.last.index);
    }
}

#[cfg(test)]
mod tests;
