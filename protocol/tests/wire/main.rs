//! The wire, seen from outside: every message there and back, hostile bytes, and the bytes that never change.

mod frames;
mod golden;
mod hostile;
mod messages;
mod round_trip;
mod zero_copy;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::FrameDecoder;
use tokio_util::codec::Decoder;

/// Longest body in these tests, bytes.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// What `encode` wrote, which must be exactly one frame: its body.
fn body(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    let frame = FrameDecoder::new(MAX_FRAME_BYTES)
        .decode(&mut out)
        .expect("a valid frame")
        .expect("a whole frame");
    assert!(out.is_empty(), "{} bytes behind the frame", out.len());
    frame
}
