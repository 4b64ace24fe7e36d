//! The two handshake frames: [`MAGIC`], then postcard, then whatever later versions append.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::{append, take};
use crate::handshake::{HandshakeReply, Hello, MAGIC, Rejection, RejectionCode, Speaker, Welcome};
use crate::{ClusterId, Foreign, HistoryEpoch, Limits, NodeId, ProtocolError, write_frame};

#[derive(Serialize, Deserialize)]
struct HelloBody<'a> {
    first_version: u16,
    last_version: u16,
    features: u64,
    speaker: Speaker,
    cluster: Option<ClusterId>,
    node: Option<NodeId>,
    #[serde(borrow, with = "serde_bytes")]
    authentication: Option<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
enum ReplyBody<'a> {
    Welcome(WelcomeBody),
    Rejection { code: u16, message: &'a str },
}

#[derive(Serialize, Deserialize)]
struct WelcomeBody {
    version: u16,
    features: u64,
    cluster: Option<ClusterId>,
    node: NodeId,
    epoch: HistoryEpoch,
    key_bytes: u64,
    value_bytes: u64,
    request_bytes: u64,
}

/// Appends a hello as one frame.
pub fn encode_hello(out: &mut BytesMut, hello: &Hello) {
    let body = HelloBody {
        first_version: *hello.versions.start(),
        last_version: *hello.versions.end(),
        features: hello.features,
        speaker: hello.speaker,
        cluster: hello.cluster,
        node: hello.node,
        authentication: hello.authentication.as_deref(),
    };
    write_handshake(out, &body);
}

/// Decodes the body of a dialler's first frame. Bytes behind the last field are of later versions, and ignored.
///
/// # Errors
/// If it is not a hello.
pub fn decode_hello(body: &[u8]) -> Result<Hello, ProtocolError> {
    let (hello, _later) = take::<HelloBody<'_>>("a hello", after_magic(body)?)?;
    let (first, last) = (hello.first_version, hello.last_version);
    if first > last {
        return Err(ProtocolError::NoVersions { first, last });
    }
    Ok(Hello {
        versions: first..=last,
        features: hello.features,
        speaker: hello.speaker,
        cluster: hello.cluster,
        node: hello.node,
        authentication: hello.authentication.map(<[u8]>::to_vec),
    })
}

/// Appends a listener's reply as one frame.
pub fn encode_handshake_reply(out: &mut BytesMut, reply: &HandshakeReply) {
    let body = match reply {
        HandshakeReply::Welcome(welcome) => ReplyBody::Welcome(WelcomeBody {
            version: welcome.version,
            features: welcome.features,
            cluster: welcome.cluster,
            node: welcome.node,
            epoch: welcome.epoch,
            key_bytes: welcome.limits.key_bytes as u64,
            value_bytes: welcome.limits.value_bytes as u64,
            request_bytes: welcome.limits.request_bytes as u64,
        }),
        HandshakeReply::Rejection(rejection) => ReplyBody::Rejection {
            code: rejection.code.number(),
            message: &rejection.message,
        },
    };
    write_handshake(out, &body);
}

/// Decodes the body of a listener's first frame. Bytes behind the last field are of later versions, and ignored.
///
/// # Errors
/// If it is not a reply.
pub fn decode_handshake_reply(body: &[u8]) -> Result<HandshakeReply, ProtocolError> {
    let (reply, _later) = take::<ReplyBody<'_>>("a handshake's reply", after_magic(body)?)?;
    Ok(match reply {
        ReplyBody::Welcome(welcome) => HandshakeReply::Welcome(Welcome {
            version: welcome.version,
            features: welcome.features,
            cluster: welcome.cluster,
            node: welcome.node,
            epoch: welcome.epoch,
            limits: Limits {
                key_bytes: length(welcome.key_bytes),
                value_bytes: length(welcome.value_bytes),
                request_bytes: length(welcome.request_bytes),
            },
        }),
        ReplyBody::Rejection { code, message } => HandshakeReply::Rejection(Rejection {
            code: RejectionCode::from_number(code),
            message: message.to_owned(),
        }),
    })
}

/// A limit beyond what this machine can address limits nothing here.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn write_handshake(out: &mut BytesMut, body: &impl Serialize) {
    write_frame(out, |out| {
        out.extend_from_slice(&MAGIC);
        append(out, body);
    });
}

fn after_magic(body: &[u8]) -> Result<&[u8], ProtocolError> {
    body.strip_prefix(&MAGIC).ok_or_else(|| {
        ProtocolError::NotAHandshake(Foreign::recognise(body).unwrap_or(Foreign::Unrecognised))
    })
}
