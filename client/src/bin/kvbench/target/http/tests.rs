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
    let body = set_body(b"0001", b"abc", SetExtra::IfRevision(Revision(9)));
    assert_eq!(body, br#"{"key":"0001","value":"abc","if_revision":9}"#);
    let unconditional = set_body(b"0001", b"abc", SetExtra::Nothing);
    assert_eq!(unconditional, br#"{"key":"0001","value":"abc"}"#);
    let attached = set_body(b"0001", b"abc", SetExtra::Lease(LeaseId(10)));
    assert_eq!(
        attached,
        br#"{"key":"0001","value":"abc","lease":"000000000000000a"}"#
    );
}

#[test]
fn a_transaction_compares_both_keys_and_writes_both() {
    let found = Found {
        value: Bytes::new(),
        revision: Some(Revision(9)),
    };
    let swapped = |key: &'static [u8], seen| Swapped {
        key,
        seen,
        value: b"v",
    };
    let body = txn_body(&[swapped(b"1", Some(&found)), swapped(b"2", None)]);
    let expected = r#"{"compare":[{"key":"1","mod_revision":9},{"key":"2","mod_revision":0}],"then":[{"put":{"key":"1","value":"v"}},{"put":{"key":"2","value":"v"}}]}"#;
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}
