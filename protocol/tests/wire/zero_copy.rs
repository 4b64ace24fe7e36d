//! Keys, commands, values and payloads are slices of the frame they came in.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use raftkv_protocol::{
    Answer, Limits, PeerMessage, RaftBody, Request, RequestId, decode_peer, decode_request, decode_response,
    encode_peer, encode_request, encode_response,
};

use crate::body;
use crate::messages::{CONTEXT, peer_message, request, response};

/// An empty slice may point anywhere: it holds nothing that could have been copied.
fn is_slice_of(part: &Bytes, whole: &Bytes) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || (whole.start <= part.start && part.end <= whole.end)
}

proptest! {
    #[test]
    fn of_requests(request in request()) {
        let frame = body(|out: &mut BytesMut| encode_request(out, RequestId(1), 1, &request));
        match decode_request(frame.clone(), &Limits::default()).unwrap().request.unwrap() {
            Request::Get { key, .. } => prop_assert!(is_slice_of(&key, &frame)),
            Request::Write(command) => prop_assert!(is_slice_of(command.encoded(), &frame)),
            Request::Status
            | Request::Member(_)
            | Request::Scrub(_)
            | Request::Range(_)
            | Request::Lease(_)
            | Request::Watch(_)
            | Request::WatchControl(_) => {}
        }
    }

    #[test]
    fn of_answers(response in response()) {
        let frame = body(|out: &mut BytesMut| encode_response(out, RequestId(1), &response));
        if let Ok(Answer::Found(record)) = decode_response(frame.clone(), &CONTEXT).unwrap().1.outcome {
            prop_assert!(is_slice_of(&record.value, &frame));
        }
    }

    #[test]
    fn of_appends(message in peer_message()) {
        let frame = body(|out: &mut BytesMut| encode_peer(out, &message));
        if let PeerMessage::Raft(message) = decode_peer(frame.clone()).unwrap()
            && let RaftBody::Append { entries, .. } = message.body
        {
            prop_assert!(entries.iter().all(|entry| is_slice_of(&entry.payload, &frame)));
        }
    }
}
