//! Writing: batches, syncs, marks, and the next segment when one is full.

use std::io;

use raftkv_raft::simulation::{mark, mutant};
use raftkv_raft::{Entry, EntryId, HardState, Index, Write};

use super::batch::{BatchBuffer, batch_bytes, body_bytes};
use super::error::{LogError, io_error};
use super::format::{BatchHeader, Follows, Origin, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::index::{Content, EntryIndex, Place, SharedIndex};
use super::names::{self, FileKind};
use super::outline::Outline;
use super::reader::LogReader;
use super::segment::{self, Segment, SegmentSizes};
use super::spare::{self, SparePool};
use super::{LogConfig, LogOwner};
use crate::disk::{Disk, DiskFile};

/// The durable log of one node: appended to by one thread.
///
/// Invariants: `proven <= synced < next_batch`; the active segment is the last of `segments`; after an error nothing is
/// written any more (R37).
#[derive(Debug)]
pub struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) config: LogConfig,
    pub(super) owner: LogOwner,
    pub(super) spares: SparePool<D>,
    pub(super) active: Segment<D::File>,
    /// Numbers of all segments, oldest first.
    pub(super) segments: Vec<u64>,
    pub(super) outline: Outline,
    pub(super) hard_state: HardState,
    pub(super) next_batch: u64,
    /// The last batch that is durable.
    pub(super) synced: u64,
    /// The last batch that something on disk says is durable.
    pub(super) proven: u64,
    /// The last batch that is no mark.
    pub(super) last_content: u64,
    pub(super) chain: u32,
    pub(super) index: SharedIndex,
    pub(super) buffer: BatchBuffer,
    pub(super) is_stopped: bool,
}

/// What [`Log::mark`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Marked {
    Written,
    NotNeeded,
}

impl<D: Disk> Log<D> {
    /// Makes the log of a newly formed node, with its founding entry (index 1) and hard state; durable on return.
    /// A crash before the return leaves either no log ([`Log::open`] says `None`) or the whole of it.
    ///
    /// # Errors
    /// When there is a log already (`AlreadyExists`), or the disk fails.
    ///
    /// # Panics
    /// When `founding` does not have index 1, or a newer term than `hard_state`.
    pub fn create(
        disk: D,
        config: LogConfig,
        owner: LogOwner,
        founding: &Entry,
        hard_state: HardState,
    ) -> Result<Log<D>, LogError> {
        assert_eq!(founding.id.index, Index::FIRST, "the founding entry is the first");
        refuse_existing(&disk)?;
        let spares = SparePool::open(disk.clone(), config)?;
        let write = Write {
            number: raftkv_raft::WriteNumber::default(),
            hard_state,
            truncate_from: None,
            entries: vec![founding.clone()],
        };
        let size_bytes = SegmentSizes {
            usual_bytes: config.segment_size_bytes,
            first_batch_bytes: batch_bytes(checked_body_bytes(std::slice::from_ref(&write))?),
        };
        let unfinished = names::unfinished_segment(FIRST_SEGMENT);
        let active = Segment {
            number: FIRST_SEGMENT,
            file: disk
                .create(&unfinished)
                .map_err(io_error("creating", &unfinished))?,
            name: unfinished,
            end: SEGMENT_HEADER_BYTES as u64,
            size_bytes: size_bytes.fitting(),
        };
        let mut log = Log {
            outline: Outline::new(founding.id, None),
            segments: vec![FIRST_SEGMENT],
            disk,
            config,
            owner,
            spares,
            active,
            hard_state,
            next_batch: 1,
            synced: 0,
            proven: 0,
            last_content: 0,
            chain: 0,
            index: SharedIndex::new(EntryIndex::default()),
            buffer: BatchBuffer::default(),
            is_stopped: false,
        };
        log.found(&write)?;
        Ok(log)
    }

    /// Fills the first segment and gives it its name, which so proves its first batch.
    fn found(&mut self, write: &Write) -> Result<(), LogError> {
        let header = SegmentHeader {
            synced_through: 1,
            ..self.segment_header(FIRST_SEGMENT, Origin::ZeroFilled)
        };
        let file = &self.active.file;
        file.write_all_at(&header.encode(), 0)
            .map_err(io_error("writing", &self.active.name))?;
        self.write_batch(std::slice::from_ref(write))?;
        let (from, to) = (self.active.end, self.active.size_bytes);
        spare::fill(&self.active.file, from, to).map_err(io_error("filling", &self.active.name))?;
        self.sync_active()?;
        self.active.name = segment::publish(&self.disk, &self.active.name, FIRST_SEGMENT)?;
        note_made(&self.disk)?;
        self.proven = 1;
        Ok(())
    }

    /// Writes all of `writes` as one batch; not durable until [`Log::sync`].
    ///
    /// # Errors
    /// Of the disk; from then on the log refuses everything.
    ///
    /// # Panics
    /// When a write does not follow from the log, or contradicts its hard state: a defect of the caller.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), LogError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.unless_stopped(|log| {
            log.make_room(batch_bytes(checked_body_bytes(writes)?))?;
            log.write_batch(writes)
        })
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// Of the disk; from then on the log refuses everything: what a failed sync left is not known (R37).
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.unless_stopped(Log::sync_active)
    }

    /// Writes a mark batch that proves the last batch was synced, if none follows it yet; durable on return. Called when
    /// nothing was appended for 50 ms. Returns whether one was needed.
    ///
    /// # Errors
    /// Of the disk; from then on the log refuses everything.
    pub fn mark(&mut self) -> Result<Marked, LogError> {
        self.unless_stopped(|log| {
            if log.last_content <= log.proven {
                return Ok(Marked::NotNeeded);
            }
            log.sync_active()?;
            log.make_room(batch_bytes(0))?;
            log.write_batch(&[])?;
            log.sync_active()?;
            mark("log: mark written");
            Ok(Marked::Written)
        })
    }

    /// Number of the segment that is written to: another one means that a spare may have been used up.
    pub(super) fn segment_number(&self) -> u64 {
        self.active.number
    }

    /// The last entry, synced or not.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.outline.last().expect("a log holds its founding entry")
    }

    /// The entry below the first that can be read; see [`Recovered::base`](super::Recovered::base).
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.outline.base()
    }

    /// Reads entries back, beside appends.
    #[must_use]
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(self.disk.clone(), self.index.clone())
    }

    /// The spare segments, for a thread that prepares them ahead of need.
    #[must_use]
    pub fn spare_pool(&self) -> SparePool<D> {
        self.spares.clone()
    }

    /// The first error is the last: nothing is written after it.
    pub(super) fn unless_stopped<T>(
        &mut self,
        act: impl FnOnce(&mut Log<D>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        if self.is_stopped {
            return Err(LogError::Stopped);
        }
        // A panic in between leaves it stopped as well.
        self.is_stopped = true;
        let done = act(self)?;
        self.is_stopped = false;
        Ok(done)
    }

    fn write_batch(&mut self, writes: &[Write]) -> Result<(), LogError> {
        let body_bytes = checked_body_bytes(writes)?;
        let hard_state_before = self.hard_state;
        let content = self.buffer.fill(writes, &mut self.outline);
        self.take_hard_state(writes);
        let header = BatchHeader {
            generation: self.active.number,
            number: self.next_batch,
            synced_through: self.synced,
            body_bytes,
            records: 0,
            chain: 0,
            hard_state: if mutant("X13_hard_state_after_its_entries") {
                hard_state_before
            } else {
                self.hard_state
            },
        };
        let (bytes, chain) = self.buffer.seal(&header, self.chain);
        self.active
            .file
            .write_around_cache(bytes, self.active.end)
            .map_err(io_error("writing", &self.active.name))?;
        let end = self.active.end + bytes.len() as u64;
        self.written(content, end, chain);
        if !writes.is_empty() {
            self.last_content = header.number;
        }
        self.proven = self.proven.max(header.synced_through);
        Ok(())
    }

    fn written(&mut self, content: Content, end: u64, chain: u32) {
        let place = Place {
            segment: self.active.number,
            offset: self.active.end,
            end,
            batch: self.next_batch,
            chain_before: self.chain,
        };
        self.index.change(|index| index.add(place, content));
        self.active.end = end;
        self.chain = chain;
        self.next_batch += 1;
    }

    /// The hard state of the last write; what each one says is checked, so that no log is written that would not open.
    fn take_hard_state(&mut self, writes: &[Write]) {
        for write in writes {
            let (before, now) = (self.hard_state, write.hard_state);
            assert!(
                now.term >= before.term,
                "the term falls from {before:?} to {now:?}"
            );
            assert!(
                now.term > before.term || before.vote.is_none() || now.vote == before.vote,
                "the vote changes within a term, from {before:?} to {now:?} (R2)"
            );
            let is_cut_committed = write.truncate_from.is_some_and(|from| from <= before.commit);
            assert!(
                !is_cut_committed,
                "{:?} truncates what {before:?} commits (R19)",
                write.number
            );
            self.hard_state = now;
        }
        if let Some(last) = self.outline.last() {
            let hard_state = self.hard_state;
            assert!(
                last.term <= hard_state.term && hard_state.commit <= last.index,
                "{hard_state:?} does not fit a log that ends at {last} (R33, R46)"
            );
        }
    }

    pub(super) fn sync_active(&mut self) -> Result<(), LogError> {
        let written = self.next_batch - 1;
        if self.synced == written {
            return Ok(());
        }
        if !mutant("X10_log_sync_skipped") {
            let mut synced = self.active.file.sync_data();
            if synced.is_err() && mutant("X22_failed_sync_retried") {
                synced = self.active.file.sync_data();
            }
            synced.map_err(io_error("syncing", &self.active.name))?;
        }
        self.synced = written;
        Ok(())
    }

    /// Goes on to the next segment if the active one has no room. All that was written before is durable then, so that
    /// one sync is always one file's.
    fn make_room(&mut self, batch_bytes: u64) -> Result<(), LogError> {
        if self.active.has_room_for(batch_bytes) {
            return Ok(());
        }
        self.sync_active()?;
        let header = self.segment_header(self.active.number + 1, Origin::ZeroFilled);
        let sizes = SegmentSizes {
            usual_bytes: self.config.segment_size_bytes,
            first_batch_bytes: batch_bytes,
        };
        self.active = segment::begin(&self.disk, &self.spares, header, sizes)?;
        self.segments.push(header.number);
        self.proven = header.synced_through;
        mark("log: next segment");
        Ok(())
    }

    pub(super) fn segment_header(&self, number: u64, origin: Origin) -> SegmentHeader {
        SegmentHeader {
            number,
            owner: self.owner,
            origin,
            first_batch: self.next_batch,
            synced_through: self.synced,
            chain: self.chain,
            base: self.outline.base(),
            last_before: self.outline.last(),
            hard_state: self.hard_state,
            follows: Follows::Former,
        }
    }
}

/// Number of the first segment of a log.
const FIRST_SEGMENT: u64 = 1;

fn checked_body_bytes(writes: &[Write]) -> Result<u32, LogError> {
    body_bytes(writes).ok_or_else(|| LogError::Io {
        action: "appending to",
        file: "the log".to_owned(),
        source: io::Error::new(io::ErrorKind::FileTooLarge, "a batch of 4 GiB or more"),
    })
}

/// Notes that there is a log here, durably: should its files be gone one day, that is no new node (R44).
pub(super) fn note_made<D: Disk>(disk: &D) -> Result<(), LogError> {
    match disk.create(names::MADE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(io_error("creating", names::MADE))?,
    };
    disk.sync_directory()
        .map_err(io_error("syncing the directory of", names::MADE))
}

fn refuse_existing<D: Disk>(disk: &D) -> Result<(), LogError> {
    let files = disk.list().map_err(io_error("listing", "the data directory"))?;
    let existing = files
        .into_iter()
        .find(|name| matches!(names::kind(name), Some(FileKind::Segment(_))));
    match existing {
        None => Ok(()),
        Some(file) => Err(LogError::Io {
            action: "creating a log beside",
            file,
            source: io::ErrorKind::AlreadyExists.into(),
        }),
    }
}
