//! The tree: opening it, ingesting, compaction.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use bytes::Bytes;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BlockSizePolicy, BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PartitioningPolicy,
    PinningPolicy,
};
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, SequenceNumberCounter};

use super::compacting::Compactions;
use super::growing::GrowingTables;
use super::view::{Held, LsmView};
use crate::store::base::{Base, Row};
use crate::store::error::{StoreError, io_error};

/// Where the engine keeps its tables, below its directory.
pub(super) const TABLES: &str = "tables";
/// How the engine's temporary files begin; a process killed at the wrong moment leaves one, and the engine never looks.
const TEMPORARY: &str = ".tmp";

/// How an [`LsmBase`] is built. The defaults are measured, see `bench/storage.md`.
#[derive(Clone, Debug)]
pub struct BaseConfig {
    /// Blocks of tables kept in memory. The operating system's page cache comes on top.
    pub block_cache_bytes: u64,
    /// Size of a data block: larger ones make a smaller index, and each lookup reads more.
    pub block_size_bytes: u32,
    /// Tables that may lie one over another before they are merged into the first level. More of them: less is rewritten,
    /// and each lookup asks more filters.
    pub level_zero_tables: u8,
    /// Size of the tables that compaction writes.
    pub table_size_bytes: u64,
    /// How many times larger each level is than the one above.
    pub level_ratio: u16,
    /// Compaction leaves so much of the disk free: log and drains must always have room.
    pub compaction_reserve_bytes: u64,
}

impl Default for BaseConfig {
    fn default() -> Self {
        BaseConfig {
            block_cache_bytes: 32 << 20,
            block_size_bytes: 4096,
            level_zero_tables: 4,
            table_size_bytes: 64 << 20,
            level_ratio: 10,
            compaction_reserve_bytes: 128 << 20,
        }
    }
}

/// What [`LsmBase::compact_step`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// Tables were merged or moved; there may be more to do.
    Done,
    /// There was nothing to do.
    Nothing,
}

/// See the module.
#[derive(Clone)]
pub struct LsmBase {
    shared: Arc<Shared>,
}

struct Shared {
    tree: AnyTree,
    /// The engine's counter: the number that the next change gets.
    next_number: SequenceNumberCounter,
    directory: PathBuf,
    strategy: Arc<Leveled>,
    views: Mutex<Views>,
    /// Held while a new version is put in place of the newest view, so that an older one never replaces a newer.
    refresh: Mutex<()>,
    /// One ingestion at a time.
    ingesting: Mutex<()>,
    /// One compaction at a time.
    compacting: Mutex<()>,
    /// Set by each ingestion, until a step finds nothing to do.
    compaction_due: AtomicBool,
    /// Something was given up midway: there may be tables that no version names.
    leftovers: AtomicBool,
}

struct Views {
    newest: Arc<Held>,
    /// Older ones that somebody may still hold. They are dropped here, by whoever ingests or compacts: the last to drop
    /// a table removes its file, and that must not be a reader.
    older: Vec<Arc<Held>>,
}

/// An ingestion merges first when so many runs lie one over another in level 0, and is refused when there are [`MOST_RUNS`]. The engine
/// (3.1.10) writes their number as one byte: with 256 of them it can not read its own list of tables any more.
const MANY_RUNS: usize = 128;
const MOST_RUNS: usize = 250;

/// Names the action; engine errors are all alike to us.
pub(super) fn engine_error(action: &'static str) -> impl FnOnce(lsm_tree::Error) -> StoreError {
    move |error| match error {
        lsm_tree::Error::Io(source) if source.kind() == io::ErrorKind::StorageFull => {
            StoreError::BaseFull { action }
        }
        lsm_tree::Error::Io(source) => StoreError::Engine {
            action,
            what: source.to_string(),
        },
        other => StoreError::Engine {
            action,
            what: other.to_string(),
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` when somebody has it.
fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl LsmBase {
    /// Opens the base in `directory`, or creates it there. What an earlier process left unfinished is removed.
    ///
    /// # Errors
    /// Of the file system, or of the engine.
    pub fn open(directory: &Path, config: &BaseConfig) -> Result<LsmBase, StoreError> {
        prepare(directory).map_err(io_error("preparing", &directory.display().to_string()))?;
        let next_number = SequenceNumberCounter::default();
        let tree = engine_config(directory, config, &next_number)
            .open()
            .map_err(engine_error("opening"))?;
        next_number.set(
            tree.get_highest_persisted_seqno()
                .map_or(0, |highest| highest + 1),
        );
        let strategy = Leveled::default()
            .with_l0_threshold(config.level_zero_tables)
            .with_table_target_size(config.table_size_bytes)
            .with_level_ratio_policy(vec![f32::from(config.level_ratio)]);
        let newest = Arc::new(Held::newest(&tree));
        Ok(LsmBase {
            shared: Arc::new(Shared {
                tree,
                next_number,
                directory: directory.to_owned(),
                strategy: Arc::new(strategy),
                views: Mutex::new(Views {
                    newest,
                    older: Vec::new(),
                }),
                refresh: Mutex::new(()),
                ingesting: Mutex::new(()),
                compacting: Mutex::new(()),
                compaction_due: AtomicBool::new(true),
                leftovers: AtomicBool::new(false),
            }),
        })
    }

    /// Whether [`LsmBase::compact_step`] may find something to do.
    #[must_use]
    pub fn needs_compaction(&self) -> bool {
        self.shared.compaction_due.load(Ordering::Acquire)
    }

    /// Tables that lie one over another and wait to be merged. When they grow past
    /// [`BaseConfig::level_zero_tables`], compaction falls behind.
    #[must_use]
    pub fn waiting_tables(&self) -> usize {
        lock(&self.shared.views)
            .newest
            .tables()
            .first()
            .map_or(0, Vec::len)
    }

    /// Tables of the levels below those.
    #[cfg(test)]
    pub(super) fn table_count(&self) -> usize {
        self.shared.lower_levels().iter().map(Vec::len).sum()
    }

    /// Does the most urgent piece of compaction, if there is any. It may run for seconds, reads and ingestions go on
    /// beside it. To be called again until it finds nothing.
    ///
    /// # Errors
    /// Of the engine. What was there before is still there: with [`StoreError::BaseFull`] it can be tried again later.
    pub fn compact_step(&self) -> Result<CompactionStep, StoreError> {
        let step = self.compact_once();
        if step.is_err() {
            // What it had written takes room that the rest needs now.
            self.shared.remove_leftovers()?;
        }
        step
    }

    fn compact_once(&self) -> Result<CompactionStep, StoreError> {
        let shared = &*self.shared;
        let _one = lock(&shared.compacting);
        // Before looking: an ingestion that comes meanwhile sets it again.
        shared.compaction_due.store(false, Ordering::Release);
        let before = shared.lower_levels();
        shared.compact(shared.next_number.get())?;
        shared.refresh()?;
        // An ingestion beside this one changes level 0 alone, a compaction always one below.
        if before == shared.lower_levels() {
            return Ok(CompactionStep::Nothing);
        }
        shared.compaction_due.store(true, Ordering::Release);
        Ok(CompactionStep::Done)
    }

    /// Keeps the runs of level 0 below the engine's bound, should compaction have fallen far behind. What can not be merged now,
    /// on a full disk, may wait up to the bound itself.
    fn merge_what_waits(&self) -> Result<(), StoreError> {
        loop {
            let runs = self.shared.tree.l0_run_count();
            if runs < MANY_RUNS {
                return Ok(());
            }
            match self.compact_step() {
                Ok(CompactionStep::Done) => {}
                Ok(CompactionStep::Nothing) | Err(StoreError::BaseFull { .. }) if runs < MOST_RUNS => {
                    return Ok(());
                }
                Ok(CompactionStep::Nothing) => {
                    return Err(StoreError::Engine {
                        action: "ingesting",
                        what: format!("{runs} ingestions wait to be merged, and none can be"),
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Rewrites everything into the last level: for tests, and for an operator who wants the space now.
    ///
    /// # Errors
    /// Of the engine.
    pub fn compact_all(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let _one = lock(&shared.compacting);
        let merged = shared
            .tree
            .major_compact(BaseConfig::default().table_size_bytes, shared.next_number.get());
        shared.leftovers.fetch_or(merged.is_err(), Ordering::AcqRel);
        merged.map_err(engine_error("compacting"))?;
        shared.refresh()
    }
}

impl Base for LsmBase {
    type View = LsmView;

    fn view(&self) -> Result<LsmView, StoreError> {
        Ok(LsmView::new(lock(&self.shared.views).newest.clone()))
    }

    fn ingest(&self, rows: &mut dyn Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError> {
        self.merge_what_waits()?;
        let shared = &*self.shared;
        let one = lock(&shared.ingesting);
        let ingested = shared.ingest(rows);
        if ingested.is_err() {
            shared.leftovers.store(true, Ordering::Release);
        }
        drop(one);
        let removed = shared.remove_leftovers();
        ingested.and(removed)
    }

    fn size_bytes(&self) -> u64 {
        lock(&self.shared.views).newest.size_bytes()
    }
}

impl Shared {
    fn ingest(&self, rows: &mut dyn Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError> {
        // An ingestion without rows would leave an empty file behind.
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut growing =
            GrowingTables::new(&self.directory).map_err(io_error("listing the tables in", TABLES))?;
        let mut ingestion = self
            .tree
            .ingestion()
            .map_err(engine_error("beginning to ingest"))?;
        for row in rows {
            let row = row?;
            let bytes = row.key.len() + row.value.as_ref().map_or(0, Bytes::len);
            let written = match row.value {
                Some(value) => ingestion.write(row.key, value),
                None => ingestion.write_tombstone(row.key),
            };
            written.map_err(engine_error("writing rows"))?;
            growing
                .wrote(bytes)
                .map_err(|error| engine_error("syncing rows")(error.into()))?;
        }
        ingestion
            .finish()
            .map_err(engine_error("completing an ingestion"))?;
        self.compaction_due.store(true, Ordering::Release);
        self.refresh()
    }

    /// The tables of level 1 and below.
    fn lower_levels(&self) -> Vec<Vec<u64>> {
        lock(&self.views)
            .newest
            .tables()
            .iter()
            .skip(1)
            .cloned()
            .collect()
    }

    fn compact(&self, below: lsm_tree::SeqNo) -> Result<(), StoreError> {
        // Rows below that number are dropped where a newer one hides them. Views keep their tables, so all may go.
        let compacted = self.tree.compact(self.strategy.clone(), below);
        self.leftovers.fetch_or(compacted.is_err(), Ordering::AcqRel);
        compacted.map_err(engine_error("compacting"))
    }

    /// Makes the tree's newest version the newest view, and lets go of what nobody holds.
    fn refresh(&self) -> Result<(), StoreError> {
        let _one = lock(&self.refresh);
        let newest = Arc::new(Held::newest(&self.tree));
        let released: Vec<Arc<Held>> = {
            let mut views = lock(&self.views);
            let replaced = std::mem::replace(&mut views.newest, newest);
            views.older.push(replaced);
            // No clone is made of an older view but from another clone of it: who is alone stays alone.
            views
                .older
                .extract_if(.., |view| Arc::strong_count(view) == 1)
                .collect()
        };
        // Files are removed here, outside of the lock that readers take.
        drop(released);
        // The engine keeps its old versions, with their tables, until told that nobody reads them by number.
        self.tree
            .get_version_history_lock()
            .maintenance(&self.directory, self.next_number.get())
            .map_err(engine_error("removing old lists of tables"))
    }

    /// Removes tables that no version names: those of ingestions and compactions that were given up. Their space is
    /// wanted most when the disk is full. Does nothing while something is being written; the next ingestion tries again.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
        if !self.leftovers.load(Ordering::Acquire) {
            return Ok(());
        }
        let (Some(_one), Some(_other)) = (try_lock(&self.ingesting), try_lock(&self.compacting)) else {
            return Ok(());
        };
        let named: BTreeSet<u64> = {
            let views = lock(&self.views);
            let held = views.older.iter().chain([&views.newest]);
            held.flat_map(|view| view.tables().iter().flatten().copied())
                .collect()
        };
        let tables = self.directory.join(TABLES);
        remove_files(&tables, |name| {
            name.parse().is_ok_and(|number| !named.contains(&number))
        })
        .map_err(io_error("removing unfinished tables from", TABLES))?;
        self.leftovers.store(false, Ordering::Release);
        Ok(())
    }
}

fn engine_config(directory: &Path, config: &BaseConfig, next_number: &SequenceNumberCounter) -> Config {
    let bloom = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    // The second counter says what snapshots by number may see: nobody takes any.
    Config::new(directory, next_number.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::new(Cache::with_capacity_bytes(config.block_cache_bytes)))
        .data_block_size_policy(BlockSizePolicy::all(config.block_size_bytes))
        .filter_policy(FilterPolicy::all(bloom))
        .expect_point_read_hits(false)
        .with_compaction_filter_factory(Some(Arc::new(Compactions::new(
            directory,
            config.compaction_reserve_bytes,
        ))))
        // Filters and indexes of compacted tables stay in memory, whole: a lookup then reads one block.
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
}

/// Creates the directory durably, and removes temporary files.
fn prepare(directory: &Path) -> io::Result<()> {
    if !directory.try_exists()? {
        fs::create_dir(directory)?;
        if let Some(parent) = directory.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    remove_files(directory, |name| name.starts_with(TEMPORARY))
}

fn remove_files(directory: &Path, is_leftover: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_leftover) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
