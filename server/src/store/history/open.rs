//! What is found at the start: files beyond the base go, the others are complete, or the start is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use raftkv_protocol::Revision;
use raftkv_raft::simulation::mark;

use super::file::{Sealed, bad_file};
use super::format::{Bad, Span};
use super::generation::Generation;
use super::handle::{History, begin_behind};
use super::images::given_up;
use super::names::{Content, FileId};
use super::shared::{Kept, Shared};
use crate::disk::Disk;
use crate::store::error::io_error;
use crate::store::{GenerationNumber, StoreError, StoreNumber};

impl<D: Disk> History<D> {
    /// Opens the history of `store`, whose base holds the generations up to `through` (`None`: none yet).
    ///
    /// Files of later generations are deleted, durably: the log is replayed. Of the others the footers are read.
    /// `oldest_kept` is what was agreed as far as the base tells; a trim behind it may have dropped more, and a drain given more up, then
    /// [`History::oldest_kept`] tells more. For a store without drained generations it is the revision that it begins
    /// at: 1 when empty, that of the snapshot when filled from one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::NewerFormat`]: do not start. Of the disk.
    pub fn open(
        disk: D,
        store: StoreNumber,
        through: Option<GenerationNumber>,
        oldest_kept: Revision,
    ) -> Result<History<D>, StoreError> {
        let names = disk
            .list()
            .map_err(io_error("listing", "the directory of history"))?;
        let files: BTreeSet<FileId> = names
            .iter()
            .filter_map(|name| FileId::parse(name))
            .filter(|id| id.store == store)
            .collect();
        let oldest = oldest_complete(&files, store, through)?;
        let keep = |id: &FileId| {
            let is_drained = through.is_some_and(|through| id.generation <= through);
            is_drained && oldest.is_some_and(|oldest| oldest <= id.generation)
        };
        let goes: Vec<FileId> = files.iter().copied().filter(|id| !keep(id)).collect();
        let mut generations = Vec::new();
        if let (Some(oldest), Some(through)) = (oldest, through) {
            for number in oldest.0..=through.0 {
                generations.push(Arc::new(open_drained(&disk, store, GenerationNumber(number))?));
            }
        }
        check_spans(&generations)?;
        remove_all(&disk, &goes)?;
        let begins = generations.first().map(|first| first.span().before);
        let last_given_up = generations.iter().rev().find(|g| g.is_given_up());
        let ends = last_given_up.map(|generation| (generation.number, generation.span().last));
        let mut kept = Kept {
            oldest_kept: begins.map_or(oldest_kept, |begins| begins.max(oldest_kept)),
            generations: Arc::new(generations),
            readable_from: GenerationNumber(0),
            begin: Span {
                before: oldest_kept,
                last: oldest_kept,
                ..Span::default()
            },
            next: through.map_or(GenerationNumber(1), GenerationNumber::next),
        };
        if let Some(ends) = ends {
            begin_behind(&mut kept, store, ends);
        }
        Ok(History {
            shared: Arc::new(Shared::new(disk, store, kept)),
        })
    }
}

/// The oldest generation of the unbroken row of complete ones that ends with `through`. Below it nothing is left, or
/// the one file that an interrupted trim had not come to.
fn oldest_complete(
    files: &BTreeSet<FileId>,
    store: StoreNumber,
    through: Option<GenerationNumber>,
) -> Result<Option<GenerationNumber>, StoreError> {
    let Some(through) = through else { return Ok(None) };
    let id = |number: u64, content| FileId {
        store,
        generation: GenerationNumber(number),
        content,
    };
    let missing = |number: u64| {
        let contents = [Content::Events, Content::Images].into_iter();
        contents
            .map(|content| id(number, content))
            .find(|id| !files.contains(id))
    };
    if let Some(missing) = missing(through.0) {
        return Err(bad_file(missing, 0, Bad::Damaged("the file is missing")));
    }
    let below = (1..through.0).rev().find(|number| missing(*number).is_some());
    let Some(below) = below else {
        return Ok(Some(GenerationNumber(1)));
    };
    let older = files.iter().find(|id| id.generation.0 < below);
    if let (Some(_), Some(missing)) = (older, missing(below)) {
        return Err(bad_file(missing, 0, Bad::Damaged("the file is missing")));
    }
    // A trim removes events first: without images there is nothing that it could have interrupted.
    if files.contains(&id(below, Content::Events)) {
        let missing = id(below, Content::Images);
        return Err(bad_file(missing, 0, Bad::Damaged("the file is missing")));
    }
    Ok(Some(GenerationNumber(below + 1)))
}

fn open_drained<D: Disk>(
    disk: &D,
    store: StoreNumber,
    generation: GenerationNumber,
) -> Result<Generation<D::File>, StoreError> {
    let open = |content| {
        let id = FileId {
            store,
            generation,
            content,
        };
        Sealed::open(disk, id)
    };
    let (events, images) = (open(Content::Events)?, open(Content::Images)?);
    let spans = [events.footer.span, given_up(events.footer.span)];
    if !spans.contains(&images.footer.span) {
        let bad = Bad::Damaged("it tells other revisions than the generation's events");
        return Err(bad_file(images.blocks.id, images.footer.tail_start(), bad));
    }
    Ok(Generation::drained(events, images))
}

fn check_spans<F: crate::disk::DiskFile>(generations: &[Arc<Generation<F>>]) -> Result<(), StoreError> {
    for pair in generations.windows(2) {
        if pair[1].span().before != pair[0].span().last {
            let bad = Bad::Damaged("its revisions do not follow those of the generation before");
            return Err(bad_file(pair[1].file_id(Content::Events), 0, bad));
        }
    }
    Ok(())
}

fn remove_all<D: Disk>(disk: &D, goes: &[FileId]) -> Result<(), StoreError> {
    for id in goes {
        let name = id.name();
        disk.remove(&name).map_err(io_error("removing", &name))?;
        mark("history: unfinished file removed");
    }
    if goes.is_empty() {
        return Ok(());
    }
    disk.sync_directory()
        .map_err(io_error("syncing", "the directory of history"))
}
