//! The thread that writes batches and syncs them: all that wait, at once.

use std::cell::Cell;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use raftkv_server::disk::{AlignedBuffer, Disk, DiskFile, RealDisk, RealFile};
use tokio::sync::watch;

use crate::frames::Number;

/// The file is written from the start again then. Filled with zeros before, so that a sync has no lengths to write.
const FILE_BYTES: usize = 256 << 20;

/// What a batch is rounded up to.
const BLOCK_BYTES: usize = 512;

/// Hands batches to the thread.
pub(crate) struct Log {
    batches: Sender<(Number, Bytes)>,
    /// The last number that was handed to the thread.
    handed: Cell<Number>,
    synced: Arc<watch::Sender<Number>>,
}

impl Log {
    pub(crate) fn create(directory: &Path) -> Result<Log, Box<dyn Error>> {
        let disk = RealDisk::open(directory)?;
        let file = disk.create("log")?;
        let mut zeros = AlignedBuffer::default();
        zeros.resize(1 << 20);
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_around_cache(&zeros, offset as u64)?;
        }
        file.sync_data()?;
        let (batches, waiting) = channel();
        let synced = Arc::new(watch::Sender::new(0));
        let told = Arc::clone(&synced);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&file, &waiting, &told))?;
        let handed = Cell::new(0);
        Ok(Log {
            batches,
            handed,
            synced,
        })
    }

    /// Nothing is to be written of a batch of reads: it is kept as soon as those before it are.
    pub(crate) fn append(&self, number: Number, records: Bytes) {
        if records.is_empty() && *self.synced.borrow() >= self.handed.get() {
            self.synced.send_replace(number);
            return;
        }
        self.handed.set(number);
        // The thread ends the process when it fails.
        let _ = self.batches.send((number, records));
    }

    /// Told whenever more is kept.
    pub(crate) fn synced(&self) -> watch::Receiver<Number> {
        self.synced.subscribe()
    }
}

fn write(file: &RealFile, waiting: &Receiver<(Number, Bytes)>, told: &watch::Sender<Number>) {
    let mut buffer = AlignedBuffer::default();
    let mut offset = 0;
    while let Ok((mut last, records)) = waiting.recv() {
        buffer.extend_from_slice(&records);
        for (number, records) in waiting.try_iter() {
            buffer.extend_from_slice(&records);
            last = number;
        }
        if buffer.is_empty() {
            told.send_replace(last);
            continue;
        }
        buffer.resize(buffer.len().next_multiple_of(BLOCK_BYTES));
        if offset + buffer.len() > FILE_BYTES {
            offset = 0;
        }
        let written = file
            .write_around_cache(&buffer, offset as u64)
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            eprintln!("the log: {error}");
            std::process::exit(1);
        }
        offset += buffer.len();
        buffer.clear(FILE_BYTES);
        told.send_replace(last);
    }
}
