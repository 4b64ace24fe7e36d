//! A directory of the file system, held by one process at a time. Thin: each call is one system call or two.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::{Disk, DiskFile};

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
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path_of(name))?;
        Ok(RealFile { file })
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        crash::call()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path_of(name))?;
        Ok(RealFile { file })
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

    fn begin_write_back(&self, from: u64, bytes: usize) {
        // Linux answers this advice by beginning to write what is dirty there, and drops only what is clean.
        let length = std::num::NonZeroU64::new(bytes as u64);
        let _hint = rustix::fs::fadvise(&self.file, from, length, rustix::fs::Advice::DontNeed);
    }
}

/// Lets a process seem to die at a call that changes the disk, for sweeps over code that needs the real one.
#[cfg(test)]
pub(crate) mod crash {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static CALLS: Cell<u64> = const { Cell::new(0) };
        static LAST: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// From now on so many calls of this thread work, and none after them.
    pub(crate) fn after(calls: u64) {
        CALLS.set(0);
        LAST.set(calls);
    }

    /// All calls work again. How many there were since [`after`]?
    pub(crate) fn never() -> u64 {
        LAST.set(u64::MAX);
        CALLS.replace(0)
    }

    pub(super) fn call() -> io::Result<()> {
        CALLS.set(CALLS.get() + 1);
        if CALLS.get() > LAST.get() {
            return Err(io::Error::other("the process has crashed"));
        }
        Ok(())
    }
}

#[cfg(not(test))]
mod crash {
    /// Nothing, outside tests.
    #[inline(always)]
    pub(super) const fn call() -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
