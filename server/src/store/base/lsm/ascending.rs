//! Lookups of many ascending keys: a walk through the tables beside the keys.
//!
//! A lookup through the engine's cache costs about 3 us for a row that is not cached, mostly for finding the block, reading
//! it, and making room for it in the cache. The old rows of a drain are looked up in key order and each once: a walk keeps
//! its place in each table's index, reads a block once for all keys in it and ahead when the next one is near, asks the
//! filters it holds, and leaves the cache to those who read again. A scan of the merged rows instead pays for each row
//! that is passed in each run, and loses as soon as runs lie one over another (`bench/storage.md`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom::{self, StandardBloomFilterReader};
use lsm_tree::table::{Block, BlockHandle, BlockOffset, DataBlock, IndexBlock};
use lsm_tree::{CompressionType, InternalValue, SeqNo, Table};

/// Read at once when the next blocks are probably wanted, too.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// A block that begins this near after the last one that was read is taken as a sign that the ones after it are wanted.
const NEAR_BYTES: u64 = 8 << 10;

/// When so many keys in a row were there, the next one is looked for without asking the filter, until one is not there: most
/// old rows of a drain are in one large run, whose filter is the largest and always says "perhaps".
const THERE_IN_A_ROW: u32 = 16;

/// A walk through all runs of a version, from key to higher key.
pub(super) struct Walk {
    runs: Vec<RunWalk>,
    /// The key that was looked up last.
    last: Vec<u8>,
}

impl Walk {
    /// Begins before all keys. Runs from new to old.
    pub(super) fn new(runs: &[Vec<Table>]) -> Walk {
        let walk = |run: &Vec<Table>| RunWalk {
            tables: run.clone(),
            at: 0,
            open: None,
        };
        Walk {
            runs: runs.iter().map(walk).collect(),
            last: Vec::new(),
        }
    }

    /// Whether it is not past `key` yet.
    pub(super) fn is_before(&self, key: &[u8]) -> bool {
        self.last[..] < *key
    }

    /// Looks up `key`, which is higher than all before it.
    pub(super) fn look_up(&mut self, key: &[u8]) -> lsm_tree::Result<Option<Bytes>> {
        let hash = standard_bloom::Builder::get_hash(key);
        self.last.clear();
        self.last.extend_from_slice(key);
        for run in &mut self.runs {
            if let Some(row) = run.look_up(key, hash)? {
                return Ok((!row.is_tombstone()).then(|| row.value.into()));
            }
        }
        Ok(None)
    }
}

/// A walk through the tables of a run, which do not overlap.
struct RunWalk {
    tables: Vec<Table>,
    at: usize,
    open: Option<TableWalk>,
}

impl RunWalk {
    fn look_up(&mut self, key: &[u8], hash: u64) -> lsm_tree::Result<Option<InternalValue>> {
        while let Some(table) = self.tables.get(self.at) {
            let range = &table.metadata.key_range;
            if **range.max() < *key {
                self.at += 1;
                self.open = None;
                continue;
            }
            if **range.min() > *key {
                return Ok(None);
            }
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(TableWalk::open(table)?),
            };
            return open.look_up(table, key, hash);
        }
        Ok(None)
    }
}

/// A place in a table.
struct TableWalk {
    file: File,
    /// `None`: the engine holds it, or there is none.
    filter: Option<Block>,
    index: Index,
    /// Keys that were there since one was not.
    there: u32,
    /// The block that holds the keys up to `index.current()`, once one was wanted.
    block: Option<DataBlock>,
    ahead: ReadAhead,
}

impl TableWalk {
    fn open(table: &Table) -> lsm_tree::Result<TableWalk> {
        let regions = &table.regions;
        // We never write tables with an index or a filter in parts; the engine could read them, this can not.
        if regions.index.is_some() || regions.filter_tli.is_some() {
            return Err(lsm_tree::Error::InvalidHeader("PartitionedTable"));
        }
        let file = File::open(&*table.path)?;
        let block = |handle| Block::from_file(&file, handle, CompressionType::None);
        let filter = match table.pinned_filter_block {
            Some(_) => None,
            None => regions.filter.map(block).transpose()?,
        };
        let index = Index::new(&IndexBlock::new(block(regions.tli)?));
        Ok(TableWalk {
            filter,
            index,
            there: 0,
            block: None,
            ahead: ReadAhead::default(),
            file,
        })
    }

    fn may_hold(&self, table: &Table, hash: u64) -> lsm_tree::Result<bool> {
        if let Some(pinned) = &table.pinned_filter_block {
            return pinned.maybe_contains_hash(hash);
        }
        match &self.filter {
            Some(filter) => Ok(StandardBloomFilterReader::new(&filter.data)?.contains_hash(hash)),
            None => Ok(true),
        }
    }

    fn look_up(&mut self, table: &Table, key: &[u8], hash: u64) -> lsm_tree::Result<Option<InternalValue>> {
        if self.there < THERE_IN_A_ROW && !self.may_hold(table, hash)? {
            self.there = 0;
            return Ok(None);
        }
        if self.index.seek(key) {
            self.block = None;
        }
        let Some(handle) = self.index.current() else {
            return Ok(None);
        };
        let block = match &mut self.block {
            Some(block) => block,
            none => none.insert(DataBlock::new(self.ahead.block(&self.file, handle)?)),
        };
        let row = block.point_read(key, SeqNo::MAX);
        self.there = if row.is_some() {
            self.there.saturating_add(1)
        } else {
            0
        };
        Ok(row)
    }
}

/// A table's index, taken apart once: where each block ends, in keys and in the file.
struct Index {
    /// All end keys, one after another.
    keys: Vec<u8>,
    blocks: Vec<IndexedBlock>,
    at: usize,
}

struct IndexedBlock {
    key_begins: u32,
    size: u32,
    offset: u64,
}

impl Index {
    fn new(block: &IndexBlock) -> Index {
        let bytes = block.as_slice();
        let mut index = Index {
            keys: Vec::with_capacity(bytes.len()),
            blocks: Vec::with_capacity(block.len()),
            at: 0,
        };
        for item in block.iter() {
            // A block of the index is less than 4 GiB, and so are the keys in it.
            let key_begins = index.keys.len() as u32;
            if let Some(prefix) = &item.prefix {
                index.keys.extend_from_slice(&bytes[prefix.0..prefix.1]);
            }
            index
                .keys
                .extend_from_slice(&bytes[item.end_key.0..item.end_key.1]);
            index.blocks.push(IndexedBlock {
                key_begins,
                size: item.size,
                offset: *item.offset,
            });
        }
        index
    }

    fn ends_before(&self, block: usize, key: &[u8]) -> bool {
        let begins = self.blocks[block].key_begins as usize;
        let ends = self
            .blocks
            .get(block + 1)
            .map_or(self.keys.len(), |next| next.key_begins as usize);
        self.keys[begins..ends] < *key
    }

    /// Goes to the first block from here on that does not end before `key`; whether that is another one than before.
    fn seek(&mut self, key: &[u8]) -> bool {
        let from = self.at;
        // In growing steps, since it is probably near, and then back by halves.
        let mut step = 1;
        while self.at < self.blocks.len() && self.ends_before(self.at, key) {
            let beyond = (self.at + step).min(self.blocks.len());
            if beyond < self.blocks.len() && self.ends_before(beyond, key) {
                self.at = beyond;
                step *= 2;
                continue;
            }
            let (mut low, mut high) = (self.at + 1, beyond);
            while low < high {
                let middle = usize::midpoint(low, high);
                if self.ends_before(middle, key) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            self.at = low;
            break;
        }
        self.at != from
    }

    fn current(&self) -> Option<&IndexedBlock> {
        self.blocks.get(self.at)
    }
}

/// Reads blocks, several at once when they are wanted one after another.
#[derive(Default)]
struct ReadAhead {
    bytes: Vec<u8>,
    begins: u64,
    /// Where the block read last ends.
    last_end: u64,
}

impl ReadAhead {
    fn block(&mut self, file: &File, wanted: &IndexedBlock) -> lsm_tree::Result<Block> {
        let (offset, size) = (wanted.offset, wanted.size as usize);
        let is_near = (self.last_end..self.last_end + NEAR_BYTES).contains(&offset);
        self.last_end = offset + u64::from(wanted.size);
        if let Some(block) = self.held(offset, size) {
            return Block::from_reader(&mut &*block, CompressionType::None);
        }
        if !is_near || size > READ_AHEAD_BYTES {
            let handle = BlockHandle::new(BlockOffset(offset), wanted.size);
            return Block::from_file(file, handle, CompressionType::None);
        }
        self.fill(file, offset)?;
        // A file that ends before the block does is damaged, and the reader says so.
        let rest = self.held(offset, size).unwrap_or(&self.bytes);
        Block::from_reader(&mut &*rest, CompressionType::None)
    }

    fn held(&self, offset: u64, size: usize) -> Option<&[u8]> {
        let begin = usize::try_from(offset.checked_sub(self.begins)?).ok()?;
        self.bytes.get(begin..begin.checked_add(size)?)
    }

    fn fill(&mut self, file: &File, offset: u64) -> lsm_tree::Result<()> {
        self.begins = offset;
        self.bytes.resize(READ_AHEAD_BYTES, 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match file.read_at(&mut self.bytes[filled..], offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
