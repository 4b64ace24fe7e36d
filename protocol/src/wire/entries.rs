//! The entries of an append: their headers, then their payloads.
//!
//! The append's own header tells the length of all payloads together, so that one pass over the entry headers cuts the
//! payloads out of the frame.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{append, expect_end, take};
use crate::{EntriesError, ProtocolError, WireEntry};

/// Fewest bytes of an [`EntryHeader`]: one per field.
const MIN_ENTRY_HEADER_BYTES: usize = 7;

/// Most entries that room is made for before their headers were read.
const MAX_ENTRIES_AHEAD: usize = 1024;

#[derive(Serialize, Deserialize)]
struct EntryHeader {
    term: u64,
    kind: u8,
    log_time_us: u64,
    session: u64,
    sequence: u64,
    first_unacknowledged: u64,
    payload_bytes: u64,
}

/// Length of all payloads together, bytes.
pub(super) fn payload_bytes(entries: &[WireEntry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

/// Appends the headers of `entries`, then their payloads, `payload_bytes` together.
pub(super) fn append_entries(out: &mut BytesMut, entries: &[WireEntry], payload_bytes: usize) {
    for entry in entries {
        append(out, &entry_header(entry));
    }
    out.reserve(payload_bytes);
    for entry in entries {
        out.extend_from_slice(&entry.payload);
    }
}

fn entry_header(entry: &WireEntry) -> EntryHeader {
    EntryHeader {
        term: entry.term,
        kind: entry.kind,
        log_time_us: entry.log_time_us,
        session: entry.session,
        sequence: entry.sequence,
        first_unacknowledged: entry.first_unacknowledged,
        payload_bytes: entry.payload.len() as u64,
    }
}

/// Reads `count` entries from `rest`, the end of `frame`: headers, then payloads of `payload_bytes` together.
pub(super) fn take_entries(
    frame: &Bytes,
    rest: &[u8],
    count: u64,
    payload_bytes: u64,
) -> Result<Vec<WireEntry>, ProtocolError> {
    let headers_length = usize::try_from(payload_bytes)
        .ok()
        .and_then(|bytes| rest.len().checked_sub(bytes));
    let Some(headers_length) = headers_length else {
        let (announced, available) = (payload_bytes, rest.len());
        return Err(EntriesError::PayloadsMissing { announced, available }.into());
    };
    let (mut headers, mut payloads) = rest.split_at(headers_length);
    let most = (headers.len() / MIN_ENTRY_HEADER_BYTES).min(MAX_ENTRIES_AHEAD);
    let mut entries = Vec::with_capacity(usize::try_from(count).map_or(most, |count| count.min(most)));
    for position in 0..count {
        let (header, later) = take::<EntryHeader>("an entry's header", headers)?;
        let length = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let Some((payload, later_payloads)) = payloads.split_at_checked(length) else {
            return Err(EntriesError::PayloadTooLong { position }.into());
        };
        (headers, payloads) = (later, later_payloads);
        entries.push(wire_entry(&header, frame.slice_ref(payload)));
    }
    expect_end("the entry headers of an append", headers)?;
    match payloads.len() {
        0 => Ok(entries),
        count => Err(EntriesError::PayloadLeftOver { count }.into()),
    }
}

fn wire_entry(header: &EntryHeader, payload: Bytes) -> WireEntry {
    WireEntry {
        term: header.term,
        kind: header.kind,
        log_time_us: header.log_time_us,
        session: header.session,
        sequence: header.sequence,
        first_unacknowledged: header.first_unacknowledged,
        payload,
    }
}
