//! Before-images: what the base held of each key that a generation changed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use raftkv_protocol::Revision;
use raftkv_raft::simulation::{mark, mutant};

use super::file::{Scan, Sealed};
use super::format::{BLOCK_HEADER_BYTES, BlockHeader, Entry, Span, Stride, key_hash, short};
use super::generation::Generation;
use super::handle::begin_behind;
use super::index::Pointer;
use super::names::Content;
use super::range::{Direction, KeyRange};
use super::shared::Shared;
use super::stream::Stream;
use crate::disk::{Disk, DiskFile};
use crate::store::{Slot, StoreError, Stored};

/// A block is closed at this size: what a scan reads at once.
const BLOCK_BYTES: usize = 32 << 10;
/// Blocks are written when so many bytes of them wait.
const WRITE_BYTES: usize = 512 << 10;

/// Writes the images of one generation: the drain's, in ascending order of keys. Dropped before
/// [`ImageWriter::finish`] it leaves a file that counts for nothing.
///
/// When they become more than they may, they are given up, and with them the past up to the end of the generation: on a nearly full
/// disk a generation that writes small values over large ones would take all there is.
///
/// It holds what waits to be written, and 8 bytes for each key.
pub struct ImageWriter<D: Disk> {
    shared: Arc<Shared<D>>,
    generation: Arc<Generation<D::File>>,
    /// The generation's, which is sealed.
    span: Span,
    stream: Stream<D::File>,
    strides: Vec<Stride>,
    pointers: Vec<Pointer>,
    block: Vec<u8>,
    entries: u32,
    revisions: Option<(Revision, Revision)>,
    last_key: Vec<u8>,
    /// `None`: no bound.
    most_bytes: Option<u64>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    GivenUp,
}

impl<D: Disk> ImageWriter<D> {
    pub(super) fn begin(
        shared: Arc<Shared<D>>,
        generation: Arc<Generation<D::File>>,
        most_bytes: Option<u64>,
    ) -> Result<ImageWriter<D>, StoreError> {
        let stream = Stream::create(&shared.disk, generation.file_id(Content::Images))?;
        Ok(ImageWriter {
            span: generation.span(),
            shared,
            generation,
            stream,
            strides: Vec::new(),
            pointers: Vec::new(),
            block: vec![0; BLOCK_HEADER_BYTES],
            entries: 0,
            revisions: None,
            last_key: Vec::new(),
            most_bytes,
            fate: Fate::Kept,
        })
    }

    /// The oldest revision that history lets anybody read now.
    #[must_use]
    pub fn oldest_kept(&self) -> Revision {
        self.shared.read(|kept| kept.oldest_kept)
    }

    /// What the base holds of `key`, which the generation changed first at `first_revision`. Of a record's lineage all
    /// must be known.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    ///
    /// # Panics
    /// When keys do not ascend, or `first_revision` is none of the generation's.
    pub fn push(
        &mut self,
        key: &[u8],
        first_revision: Revision,
        image: Option<&Stored>,
    ) -> Result<(), StoreError> {
        assert!(
            self.pointers.is_empty() || *self.last_key < *key,
            "images come in ascending order of keys"
        );
        let span = self.span;
        assert!(
            span.before < first_revision && first_revision <= span.last,
            "an image at revision {first_revision} of a generation from {} to {}",
            span.before,
            span.last
        );
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if mutant("before_image_missing") && key_hash(key).is_multiple_of(3) {
            return Ok(());
        }
        if self.fate == Fate::GivenUp {
            return Ok(());
        }
        let hash = key_hash(key);
        let place = self.stream.end() + self.block.len() as u64;
        let place = u32::try_from(place).expect("a generation's images end within 4 GiB");
        self.pointers.push(Pointer::new(hash, place));
        put_image(&mut self.block, key, first_revision, image);
        self.entries += 1;
        let (lowest, highest) = self.revisions.unwrap_or((first_revision, first_revision));
        self.revisions = Some((lowest.min(first_revision), highest.max(first_revision)));
        if self.block.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), StoreError> {
        self.shared.check_running()?;
        let Some((first, last)) = self.revisions.take() else {
            return Ok(());
        };
        let header = BlockHeader {
            generation: self.generation.number,
            first,
            last,
            log_time_us: 0,
            body_bytes: short(self.block.len() - BLOCK_HEADER_BYTES),
            entries: std::mem::take(&mut self.entries),
        };
        header.write(&mut self.block);
        self.strides.push(Stride {
            first,
            offset: self.stream.end(),
        });
        self.stream.push(&self.block);
        self.block.truncate(BLOCK_HEADER_BYTES);
        if self.most_bytes.is_some_and(|most| self.stream.end() > most) {
            return self.give_up();
        }
        if self.stream.waiting_bytes() < WRITE_BYTES {
            return Ok(());
        }
        let written = self.stream.write();
        self.shared.stop_on_error(written)
    }

    /// Throws away what is written.
    fn give_up(&mut self) -> Result<(), StoreError> {
        mark("history: images given up");
        self.fate = Fate::GivenUp;
        (self.strides, self.pointers) = (Vec::new(), Vec::new());
        let begun = Stream::create(&self.shared.disk, self.generation.file_id(Content::Images));
        self.stream = self.shared.stop_on_error(begun)?;
        Ok(())
    }

    /// Makes the images durable and lets readers see them. Comes before the ingest. If they were given up: the oldest revision that
    /// this node can still read.
    ///
    /// # Errors
    /// Of the disk. The store takes no more writes then.
    pub fn finish(mut self) -> Result<Option<Revision>, StoreError> {
        self.end_block()?;
        self.shared.check_running()?;
        self.pointers.sort_unstable();
        let span = match self.fate {
            Fate::GivenUp if !mutant("images_given_up_without_a_word") => given_up(self.span),
            Fate::GivenUp | Fate::Kept => self.span,
        };
        let sealed = Sealed::finish(&self.shared.disk, self.stream, self.strides, &self.pointers, span);
        let sealed = self.shared.stop_on_error(sealed)?;
        if self.fate == Fate::GivenUp {
            let ends = (self.generation.number, self.span.last);
            self.shared
                .change(|kept| begin_behind(kept, self.shared.store, ends));
        }
        self.generation.set_images(sealed);
        mark("history: images finished");
        Ok((self.fate == Fate::GivenUp).then_some(self.span.last))
    }
}

/// What images that were given up say of their revisions: that they explain none.
pub(super) fn given_up(generation: Span) -> Span {
    Span {
        before: generation.last,
        ..generation
    }
}

fn put_image(out: &mut Vec<u8>, key: &[u8], first_revision: Revision, image: Option<&Stored>) {
    let slot = image.map(Stored::borrowed);
    let record_bytes = slot.map_or(0, |slot| slot.encoded_len());
    Entry::put(out, first_revision, key, record_bytes, |out| {
        if let Some(slot) = slot {
            slot.encode(out);
        }
    });
}

/// What an image's record says: `None` where there was no such key.
pub(super) fn decode_image(record: Bytes) -> Result<Option<Stored>, &'static str> {
    if !record.has_remaining() {
        return Ok(None);
    }
    match Slot::decode(record)? {
        Slot::Live(stored) => Ok(Some(stored)),
        Slot::Deleted(_) => Err("an image that is deleted"),
    }
}

/// The keys that a generation changed, in order; holds those of one block.
pub(super) struct ImageKeys<F> {
    sealed: Arc<Sealed<F>>,
    range: KeyRange,
    direction: Direction,
    /// Blocks not read yet, as places in `strides`.
    left: std::ops::Range<usize>,
    keys: VecDeque<Bytes>,
}

impl<F: DiskFile> ImageKeys<F> {
    pub(super) fn new(
        sealed: Arc<Sealed<F>>,
        range: KeyRange,
        direction: Direction,
    ) -> Result<ImageKeys<F>, StoreError> {
        let first = blocks_before(&sealed, |key| *key <= range.from)?.saturating_sub(1);
        let end = match &range.to {
            Some(to) => blocks_before(&sealed, |key| key < to)?,
            None => sealed.strides.len(),
        };
        Ok(ImageKeys {
            left: first..end.max(first),
            sealed,
            range,
            direction,
            keys: VecDeque::new(),
        })
    }

    fn load(&mut self, at: usize) -> Result<(), StoreError> {
        let strides = &self.sealed.strides;
        let end = strides
            .get(at + 1)
            .map_or(self.sealed.blocks.end, |next| next.offset);
        let mut scan = Scan::file(self.sealed.blocks.clone(), strides[at].offset, end);
        let header = scan.peek(BLOCK_HEADER_BYTES)?;
        BlockHeader::decode(&header).map_err(|bad| scan.bad(bad))?;
        scan.skip(BLOCK_HEADER_BYTES as u64);
        while !scan.is_at_end() {
            // A copy: a key would hold the whole block.
            let key = Bytes::copy_from_slice(&scan.entry()?.key);
            if self.range.contains(&key) {
                self.keys.push_back(key);
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let key = match self.direction {
                Direction::Ascending => self.keys.pop_front(),
                Direction::Descending => self.keys.pop_back(),
            };
            if key.is_some() {
                return Ok(key);
            }
            let block = match self.direction {
                Direction::Ascending => self.left.next(),
                Direction::Descending => self.left.next_back(),
            };
            match block {
                Some(block) => self.load(block)?,
                None => return Ok(None),
            }
        }
    }
}

impl<F: DiskFile> Iterator for ImageKeys<F> {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// How many blocks begin with a key for which `holds`; it does for a first few.
fn blocks_before<F: DiskFile>(
    sealed: &Sealed<F>,
    holds: impl Fn(&Bytes) -> bool,
) -> Result<usize, StoreError> {
    let (mut start, mut end) = (0, sealed.strides.len());
    while start < end {
        let middle = start + (end - start) / 2;
        let first = sealed
            .blocks
            .entry(sealed.strides[middle].offset + BLOCK_HEADER_BYTES as u64)?;
        if holds(&first.key) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    Ok(start)
}
