//! Compaction stops before it takes the room that the rest needs: it writes whole tables anew before the old ones go.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};

/// The disk is looked at so often at most; at full speed that is a few MiB.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The clock is looked at after so many rows.
const ROWS_A_LOOK: u32 = 16;

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
            rows: 0,
            looked: None,
        })
    }
}

/// Ends a compaction that has no room.
struct Room {
    directory: PathBuf,
    reserve_bytes: u64,
    rows: u32,
    looked: Option<Instant>,
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
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.rows.is_multiple_of(ROWS_A_LOOK) && self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.check()?;
        }
        self.rows = self.rows.wrapping_add(1);
        Ok(Verdict::Keep)
    }
}
