//! Messages against bytes written by hand from etcd's `rpc.proto`.

use super::*;

#[test]
fn a_swap_compares_the_revision_even_if_it_is_that_of_an_absent_key() {
    let swapped = Swapped {
        key: b"k",
        seen: None,
        value: b"v",
    };
    let bytes = swap(&[swapped]).encode_to_vec();
    // compare { target: MOD, key: "k", mod_revision: 0 }, success { request_put { key: "k", value: "v" } }
    let expected = [
        0x0a, 7, 0x10, 2, 0x1a, 1, b'k', 0x30, 0, //
        0x12, 8, 0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v',
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn a_read_finds_value_and_revision_among_fields_it_does_not_know() {
    // header { cluster_id: 1 }, kvs { key: "k", create_revision: 2, mod_revision: 5, version: 3, value: "v" }, count: 1
    let bytes = [
        0x0a, 2, 0x08, 1, //
        0x12, 12, 0x0a, 1, b'k', 0x10, 2, 0x18, 5, 0x20, 3, 0x2a, 1, b'v', //
        0x20, 1,
    ];
    let found = Found {
        value: Bytes::from_static(b"v"),
        revision: Some(Revision(5)),
    };
    let outcome = answered(Kind::Get, Ok(Bytes::copy_from_slice(&bytes))).unwrap();
    assert_eq!(outcome, Answered::Read(Some(found)));
}

#[test]
fn only_what_never_began_is_a_refused_write() {
    assert_eq!(
        refused(Kind::Get, Code::Unavailable),
        Answered::Refused("unavailable")
    );
    assert_eq!(
        refused(Kind::Put, Code::Unavailable),
        Answered::Unknown("unavailable")
    );
    assert_eq!(
        refused(Kind::Put, Code::ResourceExhausted),
        Answered::Refused("resource_exhausted")
    );
}
