//! Commands and replies byte by byte.

use bytes::Bytes;

use super::*;

#[test]
fn commands_are_arrays_of_strings_with_lengths() {
    let mut out = BytesMut::new();
    write_command(&mut out, &[b"SET", b"0000000001", b""]);
    assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$10\r\n0000000001\r\n$0\r\n\r\n");
}

#[test]
fn replies_are_taken_in_order_once_all_of_each_is_there() {
    let stream = b"+OK\r\n$5\r\nva\r\nl\r\n$-1\r\n:1\r\n-OOM no room\r\n";
    let (mut buffer, mut taken) = (BytesMut::new(), Vec::new());
    for byte in stream {
        buffer.extend_from_slice(&[*byte]);
        taken.extend(take_reply(&mut buffer).unwrap());
    }
    let value = Bytes::from_static(b"va\r\nl");
    let expected = [
        Reply::Simple,
        Reply::Bulk(Some(value)),
        Reply::Bulk(None),
        Reply::Integer(1),
        Reply::Error,
    ];
    assert_eq!(taken, expected);
    assert!(take_reply(&mut BytesMut::from(&b"HTTP/1.1 400\r\n"[..])).is_err());
    assert!(take_reply(&mut BytesMut::from(&b"$-7\r\n"[..])).is_err());
}

#[test]
fn a_swap_tells_a_conflict_from_a_write_in_both_of_its_forms() {
    for (reply, expected) in [
        (Reply::Simple, Answered::Written(None)),
        (Reply::Integer(1), Answered::Written(None)),
        (Reply::Bulk(None), Answered::Conflict),
        (Reply::Integer(0), Answered::Conflict),
        (Reply::Error, Answered::Refused("error_reply")),
    ] {
        assert_eq!(answered(Kind::Swap, reply), expected);
    }
    assert_eq!(answered(Kind::Get, Reply::Bulk(None)), Answered::Read(None));
}
