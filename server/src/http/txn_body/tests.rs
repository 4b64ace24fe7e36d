//! Transactions as they are written in JSON.

use super::super::json::parse;
use super::*;
use crate::http::error::HttpError;

const LIMITS: Limits = Limits {
    key_bytes: 4,
    value_bytes: 8,
    request_bytes: 4096,
};

fn refusal(body: &str) -> String {
    let node = parse(body.as_bytes()).expect(body);
    let refusal = super::read(&node, &LIMITS).expect_err(body);
    HttpError::from(refusal).message().to_owned()
}

#[test]
fn every_form_means_one_transaction() {
    let body = r#"{
        "compare":[
            {"key":"a","exists":false},
            {"key":"a","value":"x","relation":"!="},
            {"key_base64":"/w==","value_base64":"AA=="},
            {"prefix":"p","version":3,"relation":">"},
            {"from":"a","to":"b","mod_revision":7},
            {"key":"l","lease":null},
            {"key":"l","lease":"ff","relation":"<"}
        ],
        "then":[
            {"put":{"key":"a","value":"v","ttl_seconds":1.5,"previous":true}},
            {"put":{"key":"a","value":"","keep_lifetime":true}},
            {"increment":{"key":"n","by":-2}},
            {"delete":{"prefix":"p"}},
            {"get":{"to":"b","limit":3,"keys_only":true}}
        ],
        "else":[{"txn":{"then":[{"get":{"key":"a"}}]}}]
    }"#;
    let node = parse(body.as_bytes()).expect("JSON");
    let read = super::read(&node, &LIMITS).expect("a transaction");
    let nested = Txn {
        then: vec![Op::Get {
            keys: Keys::One(b"a"),
            shape: Shape::Records,
            limit: None,
        }],
        ..Txn::default()
    };
    let nested = nested.encode();
    let compare = |keys, test| Compare { keys, test };
    let prefix = Keys::Range {
        from: b"p",
        to: Some(b"q"),
    };
    let range = Keys::Range {
        from: b"a",
        to: Some(b"b"),
    };
    let lease = raftkv_protocol::LeaseId(255);
    let expected = Txn {
        compare: vec![
            compare(Keys::One(b"a"), Test::Absent),
            compare(Keys::One(b"a"), Test::Value(Relation::NotEqual, b"x")),
            compare(Keys::One(b"\xff"), Test::Value(Relation::Equal, b"\0")),
            compare(prefix, Test::Version(Relation::Greater, 3)),
            compare(range, Test::ModRevision(Relation::Equal, Revision(7))),
            compare(Keys::One(b"l"), Test::Lease(Relation::Equal, None)),
            compare(Keys::One(b"l"), Test::Lease(Relation::Less, Some(lease))),
        ],
        then: vec![
            Op::Put {
                key: b"a",
                value: b"v",
                lifetime: Lifetime::Ttl { ttl_ms: 1500 },
                previous: Previous::Wanted,
            },
            Op::Put {
                key: b"a",
                value: b"",
                lifetime: Lifetime::Kept,
                previous: Previous::Unwanted,
            },
            Op::Increment { key: b"n", by: -2 },
            Op::Delete {
                keys: prefix,
                previous: Previous::Unwanted,
            },
            Op::Get {
                keys: Keys::Range {
                    from: b"",
                    to: Some(b"b"),
                },
                shape: Shape::KeysOnly,
                limit: Some(3),
            },
        ],
        otherwise: vec![Op::Txn(&nested)],
    };
    assert_eq!(read.txn(), expected);
}

#[test]
fn every_refusal_names_its_place() {
    for (body, expected) in [
        ("[]", "the body: an object belongs here"),
        (r#"{"compares":[]}"#, "the body: the field \"compares\""),
        (r#"{"then":{}}"#, "then: a list belongs here"),
        (
            r#"{"then":[{"put":{"key":"a","value":"v"}},5]}"#,
            "then[1]: an object",
        ),
        (
            r#"{"then":[{}]}"#,
            "then[0]: an operation is an object with exactly one",
        ),
        (
            r#"{"then":[{"get":{"key":"a"},"delete":{"key":"a"}}]}"#,
            "then[0]: an op",
        ),
        (
            r#"{"then":[{"put":{"key":5,"value":"v"}}]}"#,
            "then[0].put.key: a string",
        ),
        (
            r#"{"then":[{"put":{"value":"v"}}]}"#,
            "then[0].put: the field key is missing",
        ),
        (
            r#"{"then":[{"put":{"key":"","value":"v"}}]}"#,
            "then[0].put.key: the key is empty",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value":"123456789"}}]}"#,
            "then[0].put.value: the value has 9",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value":"v","lease":"f","ttl_seconds":1}}]}"#,
            "then[0].put: ttl_seconds, lease",
        ),
        (
            r#"{"then":[{"put":{"key":"a","value_base64":"x"}}]}"#,
            "then[0].put.value_base64: is not base64",
        ),
        (
            r#"{"then":[{"increment":{"key":"a","by":1.5}}]}"#,
            "then[0].increment.by: a whole",
        ),
        (
            r#"{"then":[{"delete":{"key":"a","prefix":"b"}}]}"#,
            "then[0].delete: say which keys",
        ),
        (
            r#"{"then":[{"get":{"prefix":"123456"}}]}"#,
            "then[0].get.prefix: an end of the range",
        ),
        (
            r#"{"compare":[{"key":"a"}]}"#,
            "compare[0]: what is compared is missing",
        ),
        (
            r#"{"compare":[{"key":"a","version":1,"lease":null}]}"#,
            "compare[0]: version and lease exclude",
        ),
        (
            r#"{"compare":[{"key":"a","version":-1}]}"#,
            "compare[0].version: a whole number",
        ),
        (
            r#"{"compare":[{"key":"a","version":1,"relation":"=="}]}"#,
            "compare[0].relation: \"==\"",
        ),
        (
            r#"{"compare":[{"key":"a","exists":1}]}"#,
            "compare[0].exists: true or false",
        ),
        (
            r#"{"compare":[{"key":"a","lease":5}]}"#,
            "compare[0].lease: the id of a lease",
        ),
        (
            r#"{"else":[{"txn":{"then":[{"get":{}}]}}]}"#,
            "else[0].txn.then[0].get: say which keys",
        ),
    ] {
        let message = refusal(body);
        assert!(message.starts_with(expected), "{body}: {message}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = |depth| {
        let (open, close) = (r#"{"then":[{"txn":"#, "}]}");
        format!("{}{{}}{}", open.repeat(depth - 1), close.repeat(depth - 1))
    };
    let fits = deep(MAX_TXN_DEPTH);
    let node = parse(fits.as_bytes()).expect("JSON");
    assert!(super::read(&node, &LIMITS).is_ok());
    assert!(refusal(&deep(MAX_TXN_DEPTH + 1)).contains("nested more than 8 deep"));
}
