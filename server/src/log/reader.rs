//! Reading entries back: followers that are behind, and replay after a start.

use std::ops::ControlFlow;

use bytes::Bytes;
use raftkv_raft::{Entry, Index};

use super::error::{LogError, io_error};
use super::format::{BATCH_HEADER_BYTES, BatchHeader};
use super::index::{SharedIndex, Stretch};
use super::names;
use super::record::{EntryRecord, Record, Records};
use crate::disk::{Disk, DiskFile};

/// Reads entries back, from any thread, beside appends. All clones read the same log.
#[derive(Clone, Debug)]
pub struct LogReader<D: Disk> {
    disk: D,
    index: SharedIndex,
}

impl<D: Disk> LogReader<D> {
    pub(super) fn new(disk: D, index: SharedIndex) -> LogReader<D> {
        LogReader { disk, index }
    }

    /// Entries from `from` to at most `to`, stopping after the one that passes `max_bytes`; at least one. Checks
    /// checksums. Payloads are slices of a few large buffers: who keeps one keeps the whole buffer.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when `from` was truncated or compacted meanwhile; [`LogError::Damaged`]; of the disk.
    pub fn read(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        let stretches = self.index.read(|index| index.find_run(from, to, max_bytes));
        if stretches.is_empty() {
            return Err(LogError::NotInLog { wanted: from });
        }
        let mut read = Wanted {
            from,
            to,
            bytes_left: max_bytes,
            entries: Vec::new(),
        };
        let mut open = None;
        for stretch in stretches {
            match self.read_stretch(stretch, &mut open, &mut read) {
                Ok(()) => {}
                // What was planned was compacted meanwhile, its file perhaps recycled: no damage.
                Err(_) if self.is_gone(stretch) && read.entries.is_empty() => {
                    return Err(LogError::NotInLog { wanted: from });
                }
                Err(_) if self.is_gone(stretch) => break,
                Err(error) => return Err(error),
            }
            if read.is_full() {
                break;
            }
        }
        Ok(read.entries)
    }

    /// Reads all entries that are here, and looks at every checksum. `after` is told of the bytes of each piece, and may end it.
    ///
    /// # Errors
    /// [`LogError::Damaged`]; of the disk.
    pub fn check(&self, after: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<(), LogError> {
        const PIECE_BYTES: usize = 1 << 20;
        const LAST: Index = Index::new(u64::MAX).expect("not 0");
        let first_here = || self.index.read(|index| index.first_from(0));
        let mut next = first_here();
        while let Some(from) = next {
            match self.read(from, LAST, PIECE_BYTES) {
                Ok(entries) => {
                    let bytes = entries.iter().map(|entry| entry.size_bytes() as u64).sum();
                    next = entries.last().map(|last| last.id.index.next());
                    if after(bytes).is_break() {
                        return Ok(());
                    }
                }
                // The end, unless it was cut meanwhile: then it goes on where the log begins now.
                Err(LogError::NotInLog { .. }) => next = first_here().filter(|first| *first > from),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_gone(&self, stretch: Stretch) -> bool {
        let first = self.index.read(|index| index.first_from(0));
        first.is_none_or(|first| first > stretch.last)
    }

    fn read_stretch(
        &self,
        stretch: Stretch,
        open: &mut Option<(u64, D::File)>,
        read: &mut Wanted,
    ) -> Result<(), LogError> {
        let name = names::segment(stretch.segment);
        let file = match open.take() {
            Some((segment, file)) if segment == stretch.segment => file,
            _ => self.disk.open(&name).map_err(io_error("opening", &name))?,
        };
        let mut buffer = vec![0; (stretch.end - stretch.offset) as usize];
        file.read_exact_at(&mut buffer, stretch.offset)
            .map_err(io_error("reading", &name))?;
        *open = Some((stretch.segment, file));
        let bytes = Bytes::from(buffer);
        take_entries(&bytes, stretch, read).map_err(|(at, what)| LogError::Damaged {
            file: name,
            offset: stretch.offset + at as u64,
            what,
        })
    }
}

/// What is still to be read, and what was.
struct Wanted {
    from: Index,
    to: Index,
    bytes_left: usize,
    entries: Vec<Entry>,
}

impl Wanted {
    fn is_full(&self) -> bool {
        let is_at_end = self.entries.last().is_some_and(|last| last.id.index >= self.to);
        is_at_end || (self.bytes_left == 0 && !self.entries.is_empty())
    }

    fn take(&mut self, record: &EntryRecord, bytes: &Bytes) -> Result<(), String> {
        let entry = record.entry(bytes)?;
        self.bytes_left = self.bytes_left.saturating_sub(entry.size_bytes());
        self.entries.push(entry);
        Ok(())
    }
}

/// Takes the entries that count out of a stretch's bytes; where and why it can not.
fn take_entries(bytes: &Bytes, stretch: Stretch, read: &mut Wanted) -> Result<(), (usize, String)> {
    let mut at = 0;
    let mut number = stretch.first_batch;
    let mut chain = stretch.chain_before;
    while at < bytes.len() && !read.is_full() {
        let header =
            checked_header(&bytes[at..], stretch.segment, number, chain).map_err(|what| (at, what))?;
        let body = at + BATCH_HEADER_BYTES..at + BATCH_HEADER_BYTES + header.body_bytes as usize;
        let survivors = survivors(Records::new(bytes, body, header.records)).map_err(|what| (at, what))?;
        for record in &survivors {
            let index = record.id.index;
            let counts = index >= stretch.first && index <= stretch.last;
            if counts && index >= read.from && index <= read.to && !read.is_full() {
                read.take(record, bytes).map_err(|what| (at, what))?;
            }
        }
        at += header.batch_bytes() as usize;
        number += 1;
        chain = header.chain;
    }
    Ok(())
}

fn checked_header(batch: &[u8], generation: u64, number: u64, chain: u32) -> Result<BatchHeader, String> {
    let header = BatchHeader::decode(batch).ok_or("the batch's header is not readable")?;
    if header.generation != generation || header.number != number {
        return Err(format!(
            "batch {} of segment {} stands where batch {number} of segment {generation} belongs",
            header.number, header.generation
        ));
    }
    if !header.is_intact(batch, chain) {
        return Err(format!("the checksum of batch {number} is wrong"));
    }
    Ok(header)
}

/// The entries of a batch that no later record of it cuts.
fn survivors(records: Records<'_>) -> Result<Vec<EntryRecord>, String> {
    let mut survivors: Vec<EntryRecord> = Vec::new();
    for record in records {
        match record? {
            Record::Entry(entry) => survivors.push(entry),
            Record::Truncation(left) => {
                let kept = survivors.partition_point(|entry| entry.id.index <= left.index);
                survivors.truncate(kept);
            }
        }
    }
    Ok(survivors)
}
