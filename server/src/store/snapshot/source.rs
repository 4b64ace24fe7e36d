//! What a sender holds of a snapshot.

use bytes::{Bytes, BytesMut};
use raftkv_raft::EntryId;

use super::PART_BYTES;
use super::part::{Content, Head, Position, encode, put_row};
use crate::disk::{Disk, DiskFile};
use crate::store::base::{Base, BaseView};
use crate::store::history::{History, HistoryFile};
use crate::store::{Companions, StoreError, companions_in};

/// A held version of the base and the files of history up to it. Ingests, compactions and trims go on beside it; the disk
/// space of what it holds comes back when it is dropped.
pub struct Source<V, F> {
    view: V,
    files: Vec<HistoryFile<F>>,
    companions: Companions,
    part_bytes: usize,
}

impl<V: BaseView, F: DiskFile> Source<V, F> {
    /// Holds what base and history have now; `None` before the first drain.
    ///
    /// # Errors
    /// Of the base.
    pub fn open<B: Base<View = V>, D: Disk<File = F>>(
        base: &B,
        history: &History<D>,
    ) -> Result<Option<Source<V, F>>, StoreError> {
        let view = base.view()?;
        let Some(companions) = companions_in(&view)? else {
            return Ok(None);
        };
        // Behind the view: so all that explains it is there.
        let files = history.view().files(companions.generation);
        Ok(Some(Source {
            view,
            files,
            companions,
            part_bytes: PART_BYTES,
        }))
    }

    /// The state machine's numbers that it carries.
    #[must_use]
    pub fn companions(&self) -> &Companions {
        &self.companions
    }

    /// Smaller parts, for simulations.
    #[must_use]
    pub fn with_parts_of(mut self, bytes: usize) -> Source<V, F> {
        self.part_bytes = bytes.max(1);
        self
    }

    /// The last entry that is part of it.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.companions.applied
    }

    /// The part that begins at `position`; `None` if that is no position of this snapshot.
    ///
    /// # Errors
    /// Of the base, or of the disk; [`StoreError::Damaged`] before the first piece of a file that is damaged.
    pub fn part(&self, position: &Position) -> Result<Option<Bytes>, StoreError> {
        match position {
            Position::Rows { behind } => self.rows(behind).map(Some),
            Position::File { number, offset } => self.piece(*number, *offset),
            Position::End => Ok(Some(encode(
                &Head {
                    position: Position::End,
                    next: Position::End,
                    content: Content::Nothing,
                },
                &[],
            ))),
        }
    }

    fn rows(&self, behind: &[u8]) -> Result<Bytes, StoreError> {
        // The first key that can come behind it.
        let mut from = behind.to_vec();
        if !behind.is_empty() {
            from.push(0);
        }
        let mut body = BytesMut::new();
        let mut last = None;
        for row in self.view.range(&from, None) {
            let (key, value) = row?;
            put_row(&mut body, &key, &value);
            last = Some(key.to_vec());
            if body.len() >= self.part_bytes {
                break;
            }
        }
        let is_full = body.len() >= self.part_bytes;
        let next = match last {
            Some(behind) if is_full => Position::Rows { behind },
            Some(_) | None => self.file_or_end(0),
        };
        let head = Head {
            position: Position::Rows {
                behind: behind.to_vec(),
            },
            next,
            content: Content::Rows,
        };
        Ok(encode(&head, &body))
    }

    fn piece(&self, number: u32, offset: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(file) = self.files.get(number as usize) else {
            return Ok(None);
        };
        let size_bytes = file.size_bytes();
        if offset >= size_bytes {
            return Ok(None);
        }
        if offset == 0 {
            file.verify()?;
        }
        let length = (size_bytes - offset).min(self.part_bytes as u64);
        let mut body = vec![0; usize::try_from(length).unwrap_or(PART_BYTES)];
        file.read(offset, &mut body)?;
        let next = if offset + length < size_bytes {
            Position::File {
                number,
                offset: offset + length,
            }
        } else {
            self.file_or_end(number + 1)
        };
        let head = Head {
            position: Position::File { number, offset },
            next,
            content: Content::Piece {
                name: file.name(),
                size_bytes,
            },
        };
        Ok(Some(encode(&head, &body)))
    }

    fn file_or_end(&self, number: u32) -> Position {
        if (number as usize) < self.files.len() {
            Position::File { number, offset: 0 }
        } else {
            Position::End
        }
    }
}

impl<V, F> std::fmt::Debug for Source<V, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("last", &self.companions.applied)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}
