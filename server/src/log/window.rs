//! Reads a file from front to back in large pieces.

use std::io;

use crate::disk::DiskFile;

const PIECE_BYTES: u64 = 1 << 20;

/// A piece of a file in memory.
pub(super) struct Window<'a, F> {
    file: &'a F,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, F: DiskFile> Window<'a, F> {
    pub(super) fn new(file: &'a F) -> io::Result<Window<'a, F>> {
        Ok(Window {
            file,
            file_bytes: file.len()?,
            start: 0,
            bytes: Vec::new(),
        })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// `length` bytes from `offset` on, or those that there are up to the file's end.
    pub(super) fn get(&mut self, offset: u64, length: u64) -> io::Result<&[u8]> {
        let end = offset.saturating_add(length).min(self.file_bytes);
        let offset = offset.min(end);
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let piece_end = end.max(offset.saturating_add(PIECE_BYTES)).min(self.file_bytes);
            self.bytes.resize((piece_end - offset) as usize, 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + (end - offset) as usize])
    }
}
