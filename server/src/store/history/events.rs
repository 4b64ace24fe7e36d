//! All events of some revisions, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::file::Scan;
use super::format::{BLOCK_HEADER_BYTES, BlockHeader};
use super::generation::Generation;
use super::range::KeyRange;
use super::view::decode_slot;
use crate::disk::DiskFile;
use crate::store::{Slot, StoreError};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The transaction's; events of one revision come in the transaction's order.
    pub revision: Revision,
    /// A slice of the piece that was read: copied by who keeps it.
    pub key: Bytes,
    /// What the key became; of a blind put the lineage may be open (`Past::resolve`). A slice as well.
    pub slot: Slot,
    /// Log time of its batch, microseconds.
    pub log_time_us: u64,
}

/// Iterates over events; see [`HistoryView::events`](super::HistoryView::events). Ends after an error.
pub struct Events<F> {
    generations: VecDeque<Arc<Generation<F>>>,
    scans: VecDeque<Scan<F>>,
    /// The block that is being read, and its entries left.
    block: Option<(BlockHeader, u32)>,
    from: Revision,
    to: Revision,
    keys: KeyRange,
}

impl<F: DiskFile> Events<F> {
    pub(super) fn new(
        generations: Vec<Arc<Generation<F>>>,
        from: Revision,
        to: Revision,
        keys: KeyRange,
    ) -> Events<F> {
        Events {
            generations: generations.into(),
            scans: VecDeque::new(),
            block: None,
            from,
            to,
            keys,
        }
    }

    fn advance(&mut self) -> Result<Option<Event>, StoreError> {
        while let Some(scan) = next_scan(&mut self.scans, &mut self.generations, self.from) {
            let Some((header, left)) = &mut self.block else {
                let header = scan.peek(BLOCK_HEADER_BYTES)?;
                let header = BlockHeader::decode(&header).map_err(|bad| scan.bad(bad))?;
                if header.first > self.to {
                    self.end();
                    return Ok(None);
                }
                scan.skip(BLOCK_HEADER_BYTES as u64);
                if header.last < self.from {
                    scan.skip(u64::from(header.body_bytes));
                } else {
                    self.block = Some((header, header.entries));
                }
                continue;
            };
            if *left == 0 {
                self.block = None;
                continue;
            }
            *left -= 1;
            let log_time_us = header.log_time_us;
            let entry = scan.entry()?;
            if entry.revision > self.to {
                self.end();
                return Ok(None);
            }
            if entry.revision < self.from || !self.keys.contains(&entry.key) {
                continue;
            }
            let slot = decode_slot(entry.record).map_err(|bad| scan.bad(bad))?;
            return Ok(Some(Event {
                revision: entry.revision,
                key: entry.key,
                slot,
                log_time_us,
            }));
        }
        Ok(None)
    }

    fn end(&mut self) {
        self.generations.clear();
        self.scans.clear();
    }
}

/// The scan that something is left of.
fn next_scan<'a, F: DiskFile>(
    scans: &'a mut VecDeque<Scan<F>>,
    generations: &mut VecDeque<Arc<Generation<F>>>,
    from: Revision,
) -> Option<&'a mut Scan<F>> {
    while scans.front().is_none_or(Scan::is_at_end) {
        if scans.pop_front().is_none() {
            *scans = generations.pop_front()?.scans(from);
        }
    }
    scans.front_mut()
}

impl<F: DiskFile> Iterator for Events<F> {
    type Item = Result<Event, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.end();
        }
        next.transpose()
    }
}
