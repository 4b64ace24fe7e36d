//! The little that our own on-disk formats ask of a disk. The real one is `real.rs`; the simulator has a twin that loses
//! unsynced writes, tears them at sector borders, flips bits, fills up and fails.

#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

mod aligned;
pub(crate) mod crash;
pub mod identity;
pub mod quarantine;
mod real;
mod replace;

use std::io;

pub use aligned::AlignedBuffer;
pub use real::{DataDirectoryError, RealDisk, RealFile};
pub(crate) use replace::replace_file;

#[cfg(any(test, feature = "simulation"))]
pub use simulated::{
    DurableImage, SimulatedCrash, SimulatedDisk, SimulatedFile, UnsyncedSectors, WriteFault,
};

/// A flat directory of files. One per data directory; names have no separators.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Creates an empty file; an existing one is an error (`AlreadyExists`). Durable only after [`Disk::sync_directory`].
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Renames, replacing `to` if it exists. Durable only after [`Disk::sync_directory`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable only after [`Disk::sync_directory`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file, usable from several threads (reads beside writes).
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + Sync + 'static {
    /// Current length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file where needed. Not durable until [`DiskFile::sync_data`].
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file to `length` bytes and gives the space back. Durable, or not, until [`DiskFile::sync_data`].
    fn shrink(&self, length: u64) -> io::Result<()>;
    /// Makes everything written to this file durable (fdatasync, with the length).
    fn sync_data(&self) -> io::Result<()>;
    /// As [`DiskFile::write_all_at`], for what is written once and seldom read: what comes from an [`AlignedBuffer`], and
    /// begins and ends at a multiple of 512 bytes, goes from there to the disk without a copy in the page cache, where the
    /// system can do that. Not durable until [`DiskFile::sync_data`] all the same: the disk may hold it in a cache of its own.
    ///
    /// # Errors
    /// Of the disk; it may have been written in part.
    fn write_around_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}
