//! The handle of one store's history, shared by all threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use raftkv_protocol::Revision;
use raftkv_raft::simulation::mark;

use super::buffer::EventBlock;
use super::format::Span;
use super::generation::Generation;
use super::images::ImageWriter;
use super::names::Content;
use super::shared::{Kept, Shared};
use super::view::HistoryView;
use crate::disk::Disk;
use crate::store::error::io_error;
use crate::store::{GenerationNumber, StoreError};

/// A store's history. All clones are one. [`History::open`] makes it.
///
/// Apply calls [`History::push`]. [`History::write_pending`] and [`History::trim`] wait for each other;
/// [`History::seal`] lets them go on while it syncs. The drain's [`ImageWriter`] goes on beside them, readers beside all.
/// Seals come one at a time, and so do image writers.
pub struct History<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for History<D> {
    fn clone(&self) -> Self {
        History {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<D: Disk> History<D> {
    /// Takes in the events of an applied batch: readable at once, written by the next [`History::write_pending`]. Comes
    /// before the revision is told to any reader.
    ///
    /// # Panics
    /// When the block's revisions do not follow the last ones, its generation is older than that of the block before or
    /// sealed, or the generation reaches 4 GiB.
    pub fn push(&self, block: EventBlock) {
        let newest = self.generation(block.generation());
        self.shared
            .pending_bytes
            .fetch_add(block.size_bytes(), Ordering::Relaxed);
        newest.push(block);
    }

    /// The generation `number`, which is the newest or comes next.
    fn generation(&self, number: GenerationNumber) -> Arc<Generation<D::File>> {
        let newest = self.shared.read(|kept| kept.generations.last().cloned());
        if let Some(newest) = newest.filter(|newest| newest.number >= number) {
            assert_eq!(
                newest.number, number,
                "events come for the newest generation only"
            );
            return newest;
        }
        self.shared
            .change(|kept| begin_through(kept, self.shared.store, number));
        self.generation(number)
    }

    /// Bytes of events that wait to be written. Who admits writes slows down when this grows.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.shared.pending_bytes.load(Ordering::Relaxed)
    }

    /// Writes what waits, not synced. One write for each generation, or for each 4 MiB of it.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    pub fn write_pending(&self) -> Result<(), StoreError> {
        let _writer = self.writer();
        self.shared.check_running()?;
        let unsealed = self.shared.read(|kept| kept.generations.clone());
        for generation in unsealed.iter().filter(|generation| generation.sealed().is_none()) {
            self.write_of(generation)?;
        }
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_of(&self, generation: &Generation<D::File>) -> Result<(), StoreError> {
        self.shared.check_running()?;
        let written = generation.write_pending(&self.shared.disk, &mut |bytes| {
            self.shared.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        });
        self.shared.stop_on_error(written)
    }

    /// The generation was frozen: no event comes for it any more. Writes the rest of it with index and footer; durable
    /// on return. In order: the one before is sealed.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    ///
    /// # Panics
    /// When it is not the oldest that is not sealed.
    pub fn seal(&self, number: GenerationNumber) -> Result<(), StoreError> {
        let writer = self.writer();
        self.shared.check_running()?;
        self.shared
            .change(|kept| begin_through(kept, self.shared.store, number));
        let kept = self.shared.read(|kept| kept.generations.clone());
        let oldest = kept.iter().find(|generation| generation.sealed().is_none());
        let generation = oldest
            .filter(|oldest| oldest.number == number)
            .unwrap_or_else(|| panic!("generation {} is not the next to seal", number.0));
        self.write_of(generation)?;
        // The sync may take long: the next generation's events are written meanwhile.
        drop(writer);
        self.shared.stop_on_error(generation.seal(&self.shared.disk))
    }

    /// The next generation, without any event, ends with this revision: those in between are never given to a change. Durable
    /// on return, events and images.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    ///
    /// # Panics
    /// When `number` is not the next one to seal and to drain, or the revision is below the last one.
    pub fn leap(&self, number: GenerationNumber, to: Revision) -> Result<(), StoreError> {
        self.generation(number).leap(to);
        self.seal(number)?;
        self.image_writer(number, None)?.finish()?;
        Ok(())
    }

    /// Begins the images of a sealed generation, which may take `most_bytes`. One that was not finished is thrown away.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    ///
    /// # Panics
    /// When it is not the oldest whose images are not finished.
    pub fn image_writer(
        &self,
        number: GenerationNumber,
        most_bytes: Option<u64>,
    ) -> Result<ImageWriter<D>, StoreError> {
        self.shared.check_running()?;
        let kept = self.shared.read(|kept| kept.generations.clone());
        let oldest = kept.iter().find(|generation| generation.images().is_none());
        let generation = oldest
            .filter(|oldest| oldest.number == number && oldest.sealed().is_some())
            .unwrap_or_else(|| panic!("generation {} is not the next to drain, or not sealed", number.0));
        let begun = ImageWriter::begin(Arc::clone(&self.shared), Arc::clone(generation), most_bytes);
        self.shared.stop_on_error(begun)
    }

    /// So much room is left on its disk.
    ///
    /// # Errors
    /// Of the disk.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.shared.disk.free_bytes()
    }

    /// Everything below `oldest_kept` may go: drops the drained generations that end before it, but for the newest
    /// drained one; what is not drained yet goes with a later call. Readers go on. `oldest_kept` never falls.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    pub fn trim(&self, oldest_kept: Revision) -> Result<(), StoreError> {
        let _writer = self.writer();
        self.shared.check_running()?;
        let dropped = self.shared.change(|kept| forget(kept, oldest_kept));
        if dropped.is_empty() {
            return Ok(());
        }
        let removed = dropped.iter().try_for_each(|generation| {
            [Content::Events, Content::Images].iter().try_for_each(|content| {
                let name = generation.file_id(*content).name();
                let removed = self.shared.disk.remove(&name);
                removed.map_err(io_error("removing", &name))
            })
        });
        self.shared.stop_on_error(removed)?;
        let synced = self.shared.disk.sync_directory();
        let synced = synced.map_err(io_error("syncing", "the directory of history"));
        mark("history: generations trimmed");
        self.shared.stop_on_error(synced)
    }

    /// The oldest revision that can be read.
    #[must_use]
    pub fn oldest_kept(&self) -> Revision {
        self.shared.read(|kept| kept.oldest_kept)
    }

    /// Bytes of events of the newest generation, what waits included: who freezes generations does it at 1 GiB of them
    /// at the latest, because events of one key pile up here while the overlay holds one record.
    #[must_use]
    pub fn event_bytes(&self) -> u64 {
        let newest = self.shared.read(|kept| kept.generations.last().cloned());
        newest.map_or(0, |newest| newest.event_bytes())
    }

    /// What is kept now, held. A reader of the past takes its snapshot of the layers first: then each image that the
    /// layers' base has written over is here.
    #[must_use]
    pub fn view(&self) -> HistoryView<D::File> {
        self.shared.read(HistoryView::new)
    }
}

/// Adds generations up to this one, those between without events.
fn begin_through<F: crate::disk::DiskFile>(
    kept: &mut Kept<F>,
    store: crate::store::StoreNumber,
    number: GenerationNumber,
) {
    let mut generations = None;
    while kept.next <= number {
        let list = generations.get_or_insert_with(|| (*kept.generations).clone());
        let before: Span = list.last().map_or(kept.begin, |last| last.span());
        list.push(Arc::new(Generation::new(store, kept.next, before)));
        kept.next = kept.next.next();
    }
    if let Some(generations) = generations {
        kept.generations = Arc::new(generations);
    }
}

/// The images of `generation`, which ends with `last`, were given up: neither it nor what is older explains anything, and the past
/// begins where it ends.
pub(super) fn begin_behind<F: crate::disk::DiskFile>(
    kept: &mut Kept<F>,
    store: crate::store::StoreNumber,
    (generation, last): (GenerationNumber, Revision),
) {
    kept.oldest_kept = kept.oldest_kept.max(last);
    kept.readable_from = generation.next();
    begin_through(kept, store, generation.next());
}

/// Takes the generations out that a trim drops.
fn forget<F: crate::disk::DiskFile>(kept: &mut Kept<F>, oldest_kept: Revision) -> Vec<Arc<Generation<F>>> {
    kept.oldest_kept = kept.oldest_kept.max(oldest_kept);
    let drained = kept
        .generations
        .iter()
        .filter(|generation| generation.images().is_some());
    let may_go = drained.count().saturating_sub(1);
    let ends_before = |generation: &&Arc<Generation<F>>| generation.span().last < kept.oldest_kept;
    let count = kept
        .generations
        .iter()
        .take(may_go)
        .take_while(ends_before)
        .count();
    let dropped = kept.generations[..count].to_vec();
    if count > 0 {
        kept.generations = Arc::new(kept.generations[count..].to_vec());
    }
    dropped
}
