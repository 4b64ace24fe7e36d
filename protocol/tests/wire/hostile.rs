//! Bodies that no honest program sends: an error, never a panic, never memory for what is only claimed.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use raftkv_protocol::{
    CheckedCommand, Command, Condition, Consistency, EntriesError, ErrorCode, Foreign, Limits, MAGIC,
    ProtocolError, Request, RequestId, decode_command, decode_handshake_reply, decode_hello, decode_peer,
    decode_request, decode_response, encode_handshake_reply, encode_hello, encode_peer, encode_request,
    encode_response,
};

use crate::body;
use crate::messages::{CONTEXT, handshake_reply, hello, peer_message, request, response};

/// Feeds every decoder. Whether they take it is not the question.
fn decode_all(bytes: &Bytes) {
    let _ = decode_hello(bytes);
    let _ = decode_handshake_reply(bytes);
    let _ = decode_peer(bytes.clone());
    let _ = decode_request(bytes.clone(), &Limits::default());
    let _ = decode_response(bytes.clone(), &CONTEXT);
    let _ = decode_command(bytes);
    let _ = CheckedCommand::from_client(bytes.clone(), &Limits::default());
}

/// Bodies of every family.
fn any_body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        hello().prop_map(|hello| body(|out| encode_hello(out, &hello))),
        handshake_reply().prop_map(|reply| body(|out| encode_handshake_reply(out, &reply))),
        peer_message().prop_map(|message| body(|out| encode_peer(out, &message))),
        request().prop_map(|request| body(|out| encode_request(out, RequestId(1), 1, &request))),
        response().prop_map(|response| body(|out| encode_response(out, RequestId(1), &response))),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), with_magic: bool) {
        let mut whole = if with_magic { MAGIC.to_vec() } else { Vec::new() };
        whole.extend_from_slice(&bytes);
        decode_all(&whole.into());
    }

    #[test]
    fn damaged_messages_never_panic(
        body in any_body(),
        damages in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end: prop::sample::Index,
    ) {
        let mut damaged = BytesMut::from(&body[..]);
        for (at, byte) in damages {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        damaged.truncate(end.index(damaged.len()) + 1);
        decode_all(&damaged.freeze());
    }
}

/// The longest encoding of a number.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

/// The body of an append with the two encoded numbers that its header ends in, and what stands behind.
fn append(count: &[u8], payload_bytes: &[u8], rest: &[u8]) -> Bytes {
    let mut body = vec![0, 0]; // group 0, Raft
    body.extend_from_slice(&[0; 24]); // cluster, from, to
    body.extend_from_slice(&[1, 4]); // term 1, Append
    body.extend_from_slice(&[1, 1, 1, 1]); // session, prev, commit
    body.extend_from_slice(count);
    body.extend_from_slice(payload_bytes);
    body.extend_from_slice(rest);
    body.into()
}

/// An entry's header with a payload of so many bytes (below 128).
fn entry(payload_bytes: u8) -> [u8; 7] {
    [1, 1, 0, 0, 0, 0, payload_bytes]
}

#[test]
fn an_append_that_claims_countless_entries_is_refused_for_want_of_them() {
    assert!(decode_peer(append(&[0], &[0], &[])).is_ok());
    let refused = decode_peer(append(&HUGE, &[0], &entry(0))).unwrap_err();
    assert!(matches!(refused, ProtocolError::Malformed { .. }), "{refused}");
}

#[test]
fn an_append_whose_payloads_are_not_there_is_refused() {
    let refused = decode_peer(append(&[1], &HUGE, &entry(0))).unwrap_err();
    let expected = EntriesError::PayloadsMissing {
        announced: u64::MAX,
        available: 7,
    };
    assert_eq!(refused, ProtocolError::Entries(expected));
}

#[test]
fn an_entry_that_reaches_beyond_the_frame_is_refused() {
    let mut rest = [entry(1), entry(9)].concat();
    rest.extend_from_slice(b"xy");
    let refused = decode_peer(append(&[2], &[2], &rest)).unwrap_err();
    assert_eq!(
        refused,
        ProtocolError::Entries(EntriesError::PayloadTooLong { position: 1 })
    );
}

#[test]
fn payload_that_belongs_to_no_entry_is_refused() {
    let mut rest = entry(1).to_vec();
    rest.extend_from_slice(b"xyz");
    let refused = decode_peer(append(&[1], &[3], &rest)).unwrap_err();
    assert_eq!(
        refused,
        ProtocolError::Entries(EntriesError::PayloadLeftOver { count: 2 })
    );
}

#[test]
fn http_in_a_frame_is_no_handshake() {
    let refused = decode_hello(b"GET / HTTP/1.1").unwrap_err();
    assert_eq!(refused, ProtocolError::NotAHandshake(Foreign::Http));
    assert!(matches!(
        decode_handshake_reply(b"").unwrap_err(),
        ProtocolError::NotAHandshake(_)
    ));
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
fn a_hello_that_offers_no_version_is_refused() {
    let mut hello = raftkv_protocol::Hello::new(raftkv_protocol::Speaker::Client, None, None);
    hello.versions = 2..=1;
    let refused = decode_hello(&body(|out| encode_hello(out, &hello)));
    assert_eq!(refused, Err(ProtocolError::NoVersions { first: 2, last: 1 }));
}

/// A request as a client that knows other limits would send it.
fn decoded(request: &Request, limits: &Limits) -> Result<Request, ErrorCode> {
    let body = body(|out| encode_request(out, RequestId(7), 5, request));
    let decoded = decode_request(body, limits).expect("a request");
    assert_eq!((decoded.id, decoded.timeout_ms), (RequestId(7), 5));
    decoded.request.map_err(|failure| failure.code)
}

#[test]
fn a_request_over_a_limit_is_answered_and_does_not_end_the_connection() {
    let limits = Limits {
        key_bytes: 4,
        value_bytes: 4,
        request_bytes: 100,
    };
    let get = |key: &'static [u8]| Request::Get {
        key: Bytes::from_static(key),
        consistency: Consistency::Linearizable,
    };
    let put = |key: &[u8], value: &[u8]| {
        let command = Command::Put {
            key,
            value,
            condition: Condition::Always,
            ttl_ms: None,
        };
        Request::Write(CheckedCommand::new(&command, &Limits::default()).expect("within wider limits"))
    };
    assert_eq!(decoded(&get(b"key"), &limits), Ok(get(b"key")));
    assert_eq!(decoded(&get(b""), &limits), Err(ErrorCode::BadRequest));
    assert_eq!(decoded(&get(b"long key"), &limits), Err(ErrorCode::TooLarge));
    assert_eq!(decoded(&put(b"key", b"1234"), &limits), Ok(put(b"key", b"1234")));
    assert_eq!(decoded(&put(b"key", b"12345"), &limits), Err(ErrorCode::TooLarge));
    assert_eq!(
        decoded(&Request::Write(CheckedCommand::tick()), &limits),
        Err(ErrorCode::BadRequest)
    );
}

#[test]
fn a_request_to_another_group_is_answered() {
    let mut other = BytesMut::from(&body(|out| encode_request(out, RequestId(7), 5, &Request::Status))[..]);
    other[0] = 1;
    let decoded = decode_request(other.freeze(), &Limits::default()).unwrap();
    assert_eq!(decoded.id, RequestId(7));
    assert_eq!(decoded.request.unwrap_err().code, ErrorCode::BadRequest);
}

#[test]
fn the_longest_request_fits_into_the_longest_frame() {
    let limits = Limits {
        key_bytes: 4,
        value_bytes: 1000,
        request_bytes: 1000,
    };
    let command = Command::Put {
        key: b"key",
        value: &[0; 990],
        condition: Condition::Always,
        ttl_ms: None,
    };
    let request = Request::Write(CheckedCommand::new(&command, &limits).unwrap());
    let body = body(|out| encode_request(out, RequestId(u64::MAX), u32::MAX, &request));
    assert!(body.len() > limits.request_bytes, "the header counts as well");
    assert!(body.len() <= limits.max_frame_bytes());
}
