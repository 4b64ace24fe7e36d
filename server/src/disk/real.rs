//! A directory of the file system, held by one process at a time. Thin: each call is one system call or two.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::aligned::is_aligned;
use super::{Disk, DiskFile, crash};

/// The file that is locked for as long as a server holds the directory. It holds that server's process id, for the error
/// message of the next one.
const LOCK_FILE: &str = "LOCK";

/// Why a data directory can not be used.
#[derive(Debug, Error)]
pub enum DataDirectoryError {
    /// Another server holds it.
    #[error("the data directory {} is in use by another server{}: stop that server, or choose another --data-dir", path.display(), holder(.process))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of the other process; empty if nothing.
        process: String,
    },
    /// The file system refused.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(process: &str) -> String {
    if process.is_empty() {
        String::new()
    } else {
        format!(" (process {process})")
    }
}

/// A data directory. Clones share it; the lock is released when the last one is gone, or the process.
#[derive(Clone, Debug)]
pub struct RealDisk {
    directory: Arc<Directory>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Open for syncing what was created, renamed and removed in it.
    handle: File,
    /// Holds the lock.
    _lock: File,
}

impl RealDisk {
    /// Opens the directory, makes it where it does not exist (durably, with its parents), and locks it.
    ///
    /// # Errors
    /// When another process holds it, or it can not be made, read or written.
    pub fn open(path: &Path) -> Result<RealDisk, DataDirectoryError> {
        let failed = |action| {
            move |source| DataDirectoryError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        create_durably(path).map_err(failed("creating the data directory"))?;
        let handle = File::open(path).map_err(failed("opening the data directory"))?;
        let lock = lock(path)?;
        Ok(RealDisk {
            directory: Arc::new(Directory {
                path: path.to_owned(),
                handle,
                _lock: lock,
            }),
        })
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }
}

/// Makes `path` and every missing parent; each is an entry of a directory that must be synced in its turn (R36).
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::open(parent)?.sync_all()
}

fn lock(directory: &Path) -> Result<File, DataDirectoryError> {
    let path = directory.join(LOCK_FILE);
    let failed = |action| {
        let path = path.clone();
        move |source| DataDirectoryError::Io { action, path, source }
    };
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = options.map_err(failed("opening"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // Only for the message: a lock file that can not be read says nothing.
            let _ = file.read_to_string(&mut process);
            let process = process.trim().to_owned();
            return Err(DataDirectoryError::Locked {
                path: directory.to_owned(),
                process,
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed("locking")(source)),
    }
    let mut write_process = || -> io::Result<()> {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write_process().map_err(failed("writing"))?;
    Ok(file)
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory.path)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let path = self.path_of(name);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(RealFile::new(file, &path))
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        crash::call()?;
        let path = self.path_of(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path)?;
        Ok(RealFile::new(file, &path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        crash::call()?;
        fs::rename(self.path_of(from), self.path_of(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        crash::call()?;
        fs::remove_file(self.path_of(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        crash::call()?;
        self.directory.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let statistics = rustix::fs::fstatvfs(&self.directory.handle)?;
        Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
    }
}

/// An open file of a data directory.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// The same file for direct writes; none where the file system knows of no such thing.
    direct: Option<File>,
}

/// What a direct write begins and ends at; a disk with larger blocks refuses it, and the page cache takes it.
const DIRECT_BLOCK_BYTES: usize = 512;

impl RealFile {
    fn new(file: File, path: &Path) -> RealFile {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path);
        RealFile {
            file,
            direct: direct.ok(),
        }
    }

    /// Writes directly, if that is possible.
    fn write_directly(&self, bytes: &[u8], offset: u64) -> Option<io::Result<()>> {
        let direct = self.direct.as_ref()?;
        if !is_aligned(bytes, offset, DIRECT_BLOCK_BYTES) {
            return None;
        }
        match direct.write_all_at(bytes, offset) {
            // So a disk says that its blocks are larger.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            written => Some(written),
        }
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        crash::call()?;
        self.file.write_all_at(bytes, offset)
    }

    fn shrink(&self, length: u64) -> io::Result<()> {
        crash::call()?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        crash::call()?;
        self.file.sync_data()
    }

    fn write_around_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        crash::call()?;
        if let Some(written) = self.write_directly(bytes, offset) {
            return written;
        }
        self.file.write_all_at(bytes, offset)?;
        // Linux answers this advice by beginning to write what is dirty there: a later sync finds little left to do, and what
        // others sync meanwhile does not stand behind a heap of it.
        let length = std::num::NonZeroU64::new(bytes.len() as u64);
        let _hint = rustix::fs::fadvise(&self.file, offset, length, rustix::fs::Advice::DontNeed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::AlignedBuffer;

    #[test]
    fn a_directory_is_made_and_held_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data/node1");
        let disk = RealDisk::open(&path).unwrap();
        let refused = RealDisk::open(&path).unwrap_err();
        assert!(
            matches!(&refused, DataDirectoryError::Locked { process, .. } if *process == std::process::id().to_string())
        );
        drop(disk.clone());
        assert!(RealDisk::open(&path).is_err(), "a clone holds it still");
        drop(disk);
        RealDisk::open(&path).unwrap();
    }

    #[test]
    fn files_are_written_read_renamed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let file = disk.create("a").unwrap();
        file.write_all_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8);
        assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename("a", "b").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"], "the lock is not listed");
        let mut bytes = [0; 8];
        disk.open("b").unwrap().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0hello");
        assert_eq!(
            disk.open("b")
                .unwrap()
                .read_exact_at(&mut bytes, 1)
                .unwrap_err()
                .kind(),
            io::ErrorKind::UnexpectedEof
        );
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.free_bytes().unwrap() > 0);
    }
    #[test]
    fn what_goes_around_the_cache_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let file = disk.create("a").unwrap();
        let mut expected = vec![0; 20_000];
        file.write_all_at(&expected, 0).unwrap();
        let mut buffer = AlignedBuffer::default();
        // Sectors that share a page with what the cache holds, whole pages, and what no disk takes directly.
        for (round, (offset, length)) in [
            (512, 512),
            (1024, 8192),
            (4096, 4096),
            (700, 33),
            (9728, 512),
            (19_000, 4096),
        ]
        .into_iter()
        .enumerate()
        {
            buffer.clear(1 << 20);
            buffer.extend_from_slice(&vec![round as u8 + 1; length]);
            file.write_around_cache(&buffer, offset as u64).unwrap();
            expected.resize(expected.len().max(offset + length), 0);
            expected[offset..offset + length].copy_from_slice(&buffer);
            let mut read = vec![0; expected.len()];
            file.read_exact_at(&mut read, 0).unwrap();
            assert!(read == expected, "after {length} bytes at {offset}");
        }
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), expected.len() as u64);
    }
}
