//! What goes between leader and follower: batches one way, the number of the last one kept the other way.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Of a frame to a follower.
pub(crate) const HEADER_BYTES: usize = 20;

/// Of a follower's answer.
pub(crate) const KEPT_BYTES: usize = 8;

/// A number for each batch, from 1.
pub(crate) type Number = u64;

/// A batch as a follower takes it.
pub(crate) struct Frame {
    pub(crate) number: Number,
    /// All up to here may be applied.
    pub(crate) committed: Number,
    /// Of the map; none if the batch has only reads.
    pub(crate) records: Bytes,
}

pub(crate) fn put_header(out: &mut BytesMut, number: Number, committed: Number, length: usize) {
    out.put_u64_le(number);
    out.put_u64_le(committed);
    out.put_u32_le(u32::try_from(length).expect("a batch of less than 4 GiB"));
}

/// Takes the first frame, once all of it is there.
pub(crate) fn take_frame(buffer: &mut BytesMut) -> Option<Frame> {
    let mut header = buffer.get(..HEADER_BYTES)?;
    let (number, committed, length) = (header.get_u64_le(), header.get_u64_le(), header.get_u32_le());
    if buffer.len() < HEADER_BYTES + length as usize {
        buffer.reserve(HEADER_BYTES + length as usize - buffer.len());
        return None;
    }
    buffer.advance(HEADER_BYTES);
    Some(Frame {
        number,
        committed,
        records: buffer.split_to(length as usize).freeze(),
    })
}
