//! Compaction stops before it takes the room that the rest needs: it writes whole tables anew before the old ones go.

use std::io;
use std::path::{Path, PathBuf};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// The disk is looked at before the first row, and again after so many bytes of them.
const BYTES_A_LOOK: usize = 1 << 20;

/// Makes a [`Room`] for each compaction. Keeps every row.
pub(super) struct Rooms {
    directory: PathBuf,
    reserve_bytes: u64,
}

impl Rooms {
    /// So much stays free of the disk that `directory` is on.
    pub(super) fn new(directory: &Path, reserve_bytes: u64) -> Rooms {
        Rooms {
            directory: directory.to_owned(),
            reserve_bytes,
        }
    }
}

impl Factory for Rooms {
    fn name(&self) -> &str {
        "room on the disk"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Room {
            directory: self.directory.clone(),
            reserve_bytes: self.reserve_bytes,
            unlooked_bytes: BYTES_A_LOOK,
        })
    }
}

/// Ends a compaction that has no room.
struct Room {
    directory: PathBuf,
    reserve_bytes: u64,
    unlooked_bytes: usize,
}

impl Room {
    fn check(&self) -> io::Result<()> {
        let statistics = rustix::fs::statvfs(&self.directory)?;
        let free_bytes = statistics.f_bavail.saturating_mul(statistics.f_frsize);
        match free_bytes < self.reserve_bytes {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl CompactionFilter for Room {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.unlooked_bytes >= BYTES_A_LOOK {
            self.unlooked_bytes = 0;
            self.check()?;
        }
        self.unlooked_bytes += item.key().len() + item.value()?.len();
        Ok(Verdict::Keep)
    }
}
