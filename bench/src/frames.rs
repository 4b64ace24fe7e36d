//! Frames: bytes in, values out, and back.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{
    ClusterId, FrameDecoder, GroupId, Limits, NodeId, PeerMessage, RaftBody, RaftMessage, Request, RequestId,
    WireEntry, WireEntryId, decode_peer, decode_request, encode_peer, encode_request,
};
use tokio_util::codec::Decoder;

use crate::commands::put;
use crate::{BATCH, Operation};

const TIMEOUT_MS: u32 = 5_000;
const MAX_FRAME_BYTES: usize = 8 << 20;

/// The client's side of a put.
#[must_use]
pub fn encode_put() -> Operation {
    let request = Request::Write(put(1));
    let mut out = BytesMut::with_capacity(4096);
    Box::new(move || {
        out.clear();
        encode_request(&mut out, RequestId(1), TIMEOUT_MS, black_box(&request));
        black_box(&out);
    })
}

/// The server's side of a put: one frame out of a buffer, its checksum, its header, its command.
///
/// # Panics
/// If our own frame can not be read.
#[must_use]
pub fn decode_put() -> Operation {
    let mut frame = BytesMut::new();
    encode_request(&mut frame, RequestId(1), TIMEOUT_MS, &Request::Write(put(1)));
    let limits = Limits::default();
    let (mut decoder, mut buffer) = (FrameDecoder::new(MAX_FRAME_BYTES), BytesMut::new());
    Box::new(move || {
        buffer.extend_from_slice(&frame);
        let body = decoder
            .decode(&mut buffer)
            .expect("a valid frame")
            .expect("a whole frame");
        black_box(decode_request(body, &limits).expect("a request"));
    })
}

/// An append of a batch, as a leader sends it to each follower.
#[must_use]
pub fn encode_append() -> Operation {
    let append = append();
    let mut out = BytesMut::with_capacity(64 << 10);
    Box::new(move || {
        out.clear();
        encode_peer(&mut out, black_box(&append));
        black_box(&out);
    })
}

/// The follower's side of it.
///
/// # Panics
/// If our own frame can not be read.
#[must_use]
pub fn decode_append() -> Operation {
    let mut frame = BytesMut::new();
    encode_peer(&mut frame, &append());
    let (mut decoder, mut buffer) = (FrameDecoder::new(MAX_FRAME_BYTES), BytesMut::new());
    Box::new(move || {
        buffer.extend_from_slice(&frame);
        let body: Bytes = decoder
            .decode(&mut buffer)
            .expect("a valid frame")
            .expect("a whole frame");
        black_box(decode_peer(body).expect("an append"));
    })
}

fn append() -> PeerMessage {
    let entries = (0..BATCH as u64).map(|number| WireEntry {
        term: 2,
        kind: 1,
        log_time_us: 1_000_000 + number,
        session: 0,
        sequence: 0,
        first_unacknowledged: 0,
        payload: put(number).encoded().clone(),
    });
    PeerMessage::Raft(RaftMessage {
        cluster: ClusterId(7),
        group: GroupId(0),
        from: NodeId(1),
        to: NodeId(2),
        term: 2,
        body: RaftBody::Append {
            session: 1,
            prev: WireEntryId { term: 2, index: 1000 },
            commit: 990,
            entries: entries.collect(),
        },
    })
}
