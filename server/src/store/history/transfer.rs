//! Files of history on their way to another node, in a snapshot: read in pieces there, written in pieces here, and stamped
//! with the number of the store that they are of now.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::file::Sealed;
use super::format::{Bad, FOOTER_BYTES, Footer, HEADER_BYTES, check_header, put_header};
use super::names::FileId;
use crate::disk::{Disk, DiskFile};
use crate::store::error::io_error;
use crate::store::{StoreError, StoreNumber};

/// A finished file of history, held: a trim takes away its name only.
#[derive(Debug)]
pub struct HistoryFile<F> {
    sealed: Arc<Sealed<F>>,
}

impl<F: DiskFile> HistoryFile<F> {
    pub(super) fn of(sealed: Arc<Sealed<F>>) -> HistoryFile<F> {
        HistoryFile { sealed }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.sealed.blocks.id.name()
    }

    /// Its length, bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.sealed.footer.file_bytes()
    }

    /// Reads all of it: is it what was written once? Who sends a damaged file would only hand the damage on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; of the disk.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.check(&mut |_| ControlFlow::Continue(()))
    }

    /// As [`HistoryFile::verify`], but `after` is told of the bytes of each block, and may end it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; of the disk.
    pub fn check(&self, after: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.sealed.verify(after)
    }

    /// Reads a piece of it.
    ///
    /// # Errors
    /// Of the disk.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let read = self.sealed.blocks.file.read_exact_at(buffer, offset);
        read.map_err(io_error("reading", &self.name()))
    }
}

/// A file of history that is being received.
#[derive(Debug)]
pub struct IncomingFile<F> {
    file: F,
    /// What it is called where it comes from, and here.
    from: FileId,
    to: FileId,
}

impl<F: DiskFile> IncomingFile<F> {
    /// Makes the file; `None` if `name` is no file of history.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create<D: Disk<File = F>>(
        disk: &D,
        name: &str,
        store: StoreNumber,
    ) -> Result<Option<IncomingFile<F>>, StoreError> {
        let Some(from) = FileId::parse(name) else {
            return Ok(None);
        };
        let to = FileId { store, ..from };
        let file = disk
            .create(&to.name())
            .map_err(io_error("creating", &to.name()))?;
        Ok(Some(IncomingFile { file, from, to }))
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// Of the disk.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(io_error("writing", &self.to.name()))
    }

    /// All pieces are there: stamps the file with its new store, and makes it durable. Its name is not yet.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what its name says; of the disk.
    pub fn finish(self) -> Result<(), StoreError> {
        let name = self.to.name();
        let failed = |action: &'static str| io_error(action, &name);
        let length = self.file.len().map_err(failed("measuring"))?;
        let footer_start = length.saturating_sub(FOOTER_BYTES as u64);
        let mut header = vec![0; HEADER_BYTES];
        let mut footer = vec![0; FOOTER_BYTES];
        self.file
            .read_exact_at(&mut header, 0)
            .map_err(failed("reading"))?;
        self.file
            .read_exact_at(&mut footer, footer_start)
            .map_err(failed("reading"))?;
        check_header(&header, self.from).map_err(|bad| self.bad(0, bad))?;
        let read = Footer::decode(&footer, self.from).map_err(|bad| self.bad(footer_start, bad))?;
        header.clear();
        footer.clear();
        put_header(&mut header, self.to);
        read.encode(&mut footer, self.to);
        self.file.write_all_at(&header, 0).map_err(failed("writing"))?;
        self.file
            .write_all_at(&footer, footer_start)
            .map_err(failed("writing"))?;
        self.file.sync_data().map_err(failed("syncing"))
    }

    fn bad(&self, offset: u64, bad: Bad) -> StoreError {
        super::file::bad_file(self.to, offset, bad)
    }
}
