//! The bytes of the log on disk, format version 1. All numbers are little-endian; a checksum is CRC-32C.
//!
//! # Files
//! ```text
//! NNNNNNNNNNNNNNNN.raftlog    a segment; N: its number, sixteen decimal digits, growing without gaps
//! NNNNNNNNNNNNNNNN.spare      a file ready to become a segment: zero-filled, or one whose entries were compacted
//! *.unfinished                a file in the making; removed at the next start
//! log.made                    empty: this directory has held a log, so without segments it is no new node's
//! ```
//! A segment's number is also its **generation**: it stands in each of its batches, and no number is used twice. So what
//! a recycled file held before can not pass for a batch of the segment it is now. A file gets its segment's name after
//! its header is synced, so under that name a header that can not be read is damage, never a torn write.
//!
//! # Segment
//! ```text
//! byte 0      512        ...                                        size of the file
//! | header    | batch    | batch | batch | zeros, or what a recycled file held before |
//! ```
//! # Segment header, one sector of 512 bytes
//! ```text
//!   0  magic "raftkvSG"               8      72  base: term                              8
//!   8  format version                 2      80  base: index                             8
//!  10  flags                          2      88  last entry before: term                 8
//!  12  checksum of the sector,        4      96  last entry before: index, 0: none       8
//!      taken with this field as 0           104  hard state: term                        8
//!  16  segment number = generation    8     112  hard state: vote                        8
//!  24  cluster                        8     120  hard state: commit                      8
//!  32  node                           8     128  zeros                                 384
//!  40  number of the first batch      8
//!  48  synced through batch number    8
//!  56  chain before the first batch   4
//!  60  zeros                          4
//!  64  zeros                          8
//! ```
//! Flag 1: `vote` was cast. Flag 2: the file was recycled. Flag 4: the log begins anew here, behind a snapshot whose last
//! entry is "base": older segments are void. "Base" is the entry below the first that the log can still
//! read, "last entry before" the log's last entry when the segment was begun; the two differ as long as an older segment
//! is kept. Magic, version and checksum stay where they are in every later version.
//!
//! # Batch, begins at a multiple of 512
//! ```text
//!   0  magic "RKVB"                   4      40  chain                                   4
//!   4  checksum of this header's      4      44  flags (1: vote was cast)                4
//!      bytes 8..80                           48  hard state: term                        8
//!   8  segment number = generation    8      56  hard state: vote                        8
//!  16  batch number                   8      64  hard state: commit                      8
//!  24  synced through batch number    8      72  zeros                                   8
//!  32  length of the body, bytes      4      80  body: the records, one after the other
//!  36  number of records              4          zeros up to the next multiple of 512
//! ```
//! Batches are numbered from 1 without gaps over all segments. `chain` is the checksum of the header's bytes 8..40 and
//! 44..80 and of the body, begun with the chain of the batch before: a batch fits in one place of one log only. The
//! header's own checksum stands alone, so that recovery can read headers past a batch that is bad.
//!
//! "Synced through" is the last batch that was known to be durable when this was written: proof that it was no torn
//! write (R41). A batch without records is a **mark**: it proves the one before it when nothing else follows.
//!
//! # Record, 80 bytes and the payload
//! ```text
//!   0  record version, 1              1      32  log time, microseconds                  8
//!   1  kind                           1      40  session                                 8
//!   2  zeros                          2      48  sequence                                8
//!   4  length with this header        4      56  first unacknowledged sequence           8
//!   8  group                          4      64  principal, 0: none                      8
//!  12  zeros                          4      72  authorisation revision, 0: none         8
//!  16  term                           8      80  payload, raw
//!  24  index                          8
//! ```
//! Kinds: 1 no-op, 2 command, 3 configuration, 4 truncation. A truncation cuts every entry behind (term, index), which
//! is the last one left; nothing is cut by overwriting: within a generation each byte is written once.
//!
//! # What the format does not do
//! * The last batch before a crash has no proof but the mark that follows within 50 ms. Rot in it, in those 50 ms, looks
//!   like a torn write.
//! * It does not know that some newest segments were deleted as files, nor some oldest ones: the first kept header tells
//!   the base, and who knows what is applied compares (R46).
//! * It is not encrypted and not authenticated: checksums find accidents, not attacks.

use raftkv_protocol::{ClusterId, NodeId};
use raftkv_raft::{EntryId, HardState, Index, Term};

use super::LogOwner;

/// Where batches may begin, and what a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// The version this program writes, and the newest it reads.
pub(super) const FORMAT_VERSION: u16 = 1;

pub(super) const SEGMENT_HEADER_BYTES: usize = 512;
pub(super) const BATCH_HEADER_BYTES: usize = 80;
pub(super) const RECORD_HEADER_BYTES: usize = 80;

const _: () = assert!(SEGMENT_HEADER_BYTES as u64 == SECTOR_BYTES);
// A batch header is never torn by a disk that keeps its promise.
const _: () = assert!(BATCH_HEADER_BYTES as u64 <= SECTOR_BYTES);

const SEGMENT_MAGIC: &[u8; 8] = b"raftkvSG";
const BATCH_MAGIC: &[u8; 4] = b"RKVB";
const FLAG_VOTED: u32 = 1;
const FLAG_RECYCLED: u32 = 2;
const FLAG_BEGINS_ANEW: u32 = 4;

/// Rounded up to where the next batch begins.
pub(super) fn to_sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(SECTOR_BYTES)
}

pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

pub(super) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// What the file is, if it came from a recycled one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// What follows the last batch is zeros.
    ZeroFilled,
    /// What follows the last batch is what the file held before.
    Recycled,
}

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) owner: LogOwner,
    pub(super) origin: Origin,
    pub(super) first_batch: u64,
    pub(super) synced_through: u64,
    pub(super) chain: u32,
    pub(super) base: EntryId,
    pub(super) last_before: Option<EntryId>,
    pub(super) hard_state: HardState,
    pub(super) follows: Follows,
}

/// What the segments before a segment are to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// The log goes on from them.
    Former,
    /// They are void: a snapshot took the place of all they hold.
    Nothing,
}

/// Why a sector is no header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    NewerFormat(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        put_u16(&mut bytes, 8, FORMAT_VERSION);
        let recycled = match self.origin {
            Origin::ZeroFilled => 0,
            Origin::Recycled => FLAG_RECYCLED,
        };
        let anew = match self.follows {
            Follows::Former => 0,
            Follows::Nothing => FLAG_BEGINS_ANEW,
        };
        put_u16(
            &mut bytes,
            10,
            (vote_flag(&self.hard_state) | recycled | anew) as u16,
        );
        put_u64(&mut bytes, 16, self.number);
        put_u64(&mut bytes, 24, self.owner.cluster.0);
        put_u64(&mut bytes, 32, self.owner.node.0);
        put_u64(&mut bytes, 40, self.first_batch);
        put_u64(&mut bytes, 48, self.synced_through);
        put_u32(&mut bytes, 56, self.chain);
        put_u64(&mut bytes, 72, self.base.term.0);
        put_u64(&mut bytes, 80, self.base.index.get());
        if let Some(last) = self.last_before {
            put_u64(&mut bytes, 88, last.term.0);
            put_u64(&mut bytes, 96, last.index.get());
        }
        put_hard_state(&mut bytes[104..128], &self.hard_state);
        let checksum = crc32c::crc32c(&bytes);
        put_u32(&mut bytes, 12, checksum);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<SegmentHeader, BadHeader> {
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(BadHeader::Damaged("it does not begin as a segment does"));
        }
        let mut unsigned = *bytes;
        put_u32(&mut unsigned, 12, 0);
        if crc32c::crc32c(&unsigned) != get_u32(bytes, 12) {
            return Err(BadHeader::Damaged(
                "the checksum of the segment's header is wrong",
            ));
        }
        let version = get_u16(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(BadHeader::NewerFormat(version));
        }
        Self::decode_fields(bytes).ok_or(BadHeader::Damaged("the segment's header holds an index 0"))
    }

    fn decode_fields(bytes: &[u8]) -> Option<SegmentHeader> {
        let flags = u32::from(get_u16(bytes, 10));
        Some(SegmentHeader {
            number: get_u64(bytes, 16),
            owner: LogOwner {
                cluster: ClusterId(get_u64(bytes, 24)),
                node: NodeId(get_u64(bytes, 32)),
            },
            origin: if flags & FLAG_RECYCLED == 0 {
                Origin::ZeroFilled
            } else {
                Origin::Recycled
            },
            first_batch: get_u64(bytes, 40),
            synced_through: get_u64(bytes, 48),
            chain: get_u32(bytes, 56),
            base: get_entry_id(bytes, 72)?,
            last_before: get_entry_id(bytes, 88),
            hard_state: get_hard_state(&bytes[104..128], flags)?,
            follows: if flags & FLAG_BEGINS_ANEW == 0 {
                Follows::Former
            } else {
                Follows::Nothing
            },
        })
    }
}

/// What stands before a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) synced_through: u64,
    pub(super) body_bytes: u32,
    pub(super) records: u32,
    pub(super) chain: u32,
    pub(super) hard_state: HardState,
}

impl BatchHeader {
    /// Writes the header in front of `batch`'s body, and the chain that follows from `chain_before` into it; returns
    /// that chain. `self.chain` is not looked at.
    pub(super) fn seal(&self, batch: &mut [u8], chain_before: u32) -> u32 {
        let (header, body) = batch.split_at_mut(BATCH_HEADER_BYTES);
        header.fill(0);
        header[..4].copy_from_slice(BATCH_MAGIC);
        put_u64(header, 8, self.generation);
        put_u64(header, 16, self.number);
        put_u64(header, 24, self.synced_through);
        put_u32(header, 32, self.body_bytes);
        put_u32(header, 36, self.records);
        put_u32(header, 44, vote_flag(&self.hard_state));
        put_hard_state(&mut header[48..72], &self.hard_state);
        let chain = chain(header, &body[..self.body_bytes as usize], chain_before);
        put_u32(header, 40, chain);
        let checksum = crc32c::crc32c(&header[8..]);
        put_u32(header, 4, checksum);
        chain
    }

    /// The header at the start of `bytes`; `None` if there is none whose checksum is right.
    pub(super) fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let header = bytes.get(..BATCH_HEADER_BYTES)?;
        if &header[..4] != BATCH_MAGIC || crc32c::crc32c(&header[8..]) != get_u32(header, 4) {
            return None;
        }
        Some(BatchHeader {
            generation: get_u64(header, 8),
            number: get_u64(header, 16),
            synced_through: get_u64(header, 24),
            body_bytes: get_u32(header, 32),
            records: get_u32(header, 36),
            chain: get_u32(header, 40),
            hard_state: get_hard_state(&header[48..72], get_u32(header, 44))?,
        })
    }

    /// Header and body, up to where the next batch begins.
    pub(super) fn batch_bytes(&self) -> u64 {
        to_sectors(BATCH_HEADER_BYTES as u64 + u64::from(self.body_bytes))
    }

    /// Does `batch` (header, body and perhaps more) follow a batch with this chain?
    pub(super) fn is_intact(&self, batch: &[u8], chain_before: u32) -> bool {
        let body = batch.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + self.body_bytes as usize);
        body.is_some_and(|body| chain(batch, body, chain_before) == self.chain)
    }
}

fn chain(header: &[u8], body: &[u8], chain_before: u32) -> u32 {
    let chained = crc32c::crc32c_append(chain_before, &header[8..40]);
    let chained = crc32c::crc32c_append(chained, &header[44..BATCH_HEADER_BYTES]);
    crc32c::crc32c_append(chained, body)
}

fn vote_flag(hard_state: &HardState) -> u32 {
    if hard_state.vote.is_some() { FLAG_VOTED } else { 0 }
}

fn put_hard_state(bytes: &mut [u8], hard_state: &HardState) {
    put_u64(bytes, 0, hard_state.term.0);
    put_u64(bytes, 8, hard_state.vote.map_or(0, |vote| vote.0));
    put_u64(bytes, 16, hard_state.commit.get());
}

fn get_hard_state(bytes: &[u8], flags: u32) -> Option<HardState> {
    let vote = raftkv_raft::NodeId(get_u64(bytes, 8));
    Some(HardState {
        term: Term(get_u64(bytes, 0)),
        vote: (flags & FLAG_VOTED != 0).then_some(vote),
        commit: Index::new(get_u64(bytes, 16))?,
    })
}

pub(super) fn get_entry_id(bytes: &[u8], at: usize) -> Option<EntryId> {
    Some(EntryId {
        term: Term(get_u64(bytes, at)),
        index: Index::new(get_u64(bytes, at + 8))?,
    })
}
