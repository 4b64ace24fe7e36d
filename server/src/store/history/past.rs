//! Reads in the past: records and ranges as they were at a kept revision.

use std::iter::Peekable;

use bytes::Bytes;
use raftkv_protocol::{Record, Revision};

use super::error::HistoryError;
use super::handle::History;
use super::images::ImageKeys;
use super::range::{Direction, KeyRange};
use super::view::HistoryView;
use crate::disk::{Disk, DiskFile};
use crate::store::{Slot, StoreError, Stored};

/// The current state: the active generation, the frozen ones, and the base, all as of one moment.
pub trait Layers {
    /// What the newest layer that knows `key` says, its lineage resolved; `None` when none does.
    ///
    /// # Errors
    /// Of the base.
    fn newest(&self, key: &[u8]) -> Result<Option<Slot>, StoreError>;

    /// What the newest layer says whose slot of `key` is not newer than `at`; each layer has its newest only. Of the
    /// base's rows the lineage is always known, of the others it may be open.
    ///
    /// # Errors
    /// Of the base.
    fn newest_at_or_below(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError>;

    /// The keys that any layer knows, deleted ones as well, each once and in order, with what [`Layers::newest`] says.
    fn slots(
        &self,
        range: &KeyRange,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<(Bytes, Slot), StoreError>> + '_>;
}

/// The state at any kept revision, as of one moment.
pub struct Past<F, L> {
    view: HistoryView<F>,
    layers: L,
    pub(super) current: Revision,
}

impl<F: DiskFile, L: Layers> Past<F, L> {
    /// `layers` are as of revision `current`, and older than this call: the view of history is taken here, so that it has
    /// the image of whatever the layers' base has written over.
    pub fn new<D: Disk<File = F>>(history: &History<D>, layers: L, current: Revision) -> Past<F, L> {
        Past {
            view: history.view(),
            layers,
            current,
        }
    }

    /// The history that it reads.
    pub fn view(&self) -> &HistoryView<F> {
        &self.view
    }

    fn check(&self, at: Revision) -> Result<(), HistoryError> {
        let oldest_kept = self.view.oldest_kept();
        if at < oldest_kept {
            return Err(HistoryError::Compacted { oldest_kept });
        }
        if at > self.current {
            return Err(HistoryError::Future {
                current: self.current,
            });
        }
        Ok(())
    }

    /// The record of `key` at revision `at`.
    ///
    /// # Errors
    /// When that revision is not kept any more, or has not come yet. Of the disk, or damage.
    pub fn record_at(&self, key: &[u8], at: Revision) -> Result<Option<Record>, HistoryError> {
        self.check(at)?;
        let newest = self.layers.newest(key)?;
        Ok(self.state_at(key, newest, at)?.map(|stored| record(&stored)))
    }

    /// The records of a range at revision `at`, in order. Holds, for each drained generation behind `at`, the keys of one
    /// block: of 32 KiB, values included.
    ///
    /// # Errors
    /// As [`Past::record_at`].
    pub fn range_at(
        &self,
        range: &KeyRange,
        at: Revision,
        direction: Direction,
    ) -> Result<PastRange<'_, F, L>, HistoryError> {
        self.check(at)?;
        let changed = self.view.image_keys_after(at, range, direction)?;
        Ok(PastRange {
            past: self,
            at,
            direction,
            current: self.layers.slots(range, direction).peekable(),
            changed: changed.into_iter().map(Iterator::peekable).collect(),
        })
    }

    /// The record that an event's slot stands for: resolves what a blind put left open. `None` for a deletion.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn resolve(&self, key: &[u8], slot: Slot) -> Result<Option<Record>, HistoryError> {
        let resolved = self.resolve_slot(key, slot)?;
        Ok(resolved.map(|stored| record(&stored)))
    }

    fn state_at(&self, key: &[u8], newest: Option<Slot>, at: Revision) -> Result<Option<Stored>, StoreError> {
        match newest {
            Some(Slot::Live(stored)) if stored.mod_revision <= at => Ok(Some(stored)),
            Some(Slot::Deleted(revision)) if revision <= at => Ok(None),
            Some(_) | None => match self.known_before(key, at)? {
                Some(slot) => self.resolve_slot(key, slot),
                None => Ok(None),
            },
        }
    }

    /// What is known of `key` at `at`, when its current record does not answer.
    fn known_before(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        match self.view.explained(key, at)? {
            Some(explained) => Ok(explained),
            None => self.layers.newest_at_or_below(key, at),
        }
    }

    fn resolve_slot(&self, key: &[u8], slot: Slot) -> Result<Option<Stored>, StoreError> {
        let Slot::Live(stored) = slot else {
            return Ok(None);
        };
        stored.resolved_by(|at| self.known_before(key, at)).map(Some)
    }
}

fn record(stored: &Stored) -> Record {
    stored.record().expect("a lineage that was resolved is known")
}

type CurrentSlots<'a> = Peekable<Box<dyn Iterator<Item = Result<(Bytes, Slot), StoreError>> + 'a>>;

/// Iterates over records at a revision; see [`Past::range_at`]. Ends after an error.
pub struct PastRange<'a, F: DiskFile, L> {
    past: &'a Past<F, L>,
    at: Revision,
    direction: Direction,
    current: CurrentSlots<'a>,
    changed: Vec<Peekable<ImageKeys<F>>>,
}

impl<F: DiskFile, L: Layers> PastRange<'_, F, L> {
    fn advance(&mut self) -> Result<Option<(Bytes, Record)>, StoreError> {
        while let Some(key) = self.next_key()? {
            let newest = match self.current.next_if(|item| is_of(item, &key)) {
                Some(item) => Some(item?.1),
                None => None,
            };
            for keys in &mut self.changed {
                keys.next_if(|item| item.as_ref().is_ok_and(|next| *next == key));
            }
            if let Some(stored) = self.past.state_at(&key, newest, self.at)? {
                return Ok(Some((key, record(&stored))));
            }
        }
        Ok(None)
    }

    /// The first, in the direction, of the keys that come next.
    fn next_key(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(failed) = self.current.next_if(Result::is_err) {
            failed?;
        }
        let mut first = match self.current.peek() {
            Some(Ok((key, _))) => Some(key.clone()),
            Some(Err(_)) | None => None,
        };
        for keys in &mut self.changed {
            if let Some(failed) = keys.next_if(Result::is_err) {
                failed?;
            }
            let Some(Ok(key)) = keys.peek() else { continue };
            let is_first = first.as_ref().is_none_or(|first| match self.direction {
                Direction::Ascending => key < first,
                Direction::Descending => key > first,
            });
            if is_first {
                first = Some(key.clone());
            }
        }
        Ok(first)
    }

    fn end(&mut self) {
        let none: Box<dyn Iterator<Item = _>> = Box::new(std::iter::empty());
        self.current = none.peekable();
        self.changed.clear();
    }
}

fn is_of(item: &Result<(Bytes, Slot), StoreError>, key: &Bytes) -> bool {
    item.as_ref().is_ok_and(|(next, _)| next == key)
}

impl<F: DiskFile, L: Layers> Iterator for PastRange<'_, F, L> {
    type Item = Result<(Bytes, Record), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.end();
        }
        next.transpose()
    }
}
