//! Batches: all writes that waited, encoded once into one buffer that is used again and again.

use raftkv_raft::Write;

use super::format::{BATCH_HEADER_BYTES, BatchHeader, RECORD_HEADER_BYTES, to_sectors};
use super::index::Content;
use super::outline::Outline;
use super::record;
use crate::disk::AlignedBuffer;

/// A buffer that grew beyond this for a huge batch is given back.
const KEPT_BYTES: usize = 8 << 20;

/// Bytes of the records of `writes`; `None` if a batch can not hold them (4 GiB).
pub(super) fn body_bytes(writes: &[Write]) -> Option<u32> {
    let write_bytes = |write: &Write| {
        let truncation = write.truncate_from.map_or(0, |_| RECORD_HEADER_BYTES);
        truncation + write.entries.iter().map(record::entry_bytes).sum::<usize>()
    };
    u32::try_from(writes.iter().map(write_bytes).sum::<usize>()).ok()
}

/// Bytes of a batch with such a body on disk.
pub(super) fn batch_bytes(body_bytes: u32) -> u64 {
    to_sectors(BATCH_HEADER_BYTES as u64 + u64::from(body_bytes))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BatchBuffer {
    bytes: AlignedBuffer,
    records: u32,
}

impl BatchBuffer {
    /// Encodes the records of `writes`, and follows them in `outline`.
    ///
    /// # Panics
    /// When the writes do not fit the log: they come from the core, which knows the log's end.
    pub(super) fn fill(&mut self, writes: &[Write], outline: &mut Outline) -> Content {
        self.bytes.clear(KEPT_BYTES);
        self.bytes.resize(BATCH_HEADER_BYTES);
        self.records = 0;
        let mut content = Content::default();
        for write in writes {
            self.put(write, outline, &mut content);
        }
        let padded = to_sectors(self.bytes.len() as u64) as usize;
        self.bytes.resize(padded);
        content
    }

    fn put(&mut self, write: &Write, outline: &mut Outline, content: &mut Content) {
        if let Some(from) = write.truncate_from {
            let left = from.previous().and_then(|left| outline.entry_id(left));
            let left = left.unwrap_or_else(|| {
                panic!(
                    "{:?} truncates from {from}, the log ends at {:?}",
                    write.number,
                    outline.last()
                )
            });
            follows(outline.cut_behind(left));
            content.cut_behind(left.index);
            record::put_truncation(&mut self.bytes, left);
            self.records += 1;
        }
        for entry in &write.entries {
            follows(outline.push(entry.id));
            content.push(entry.id.index);
            record::put_entry(&mut self.bytes, entry);
            self.records += 1;
        }
    }

    /// Writes the header; returns the batch as it goes to disk, and its chain.
    pub(super) fn seal(&mut self, header: &BatchHeader, chain_before: u32) -> (&[u8], u32) {
        let header = BatchHeader {
            records: self.records,
            ..*header
        };
        let chain = header.seal(&mut self.bytes, chain_before);
        (&self.bytes, chain)
    }
}

fn follows(result: Result<(), String>) {
    if let Err(what) = result {
        panic!("a write does not follow from the log: {what}");
    }
}
