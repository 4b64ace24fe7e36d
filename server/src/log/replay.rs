//! Reading a whole log: what every valid batch says, in order.

use raftkv_raft::{Entry, EntryId, HardState};

use bytes::Bytes;

use super::format::{BATCH_HEADER_BYTES, BatchHeader, SegmentHeader};
use super::index::{Content, EntryIndex, Place};
use super::outline::Outline;
use super::record::{EntryRecord, Record, Records};

/// The log as of the batches replayed so far.
pub(super) struct Replay {
    pub(super) outline: Outline,
    pub(super) hard_state: HardState,
    pub(super) configurations: Vec<Entry>,
    pub(super) index: EntryIndex,
    pub(super) next_batch: u64,
    pub(super) chain: u32,
    /// The last batch that a valid header says was synced.
    pub(super) proven: u64,
}

impl Replay {
    /// The log as its oldest segment's header describes it.
    pub(super) fn new(oldest: &SegmentHeader) -> Replay {
        // What is left of the log begins behind the last entry of the segments that were compacted.
        let base = oldest.last_before.unwrap_or(oldest.base);
        Replay {
            outline: Outline::new(base, oldest.last_before),
            hard_state: oldest.hard_state,
            configurations: Vec::new(),
            index: EntryIndex::default(),
            next_batch: oldest.first_batch,
            chain: oldest.chain,
            proven: oldest.synced_through,
        }
    }

    /// Takes in the batch that comes next and whose checksums are right; the reason if it contradicts the log.
    pub(super) fn take(
        &mut self,
        segment: u64,
        offset: u64,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), String> {
        let mut content = Content::default();
        let body = BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + header.body_bytes as usize;
        for record in Records::new(batch, body, header.records) {
            match record? {
                Record::Entry(entry) => self.take_entry(&entry, batch, &mut content)?,
                Record::Truncation(left) => self.cut_behind(left, &mut content)?,
            }
        }
        self.take_hard_state(header.hard_state)?;
        let place = Place {
            segment,
            offset,
            end: offset + header.batch_bytes(),
            batch: header.number,
            chain_before: self.chain,
        };
        self.index.add(place, content);
        self.proven = self.proven.max(header.synced_through);
        self.chain = header.chain;
        self.next_batch += 1;
        Ok(())
    }

    fn take_entry(
        &mut self,
        record: &EntryRecord,
        batch: &[u8],
        content: &mut Content,
    ) -> Result<(), String> {
        self.outline.push(record.id)?;
        content.push(record.id.index);
        if record.kind == raftkv_raft::EntryKind::Configuration {
            let payload = Bytes::copy_from_slice(&batch[record.payload.clone()]);
            let alone = EntryRecord {
                payload: 0..payload.len(),
                ..record.clone()
            };
            self.configurations.push(alone.entry(&payload)?);
        }
        Ok(())
    }

    fn cut_behind(&mut self, left: EntryId, content: &mut Content) -> Result<(), String> {
        self.outline.cut_behind(left)?;
        content.cut_behind(left.index);
        self.configurations.retain(|entry| entry.id.index <= left.index);
        Ok(())
    }

    /// A log that contradicts itself under right checksums was written by a defect, or is not one log (R43, R46).
    fn take_hard_state(&mut self, now: HardState) -> Result<(), String> {
        let before = std::mem::replace(&mut self.hard_state, now);
        if now.term < before.term {
            return Err(format!("the term falls from {} to {}", before.term, now.term));
        }
        let Some(last) = self.outline.last() else {
            return Err("the first batch holds no entry".to_owned());
        };
        if last.term > now.term {
            return Err(format!(
                "entry {last} has a newer term than the hard state, {}: its record is missing",
                now.term
            ));
        }
        if now.commit > last.index {
            return Err(format!(
                "the commit index is {}, beyond the last entry {last}",
                now.commit
            ));
        }
        Ok(())
    }
}
