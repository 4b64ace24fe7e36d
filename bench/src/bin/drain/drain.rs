//! A frozen map into the base, as one ingest that asks for old rows as it goes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_server::store::base::{Base as _, BaseView as _, LsmBase, LsmView, Row};
use raftkv_server::store::{Lineage, Slot, StoreError, Stored};

use crate::load::{Key, encoded, row_key};
use crate::options::Lineages;

/// Keys looked up in one go. Each found row keeps a block in memory until it is written.
const CHUNK: usize = 512;
/// Companion rows come last of all.
const COMPANION: &[u8] = &[3];

pub(crate) struct Drain<'a> {
    pub(crate) base: &'a LsmBase,
    pub(crate) lineages: Lineages,
    /// 0: no limit.
    pub(crate) rows_per_s: u64,
    pub(crate) images: &'a mut BufWriter<File>,
    /// Written to by apply; synced here, before the ingest commits.
    pub(crate) events: &'a File,
    pub(crate) progress: &'a AtomicU64,
}

impl Drain<'_> {
    /// Drains `slots`, in key order.
    pub(crate) fn run<'s>(
        &mut self,
        slots: impl Iterator<Item = (&'s Key, &'s Slot)>,
    ) -> Result<(), StoreError> {
        let view = self.base.view()?;
        let base = self.base;
        let mut rows = Rows {
            slots: slots.peekable(),
            view,
            ready: VecDeque::with_capacity(CHUNK),
            started: Instant::now(),
            taken: 0,
            complete: false,
            drain: self,
        };
        base.ingest(&mut rows)
    }
}

struct Rows<'d, 'a, I: Iterator> {
    slots: std::iter::Peekable<I>,
    view: LsmView,
    ready: VecDeque<Row>,
    started: Instant,
    taken: u64,
    complete: bool,
    drain: &'d mut Drain<'a>,
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Io {
        action: "writing",
        file: "before-images".to_owned(),
        source: error,
    }
}

impl<'s, I: Iterator<Item = (&'s Key, &'s Slot)>> Rows<'_, '_, I> {
    fn pace(&mut self) {
        if self.drain.rows_per_s > 0 {
            let due = Duration::from_secs_f64(self.taken as f64 / self.drain.rows_per_s as f64);
            thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
    }

    /// Fills `ready`; at the end with the companion row, once.
    fn next_chunk(&mut self) -> Result<(), StoreError> {
        self.pace();
        let chunk: Vec<(Bytes, &Slot)> = self
            .slots
            .by_ref()
            .take(CHUNK)
            .map(|(key, slot)| (row_key(key), slot))
            .collect();
        self.taken += chunk.len() as u64;
        self.drain.progress.store(self.taken, Ordering::Relaxed);
        if chunk.is_empty() {
            return self.finish();
        }
        if self.drain.lineages != Lineages::OldRows {
            self.ready
                .extend(chunk.into_iter().map(|(key, slot)| row(key, slot, None)));
            return Ok(());
        }
        let mut slots = chunk.iter().map(|(_, slot)| *slot);
        let mut keys = chunk.iter().map(|(key, _)| key.clone());
        let (ready, images) = (&mut self.ready, &mut self.drain.images);
        self.view.get_ascending(&mut keys, &mut |key, old| {
            let slot = slots.next().expect("a slot for each key");
            let mut old_slot = None;
            if let Some(old) = old {
                let written = images.write_all(&key).and_then(|()| images.write_all(&old));
                written.map_err(failed)?;
                old_slot = Slot::decode(old).ok();
            }
            let beneath = old_slot.as_ref().and_then(Slot::live);
            ready.push_back(row(key, slot, beneath));
            Ok(())
        })
    }

    /// History is durable before the ingest that builds on it.
    fn finish(&mut self) -> Result<(), StoreError> {
        if self.complete {
            return Ok(());
        }
        self.complete = true;
        self.drain.images.flush().map_err(failed)?;
        self.drain.images.get_ref().sync_data().map_err(failed)?;
        self.drain.events.sync_data().map_err(failed)?;
        self.ready.push_back(Row {
            key: Bytes::from_static(COMPANION),
            value: Some(Bytes::copy_from_slice(&self.taken.to_le_bytes())),
        });
        Ok(())
    }
}

/// The base's row for `slot`, its lineage resolved over what is beneath.
fn row(key: Bytes, slot: &Slot, beneath: Option<&Stored>) -> Row {
    let value = slot.live().map(|stored| {
        let lineage: Lineage = stored.lineage.over(beneath);
        encoded(&Slot::Live(Stored {
            lineage,
            ..stored.clone()
        }))
    });
    Row { key, value }
}

impl<'s, I: Iterator<Item = (&'s Key, &'s Slot)>> Iterator for Rows<'_, '_, I> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Err(error) = self.next_chunk()
        {
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}
