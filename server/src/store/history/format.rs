//! The bytes of history on disk, format version 1. All numbers are little-endian; a checksum is CRC-32C.
//!
//! # Files
//! ```text
//! SSSS-GGGGGGGGGGGGGGGG.events    what generation G of store S changed, in revision order
//! SSSS-GGGGGGGGGGGGGGGG.images    what the base held before, for each key that it changed, in key order
//! ```
//! Both have one form:
//! ```text
//! | header | block | block | ... | page | page | ... | first hashes | strides | footer |
//!                                  the index: entries by hash of the key
//! ```
//! # Header, 64 bytes
//! ```text
//!   0  magic "raftkvHE" events,       8      16  store                                   8
//!            "raftkvHI" images               24  generation                              8
//!   8  format version                 2      32  zeros                                  32
//!  10  zeros                          2
//!  12  checksum of these 64 bytes,    4
//!      taken with this field as 0
//! ```
//! # Block: what one applied batch changed; of images, some 32 KiB
//! ```text
//!   0  magic "RKVH"                   4      24  last revision                           8
//!   4  checksum of bytes 8..48        4      32  log time, microseconds (images: 0)      8
//!   8  generation                     8      40  bytes of the entries                    4
//!  16  first revision (images: of     8      44  number of entries                       4
//!      the entries, lowest, highest)         48  entries, one after the other
//! ```
//! # Entry
//! ```text
//!   0  checksum of the rest           4      12  revision                                8
//!   4  length of the whole            4      20  key
//!   8  length of the key              4       .  record (`store/record.rs`), to the end
//! ```
//! Of events, `revision` is the event's own; the record says "deleted" by itself. Of images it is that of the
//! generation's first event on the key; without a record there was no such key.
//!
//! # Index page, 4096 bytes
//! ```text
//!   0  checksum of the rest           4       8  511 times: CRC-32C of the key           4
//!   4  entries in use                 4                     where its entry begins       4
//! ```
//! Sorted by (hash, place) over all pages; zeros where not in use. "First hashes" are those of the pages, 4 bytes each: the only part
//! of the index that is kept in memory. Blocks end within the file's first 4 GiB.
//!
//! # Stride, 16 bytes: where one can begin to read
//! ```text
//!   0  first revision of a block      8       8  where it begins                         8
//! ```
//! Of events, the first block behind every 64 KiB; of images every block.
//!
//! # Footer, the last 128 bytes
//! ```text
//!   0  magic "raftkvHF"               8      48  last revision                           8
//!   8  format version                 2      56  first log time, microseconds            8
//!  10  zeros                          2      64  last log time                           8
//!  12  checksum of these 128 bytes,   4      72  where the blocks end                    8
//!      taken with this field as 0            80  number of strides                       8
//!  16  store                          8      88  checksum of first hashes and strides    4
//!  24  generation                     8      92  zeros                                  36
//!  32  number of entries              8
//!  40  revision before the first      8
//! ```
//! Revisions and log times are the generation's, in both files. A generation without a change has the same revision
//! before and last. Magic, version and checksum stay where they are in every later version.
//!
//! # What the format does not do
//! * Nothing is read back from a file without footer: such a generation is replayed from the log.
//! * Entries and pages are checked when they are read, not at the start.

use bytes::{Buf, BufMut, Bytes};
use raftkv_protocol::Revision;

use super::names::{Content, FileId};
use crate::store::{GenerationNumber, StoreNumber};

/// The version this program writes, and the newest it reads.
pub(super) const FORMAT_VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const BLOCK_HEADER_BYTES: usize = 48;
pub(super) const ENTRY_HEADER_BYTES: usize = 20;
pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const PAGE_ENTRIES: usize = (PAGE_BYTES - 8) / 8;
pub(super) const STRIDE_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 128;

const _: () = assert!(PAGE_ENTRIES == 511, "a page is full but for its head");

/// Of events, a place to begin at every so many bytes: 256 KiB of memory for 1 GiB.
pub(super) const EVENT_STRIDE_BYTES: u64 = 64 << 10;

const EVENTS_MAGIC: &[u8; 8] = b"raftkvHE";
const IMAGES_MAGIC: &[u8; 8] = b"raftkvHI";
const FOOTER_MAGIC: &[u8; 8] = b"raftkvHF";
const BLOCK_MAGIC: &[u8; 4] = b"RKVH";

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Damaged(&'static str),
    NewerFormat(u16),
}

/// What places a key in the index. Part of the format.
pub(super) fn key_hash(key: &[u8]) -> u32 {
    crc32c::crc32c(key)
}

fn put_checksum(bytes: &mut [u8], at: usize, checksum: u32) {
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks magic, checksum (at 12, taken as 0) and version, in this order.
fn check_frame(bytes: &[u8], magic: &[u8; 8], what: &'static str) -> Result<(), Bad> {
    if &bytes[..8] != magic {
        return Err(Bad::Damaged(what));
    }
    let mut fields = &bytes[8..16];
    let (version, _, checksum) = (fields.get_u16_le(), fields.get_u16_le(), fields.get_u32_le());
    let unsigned = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &[0; 4]);
    if crc32c::crc32c_append(unsigned, &bytes[16..]) != checksum {
        return Err(Bad::Damaged(what));
    }
    if version != FORMAT_VERSION {
        return Err(Bad::NewerFormat(version));
    }
    Ok(())
}

fn begin_frame(out: &mut Vec<u8>, magic: &[u8; 8], id: FileId) {
    out.put_slice(magic);
    out.put_u16_le(FORMAT_VERSION);
    out.put_bytes(0, 6);
    out.put_u64_le(id.store.0);
    out.put_u64_le(id.generation.0);
}

fn end_frame(out: &mut Vec<u8>, start: usize, length: usize) {
    out.resize(start + length, 0);
    let checksum = crc32c::crc32c(&out[start..]);
    put_checksum(&mut out[start..], 12, checksum);
}

fn magic_of(content: Content) -> &'static [u8; 8] {
    match content {
        Content::Events => EVENTS_MAGIC,
        Content::Images => IMAGES_MAGIC,
    }
}

/// Appends a file's header.
pub(super) fn put_header(out: &mut Vec<u8>, id: FileId) {
    let start = out.len();
    begin_frame(out, magic_of(id.content), id);
    end_frame(out, start, HEADER_BYTES);
}

/// Is this the header of that file?
pub(super) fn check_header(bytes: &[u8], id: FileId) -> Result<(), Bad> {
    check_frame(bytes, magic_of(id.content), "the header is wrong")?;
    check_owner(&bytes[16..], id)
}

fn check_owner(mut bytes: &[u8], id: FileId) -> Result<(), Bad> {
    let store = StoreNumber(bytes.get_u64_le());
    let generation = GenerationNumber(bytes.get_u64_le());
    if (store, generation) != (id.store, id.generation) {
        return Err(Bad::Damaged("it is the file of another store or generation"));
    }
    Ok(())
}

/// What a generation spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// The revision before the generation's first change.
    pub(super) before: Revision,
    /// That of its last change; `before` when there was none.
    pub(super) last: Revision,
    pub(super) first_log_time_us: u64,
    pub(super) last_log_time_us: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) entries: u64,
    pub(super) span: Span,
    pub(super) blocks_end: u64,
    pub(super) strides: u64,
    pub(super) tail_checksum: u32,
}

impl Footer {
    pub(super) fn encode(&self, out: &mut Vec<u8>, id: FileId) {
        let start = out.len();
        begin_frame(out, FOOTER_MAGIC, id);
        out.put_u64_le(self.entries);
        out.put_u64_le(self.span.before.0);
        out.put_u64_le(self.span.last.0);
        out.put_u64_le(self.span.first_log_time_us);
        out.put_u64_le(self.span.last_log_time_us);
        out.put_u64_le(self.blocks_end);
        out.put_u64_le(self.strides);
        out.put_u32_le(self.tail_checksum);
        end_frame(out, start, FOOTER_BYTES);
    }

    pub(super) fn decode(bytes: &[u8], id: FileId) -> Result<Footer, Bad> {
        check_frame(bytes, FOOTER_MAGIC, "the footer is missing or wrong")?;
        check_owner(&bytes[16..], id)?;
        let mut fields = &bytes[32..];
        Ok(Footer {
            entries: fields.get_u64_le(),
            span: Span {
                before: Revision(fields.get_u64_le()),
                last: Revision(fields.get_u64_le()),
                first_log_time_us: fields.get_u64_le(),
                last_log_time_us: fields.get_u64_le(),
            },
            blocks_end: fields.get_u64_le(),
            strides: fields.get_u64_le(),
            tail_checksum: fields.get_u32_le(),
        })
    }

    pub(super) fn pages(&self) -> u64 {
        self.entries.div_ceil(PAGE_ENTRIES as u64)
    }

    /// Where the pages end and the part begins that is loaded.
    pub(super) fn tail_start(&self) -> u64 {
        let pages = self.pages().saturating_mul(PAGE_BYTES as u64);
        self.blocks_end.saturating_add(pages)
    }

    pub(super) fn tail_bytes(&self) -> u64 {
        let strides = self.strides.saturating_mul(STRIDE_BYTES as u64);
        self.pages().saturating_mul(4).saturating_add(strides)
    }

    /// Length of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        let tail_end = self.tail_start().saturating_add(self.tail_bytes());
        tail_end.saturating_add(FOOTER_BYTES as u64)
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) generation: GenerationNumber,
    pub(super) first: Revision,
    pub(super) last: Revision,
    pub(super) log_time_us: u64,
    pub(super) body_bytes: u32,
    pub(super) entries: u32,
}

impl BlockHeader {
    /// Writes it over the first bytes of `block`.
    pub(super) fn write(&self, block: &mut [u8]) {
        let header = &mut block[..BLOCK_HEADER_BYTES];
        header[..4].copy_from_slice(BLOCK_MAGIC);
        let mut out = &mut header[8..];
        out.put_u64_le(self.generation.0);
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.last.0);
        out.put_u64_le(self.log_time_us);
        out.put_u32_le(self.body_bytes);
        out.put_u32_le(self.entries);
        let checksum = crc32c::crc32c(&header[8..]);
        put_checksum(header, 4, checksum);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<BlockHeader, Bad> {
        let (mut checksum, mut fields) = (&bytes[4..8], &bytes[8..BLOCK_HEADER_BYTES]);
        if &bytes[..4] != BLOCK_MAGIC || crc32c::crc32c(fields) != checksum.get_u32_le() {
            return Err(Bad::Damaged("a block's header is wrong"));
        }
        Ok(BlockHeader {
            generation: GenerationNumber(fields.get_u64_le()),
            first: Revision(fields.get_u64_le()),
            last: Revision(fields.get_u64_le()),
            log_time_us: fields.get_u64_le(),
            body_bytes: fields.get_u32_le(),
            entries: fields.get_u32_le(),
        })
    }
}

/// A stride. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stride {
    pub(super) first: Revision,
    pub(super) offset: u64,
}

/// An entry, its parts slices of what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    pub(super) key: Bytes,
    pub(super) record: Bytes,
}

impl Entry {
    /// Appends an entry whose record `record` writes; `record_bytes` long.
    pub(super) fn put(
        out: &mut Vec<u8>,
        revision: Revision,
        key: &[u8],
        record_bytes: usize,
        record: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = out.len();
        let length = ENTRY_HEADER_BYTES + key.len() + record_bytes;
        out.reserve(length);
        let mut header = [0; ENTRY_HEADER_BYTES];
        header[4..8].copy_from_slice(&short(length).to_le_bytes());
        header[8..12].copy_from_slice(&short(key.len()).to_le_bytes());
        header[12..].copy_from_slice(&revision.0.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(key);
        record(out);
        assert_eq!(out.len(), start + length, "a record is as long as it said");
        let checksum = crc32c::crc32c(&out[start + 4..]);
        put_checksum(&mut out[start..], 0, checksum);
    }

    /// The length that an entry's header tells.
    pub(super) fn length(header: &[u8]) -> Result<usize, Bad> {
        let length = (&header[4..8]).get_u32_le() as usize;
        if length < ENTRY_HEADER_BYTES {
            return Err(Bad::Damaged("an entry's header is wrong"));
        }
        Ok(length)
    }

    /// Reads the entry that `bytes` are, and no more.
    pub(super) fn decode(mut bytes: Bytes) -> Result<Entry, Bad> {
        if crc32c::crc32c(&bytes[4..]) != (&bytes[..4]).get_u32_le() {
            return Err(Bad::Damaged("an entry's checksum is wrong"));
        }
        let mut fields = &bytes[8..ENTRY_HEADER_BYTES];
        let (key_bytes, revision) = (fields.get_u32_le() as usize, Revision(fields.get_u64_le()));
        bytes.advance(ENTRY_HEADER_BYTES);
        if key_bytes > bytes.len() {
            return Err(Bad::Damaged("an entry's key is longer than the entry"));
        }
        let key = bytes.split_to(key_bytes);
        Ok(Entry {
            revision,
            key,
            record: bytes,
        })
    }
}

/// Lengths are written with 32 bits.
pub(super) fn short(length: usize) -> u32 {
    u32::try_from(length).expect("requests are limited far below 4 GiB")
}
