//! What apply fills: the events of the batch that is being applied, encoded as they come.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::events::Event;
use super::format::{BLOCK_HEADER_BYTES, BlockHeader, Entry, key_hash, short};
use super::index::Pointer;
use crate::store::{GenerationNumber, Slot, SlotRef};

/// Memory of blocks that is kept for later ones, most. About twice what waits to be written under load.
const RECENT_BYTES: usize = 2 << 20;
const RECENT_BLOCKS: usize = 256;

/// Collects the events of one applied batch. Nothing is allocated per event, and the bytes of a batch take the memory of a
/// block that has been written and read, where there is one.
#[derive(Debug)]
pub struct EventBuffer {
    bytes: Vec<u8>,
    pointers: Vec<Pointer>,
    revisions: Option<(Revision, Revision)>,
    /// What was taken lately, oldest first.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
}

impl Default for EventBuffer {
    fn default() -> EventBuffer {
        EventBuffer {
            bytes: vec![0; BLOCK_HEADER_BYTES],
            pointers: Vec::new(),
            revisions: None,
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }
}

impl EventBuffer {
    /// Adds what `key` became. Copies both.
    ///
    /// # Panics
    /// When the revision is below the last one.
    pub fn push(&mut self, key: &[u8], slot: SlotRef<'_>) {
        let revision = slot.mod_revision();
        let first = self.revisions.map_or(revision, |(first, last)| {
            assert!(last <= revision, "event {revision} comes after event {last}");
            first
        });
        self.revisions = Some((first, revision));
        self.pointers
            .push(Pointer::new(key_hash(key), short(self.bytes.len())));
        Entry::put(&mut self.bytes, revision, key, slot.encoded_len(), |out| {
            slot.encode(out);
        });
    }

    /// Events since the last [`EventBuffer::take`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.pointers.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// The events as one block of `generation`, the buffer empty again; `None` when there are none.
    #[must_use]
    pub fn take(&mut self, generation: GenerationNumber, log_time_us: u64) -> Option<EventBlock> {
        let (first, last) = self.revisions?;
        self.revisions = None;
        let mut next = self.memory_for(self.bytes.len());
        next.resize(BLOCK_HEADER_BYTES, 0);
        let mut bytes = mem::replace(&mut self.bytes, next);
        let pointers = Vec::with_capacity(self.pointers.len());
        let pointers = mem::replace(&mut self.pointers, pointers);
        let header = BlockHeader {
            generation,
            first,
            last,
            log_time_us,
            body_bytes: short(bytes.len() - BLOCK_HEADER_BYTES),
            entries: short(pointers.len()),
        };
        header.write(&mut bytes);
        let bytes = Bytes::from(bytes);
        self.recent_bytes += bytes.len();
        self.recent.push_back(bytes.clone());
        Some(EventBlock {
            header,
            bytes,
            pointers,
        })
    }

    /// Empty memory: that of the oldest recent block if nobody else has that any more.
    fn memory_for(&mut self, length: usize) -> Vec<u8> {
        let mut memory = None;
        while let Some(oldest) = self.recent.front() {
            let too_many = self.recent_bytes > RECENT_BYTES || self.recent.len() > RECENT_BLOCKS;
            if !too_many && (memory.is_some() || !oldest.is_unique()) {
                break;
            }
            let oldest = self.recent.pop_front().expect("it was looked at");
            self.recent_bytes -= oldest.len();
            memory = oldest.try_into_mut().ok().or(memory);
        }
        memory.map_or_else(
            || Vec::with_capacity(length),
            |mut memory| {
                memory.clear();
                memory.into()
            },
        )
    }
}

/// The events of one applied batch, as they go to the file.
#[derive(Clone, Debug)]
pub struct EventBlock {
    pub(super) header: BlockHeader,
    /// Header and entries.
    pub(super) bytes: Bytes,
    /// Into `bytes`, in the order of the events.
    pub(super) pointers: Vec<Pointer>,
}

impl EventBlock {
    /// The generation that it belongs to.
    #[must_use]
    pub fn generation(&self) -> GenerationNumber {
        self.header.generation
    }

    /// Of its first and its last event.
    #[must_use]
    pub fn revisions(&self) -> (Revision, Revision) {
        (self.header.first, self.header.last)
    }

    /// How many events it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pointers.len() as u64
    }

    /// What it holds, in order; slices of it.
    ///
    /// # Panics
    /// When its bytes are not what apply wrote just now.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let mut rest = self.bytes.slice(BLOCK_HEADER_BYTES..);
        let mut events = Vec::with_capacity(self.pointers.len());
        while !rest.is_empty() {
            let length = Entry::length(&rest).expect("apply wrote it");
            let entry = Entry::decode(rest.split_to(length)).expect("apply wrote it");
            events.push(Event {
                revision: entry.revision,
                key: entry.key,
                slot: Slot::decode(entry.record).expect("apply wrote it"),
                log_time_us: self.header.log_time_us,
            });
        }
        events
    }

    /// Bytes it takes in the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_the_memory_of_one_that_nobody_holds_any_more() {
        let mut buffer = EventBuffer::default();
        let mut revision = 0;
        let mut next = |bytes: usize| {
            revision += 1;
            let value = vec![revision as u8; bytes].into();
            let record = Slot::Live(crate::store::Stored {
                value,
                mod_revision: Revision(revision),
                lineage: crate::store::Lineage::Known {
                    create_revision: Revision(revision),
                    version: 1,
                },
                deadline_us: None,
                lease: None,
            });
            buffer.push(b"key", record.borrowed());
            let block = buffer.take(GenerationNumber(1), 0).expect("an event was pushed");
            assert_eq!(block.events()[0].slot, record);
            (block, buffer.recent_bytes)
        };
        let held: Vec<_> = (0..3).map(|_| next(100).0).collect();
        let addresses: Vec<_> = held.iter().map(|block| block.bytes.as_ptr()).collect();
        drop(held);
        // One was begun already while all were held.
        let reused: Vec<_> = (0..4).map(|_| next(100).0.bytes.as_ptr()).collect();
        assert_eq!(reused[1..], addresses);

        let (held, most): (Vec<_>, Vec<_>) = (0..50).map(|_| next(RECENT_BYTES / 8)).unzip();
        let most = most.into_iter().max();
        assert!(
            most < Some(RECENT_BYTES + RECENT_BYTES / 4),
            "{most:?} bytes are kept"
        );
        drop(held);
    }
}
