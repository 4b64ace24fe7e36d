//! How a file of history is written: from front to back, around the page cache, for it is seldom read.

use std::sync::Arc;

use super::file::Blocks;
use super::format::{PAGE_BYTES, put_header};
use super::names::FileId;
use crate::disk::{AlignedBuffer, Disk, DiskFile};
use crate::store::StoreError;
use crate::store::error::io_error;

/// A file in the making. Goes to the disk in whole pages; what does not fill the last one is written with zeros behind it, and
/// again when more follows.
#[derive(Debug)]
pub(super) struct Stream<F> {
    id: FileId,
    file: Arc<F>,
    /// Begins at a border of pages.
    buffer: AlignedBuffer,
    /// Where `buffer` begins in the file.
    start: u64,
    /// How much of the buffer is in the file already.
    written: usize,
}

impl<F: DiskFile> Stream<F> {
    /// Makes the file, its header in the buffer; one that an earlier attempt left is thrown away.
    pub(super) fn create<D: Disk<File = F>>(disk: &D, id: FileId) -> Result<Stream<F>, StoreError> {
        let name = id.name();
        let file = match disk.create(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                disk.remove(&name).map_err(io_error("removing", &name))?;
                disk.create(&name)
            }
            created => created,
        };
        let mut header = Vec::new();
        put_header(&mut header, id);
        let mut buffer = AlignedBuffer::default();
        buffer.extend_from_slice(&header);
        Ok(Stream {
            id,
            file: Arc::new(file.map_err(io_error("creating", &name))?),
            buffer,
            start: 0,
            written: 0,
        })
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Bytes that are not in the file yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Adds `bytes`; they are in the file after the next [`Stream::write`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Makes room for so many bytes at once.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.buffer.reserve(bytes + PAGE_BYTES);
    }

    /// Writes what waits.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        if self.waiting_bytes() == 0 {
            return Ok(());
        }
        let length = self.buffer.len();
        self.buffer.resize(length.next_multiple_of(PAGE_BYTES));
        let written = self.file.write_around_cache(&self.buffer, self.start);
        written.map_err(io_error("writing", &self.id.name()))?;
        let whole_pages = length / PAGE_BYTES * PAGE_BYTES;
        self.buffer.resize(length);
        self.buffer.remove_front(whole_pages);
        self.start += whole_pages as u64;
        self.written = self.buffer.len();
        Ok(())
    }

    /// Writes what waits, and cuts the file behind it.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        self.write()?;
        let cut = self.file.shrink(self.end());
        cut.map_err(io_error("cutting the end of", &self.id.name()))
    }

    /// What is in the file, for readers.
    pub(super) fn blocks(&self) -> Blocks<F> {
        Blocks {
            id: self.id,
            file: Arc::clone(&self.file),
            end: self.start + self.written as u64,
        }
    }
}
