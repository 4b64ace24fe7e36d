//! Records inside a batch: entries and truncations. `format.rs` draws them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use raftkv_raft::{Entry, EntryId, EntryKind, Stamp};

use super::format::{RECORD_HEADER_BYTES, get_entry_id, get_u32, get_u64, put_u32, put_u64};
use crate::disk::AlignedBuffer;
use crate::membership::Membership;

const RECORD_VERSION: u8 = 1;
/// The only group there is so far.
const GROUP: u32 = 0;

const NOOP: u8 = 1;
const COMMAND: u8 = 2;
const CONFIGURATION: u8 = 3;
const TRUNCATION: u8 = 4;

/// Bytes of an entry's record.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    RECORD_HEADER_BYTES + entry.payload.len()
}

/// Appends an entry's record.
///
/// # Panics
/// On a record of 4 GiB or more; whoever calls has added up the lengths before.
pub(super) fn put_entry(buffer: &mut AlignedBuffer, entry: &Entry) {
    let kind = match entry.kind {
        EntryKind::Noop => NOOP,
        EntryKind::Command => COMMAND,
        EntryKind::Configuration => CONFIGURATION,
    };
    let mut header = header(kind, entry.id, entry_bytes(entry));
    put_u64(&mut header, 32, entry.stamp.log_time_us);
    put_u64(&mut header, 40, entry.stamp.session);
    put_u64(&mut header, 48, entry.stamp.sequence);
    put_u64(&mut header, 56, entry.stamp.first_unacknowledged);
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(&entry.payload);
}

/// Appends a truncation's record.
pub(super) fn put_truncation(buffer: &mut AlignedBuffer, last_left: EntryId) {
    buffer.extend_from_slice(&header(TRUNCATION, last_left, RECORD_HEADER_BYTES));
}

fn header(kind: u8, id: EntryId, length: usize) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0] = RECORD_VERSION;
    header[1] = kind;
    let length = u32::try_from(length).expect("the batch's length was checked");
    put_u32(&mut header, 4, length);
    put_u32(&mut header, 8, GROUP);
    put_u64(&mut header, 16, id.term.0);
    put_u64(&mut header, 24, id.index.get());
    header
}

/// A record as it stands in a batch's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(EntryRecord),
    /// Every entry behind this one is cut.
    Truncation(EntryId),
}

/// An entry, its payload by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryRecord {
    pub(super) id: EntryId,
    pub(super) kind: EntryKind,
    pub(super) stamp: Stamp,
    /// In the bytes that the record was read from.
    pub(super) payload: Range<usize>,
}

impl EntryRecord {
    /// The entry, its payload a slice of `bytes`, which the record was read from.
    pub(super) fn entry(&self, bytes: &Bytes) -> Result<Entry, String> {
        let payload = bytes.slice(self.payload.clone());
        let configuration = match self.kind {
            EntryKind::Configuration => {
                let membership = Membership::decode(&payload).map_err(|error| error.to_string())?;
                Some(Arc::new(membership.configuration()))
            }
            EntryKind::Noop | EntryKind::Command => None,
        };
        Ok(Entry {
            id: self.id,
            kind: self.kind,
            stamp: self.stamp,
            payload,
            configuration,
        })
    }
}

/// Reads the records of one body, whose checksum was found right.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Records<'a> {
    /// The `count` records that fill `bytes[body]`.
    pub(super) fn new(bytes: &'a [u8], body: Range<usize>, count: u32) -> Records<'a> {
        Records {
            bytes: &bytes[..body.end],
            at: body.start,
            left: count,
        }
    }

    fn read(&mut self) -> Result<Record, String> {
        let header = self
            .bytes
            .get(self.at..self.at + RECORD_HEADER_BYTES)
            .ok_or("a record's header is cut off")?;
        let length = get_u32(header, 4) as usize;
        let payload = self.at + RECORD_HEADER_BYTES..self.at.saturating_add(length);
        if length < RECORD_HEADER_BYTES || payload.end > self.bytes.len() {
            return Err(format!("a record says it is {length} bytes long"));
        }
        if header[0] != RECORD_VERSION || get_u32(header, 8) != GROUP {
            return Err(format!(
                "a record has version {} and group {}, known are version {RECORD_VERSION} and group {GROUP}",
                header[0],
                get_u32(header, 8)
            ));
        }
        let id = get_entry_id(header, 16).ok_or("a record has index 0")?;
        let kind = match header[1] {
            NOOP => EntryKind::Noop,
            COMMAND => EntryKind::Command,
            CONFIGURATION => EntryKind::Configuration,
            TRUNCATION => {
                self.at = payload.end;
                return Ok(Record::Truncation(id));
            }
            other => return Err(format!("a record is of unknown kind {other}")),
        };
        let stamp = Stamp {
            log_time_us: get_u64(header, 32),
            session: get_u64(header, 40),
            sequence: get_u64(header, 48),
            first_unacknowledged: get_u64(header, 56),
        };
        self.at = payload.end;
        Ok(Record::Entry(EntryRecord {
            id,
            kind,
            stamp,
            payload,
        }))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.read())
    }
}
