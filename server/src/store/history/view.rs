//! What a reader holds of history: the generations as of one moment.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::error::HistoryError;
use super::events::Events;
use super::file::Sealed;
use super::format::Bad;
use super::generation::Generation;
use super::images::{ImageKeys, decode_image};
use super::index::newest;
use super::names::Content;
use super::range::{Direction, KeyRange};
use super::shared::{Generations, Kept};
use super::transfer::HistoryFile;
use crate::disk::DiskFile;
use crate::store::{GenerationNumber, Slot, StoreError, Stored};

/// The generations that were kept when it was made. A trim does not disturb it; events that come later to the newest of
/// them are seen. Cheap to make and to clone.
#[derive(Debug)]
pub struct HistoryView<F> {
    generations: Generations<F>,
    /// Where those begin that explain the past.
    readable_from: GenerationNumber,
    oldest_kept: Revision,
}

impl<F> Clone for HistoryView<F> {
    fn clone(&self) -> Self {
        HistoryView {
            generations: self.generations.clone(),
            readable_from: self.readable_from,
            oldest_kept: self.oldest_kept,
        }
    }
}

impl<F: DiskFile> HistoryView<F> {
    pub(super) fn new(kept: &Kept<F>) -> HistoryView<F> {
        HistoryView {
            generations: kept.generations.clone(),
            readable_from: kept.readable_from,
            oldest_kept: kept.oldest_kept,
        }
    }

    fn readable(&self) -> &[Arc<Generation<F>>] {
        let begin = self
            .generations
            .partition_point(|generation| generation.number < self.readable_from);
        &self.generations[begin..]
    }

    /// The oldest revision whose state can be read.
    #[must_use]
    pub fn oldest_kept(&self) -> Revision {
        self.oldest_kept
    }

    /// The files of all generations up to `through`, which was drained, oldest first: what a snapshot takes along.
    #[must_use]
    pub fn files(&self, through: GenerationNumber) -> Vec<HistoryFile<F>> {
        let drained = self.generations.iter().filter(|g| g.number <= through);
        drained
            .filter_map(|generation| Some((generation.sealed()?, generation.images()?.clone())))
            .flat_map(|(events, images)| [HistoryFile::of(events), HistoryFile::of(images)])
            .collect()
    }

    /// The newest event of `key` at or below `at`, as far as events are kept. Its lineage is as it was written.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn newest_event(&self, key: &[u8], at: Revision) -> Result<Option<Slot>, StoreError> {
        newest_of(self.readable(), key, at)
    }

    /// As [`HistoryView::newest_event`], of the generations behind `drained` alone: what the base that holds that one lacks.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn newest_undrained_event(
        &self,
        key: &[u8],
        at: Revision,
        drained: Option<GenerationNumber>,
    ) -> Result<Option<Slot>, StoreError> {
        let readable = self.readable();
        let begin = readable.partition_point(|generation| Some(generation.number) <= drained);
        newest_of(&readable[begin..], key, at)
    }

    /// What the first image of `key` says whose generation changed it first behind `at`: `Some(None)` when there was no
    /// such key, `None` without an image.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn first_image_after(&self, key: &[u8], at: Revision) -> Result<Option<Option<Stored>>, StoreError> {
        for generation in self.changed_after(at) {
            // Generations drain in order.
            let Some(images) = generation.images() else { break };
            // While this was held its images were given up: what the later ones say is what this one made. Who reads from before
            // has the layers of before.
            if generation.is_given_up() {
                break;
            }
            let image = image_of(images, key)?;
            let Some(entry) = image.filter(|entry| entry.revision > at) else {
                continue;
            };
            let bad = |what| images.blocks.bad(0, Bad::Damaged(what));
            return decode_image(entry.record).map(Some).map_err(bad);
        }
        Ok(None)
    }

    /// What `key` was at `at`, as far as history alone explains it: its newest event, else the first image behind. `None`: it
    /// does not, the layers know.
    ///
    /// # Errors
    /// Of the disk, or damage.
    pub fn explained(&self, key: &[u8], at: Revision) -> Result<Option<Option<Slot>>, StoreError> {
        if let Some(slot) = self.newest_event(key, at)? {
            return Ok(Some(Some(slot)));
        }
        let image = self.first_image_after(key, at)?;
        Ok(image.map(|image| image.map(Slot::Live)))
    }

    fn changed_after(&self, at: Revision) -> &[Arc<Generation<F>>] {
        let readable = self.readable();
        let start = readable.partition_point(|g| g.span().last <= at);
        &readable[start..]
    }

    /// The last revision of which no event tells, behind `at`, in one row: where a recovery let revisions leap, far behind it. `at`
    /// itself elsewhere.
    #[must_use]
    pub fn leapt(&self, at: Revision) -> Revision {
        let readable = self.readable();
        let generation = readable.get(readable.partition_point(|g| g.span().last < at));
        generation.and_then(|g| g.ends_without_events()).unwrap_or(at)
    }

    /// Events from this revision on are there.
    #[must_use]
    pub fn first_event(&self) -> Revision {
        // An empty store has revision 1, which no event made.
        let begins = self.readable().first().map(|first| first.span().before);
        let first_event = begins.filter(|begins| *begins > Revision(1));
        first_event.map_or(Revision(1), |begins| Revision(begins.0 + 1))
    }

    /// The newest revision that there was at a log time: that of the last applied batch which is not later, and never more
    /// than `current`. Batches are a node's own, so nodes may differ by what one of them applies at once.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] when that revision is not kept any more. Of the disk, or damage.
    pub fn revision_at(&self, log_time_us: u64, current: Revision) -> Result<Revision, HistoryError> {
        let has_begun =
            |g: &std::sync::Arc<super::generation::Generation<F>>| g.span().first_log_time_us <= log_time_us;
        let readable = self.readable();
        let begun = readable.partition_point(has_begun);
        let found = match (begun.checked_sub(1), readable.first()) {
            (Some(last), _) => {
                let generation = &readable[last];
                let found = generation.newest_by(log_time_us)?;
                let found = found.or_else(|| generation.ends_without_events());
                found.unwrap_or_else(|| generation.span().before)
            }
            (None, Some(first)) => first.span().before,
            (None, None) => current,
        };
        if found < self.oldest_kept {
            return Err(HistoryError::Compacted {
                oldest_kept: self.oldest_kept,
            });
        }
        Ok(found.min(current))
    }

    /// All events from revision `from` to `to`, both included, of these keys, in order. Holds one piece of 64 KiB (or one
    /// event that is larger), and of the newest generation the events that waited to be written when it came there.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] when events from `from` on are not kept any more.
    pub fn events(&self, from: Revision, to: Revision, keys: KeyRange) -> Result<Events<F>, HistoryError> {
        let first_event = self.first_event();
        let oldest_kept = self.oldest_kept.max(first_event);
        if from < self.oldest_kept || from < first_event {
            return Err(HistoryError::Compacted { oldest_kept });
        }
        let readable = self.readable();
        let start = readable.partition_point(|g| g.span().last < from);
        Ok(Events::new(readable[start..].into(), from, to, keys))
    }

    /// The keys that drained generations changed behind `at`, of each generation in order.
    pub(super) fn image_keys_after(
        &self,
        at: Revision,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Vec<ImageKeys<F>>, StoreError> {
        let images = self.changed_after(at).iter().map_while(|g| g.images());
        images
            .map(|images| ImageKeys::new(images.clone(), range.clone(), direction))
            .collect()
    }
}

/// The newest event of `key` at or below `at` in these.
fn newest_of<F: DiskFile>(
    generations: &[Arc<Generation<F>>],
    key: &[u8],
    at: Revision,
) -> Result<Option<Slot>, StoreError> {
    let end = generations.partition_point(|g| g.span().before < at);
    for generation in generations[..end].iter().rev() {
        let Some(entry) = generation.newest(key, at)? else {
            continue;
        };
        let id = generation.file_id(Content::Events);
        let slot =
            Slot::decode(entry.record).map_err(|what| super::file::bad_file(id, 0, Bad::Damaged(what)))?;
        return Ok(Some(slot));
    }
    Ok(None)
}

fn image_of<F: DiskFile>(images: &Sealed<F>, key: &[u8]) -> Result<Option<super::format::Entry>, StoreError> {
    let mut read = |offset| images.blocks.entry(offset);
    newest(&mut images.pointers(), key, Revision(u64::MAX), &mut read)
}

/// Reads a slot out of an event's record.
pub(super) fn decode_slot(record: Bytes) -> Result<Slot, Bad> {
    Slot::decode(record).map_err(Bad::Damaged)
}
