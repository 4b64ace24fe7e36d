//! Lookups of many ascending keys: a walk through the tables beside the keys.
//!
//! A lookup through the engine's cache costs about 3 us for a row that is not cached, mostly for finding the block, reading
//! it, and making room for it in the cache. The old rows of a drain are looked up in key order and each once: a walk keeps
//! its place in each table's index, reads a block once for all keys in it and ahead where most blocks are wanted, asks the
//! filters it holds, and leaves the cache to those who read again. A scan of the merged rows instead pays for each row
//! that is passed in each run, and loses as soon as runs lie one over another (`bench/storage.md`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use lsm_tree::table::filter::standard_bloom::{self, StandardBloomFilterReader};
use lsm_tree::table::{Block, BlockHandle, BlockOffset, DataBlock, IndexBlock};
use lsm_tree::{CompressionType, InternalValue, SeqNo, Table};

/// Read ahead, most.
const MOST_AHEAD_BYTES: u64 = 64 << 10;

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
    /// The block that `index` is at, once one was wanted.
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
        let wanted = self.index.here_and_behind();
        if wanted.is_empty() {
            return Ok(None);
        }
        let block = match &mut self.block {
            Some(block) => block,
            none => none.insert(DataBlock::new(self.ahead.block(&self.file, wanted)?)),
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

impl IndexedBlock {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.size)
    }
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

    /// The block that it is at, and those behind.
    fn here_and_behind(&self) -> &[IndexedBlock] {
        &self.blocks[self.at..]
    }
}

/// Reads blocks; several at once as long as most of what was read so is wanted: to read a block for nothing costs about as much
/// as to ask for a wanted one by itself.
struct ReadAhead {
    /// What was read last and holds more than one block.
    bytes: Vec<u8>,
    begins: u64,
    /// Of `bytes`, those of blocks that were wanted.
    wanted_bytes: usize,
    /// So many blocks are read next.
    blocks: usize,
    /// Where the block ends that was wanted last.
    last_end: u64,
}

impl Default for ReadAhead {
    fn default() -> ReadAhead {
        ReadAhead {
            bytes: Vec::new(),
            begins: 0,
            wanted_bytes: 0,
            blocks: 1,
            last_end: 0,
        }
    }
}

impl ReadAhead {
    /// The first of `wanted`, which are all that follow in the file. Each is wanted once, or never.
    fn block(&mut self, file: &File, wanted: &[IndexedBlock]) -> lsm_tree::Result<Block> {
        let (offset, size) = (wanted[0].offset, wanted[0].size as usize);
        let is_next = offset == std::mem::replace(&mut self.last_end, wanted[0].end());
        if self.held(offset, size).is_none() {
            self.learn(is_next);
            let last = self.last_of(wanted);
            if last == 0 {
                self.bytes.clear();
                let handle = BlockHandle::new(BlockOffset(offset), wanted[0].size);
                return Block::from_file(file, handle, CompressionType::None);
            }
            self.fill(file, offset, wanted[last].end())?;
        }
        self.wanted_bytes += size;
        // A file that ends before the block does is damaged, and the reader says so.
        let block = self.held(offset, size).unwrap_or(&self.bytes);
        Block::from_reader(&mut &*block, CompressionType::None)
    }

    /// Twice as many blocks where one follows the other and most were wanted; half as many where most were not.
    fn learn(&mut self, is_next: bool) {
        let most_were_wanted = self.bytes.is_empty() || self.wanted_bytes > self.bytes.len() / 2;
        if !most_were_wanted {
            self.blocks = (self.blocks / 2).max(1);
        } else if is_next {
            self.blocks *= 2;
        }
    }

    /// Which of `wanted` is the last to be read with the first.
    fn last_of(&mut self, wanted: &[IndexedBlock]) -> usize {
        let most = wanted[0].offset + MOST_AHEAD_BYTES;
        let fit = wanted
            .iter()
            .take(self.blocks)
            .take_while(|block| block.end() <= most);
        // One that is larger than that is read alone.
        self.blocks = fit.count().max(1);
        self.blocks - 1
    }

    fn held(&self, offset: u64, size: usize) -> Option<&[u8]> {
        let begin = usize::try_from(offset.checked_sub(self.begins)?).ok()?;
        self.bytes.get(begin..begin.checked_add(size)?)
    }

    fn fill(&mut self, file: &File, offset: u64, end: u64) -> lsm_tree::Result<()> {
        self.begins = offset;
        self.wanted_bytes = 0;
        self.bytes
            .resize(usize::try_from(end - offset).unwrap_or(usize::MAX), 0);
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

#[cfg(test)]
mod tests {
    use lsm_tree::table::block::BlockType;

    use super::*;

    /// A file of blocks as long as told, each filled with its place, and where they are.
    fn file_of(lengths: &[usize]) -> (File, Vec<IndexedBlock>) {
        let mut bytes = Vec::new();
        let mut blocks = Vec::new();
        for (at, length) in lengths.iter().enumerate() {
            let offset = bytes.len();
            let body = vec![at as u8; *length];
            Block::write_into(&mut bytes, &body, BlockType::Data, CompressionType::None)
                .expect("memory takes it");
            blocks.push(IndexedBlock {
                key_begins: 0,
                size: (bytes.len() - offset) as u32,
                offset: offset as u64,
            });
        }
        let mut file = tempfile::tempfile().expect("a temporary file");
        std::io::Write::write_all(&mut file, &bytes).expect("it can be written");
        (file, blocks)
    }

    fn read(ahead: &mut ReadAhead, file: &File, blocks: &[IndexedBlock], at: usize) {
        let block = ahead.block(file, &blocks[at..]).expect("it is whole");
        assert!(
            block.data.iter().all(|byte| *byte == at as u8),
            "another block than {at}"
        );
        assert!(ahead.bytes.len() as u64 <= MOST_AHEAD_BYTES, "too much at once");
    }

    #[test]
    fn reads_ahead_while_most_of_it_is_wanted_and_block_by_block_where_it_is_not() {
        let lengths: Vec<_> = (0..200).map(|at| 4_200 + at % 50).collect();
        let (file, blocks) = file_of(&lengths);
        let mut ahead = ReadAhead::default();
        for at in 0..60 {
            read(&mut ahead, &file, &blocks, at);
        }
        assert_eq!(ahead.blocks, 15, "all that fit");
        for at in (60..120).filter(|at| at % 4 != 0) {
            read(&mut ahead, &file, &blocks, at);
        }
        assert_eq!(ahead.blocks, 15, "three of four are most");
        for at in (120..180).step_by(3) {
            read(&mut ahead, &file, &blocks, at);
        }
        assert_eq!((ahead.blocks, ahead.bytes.len()), (1, 0), "one of three is not");
        for at in 180..200 {
            read(&mut ahead, &file, &blocks, at);
        }
        assert!(ahead.blocks > 1, "and again");
    }

    #[test]
    fn a_block_that_is_larger_than_what_is_read_ahead_is_read_alone() {
        let (file, blocks) = file_of(&[4_000, 4_000, 4_000, 100_000, 4_000, 4_000]);
        let mut ahead = ReadAhead::default();
        for at in 0..blocks.len() {
            read(&mut ahead, &file, &blocks, at);
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let (file, mut blocks) = file_of(&[4_000, 4_000]);
        blocks.push(IndexedBlock {
            key_begins: 0,
            size: 4_000,
            offset: blocks[1].end(),
        });
        let mut ahead = ReadAhead::default();
        read(&mut ahead, &file, &blocks, 0);
        read(&mut ahead, &file, &blocks, 1);
        assert!(ahead.block(&file, &blocks[2..]).is_err());
    }
}
