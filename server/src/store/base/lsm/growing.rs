//! Tables are synced while they grow.
//!
//! The engine writes a table through the page cache and syncs it once, at its end: tens of megabytes reach the disk in one
//! piece then, and each sync of the log, of other nodes on that disk as well, waits behind them. Here the file is synced from
//! beside, a megabyte at a time, so that what the log waits for is never long.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine::TABLES;

/// Synced when about so much was written since.
const BYTES_A_SYNC: usize = 1 << 20;

/// Tables that have begun to grow since it was made.
pub(super) struct GrowingTables {
    directory: PathBuf,
    /// What there is up to this number was there before.
    last_before: Option<u64>,
    /// How long each of the others was when it was last synced.
    synced: BTreeMap<u64, u64>,
    unsynced_bytes: usize,
}

impl GrowingTables {
    /// Of the engine in `directory`.
    pub(super) fn new(directory: &Path) -> io::Result<GrowingTables> {
        let directory = directory.join(TABLES);
        let last_before = numbers(&directory)?.into_iter().max();
        Ok(GrowingTables {
            directory,
            last_before,
            synced: BTreeMap::new(),
            unsynced_bytes: 0,
        })
    }

    /// So many more bytes were handed to the engine.
    pub(super) fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        self.unsynced_bytes += bytes;
        if self.unsynced_bytes < BYTES_A_SYNC {
            return Ok(());
        }
        self.unsynced_bytes = 0;
        self.sync()
    }

    fn sync(&mut self) -> io::Result<()> {
        for number in numbers(&self.directory)? {
            if Some(number) <= self.last_before {
                continue;
            }
            match self.sync_table(number) {
                // Merged or given up since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// One that has not grown is whole, and the engine has synced it.
    fn sync_table(&mut self, number: u64) -> io::Result<()> {
        let path = self.directory.join(number.to_string());
        let length = fs::metadata(&path)?.len();
        if self.synced.insert(number, length) != Some(length) && length > 0 {
            File::open(path)?.sync_data()?;
        }
        Ok(())
    }
}

fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok()),
        );
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_synced_a_piece_at_a_time_and_what_was_there_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let table = |number: u64| directory.path().join(TABLES).join(number.to_string());
        let write = |number, bytes| fs::write(table(number), vec![1; bytes]).expect("it can be written");
        fs::create_dir(directory.path().join(TABLES)).expect("it is new");
        write(4, 100);
        let mut tables = GrowingTables::new(directory.path()).expect("there are tables");
        write(4, 200);
        write(5, 300);
        tables.wrote(BYTES_A_SYNC - 1).expect("no need to look");
        assert_eq!(tables.synced, BTreeMap::new());
        tables.wrote(1).expect("both are there");
        assert_eq!(tables.synced, BTreeMap::from([(5, 300)]));
        write(5, 400);
        write(6, 10);
        tables.wrote(BYTES_A_SYNC).expect("all are there");
        assert_eq!(tables.synced, BTreeMap::from([(5, 400), (6, 10)]));
        fs::remove_file(table(5)).expect("it is there");
        tables
            .wrote(BYTES_A_SYNC)
            .expect("one that has gone is none to sync");
    }
}
