//! Keys of the base's rows; `base/mod.rs` tells the spaces.

use bytes::{BufMut, Bytes, BytesMut};
use raftkv_protocol::{LeaseId, SessionId};
use raftkv_raft::Index;

use super::key::Key;

const RECORDS: u8 = 1;
pub(super) const DEADLINES: u8 = 2;
pub(super) const LEASES: u8 = 4;
pub(super) const ATTACHED: u8 = 5;
pub(super) const SESSIONS: u8 = 6;
pub(super) const REMEMBERED: u8 = 7;

/// The row of a key's record.
pub(super) fn record_row(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + key.len());
    put_record_row(&mut row, key);
    row.freeze()
}

/// Appends it.
pub(super) fn put_record_row(out: &mut BytesMut, key: &[u8]) {
    out.put_u8(RECORDS);
    out.put_slice(key);
}

/// Where the records end.
pub(super) const RECORDS_END: &[u8] = &[DEADLINES];

/// The key of a record's row.
pub(super) fn key_of_row(row: &Bytes) -> Bytes {
    row.slice(1..)
}

/// The row that says when a key expires.
pub(super) fn deadline_row(deadline_us: u64, key: &[u8]) -> Bytes {
    numbered_row(DEADLINES, deadline_us, key)
}

/// Deadline and key of such a row; `None` if it is too short for one.
pub(super) fn deadline_of_row(row: &[u8]) -> Option<(u64, Key)> {
    let (deadline, key) = row.get(1..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*deadline), key.into()))
}

/// The row of a lease.
pub(super) fn lease_row(id: LeaseId) -> Bytes {
    numbered_row(LEASES, id.0, &[])
}

/// The row that says that a key hangs on a lease.
pub(super) fn attached_row(id: LeaseId, key: &[u8]) -> Bytes {
    numbered_row(ATTACHED, id.0, key)
}

/// Lease and key of such a row; `None` if it is too short for one.
pub(super) fn attached_of_row(row: &[u8]) -> Option<(LeaseId, Key)> {
    let (id, key) = deadline_of_row(row)?;
    Some((LeaseId(id), key))
}

/// The row of a session.
pub(super) fn session_row(id: SessionId) -> Bytes {
    numbered_row(SESSIONS, id.0, &[])
}

/// The row of what the entry at `index` did under an idempotency key.
pub(super) fn once_row(index: Index) -> Bytes {
    numbered_row(REMEMBERED, index.get(), &[])
}

/// The number of a row that is named by a number alone.
pub(super) fn number_of_row(row: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(row.get(1..)?.try_into().ok()?))
}

fn numbered_row(space: u8, number: u64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(9 + key.len());
    row.put_u8(space);
    row.put_u64(number);
    row.put_slice(key);
    row.freeze()
}
