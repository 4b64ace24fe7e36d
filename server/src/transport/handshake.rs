//! The first frame in each direction, on both sides.

use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{
    Availability, Foreign, FrameDecoder, FrameError, HandshakeReply, Hello, KNOWN_FEATURES, Listener, NodeId,
    PROTOCOL_VERSIONS, Proof, ProtocolError, Rejection, Speaker, Welcome, decode_handshake_reply,
    decode_hello, encode_handshake_reply, encode_hello, negotiate,
};
use raftkv_tls::Stream;
use thiserror::Error;
use tokio_util::codec::Decoder;

use super::socket::{Read, ReadBuffer};
use crate::shell::{NodeContext, Open};

/// Room in a client's frame for what stands before its command, so that a command over the limit is still read, and
/// refused with an answer instead of a closed connection.
const FRAME_SLACK_BYTES: usize = 4 << 10;

/// Why a connection is not used.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] raftkv_tls::HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// By either side.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("the connection was closed before the handshake was complete")]
    Closed,
    #[error("the handshake took too long")]
    TooSlow,
    #[error("a peer's handshake does not tell its identity")]
    Anonymous,
}

/// A connection after its handshake: bytes that came already, and the decoder that stands behind them.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) buffer: ReadBuffer,
    pub(crate) decoder: FrameDecoder,
}

impl Incoming {
    fn new(max_frame_bytes: usize) -> Incoming {
        Incoming {
            buffer: ReadBuffer::new(),
            decoder: FrameDecoder::awaiting_handshake(max_frame_bytes),
        }
    }

    /// The next frame that has arrived whole.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<Bytes>> {
        self.decoder.decode(&mut self.buffer.bytes).map_err(invalid)
    }

    async fn first_frame(&mut self, stream: &Stream) -> Result<Bytes, HandshakeError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer.bytes)? {
                return Ok(frame);
            }
            if self.buffer.fill(stream).await? == Read::End {
                return Err(HandshakeError::Closed);
            }
        }
    }
}

/// Who speaks on a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Client,
    Forwarder,
    Peer(NodeId),
}

/// The listener's side: reads the hello, agrees or refuses.
///
/// # Errors
/// Whatever makes the connection useless; the other side was told, where it can understand it.
pub(crate) async fn receive(
    stream: &Stream,
    context: &Rc<NodeContext>,
    open: Open,
) -> Result<(Speaks, Incoming), HandshakeError> {
    let mut incoming = Incoming::new(context.limits.request_bytes + FRAME_SLACK_BYTES);
    let hello = decode_hello(&incoming.first_frame(stream).await?)?;
    let availability = context.availability(open, hello.speaker);
    let outcome = negotiate(&hello, &listener(context, availability, proof(context, stream)));
    let mut reply = BytesMut::new();
    encode_handshake_reply(&mut reply, &HandshakeReply::from(outcome.clone()));
    stream.write_all(&reply).await?;
    outcome?;
    let speaks = match hello.speaker {
        Speaker::Client => Speaks::Client,
        Speaker::Forwarder => Speaks::Forwarder,
        Speaker::Peer => {
            incoming
                .decoder
                .set_max_frame_bytes(context.bounds.max_peer_frame_bytes);
            Speaks::Peer(hello.node.ok_or(HandshakeError::Anonymous)?)
        }
    };
    Ok((speaks, incoming))
}

fn proof(context: &NodeContext, stream: &Stream) -> Proof {
    match &context.tls {
        None => Proof::NotAsked,
        Some(tls) if tls.is_node(stream) => Proof::Node,
        Some(_) => Proof::NoNode,
    }
}

fn listener(context: &NodeContext, availability: Availability, proof: Proof) -> Listener {
    Listener {
        versions: PROTOCOL_VERSIONS,
        features: KNOWN_FEATURES,
        cluster: context.cluster(),
        node: context.identity,
        epoch: context.epoch(),
        limits: context.limits,
        availability,
        proof,
    }
}

/// The dialler's side: says who speaks, reads the reply.
///
/// # Errors
/// When the listener refuses, or is no node of ours.
pub(super) async fn greet(
    stream: &Stream,
    context: &NodeContext,
    speaker: Speaker,
) -> Result<(Welcome, Incoming), HandshakeError> {
    let mut hello = BytesMut::new();
    encode_hello(
        &mut hello,
        &Hello::new(speaker, context.cluster(), Some(context.identity)),
    );
    stream.write_all(&hello).await?;
    let mut incoming = Incoming::new(context.bounds.max_peer_frame_bytes);
    match decode_handshake_reply(&incoming.first_frame(stream).await?)? {
        HandshakeReply::Welcome(welcome) => Ok((welcome, incoming)),
        HandshakeReply::Rejection(rejection) => Err(rejection.into()),
    }
}

/// Does the other side speak HTTP?
pub(crate) fn is_http(error: &HandshakeError) -> bool {
    matches!(error, HandshakeError::Frame(FrameError::Foreign(Foreign::Http)))
}

/// A breach of the protocol as the end of a connection.
pub(crate) fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The other side has closed: for whoever waits for its messages, the end.
pub(crate) fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the other side closed the connection",
    )
}
