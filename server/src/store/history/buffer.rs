//! What apply fills: the events of the batch that is being applied, encoded as they come.

use bytes::Bytes;
use raftkv_protocol::Revision;

use super::events::Event;
use super::format::{BLOCK_HEADER_BYTES, BlockHeader, Entry, key_hash, short};
use super::index::Pointer;
use crate::store::{GenerationNumber, Slot, SlotRef};

/// Collects the events of one applied batch. Nothing is allocated per event; a batch costs two allocations.
#[derive(Debug)]
pub struct EventBuffer {
    bytes: Vec<u8>,
    pointers: Vec<Pointer>,
    revisions: Option<(Revision, Revision)>,
}

impl Default for EventBuffer {
    fn default() -> EventBuffer {
        EventBuffer::with_capacity(0, 0)
    }
}

impl EventBuffer {
    fn with_capacity(bytes: usize, events: usize) -> EventBuffer {
        let mut begun = Vec::with_capacity(bytes.max(BLOCK_HEADER_BYTES));
        begun.resize(BLOCK_HEADER_BYTES, 0);
        EventBuffer {
            bytes: begun,
            pointers: Vec::with_capacity(events),
            revisions: None,
        }
    }

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
        let next = EventBuffer::with_capacity(self.bytes.len(), self.pointers.len());
        let EventBuffer {
            mut bytes, pointers, ..
        } = std::mem::replace(self, next);
        let header = BlockHeader {
            generation,
            first,
            last,
            log_time_us,
            body_bytes: short(bytes.len() - BLOCK_HEADER_BYTES),
            entries: short(pointers.len()),
        };
        header.write(&mut bytes);
        Some(EventBlock {
            header,
            bytes: bytes.into(),
            pointers,
        })
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
