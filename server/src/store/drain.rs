//! A frozen generation goes into the base: one ascending pass, one atomic ingest.
//!
//! For each key the base's old record is looked up: it gives blind puts their creation and version, it becomes the
//! before-image in history, and its deadline's row goes away. Before-images are durable before the ingest commits; events
//! were when the drain began. So what the base holds, history can explain. Of a key that was deleted, and history given up beyond
//! that, no image is written: on a full disk there would be no room for it.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::Revision;
use raftkv_raft::simulation::{mark, mutant};

use super::base::{Base, BaseView, Row};
use super::companions;
use super::error::StoreError;
use super::held_rows::HeldRow;
use super::history::ImageWriter;
use super::key::Key;
use super::layer::SortedRows;
use super::overlay::Frozen;
use super::record::{SlotRef, Stored};
use super::rows;
use super::state::record_of_row;
use crate::disk::Disk;

/// Keys looked up first: so many tell the base that a walk through its tables is worth it.
const FIRST_KEYS: usize = 512;
/// Keys looked up at a time behind them: enough for neighbours to share the base's blocks, little enough that their records stay in
/// the processor's cache until their rows are made, and to pace by.
const CHUNK_KEYS: usize = 64;

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Rows written.
    pub rows: u64,
    /// Their bytes, keys included.
    pub bytes: u64,
    /// There was no room for the before-images: the oldest revision that this node can read now.
    pub past_given_up: Option<Revision>,
}

/// What a drain has just done; the chunk by chunk work is told for each chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// The generation is in the order of its keys.
    Sorted,
    /// The base has taken all rows that were made so far.
    RowsTaken,
    /// What the base holds of a chunk's keys is known.
    LookedUp,
    /// The chunk's before-images are on their way to the file.
    ImagesPut,
    /// Its rows are made.
    RowsMade {
        /// Their bytes.
        bytes: u64,
    },
    /// All before-images are durable.
    ImagesFinished,
}

/// Puts `frozen` into `base`, its before-images into `images`. `done` is told of every step, and may take its time.
///
/// # Errors
/// Of the base or of history. The base is as it was then, or the process must stop.
pub fn drain<B: Base, D: Disk>(
    frozen: &Frozen,
    base: &B,
    images: ImageWriter<D>,
    done: &mut dyn FnMut(DrainStep),
) -> Result<DrainReport, StoreError> {
    let companions = Row {
        key: Bytes::from_static(companions::ROW_KEY),
        value: Some(frozen.companions().encode()),
    };
    let last: Box<dyn Iterator<Item = Row> + '_> =
        Box::new(std::iter::once(companions).chain(frozen.table_rows()));
    let held = frozen.layer().whole();
    done(DrainStep::Sorted);
    let mut drained = DrainRows {
        held,
        view: base.view()?,
        oldest_kept: frozen.companions().oldest_kept.min(images.oldest_kept()),
        images: Some(images),
        next_chunk: FIRST_KEYS,
        ready: VecDeque::new(),
        hints: BTreeMap::new(),
        last: last.peekable(),
        report: DrainReport::default(),
        done,
    };
    if mutant("drain_split_in_two") {
        return split_in_two(base, drained);
    }
    base.ingest(&mut drained)?;
    Ok(drained.report)
}

/// Puts other numbers beside the records of a base that holds everything: for a state that goes on under another log.
///
/// # Errors
/// Of the base.
pub fn rewrite_companions<B: Base>(base: &B, companions: &companions::Companions) -> Result<(), StoreError> {
    let row = Row {
        key: Bytes::from_static(companions::ROW_KEY),
        value: Some(companions.encode()),
    };
    base.ingest(&mut std::iter::once(Ok(row)))
}

/// The planted bug: the records in one ingest, and what proves them in another.
fn split_in_two<B: Base, V: BaseView, D: Disk>(
    base: &B,
    mut drained: DrainRows<'_, V, D>,
) -> Result<DrainReport, StoreError> {
    let rows: Vec<_> = drained.by_ref().collect::<Result<_, _>>()?;
    let is_proof = |row: &&Row| row.key == companions::ROW_KEY;
    // The proof first, as an engine that works in batches might.
    base.ingest(&mut rows.iter().filter(is_proof).cloned().map(Ok))?;
    base.ingest(&mut rows.iter().filter(|row| !is_proof(row)).cloned().map(Ok))?;
    Ok(drained.report)
}

/// The rows of a drain, looked up and made as they are asked for.
struct DrainRows<'a, V, D: Disk> {
    held: SortedRows<'a>,
    view: V,
    /// `None` once they are durable.
    images: Option<ImageWriter<D>>,
    /// Nothing before it can be read any more: history has given it up, and so it is after a restart from this generation.
    oldest_kept: Revision,
    /// So many keys are looked up next.
    next_chunk: usize,
    ready: VecDeque<Row>,
    /// Rows of deadlines and of what hangs on leases: known once all records were gone through.
    hints: BTreeMap<Bytes, Presence>,
    /// The companions and the tables, ascending.
    last: Peekable<Box<dyn Iterator<Item = Row> + 'a>>,
    report: DrainReport,
    done: &'a mut dyn FnMut(DrainStep),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Gone,
    There,
}

impl<V: BaseView, D: Disk> DrainRows<'_, V, D> {
    fn next_row(&mut self) -> Result<Option<Row>, StoreError> {
        while self.ready.is_empty() {
            (self.done)(DrainStep::RowsTaken);
            let keys = std::mem::replace(&mut self.next_chunk, CHUNK_KEYS);
            let chunk: Vec<&HeldRow> = self.held.by_ref().take(keys).collect();
            if chunk.is_empty() {
                return self.behind_the_records();
            }
            self.make_rows(&chunk)?;
        }
        Ok(self.ready.pop_front())
    }

    fn behind_the_records(&mut self) -> Result<Option<Row>, StoreError> {
        if let Some(images) = self.images.take() {
            self.report.past_given_up = images.finish()?;
            (self.done)(DrainStep::ImagesFinished);
        }
        let next = self.last.peek();
        let is_next = |hint: &Bytes| next.is_none_or(|next| *hint < next.key);
        if let Some(hint) = self.hints.first_entry().filter(|hint| is_next(hint.key())) {
            let (key, presence) = hint.remove_entry();
            let value = match presence {
                Presence::Gone => None,
                Presence::There => Some(Bytes::new()),
            };
            return Ok(Some(Row { key, value }));
        }
        Ok(self.last.next())
    }

    fn make_rows(&mut self, chunk: &[&HeldRow]) -> Result<(), StoreError> {
        let mut old = Vec::with_capacity(chunk.len());
        // The keys of a chunk share an allocation, and so do its values below: they go together, when the base has written them.
        let key_bytes = chunk.iter().map(|row| 1 + row.key.as_bytes().len()).sum();
        let mut room = BytesMut::with_capacity(key_bytes);
        let mut keys = chunk.iter().map(|row| {
            rows::put_record_row(&mut room, row.key.as_bytes());
            room.split().freeze()
        });
        self.view.get_ascending(&mut keys, &mut |key, value| {
            old.push((key, value.map(record_of_row).transpose()?));
            Ok(())
        })?;
        assert_eq!(
            old.len(),
            chunk.len(),
            "the base tells of each key it is asked for"
        );
        (self.done)(DrainStep::LookedUp);
        let images = self.images.as_mut().expect("images end behind the records");
        for (row, (_, old)) in chunk.iter().zip(&old) {
            if needs_no_image(row.held.slot.borrowed(), self.oldest_kept) {
                mark("before-image left out: history is given up");
                continue;
            }
            images.push(row.key.as_bytes(), row.held.first_revision, old.as_ref())?;
        }
        (self.done)(DrainStep::ImagesPut);
        let of_row = |row: &&HeldRow| row.held.slot.encoded_len();
        let mut values = BytesMut::with_capacity(chunk.iter().map(of_row).sum());
        let bytes = chunk
            .iter()
            .zip(old)
            .map(|(row, (key, old))| self.make_row(row, key, old.as_ref(), &mut values))
            .sum();
        (self.done)(DrainStep::RowsMade { bytes });
        Ok(())
    }

    fn make_row(&mut self, held: &HeldRow, key: Bytes, old: Option<&Stored>, values: &mut BytesMut) -> u64 {
        let new = held.held.slot.over(old);
        self.change_hints(&held.key, old.map(Stored::borrowed), new);
        let value = match new {
            Some(new) => {
                new.encode(values);
                Some(values.split().freeze())
            }
            None if old.is_some() => None,
            // It came and went within the generation.
            None => return 0,
        };
        let row = Row { key, value };
        let bytes = (row.key.len() + row.value.as_ref().map_or(0, Bytes::len)) as u64;
        self.report.rows += 1;
        if self.report.rows.is_multiple_of(8) && mutant("drain_loses_a_record") {
            return bytes;
        }
        self.report.bytes += bytes;
        self.ready.push_back(row);
        bytes
    }

    fn change_hints(&mut self, key: &Key, old: Option<SlotRef<'_>>, new: Option<SlotRef<'_>>) {
        for (slot, presence) in [(old, Presence::Gone), (new, Presence::There)] {
            let Some(SlotRef::Live {
                deadline_us, lease, ..
            }) = slot
            else {
                continue;
            };
            if let Some(deadline_us) = deadline_us {
                let row = rows::deadline_row(deadline_us, key.as_bytes());
                self.hints.insert(row, presence);
            }
            if let Some(lease) = lease {
                let row = rows::attached_row(lease, key.as_bytes());
                self.hints.insert(row, presence);
            }
        }
    }
}

/// Was the key deleted before what is kept begins? Then nobody can ask what it was before that. Of a key that is there the
/// image may still tell the lineage of what is kept.
fn needs_no_image(last: SlotRef<'_>, oldest_kept: Revision) -> bool {
    let is_one_too_many = mutant("image_of_the_oldest_kept_change_left_out");
    let given_up = Revision(oldest_kept.0 + u64::from(is_one_too_many));
    matches!(last, SlotRef::Deleted(revision) if revision < given_up)
}

impl<V: BaseView, D: Disk> Iterator for DrainRows<'_, V, D> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}
