//! The bytes of one simulated file, twice: as the page cache shows them and as the platter holds them.

use std::collections::BTreeSet;
use std::ops::Range;

use fastrand::Rng;

use super::UnsyncedSectors;

/// What a disk writes whole or not at all, if it keeps its promise.
pub(super) const SECTOR_BYTES: usize = 512;

/// Invariants: `dirty` holds each sector in which `cached` and `durable` may differ, except where a sync failed and the
/// kernel took the sectors for clean (fsyncgate); `durable` is longer than `cached` only after an unsynced cut.
#[derive(Debug, Default)]
pub(super) struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn durable_with(bytes: Vec<u8>) -> Inode {
        Inode {
            cached: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn cached(&self) -> &[u8] {
        &self.cached
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// Bytes by which a write of `length` bytes at `offset` would make the file longer.
    pub(super) fn growth(&self, offset: usize, length: usize) -> usize {
        (offset + length).saturating_sub(self.cached.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let changed_from = offset.min(self.cached.len());
        if end > self.cached.len() {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.dirty
            .extend(changed_from / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    /// Returns the bytes that it has less now.
    pub(super) fn shrink(&mut self, length: usize) -> usize {
        let freed = self.cached.len().saturating_sub(length);
        self.cached.truncate(length);
        freed
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, self.cached.len());
            self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        }
    }

    /// Some sectors arrive, the others stay dirty: a sync that a crash cuts short.
    pub(super) fn sync_some(&mut self, rng: &mut Rng) {
        let dirty = std::mem::take(&mut self.dirty);
        for sector in dirty {
            if rng.bool() {
                self.persist(sector, SECTOR_BYTES);
            } else {
                self.dirty.insert(sector);
            }
        }
    }

    /// A sync that fails as Linux lets it fail: some sectors arrived, the others count as clean from now on, so that the
    /// next sync says "done". The page cache shows the new bytes still, or the old ones again, as the file system likes.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.sync_some(rng);
        self.dirty.clear();
        if rng.bool() {
            self.cached.clone_from(&self.durable);
        }
    }

    /// The power goes: the platter is all there is.
    pub(super) fn lose_power(&mut self, policy: UnsyncedSectors, rng: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            match policy.draw(rng) {
                UnsyncedSectors::Kept => self.persist(sector, SECTOR_BYTES),
                UnsyncedSectors::Torn => self.persist(sector, rng.usize(1..SECTOR_BYTES)),
                UnsyncedSectors::Lost | UnsyncedSectors::Mixed => {}
            }
        }
        // A cut of the file is lost or kept as well.
        if self.cached.len() < self.durable.len() && rng.bool() {
            self.durable.truncate(self.cached.len());
        }
        self.cached.clone_from(&self.durable);
    }

    /// Flips one bit in both copies; the sector stays as clean as it was.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        for copy in [&mut self.cached, &mut self.durable] {
            if let Some(byte) = copy.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// The first `length` bytes of a sector reach the platter.
    fn persist(&mut self, sector: usize, length: usize) {
        let mut range = sector_range(sector, self.cached.len());
        if range.len() > length {
            range.end = range.start + length;
        }
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
    }
}

fn sector_range(sector: usize, file_length: usize) -> Range<usize> {
    let start = sector * SECTOR_BYTES;
    start.min(file_length)..(start + SECTOR_BYTES).min(file_length)
}
