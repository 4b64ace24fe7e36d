//! Who speaks on a connection: what its first frame says.

use bytes::BytesMut;
use raftkv_protocol::{FrameDecoder, HANDSHAKE_BYTES, NodeId, decode_hello};
use tokio_util::codec::Decoder;

/// What the first bytes of a connection tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Not enough of them yet.
    NotSaidYet,
    /// A node, by its identity: with its own messages, or its clients' requests.
    Node(NodeId),
    /// A client, or nothing that we know.
    Other,
}

/// Reads the handshake at the start of `bytes`.
pub(super) fn speaker(bytes: &[u8]) -> Speaker {
    let frame = FrameDecoder::awaiting_handshake(HANDSHAKE_BYTES).decode(&mut BytesMut::from(bytes));
    match frame.map(|frame| frame.map(|body| decode_hello(&body))) {
        Ok(None) => Speaker::NotSaidYet,
        Ok(Some(Ok(hello))) => hello.node.map_or(Speaker::Other, Speaker::Node),
        Ok(Some(Err(_))) | Err(_) => Speaker::Other,
    }
}
