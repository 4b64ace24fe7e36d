//! Messages cut anywhere, and what answers mean.

use super::*;

const FOUND: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 37\r\n\r\n\
                     {\"key\":\"k\",\"value\":\"v1\",\"revision\":7}";
const MISSING: &str =
    "HTTP/1.1 404 Not Found\r\ncontent-length: 41\r\n\r\n{\"error\":\"no k\",\"code\":\"key_not_found\"}  ";

#[test]
fn an_answer_is_taken_once_all_of_it_is_there() {
    let mut buffer = BytesMut::new();
    for byte in FOUND.bytes() {
        assert_eq!(take_answer(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(&[byte]);
    }
    buffer.extend_from_slice(MISSING.as_bytes());
    let found = take_answer(&mut buffer).unwrap().unwrap();
    let expected = Found {
        value: Bytes::from_static(b"v1"),
        revision: Some(Revision(7)),
    };
    assert_eq!(
        answered(Kind::Get, &found).unwrap(),
        Answered::Read(Some(expected))
    );
    let missing = take_answer(&mut buffer).unwrap().unwrap();
    assert_eq!(answered(Kind::Get, &missing).unwrap(), Answered::Read(None));
    assert!(buffer.is_empty());
}

#[test]
fn what_is_not_an_answer_of_ours_ends_the_connection() {
    for text in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(take_answer(&mut BytesMut::from(text)).is_err(), "{text}");
    }
}

#[test]
fn refusals_say_whether_the_write_happened() {
    assert_eq!(failed("revision_mismatch"), Answered::Conflict);
    assert_eq!(failed("overloaded"), Answered::Refused("overloaded"));
    assert_eq!(failed("outcome_unknown"), Answered::Unknown("outcome_unknown"));
    assert_eq!(failed("new one"), Answered::Unknown("unexpected_answer"));
}

#[test]
fn a_conditional_set_names_the_revision_that_was_read() {
    let body = set_body(b"0001", b"abc", Some(Revision(9)));
    assert_eq!(body, br#"{"key":"0001","value":"abc","if_revision":9}"#);
    let unconditional = set_body(b"0001", b"abc", None);
    assert_eq!(unconditional, br#"{"key":"0001","value":"abc"}"#);
}
