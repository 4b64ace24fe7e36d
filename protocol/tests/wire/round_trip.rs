//! What is decoded is what was encoded, and nothing may stand behind it.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use raftkv_protocol::{
    Answer, Limits, PeerMessage, ProtocolError, RequestId, decode_handshake_reply, decode_hello, decode_peer,
    decode_request, decode_response, encode_handshake_reply, encode_hello, encode_peer, encode_request,
    encode_response,
};

use crate::body;
use crate::messages::{CONTEXT, handshake_reply, hello, peer_message, request, response};

/// The body with one more byte.
fn longer(body: &Bytes) -> Bytes {
    let mut longer = BytesMut::from(&body[..]);
    longer.extend_from_slice(&[0]);
    longer.freeze()
}

proptest! {
    #[test]
    fn hellos_and_later_versions_may_append(hello in hello()) {
        let body = body(|out| encode_hello(out, &hello));
        prop_assert_eq!(decode_hello(&body), Ok(hello.clone()));
        prop_assert_eq!(decode_hello(&longer(&body)), Ok(hello));
    }

    #[test]
    fn handshake_replies_and_later_versions_may_append(reply in handshake_reply()) {
        let body = body(|out| encode_handshake_reply(out, &reply));
        prop_assert_eq!(decode_handshake_reply(&body), Ok(reply.clone()));
        prop_assert_eq!(decode_handshake_reply(&longer(&body)), Ok(reply));
    }

    #[test]
    fn messages_between_nodes(message in peer_message()) {
        let body = body(|out| encode_peer(out, &message));
        prop_assert_eq!(decode_peer(body.clone()), Ok(message.clone()));
        let refused = decode_peer(longer(&body)).is_err();
        prop_assert!(refused, "a byte behind {message:?} was taken");
    }

    #[test]
    fn requests(request in request(), id: u64, timeout_ms: u32) {
        let body = body(|out| encode_request(out, RequestId(id), timeout_ms, &request));
        let decoded = decode_request(body, &Limits::default()).unwrap();
        prop_assert_eq!((decoded.id, decoded.timeout_ms), (RequestId(id), timeout_ms));
        prop_assert_eq!(decoded.request, Ok(request));
    }

    #[test]
    fn answers(response in response(), id: u64) {
        let body = body(|out| encode_response(out, RequestId(id), &response));
        prop_assert_eq!(decode_response(body.clone(), &CONTEXT), Ok((RequestId(id), response.clone())));
        let decoded = decode_response(longer(&body), &CONTEXT);
        if let Ok(Answer::Found(_) | Answer::Read { record: Some(_), .. }) = response.outcome {
            prop_assert!(decoded.is_ok(), "the value is all that stands behind the header");
        } else {
            let refused = matches!(decoded, Err(ProtocolError::TrailingBytes { count: 1, .. }));
            prop_assert!(refused, "a byte behind {response:?} was taken");
        }
    }

    #[test]
    fn a_message_cut_short_is_refused(message in peer_message(), cut: prop::sample::Index) {
        let body = body(|out| encode_peer(out, &message));
        let cut = cut.index(body.len());
        let decoded: Result<PeerMessage, ProtocolError> = decode_peer(body.slice(..cut));
        prop_assert!(decoded.is_err());
    }
}
