//! Beside a compaction, as it takes row after row: it stops before it takes the room that the rest needs (it writes whole
//! tables anew before the old ones go), and what it writes is synced in pieces.

use std::io;
use std::path::{Path, PathBuf};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

use super::growing::GrowingTables;

/// The disk is looked at before the first row, and again after so many bytes of them.
const BYTES_A_LOOK: usize = 1 << 20;

/// Makes a [`Compaction`] for each. Keeps every row.
pub(super) struct Compactions {
    directory: PathBuf,
    reserve_bytes: u64,
}

impl Compactions {
    /// So much stays free of the disk that `directory` is on.
    pub(super) fn new(directory: &Path, reserve_bytes: u64) -> Compactions {
        Compactions {
            directory: directory.to_owned(),
            reserve_bytes,
        }
    }
}

impl Factory for Compactions {
    fn name(&self) -> &str {
        "room on the disk, and syncs"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Compaction {
            directory: self.directory.clone(),
            growing: GrowingTables::new(&self.directory).ok(),
            reserve_bytes: self.reserve_bytes,
            unlooked_bytes: BYTES_A_LOOK,
        })
    }
}

struct Compaction {
    directory: PathBuf,
    /// `None` when they could not be listed: then each is synced at its end alone.
    growing: Option<GrowingTables>,
    reserve_bytes: u64,
    unlooked_bytes: usize,
}

impl Compaction {
    /// Ends it when there is no room.
    fn check(&self) -> io::Result<()> {
        let statistics = rustix::fs::statvfs(&self.directory)?;
        let free_bytes = statistics.f_bavail.saturating_mul(statistics.f_frsize);
        match free_bytes < self.reserve_bytes {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl CompactionFilter for Compaction {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.unlooked_bytes >= BYTES_A_LOOK {
            self.unlooked_bytes = 0;
            self.check()?;
        }
        let bytes = item.key().len() + item.value()?.len();
        self.unlooked_bytes += bytes;
        if let Some(growing) = &mut self.growing {
            growing.wrote(bytes)?;
        }
        Ok(Verdict::Keep)
    }
}
