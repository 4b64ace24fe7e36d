//! Keys and values, and how a batch carries them.

use bytes::{Buf, BufMut, BytesMut};
use hashbrown::HashMap;

/// All there is.
#[derive(Default)]
pub(crate) struct Map {
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl Map {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Applies the records of a batch.
    pub(crate) fn apply(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            let (key_bytes, value_bytes) = (records.get_u16_le() as usize, records.get_u32_le() as usize);
            let (key, rest) = records.split_at(key_bytes);
            let (value, rest) = rest.split_at(value_bytes);
            records = rest;
            let kept = self.values.entry_ref(key).or_default();
            kept.clear();
            kept.extend_from_slice(value);
        }
    }
}

/// Adds a record to a batch.
pub(crate) fn put_record(records: &mut BytesMut, key: &[u8], value: &[u8]) {
    records.put_u16_le(u16::try_from(key.len()).expect("a key of less than 64 KiB"));
    records.put_u32_le(u32::try_from(value.len()).expect("a value of less than 4 GiB"));
    records.extend_from_slice(key);
    records.extend_from_slice(value);
}
