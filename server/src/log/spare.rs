//! Files made ready before they are needed: writing zeros takes time that no append should wait for, and a file whose
//! blocks are allocated and written syncs nearly twice as fast as one that grows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LogConfig;
use super::error::{LogError, io_error};
use super::format::Origin;
use super::names::{self, FileKind};
use crate::disk::{AlignedBuffer, Disk, DiskFile};

/// Written at once.
const FILL_BYTES: usize = 256 << 10;

/// Spare segments of one log. All clones are one pool: a thread of its own can call [`SparePool::prepare`] while the
/// log's thread appends.
#[derive(Clone, Debug)]
pub struct SparePool<D: Disk> {
    disk: D,
    file_bytes: u64,
    wanted: usize,
    spares: Arc<Mutex<Spares>>,
}

#[derive(Debug, Default)]
struct Spares {
    ready: Vec<Spare>,
    next_number: u64,
}

/// A synced file of a segment's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) origin: Origin,
}

impl<D: Disk> SparePool<D> {
    /// A pool with the spares that the disk holds; removes what was not finished, or has another size.
    pub(super) fn open(disk: D, config: LogConfig) -> Result<SparePool<D>, LogError> {
        let mut spares = Spares::default();
        for name in disk.list().map_err(io_error("listing", "the data directory"))? {
            match names::kind(&name) {
                Some(FileKind::Unfinished) => disk.remove(&name).map_err(io_error("removing", &name))?,
                Some(FileKind::Spare(number)) => {
                    spares.next_number = spares.next_number.max(number + 1);
                    let file = disk.open(&name).map_err(io_error("opening", &name))?;
                    if file.len().map_err(io_error("measuring", &name))? == config.segment_size_bytes {
                        // Perhaps it holds zeros; nobody looks.
                        let origin = Origin::Recycled;
                        spares.ready.push(Spare { name, origin });
                    } else {
                        disk.remove(&name).map_err(io_error("removing", &name))?;
                    }
                }
                Some(FileKind::Segment(_)) | None => {}
            }
        }
        spares.ready.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(SparePool {
            disk,
            file_bytes: config.segment_size_bytes,
            wanted: config.spare_segments,
            spares: Arc::new(Mutex::new(spares)),
        })
    }

    /// Makes spares until as many are ready as the settings want; how many that were. Slow: for a thread that nobody
    /// waits for.
    ///
    /// # Errors
    /// Of the disk. The log is not harmed: it makes a segment itself when no spare is ready.
    pub fn prepare(&self) -> Result<usize, LogError> {
        let mut made = 0;
        while self.spares().ready.len() < self.wanted {
            let number = self.take_number();
            let (unfinished, name) = (names::unfinished_spare(number), names::spare(number));
            if let Err(error) = zero_filled(&self.disk, &unfinished, self.file_bytes) {
                // On a full disk the half of a spare takes the place of somebody's data.
                let _ = self.disk.remove(&unfinished);
                return Err(error);
            }
            self.disk
                .rename(&unfinished, &name)
                .map_err(io_error("renaming", &unfinished))?;
            let origin = Origin::ZeroFilled;
            self.spares().ready.push(Spare { name, origin });
            made += 1;
        }
        Ok(made)
    }

    pub(super) fn take(&self) -> Option<Spare> {
        self.spares().ready.pop()
    }

    /// Takes in a segment that is not needed any more, or removes it when there are enough or it has another size;
    /// durable on return.
    pub(super) fn recycle(&self, segment: &str) -> Result<(), LogError> {
        let file = self.disk.open(segment).map_err(io_error("opening", segment))?;
        let fits = file.len().map_err(io_error("measuring", segment))? == self.file_bytes;
        // More than are made ready: while a log grows and is cut, it takes a spare before it gives a segment back, and if
        // another one was filled in between this one would go, for ever.
        if fits && self.spares().ready.len() < 2 * self.wanted {
            let name = names::spare(self.take_number());
            self.disk
                .rename(segment, &name)
                .map_err(io_error("renaming", segment))?;
            self.sync_directory()?;
            let origin = Origin::Recycled;
            self.spares().ready.push(Spare { name, origin });
            return Ok(());
        }
        self.disk.remove(segment).map_err(io_error("removing", segment))?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> Result<(), LogError> {
        self.disk
            .sync_directory()
            .map_err(io_error("syncing", "the data directory"))
    }

    fn take_number(&self) -> u64 {
        let mut spares = self.spares();
        spares.next_number += 1;
        spares.next_number - 1
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        // A list of names is never half changed.
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a file of zeros, synced; its name is not.
pub(super) fn zero_filled<D: Disk>(disk: &D, name: &str, bytes: u64) -> Result<D::File, LogError> {
    let file = disk.create(name).map_err(io_error("creating", name))?;
    fill(&file, 0, bytes).map_err(io_error("filling", name))?;
    file.sync_data().map_err(io_error("syncing", name))?;
    Ok(file)
}

/// Writes zeros from `from` up to `to`.
pub(super) fn fill<F: DiskFile>(file: &F, from: u64, to: u64) -> std::io::Result<()> {
    let mut zeros = AlignedBuffer::default();
    zeros.resize(FILL_BYTES.min((to - from) as usize));
    let mut at = from;
    while at < to {
        let length = (to - at).min(zeros.len() as u64);
        file.write_around_cache(&zeros[..length as usize], at)?;
        at += length;
    }
    Ok(())
}
