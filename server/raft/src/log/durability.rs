//! What is durable, what is on its way to disk, and what no write carries yet.
//!
//! Writes finish in order, so a finished write proves the whole log as it was when the write was handed out. A cut made
//! since then takes back what it would prove beyond the cut: its completion speaks of entries that are no longer ours
//! (R35, the ABA of overwritten indices).

use std::collections::VecDeque;

use crate::simulation::{mark, mutant};
use crate::{Index, Time, WriteNumber};

#[derive(Debug)]
struct UnderWay {
    number: WriteNumber,
    /// Everything up to here is durable once this write is.
    proves: Index,
    started: Time,
}

/// What one write covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) number: WriteNumber,
    pub(crate) truncate_from: Option<Index>,
    /// The first entry it carries; one past the end when it carries none.
    pub(crate) first: Index,
}

#[derive(Debug)]
pub(super) struct Durability {
    persisted: Index,
    /// The last index that some write carries.
    written: Index,
    /// A cut into what was written, to be told to the disk by the next write.
    cut: Option<Index>,
    under_way: VecDeque<UnderWay>,
    last_started: WriteNumber,
    last_finished: WriteNumber,
}

impl Durability {
    pub(super) fn new(persisted: Index) -> Durability {
        Durability {
            persisted,
            written: persisted,
            cut: None,
            under_way: VecDeque::new(),
            last_started: WriteNumber(0),
            last_finished: WriteNumber(0),
        }
    }

    pub(super) fn persisted(&self) -> Index {
        self.persisted
    }

    pub(super) fn persisted_write(&self) -> WriteNumber {
        self.last_finished
    }

    pub(super) fn next_write(&self) -> WriteNumber {
        WriteNumber(self.last_started.0 + 1)
    }

    pub(super) fn oldest_started(&self) -> Option<Time> {
        self.under_way.front().map(|write| write.started)
    }

    pub(super) fn has_unwritten(&self, last: Index) -> bool {
        self.cut.is_some() || last > self.written
    }

    pub(super) fn truncate(&mut self, from: Index) {
        let keep = from.previous().expect("the first index is never cut");
        if from > self.written {
            return;
        }
        self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
        self.written = keep;
        if mutant("X12_late_completion_counts_for_new_entries") {
            return;
        }
        self.persisted = self.persisted.min(keep);
        for write in &mut self.under_way {
            if write.proves > keep {
                mark("write completion capped by a truncation");
                write.proves = keep;
            }
        }
    }

    /// The whole log gives way to a snapshot that ends at `base`. What is under way to the old log proves no more than
    /// `committed`, which is the same in every log; all else of it is ours no longer.
    pub(super) fn reset(&mut self, base: Index, committed: Index) {
        self.cut = None;
        self.written = base;
        if mutant("X20_log_reset_counts_before_it_is_durable") {
            self.persisted = base;
            return;
        }
        self.persisted = self.persisted.min(committed);
        for write in &mut self.under_way {
            write.proves = write.proves.min(committed);
        }
    }

    /// Hands out the number of the step that makes the snapshot's `base` the log's.
    pub(super) fn start_install(&mut self, base: Index, now: Time) -> WriteNumber {
        let number = self.next_write();
        self.last_started = number;
        self.under_way.push_back(UnderWay {
            number,
            proves: base,
            started: now,
        });
        number
    }

    pub(super) fn start_write(&mut self, last: Index, now: Time) -> Span {
        let span = Span {
            number: self.next_write(),
            truncate_from: self.cut.take(),
            first: self.written.next(),
        };
        self.last_started = span.number;
        self.written = last;
        self.under_way.push_back(UnderWay {
            number: span.number,
            proves: last,
            started: now,
        });
        span
    }

    pub(super) fn finish(&mut self, number: WriteNumber, last: Index) {
        assert!(
            number <= self.last_started,
            "write {number:?} is reported durable, the last one handed out is {:?}",
            self.last_started
        );
        while let Some(write) = self.under_way.front() {
            if write.number > number {
                break;
            }
            self.persisted = self.persisted.max(write.proves).min(last);
            self.under_way.pop_front();
        }
        self.last_finished = self.last_finished.max(number);
    }
}
