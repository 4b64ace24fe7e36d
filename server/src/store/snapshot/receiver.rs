//! Fills a store of its own number with a snapshot that comes in.

use bytes::Bytes;
use raftkv_raft::EntryId;
use raftkv_raft::simulation::mark;

use super::part::{Content, Position, decode, take_row};
use crate::disk::Disk;
use crate::store::base::{Base, Row};
use crate::store::error::io_error;
use crate::store::history::{History, IncomingFile, store_of};
use crate::store::{Companions, StoreError, StoreNumber, Tables, companions_in, tables_in};

/// Rows gather up to this size before they go into the new base.
pub const BATCH_BYTES: usize = 16 << 20;

/// A snapshot that is coming in. Nothing of it is the node's state before the pointer is switched.
pub struct Receiver<B, D: Disk> {
    base: B,
    disk: D,
    store: StoreNumber,
    /// The snapshot's last entry, as its sender says.
    last: EntryId,
    expected: Position,
    rows: Vec<Row>,
    rows_bytes: usize,
    file: Option<IncomingFile<D::File>>,
}

/// What became of a part.
pub enum Taken<B, D: Disk> {
    /// This one comes next. The same again, when the part was damaged or another was expected.
    Next(Position),
    /// All of it is here, durable, and what it should be.
    Whole(Box<Received<B, D>>),
    /// It is no snapshot that a correct sender sends: drop it.
    Broken(&'static str),
}

/// A received snapshot, durable in files of its own.
pub struct Received<B, D: Disk> {
    /// Its store.
    pub store: StoreNumber,
    /// Its base.
    pub base: B,
    /// Its history.
    pub history: History<D>,
    /// The state machine's numbers.
    pub companions: Companions,
    /// What memory holds all of.
    pub tables: Tables,
}

impl<B: Base, D: Disk> Receiver<B, D> {
    /// Begins to fill store `store` with the snapshot whose last entry is `last`. `base` is empty; files that an earlier
    /// attempt left in that store are removed.
    ///
    /// # Errors
    /// Of the disk.
    pub fn begin(base: B, disk: D, store: StoreNumber, last: EntryId) -> Result<Receiver<B, D>, StoreError> {
        remove_history_of(&disk, |of| of == store)?;
        Ok(Receiver {
            base,
            disk,
            store,
            last,
            expected: Position::START,
            rows: Vec::new(),
            rows_bytes: 0,
            file: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn expected(&self) -> &Position {
        &self.expected
    }

    /// Takes a part in.
    ///
    /// # Errors
    /// Of the disk, or of the base. What was received is worth nothing then.
    pub fn take(&mut self, part: Bytes) -> Result<Taken<B, D>, StoreError> {
        let Some((head, body)) = decode(part) else {
            mark("snapshot: damaged part dropped");
            return Ok(Taken::Next(self.expected.clone()));
        };
        if head.position != self.expected {
            mark("snapshot: part out of turn dropped");
            return Ok(Taken::Next(self.expected.clone()));
        }
        match head.content {
            Content::Rows => {
                if let Some(broken) = self.take_rows(body)? {
                    return Ok(Taken::Broken(broken));
                }
            }
            Content::Piece { name, size_bytes } => {
                self.flush_rows()?;
                let Position::File { offset, .. } = head.position else {
                    return Ok(Taken::Broken("a piece of a file stands where rows belong"));
                };
                if let Some(broken) = self.take_piece(&name, size_bytes, offset, &body)? {
                    return Ok(Taken::Broken(broken));
                }
            }
            Content::Nothing => {}
        }
        self.expected = head.next;
        if self.expected != Position::End {
            return Ok(Taken::Next(self.expected.clone()));
        }
        self.finish()
    }

    fn take_rows(&mut self, mut body: Bytes) -> Result<Option<&'static str>, StoreError> {
        while !body.is_empty() {
            let Some((key, value)) = take_row(&mut body) else {
                return Ok(Some("a row is cut off"));
            };
            if self.rows.last().is_some_and(|last| last.key >= key) {
                return Ok(Some("rows do not ascend"));
            }
            self.rows_bytes += key.len() + value.len();
            self.rows.push(Row {
                key,
                value: Some(value),
            });
        }
        if self.rows_bytes >= BATCH_BYTES {
            self.flush_rows()?;
        }
        Ok(None)
    }

    fn flush_rows(&mut self) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.rows_bytes = 0;
        let mut rows = std::mem::take(&mut self.rows).into_iter().map(Ok);
        self.base.ingest(&mut rows)
    }

    fn take_piece(
        &mut self,
        name: &str,
        size_bytes: u64,
        offset: u64,
        body: &[u8],
    ) -> Result<Option<&'static str>, StoreError> {
        if offset == 0 {
            self.file = IncomingFile::create(&self.disk, name, self.store)?;
        }
        let Some(file) = &self.file else {
            return Ok(Some("a file has a name that none of history has"));
        };
        file.write(offset, body)?;
        if offset + body.len() as u64 >= size_bytes
            && let Some(file) = self.file.take()
        {
            return broken_or(file.finish()).map(Result::err);
        }
        Ok(None)
    }

    /// Everything came: makes names durable, and looks whether it is the snapshot that was offered.
    fn finish(&mut self) -> Result<Taken<B, D>, StoreError> {
        self.flush_rows()?;
        self.disk
            .sync_directory()
            .map_err(io_error("syncing", "the data directory"))?;
        let view = self.base.view()?;
        let Some(companions) = companions_in(&view)? else {
            return Ok(Taken::Broken("it holds no companions"));
        };
        if companions.applied != self.last {
            return Ok(Taken::Broken("it ends at another entry than was offered"));
        }
        let tables = tables_in(&view)?;
        let opened = History::open(
            self.disk.clone(),
            self.store,
            Some(companions.generation),
            companions.oldest_kept,
        );
        let history = match broken_or(opened)? {
            Ok(history) => history,
            Err(broken) => return Ok(Taken::Broken(broken)),
        };
        mark("snapshot: received whole");
        Ok(Taken::Whole(Box::new(Received {
            store: self.store,
            base: self.base.clone(),
            history,
            companions,
            tables,
        })))
    }
}

/// What is damaged here was so when it came: that is the sender's fault, and no reason to stop this node.
fn broken_or<T>(done: Result<T, StoreError>) -> Result<Result<T, &'static str>, StoreError> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(StoreError::Damaged { .. }) => {
            mark("snapshot: damaged file refused");
            Ok(Err("a file of history is damaged where it comes from"))
        }
        Err(StoreError::NewerFormat { .. }) => Ok(Err("it comes from a newer version of the server")),
        Err(error) => Err(error),
    }
}

impl<B, D: Disk> std::fmt::Debug for Receiver<B, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("store", &self.store)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Removes the files of history whose store is given up; durable on return.
///
/// # Errors
/// Of the disk.
pub fn remove_history_of<D: Disk>(
    disk: &D,
    is_given_up: impl Fn(StoreNumber) -> bool,
) -> Result<(), StoreError> {
    let names = disk.list().map_err(io_error("listing", "the data directory"))?;
    let mut gone = 0;
    for name in names
        .iter()
        .filter(|name| store_of(name).is_some_and(&is_given_up))
    {
        disk.remove(name).map_err(io_error("removing", name))?;
        gone += 1;
    }
    if gone > 0 {
        disk.sync_directory()
            .map_err(io_error("syncing", "the data directory"))?;
    }
    Ok(())
}
