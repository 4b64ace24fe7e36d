//! Keys of the base's rows; `base/mod.rs` tells the spaces.

use bytes::{BufMut, Bytes, BytesMut};

use super::key::Key;

const RECORDS: u8 = 1;
const DEADLINES: u8 = 2;

/// The row of a key's record.
pub(super) fn record_row(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + key.len());
    row.put_u8(RECORDS);
    row.put_slice(key);
    row.freeze()
}

/// Where the records end.
pub(super) const RECORDS_END: &[u8] = &[DEADLINES];

/// The key of a record's row.
pub(super) fn key_of_row(row: &Bytes) -> Bytes {
    row.slice(1..)
}

/// The row that says when a key expires.
pub(super) fn deadline_row(deadline_us: u64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(9 + key.len());
    row.put_u8(DEADLINES);
    row.put_u64(deadline_us);
    row.put_slice(key);
    row.freeze()
}

/// Where the deadlines begin and end.
pub(super) const DEADLINES_RANGE: (&[u8], &[u8]) = (&[DEADLINES], &[DEADLINES + 1]);

/// Deadline and key of such a row; `None` if it is too short for one.
pub(super) fn deadline_of_row(row: &[u8]) -> Option<(u64, Key)> {
    let (deadline, key) = row.get(1..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*deadline), key.into()))
}
