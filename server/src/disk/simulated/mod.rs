//! A disk that remembers what was synced, and forgets the rest when told to.
//!
//! Deterministic: all chance comes from the seed, in the order of the operations. All clones are one disk.
//!
//! # The model
//! Files consist of 512-byte sectors. A write goes to the page cache and makes its sectors dirty;
//! [`DiskFile::sync_data`] takes the dirty sectors of that file (and its length) to the platter. Names have a page cache
//! of their own: creations, renames and removals reach the platter with [`Disk::sync_directory`], in order.
//!
//! * [`SimulatedDisk::process_crashed`]: the process is gone, the page cache stays (`kill -9`).
//! * [`SimulatedDisk::power_lost`]: each dirty sector is lost, kept or torn, independently of all others, as
//!   [`UnsyncedSectors`] says; of the unsynced changes of the directory some prefix is kept.
//! * [`SimulatedDisk::durable_image`]: what would be there if the power went right now and took everything it may.
//!
//! A sector written several times between two syncs is kept in its last form or not at all; our formats write each byte
//! once, so nothing is lost by that.
//!
//! # Crash points
//! Every operation of [`Disk`] and [`DiskFile`] counts. [`SimulatedDisk::crash_after`] lets the process crash in the
//! midst of one: a write or a sync gets as far as chance has it, and from then on every operation answers
//! [`SimulatedCrash`], until [`SimulatedDisk::process_crashed`] or [`SimulatedDisk::power_lost`] says what is left.
//! A sweep runs a scenario once, reads [`SimulatedDisk::operations`], and runs it again for each number below.
//!
//! # Faults
//! Reads, writes and syncs can be made to fail once. A failed sync behaves as on Linux: the sectors that did not arrive
//! count as clean, so that a second sync reports success. Writes can be lost or land elsewhere without a word; bits can
//! rot; the disk can fill up in the midst of a write, and be wiped.

mod directory;
mod inode;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use thiserror::Error;

use self::directory::InodeId;
use self::state::{Countdown, Faults, State};
use super::{Disk, DiskFile};

/// The process crashed at this operation or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the simulated process has crashed")]
pub struct SimulatedCrash;

impl From<SimulatedCrash> for io::Error {
    fn from(crash: SimulatedCrash) -> io::Error {
        io::Error::other(crash)
    }
}

/// What becomes of sectors that were written and not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsyncedSectors {
    /// None reaches the platter; nor does any unsynced change of the directory.
    Lost,
    /// All reach it, and all changes of the directory.
    Kept,
    /// Of each some first bytes reach it.
    Torn,
    /// Each is lost, kept or torn by chance.
    Mixed,
}

impl UnsyncedSectors {
    /// The fate of one sector.
    fn draw(self, rng: &mut Rng) -> UnsyncedSectors {
        match self {
            UnsyncedSectors::Mixed => match rng.u8(..5) {
                0 | 1 => UnsyncedSectors::Lost,
                2 | 3 => UnsyncedSectors::Kept,
                _ => UnsyncedSectors::Torn,
            },
            UnsyncedSectors::Lost | UnsyncedSectors::Kept | UnsyncedSectors::Torn => self,
        }
    }
}

/// What goes wrong with a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// An input/output error; some of the sectors may have arrived.
    Error,
    /// Reported as done, and never seen again.
    Lost,
    /// Reported as done, and landed in another place.
    Misdirected {
        /// In this file.
        file: String,
        /// At this byte.
        offset: u64,
    },
}

/// Files as the platter holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurableImage {
    /// Content by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimulatedDisk`].
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: InodeId,
    life: u64,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk::with_image(seed, DurableImage::default())
    }

    /// A disk that holds these files, durably: to look at an image with the code that reads the real thing.
    #[must_use]
    pub fn with_image(seed: u64, image: DurableImage) -> SimulatedDisk {
        SimulatedDisk {
            state: Arc::new(Mutex::new(State::new(seed, image))),
        }
    }

    /// The process is gone, the machine runs on: what was written is there, synced or not. New operations work again,
    /// files that were open do not.
    pub fn process_crashed(&self) {
        self.state().end_process();
    }

    /// The machine lost its power and has it again: see [`SimulatedDisk::set_unsynced`] for what is left.
    pub fn power_lost(&self) {
        let mut state = self.state();
        state.end_process();
        state.lose_power();
    }

    /// What power loss does to sectors that are not synced; [`UnsyncedSectors::Mixed`] unless set.
    pub fn set_unsynced(&self, policy: UnsyncedSectors) {
        self.state().policy = policy;
    }

    /// What the platter holds: the least that power loss leaves, right now.
    #[must_use]
    pub fn durable_image(&self) -> DurableImage {
        self.state().durable_image()
    }

    /// Operations so far, over all lives of the process.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the process crash in the midst of an operation, after `operations` more that work.
    pub fn crash_after(&self, operations: u64) {
        self.state().faults.crash = Countdown::after(operations);
    }

    /// Has the crash point been reached, and nobody said yet what is left?
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state().has_crashed
    }

    /// One read fails, after `reads` more that work.
    pub fn fail_read_after(&self, reads: u64) {
        self.state().faults.read = Countdown::after(reads);
    }

    /// One write fails, after `writes` more that work.
    pub fn fail_write_after(&self, writes: u64) {
        self.spoil_write_after(writes, WriteFault::Error);
    }

    /// One write goes wrong in this way, after `writes` more that work.
    pub fn spoil_write_after(&self, writes: u64, fault: WriteFault) {
        let mut state = self.state();
        state.faults.write = Countdown::after(writes);
        state.faults.write_fault = Some(fault);
    }

    /// One sync (of a file or the directory) fails, after `syncs` more that work; see the [module](self) for what it
    /// leaves behind.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state().faults.sync = Countdown::after(syncs);
    }

    /// From now on files can grow by this many bytes in all, or without limit.
    pub fn limit_free_bytes(&self, free_bytes: Option<u64>) {
        self.state().faults.free_bytes = free_bytes;
    }

    /// Takes back every fault that was set and has not happened, crash point and limit included.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// Lets a bit rot, in the cache and on the platter. Nothing happens past the file's end.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn flip_bit(&self, file: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.directory.find(file)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        state.inode(inode)?.flip(offset, bit);
        Ok(())
    }

    /// Lets any one bit rot that the platter holds, and says where; `None` on an empty disk.
    pub fn flip_durable_bit(&self, rng: &mut Rng) -> Option<String> {
        let image = self.durable_image();
        let total: usize = image.files.values().map(Vec::len).sum();
        if total == 0 {
            return None;
        }
        let mut offset = rng.usize(..total);
        let (name, _) = image.files.iter().find(|(_, bytes)| {
            let is_here = offset < bytes.len();
            if !is_here {
                offset -= bytes.len();
            }
            is_here
        })?;
        let bit = rng.u8(..8);
        self.flip_bit(name, offset as u64, bit).ok()?;
        Some(format!("bit {bit} of byte {offset} of {name}"))
    }

    /// Replaces the disk by an empty one; faults that are set stay set.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.end_process();
        state.directory = directory::Directory::default();
        state.inodes.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test's thread says enough already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: InodeId, life: u64) -> SimulatedFile {
        SimulatedFile {
            disk: self.clone(),
            inode,
            life,
        }
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.state()
            .change_directory(|state| Ok(state.directory.cached().keys().cloned().collect()))
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let inode = state.change_directory(|state| state.directory.find(name))?;
        Ok(self.file(inode, state.life))
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let inode = state.change_directory(|state| {
            let inode = state.add_inode();
            state.directory.create(name, inode).map(|()| inode)
        })?;
        Ok(self.file(inode, state.life))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state()
            .change_directory(|state| state.directory.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().change_directory(|state| state.remove(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.state().sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.state()
            .change_directory(|state| Ok(state.faults.free_bytes.unwrap_or(1 << 40)))
    }
}

impl SimulatedFile {
    /// The disk's state, for a file of a process that lives.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life {
            return Err(SimulatedCrash.into());
        }
        Ok(state)
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.change_directory(|state| state.inode(self.inode).map(|inode| inode.cached().len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.state()?.read(self.inode, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state()?.write(self.inode, bytes, offset)
    }

    fn shrink(&self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change_directory(|state| state.shrink(self.inode, length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync(self.inode)
    }
}
