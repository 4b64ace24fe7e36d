//! One file of history: reading its blocks, sealing it, opening it sealed.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use raftkv_protocol::Revision;
use raftkv_raft::simulation::mutant;

use super::format::{
    BLOCK_HEADER_BYTES, Bad, BlockHeader, ENTRY_HEADER_BYTES, Entry, FOOTER_BYTES, FORMAT_VERSION, Footer,
    HEADER_BYTES, PAGE_BYTES, PAGE_ENTRIES, STRIDE_BYTES, Span, Stride, check_header,
};
use super::index::{Page, Pointer, Pointers, put_page};
use super::names::FileId;
use super::stream::Stream;
use crate::disk::{Disk, DiskFile};
use crate::store::StoreError;
use crate::store::error::io_error;

/// An entry is read with one call when it is no longer than this.
const FIRST_READ_BYTES: u64 = 512;
/// The index is written in pieces of this size.
const WRITE_BYTES: usize = 1 << 20;

/// The blocks that a file holds so far.
#[derive(Debug)]
pub(super) struct Blocks<F> {
    pub(super) id: FileId,
    pub(super) file: Arc<F>,
    pub(super) end: u64,
}

impl<F> Clone for Blocks<F> {
    fn clone(&self) -> Self {
        Blocks {
            file: Arc::clone(&self.file),
            ..*self
        }
    }
}

impl<F: DiskFile> Blocks<F> {
    /// The entry that begins at `offset`, checked.
    pub(super) fn entry(&self, offset: u64) -> Result<Entry, StoreError> {
        let left = self.end.saturating_sub(offset);
        if left < ENTRY_HEADER_BYTES as u64 {
            return Err(self.bad(offset, Bad::Damaged("an entry is cut off")));
        }
        let mut bytes = self.read(offset, left.min(FIRST_READ_BYTES))?;
        let length = Entry::length(&bytes).map_err(|bad| self.bad(offset, bad))?;
        if length as u64 > left {
            return Err(self.bad(offset, Bad::Damaged("an entry is cut off")));
        }
        if length > bytes.len() {
            bytes = self.read(offset, length as u64)?;
        }
        bytes.truncate(length);
        Entry::decode(bytes.into()).map_err(|bad| self.bad(offset, bad))
    }

    /// The last revision of the last block whose log time is not beyond this; `None` when all are later. Log times never
    /// fall, so the strides are searched by halves.
    pub(super) fn newest_by(
        &self,
        strides: &[Stride],
        log_time_us: u64,
    ) -> Result<Option<Revision>, StoreError> {
        let (mut low, mut high) = (0, strides.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let offset = strides[middle].offset;
            let header = self.read(offset, BLOCK_HEADER_BYTES as u64)?;
            let header = BlockHeader::decode(&header).map_err(|bad| self.bad(offset, bad))?;
            match header.log_time_us <= log_time_us {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let stride = low.checked_sub(1).and_then(|at| strides.get(at));
        let start = stride.map_or(HEADER_BYTES as u64, |stride| stride.offset);
        let mut scan = Scan::file(self.clone(), start, self.end);
        let mut newest = None;
        while !scan.is_at_end() {
            let header = scan.peek(BLOCK_HEADER_BYTES)?;
            let header = BlockHeader::decode(&header).map_err(|bad| scan.bad(bad))?;
            if header.log_time_us > log_time_us {
                break;
            }
            newest = Some(header.last);
            scan.skip(BLOCK_HEADER_BYTES as u64 + u64::from(header.body_bytes));
        }
        Ok(newest)
    }

    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| io_error("reading", &self.id.name())(source))?;
        Ok(bytes)
    }

    /// The error for what stands at `offset`.
    pub(super) fn bad(&self, offset: u64, bad: Bad) -> StoreError {
        bad_file(self.id, offset, bad)
    }
}

pub(super) fn bad_file(id: FileId, offset: u64, bad: Bad) -> StoreError {
    match bad {
        Bad::Damaged(what) => StoreError::Damaged {
            file: id.name(),
            offset,
            what: what.to_owned(),
        },
        Bad::NewerFormat(found) => StoreError::NewerFormat {
            file: id.name(),
            found,
            supported: FORMAT_VERSION,
        },
    }
}

/// A finished file. In memory: 4 bytes for each 511 entries, 16 for each stride.
#[derive(Debug)]
pub(super) struct Sealed<F> {
    pub(super) blocks: Blocks<F>,
    pub(super) footer: Footer,
    pub(super) strides: Vec<Stride>,
    first_hashes: Vec<u32>,
}

impl<F: DiskFile> Sealed<F> {
    /// Writes index and footer behind the blocks, and makes all of it durable, the name as well.
    pub(super) fn finish<D: Disk<File = F>>(
        disk: &D,
        mut stream: Stream<F>,
        strides: Vec<Stride>,
        pointers: &[Pointer],
        span: Span,
    ) -> Result<Sealed<F>, StoreError> {
        let blocks_end = stream.end();
        let mut out = Vec::new();
        for page in pointers.chunks(PAGE_ENTRIES) {
            out.clear();
            put_page(&mut out, page);
            stream.push(&out);
            if stream.waiting_bytes() >= WRITE_BYTES {
                stream.write()?;
            }
        }
        let first_hashes: Vec<u32> = pointers.chunks(PAGE_ENTRIES).map(|page| page[0].hash()).collect();
        out.clear();
        put_tail(&mut out, &first_hashes, &strides);
        let footer = Footer {
            entries: pointers.len() as u64,
            span,
            blocks_end,
            strides: strides.len() as u64,
            tail_checksum: crc32c::crc32c(&out),
        };
        let mut blocks = stream.blocks();
        blocks.end = blocks_end;
        footer.encode(&mut out, blocks.id);
        stream.push(&out);
        stream.finish()?;
        let name = blocks.id.name();
        assert_eq!(
            stream.end(),
            footer.file_bytes(),
            "the footer tells the length of {name}"
        );
        if !mutant("history_not_synced_before_ingest") {
            blocks.file.sync_data().map_err(io_error("syncing", &name))?;
            disk.sync_directory()
                .map_err(io_error("syncing the directory of", &name))?;
        }
        Ok(Sealed {
            blocks,
            footer,
            strides,
            first_hashes,
        })
    }

    /// Opens a file that was finished; anything else is damage.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, id: FileId) -> Result<Sealed<F>, StoreError> {
        let name = id.name();
        let file = disk.open(&name).map_err(io_error("opening", &name))?;
        Sealed::of_file(Arc::new(file), id)
    }

    fn of_file(file: Arc<F>, id: FileId) -> Result<Sealed<F>, StoreError> {
        let length = file.len().map_err(io_error("measuring", &id.name()))?;
        let mut blocks = Blocks { id, file, end: 0 };
        let footer_start = length.saturating_sub(FOOTER_BYTES as u64);
        if footer_start < HEADER_BYTES as u64 {
            return Err(blocks.bad(length, Bad::Damaged("it is cut off")));
        }
        let header = blocks.read(0, HEADER_BYTES as u64)?;
        check_header(&header, id).map_err(|bad| blocks.bad(0, bad))?;
        let footer = blocks.read(footer_start, FOOTER_BYTES as u64)?;
        let footer = Footer::decode(&footer, id).map_err(|bad| blocks.bad(footer_start, bad))?;
        if footer.file_bytes() != length || footer.blocks_end < HEADER_BYTES as u64 {
            return Err(blocks.bad(
                footer_start,
                Bad::Damaged("the footer tells another length of the file"),
            ));
        }
        blocks.end = footer.blocks_end;
        let tail = blocks.read(footer.tail_start(), footer.tail_bytes())?;
        if crc32c::crc32c(&tail) != footer.tail_checksum {
            let bad = Bad::Damaged("the checksum of first hashes and strides is wrong");
            return Err(blocks.bad(footer.tail_start(), bad));
        }
        let (first_hashes, strides) = get_tail(&tail, footer.pages() as usize);
        Ok(Sealed {
            blocks,
            footer,
            strides,
            first_hashes,
        })
    }

    /// Reads all of it, and looks at every checksum. `after` is told of the bytes of each block, and may end it.
    pub(super) fn verify(&self, after: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<(), StoreError> {
        let now = Sealed::of_file(Arc::clone(&self.blocks.file), self.blocks.id)?;
        let mut scan = Scan::file(now.blocks.clone(), HEADER_BYTES as u64, now.blocks.end);
        while !scan.is_at_end() {
            let header = scan.peek(BLOCK_HEADER_BYTES)?;
            let header = BlockHeader::decode(&header).map_err(|bad| scan.bad(bad))?;
            scan.skip(BLOCK_HEADER_BYTES as u64);
            for _ in 0..header.entries {
                scan.entry()?;
            }
            if after(u64::from(header.body_bytes)).is_break() {
                return Ok(());
            }
        }
        let mut pointers = now.pointers();
        for first_of_page in (0..now.footer.entries as usize).step_by(PAGE_ENTRIES) {
            pointers.get(first_of_page)?;
        }
        Ok(())
    }

    /// The index, page by page.
    pub(super) fn pointers(&self) -> Paged<'_, F> {
        Paged {
            sealed: self,
            page: None,
        }
    }
}

/// The place of the last stride that begins before `revision`: events from it on are behind it.
pub(super) fn stride_before(strides: &[Stride], revision: Revision) -> u64 {
    let behind = strides.partition_point(|stride| stride.first < revision);
    let stride = behind.checked_sub(1).and_then(|at| strides.get(at));
    stride.map_or(HEADER_BYTES as u64, |stride| stride.offset)
}

fn put_tail(out: &mut Vec<u8>, first_hashes: &[u32], strides: &[Stride]) {
    for hash in first_hashes {
        out.put_u32_le(*hash);
    }
    for stride in strides {
        out.put_u64_le(stride.first.0);
        out.put_u64_le(stride.offset);
    }
}

fn get_tail(tail: &[u8], pages: usize) -> (Vec<u32>, Vec<Stride>) {
    let (hashes, strides) = tail.split_at(pages * 4);
    let hashes = hashes.chunks_exact(4).map(|mut bytes| bytes.get_u32_le());
    let strides = strides.chunks_exact(STRIDE_BYTES).map(|mut bytes| Stride {
        first: Revision(bytes.get_u64_le()),
        offset: bytes.get_u64_le(),
    });
    (hashes.collect(), strides.collect())
}

/// The index of a sealed file; holds one page.
pub(super) struct Paged<'a, F> {
    sealed: &'a Sealed<F>,
    page: Option<Page>,
}

impl<F: DiskFile> Pointers for Paged<'_, F> {
    fn around(&self, hash: u32) -> Range<usize> {
        let hashes = &self.sealed.first_hashes;
        let start = hashes.partition_point(|first| *first < hash).saturating_sub(1);
        let end = hashes.partition_point(|first| *first <= hash);
        let entries = self.sealed.footer.entries as usize;
        (start * PAGE_ENTRIES).min(entries)..(end * PAGE_ENTRIES).min(entries)
    }

    fn get(&mut self, at: usize) -> Result<Pointer, StoreError> {
        let number = at / PAGE_ENTRIES;
        let held = self.page.take().filter(|page| page.number == number);
        let page = match held {
            Some(page) => page,
            None => {
                let blocks = &self.sealed.blocks;
                let offset = blocks.end + (number * PAGE_BYTES) as u64;
                let bytes = blocks.read(offset, PAGE_BYTES as u64)?;
                Page::decode(number, bytes)
                    .ok_or_else(|| blocks.bad(offset, Bad::Damaged("an index page's checksum is wrong")))?
            }
        };
        let pointer = page.pointer(at % PAGE_ENTRIES);
        self.page = Some(page);
        Ok(pointer)
    }
}

/// Reads blocks from front to back in pieces, from a file or from memory.
pub(super) struct Scan<F> {
    blocks: Option<Blocks<F>>,
    /// A piece, and where it begins.
    piece: Bytes,
    start: u64,
    pub(super) at: u64,
    end: u64,
}

/// Read at once; what an iterator holds is this or one entry, if that is larger.
const PIECE_BYTES: u64 = 64 << 10;

impl<F: DiskFile> Scan<F> {
    pub(super) fn file(blocks: Blocks<F>, at: u64, end: u64) -> Scan<F> {
        Scan {
            blocks: Some(blocks),
            piece: Bytes::new(),
            start: at,
            at,
            end,
        }
    }

    pub(super) fn memory(block: Bytes) -> Scan<F> {
        Scan {
            end: block.len() as u64,
            blocks: None,
            piece: block,
            start: 0,
            at: 0,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// The next `length` bytes, which stay next.
    pub(super) fn peek(&mut self, length: usize) -> Result<Bytes, StoreError> {
        let from = (self.at - self.start) as usize;
        if let Some(end) = from.checked_add(length).filter(|end| *end <= self.piece.len()) {
            return Ok(self.piece.slice(from..end));
        }
        let left = self.end.saturating_sub(self.at);
        if length as u64 > left {
            return Err(self.bad(Bad::Damaged("a block or an entry is cut off")));
        }
        let blocks = self.blocks.as_ref().expect("what is in memory is there whole");
        let piece = blocks.read(self.at, PIECE_BYTES.max(length as u64).min(left))?;
        (self.piece, self.start) = (piece.into(), self.at);
        Ok(self.piece.slice(..length))
    }

    pub(super) fn skip(&mut self, length: u64) {
        self.at = self.at.saturating_add(length);
        if self.at > self.start + self.piece.len() as u64 {
            (self.piece, self.start) = (Bytes::new(), self.at);
        }
    }

    /// The entry that comes next.
    pub(super) fn entry(&mut self) -> Result<Entry, StoreError> {
        let header = self.peek(ENTRY_HEADER_BYTES)?;
        let length = Entry::length(&header).map_err(|bad| self.bad(bad))?;
        let bytes = self.peek(length)?;
        let entry = Entry::decode(bytes).map_err(|bad| self.bad(bad))?;
        self.skip(length as u64);
        Ok(entry)
    }

    pub(super) fn bad(&self, bad: Bad) -> StoreError {
        match &self.blocks {
            Some(blocks) => blocks.bad(self.at, bad),
            None => panic!("a block in memory is as it was made: {bad:?} at {}", self.at),
        }
    }
}
