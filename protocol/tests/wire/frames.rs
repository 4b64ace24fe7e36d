//! Frames cut out of a stream, whatever the stream does.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use raftkv_protocol::{
    FRAME_HEADER_BYTES, Foreign, FrameDecoder, FrameError, HANDSHAKE_BYTES, Hello, MAGIC, RESERVE_STEP_BYTES,
    Speaker, encode_hello, write_frame,
};
use tokio_util::codec::Decoder;

use crate::MAX_FRAME_BYTES;

/// The first frame, or error, of a whole stream that ends.
fn first(mut decoder: FrameDecoder, stream: &[u8]) -> Result<Option<Bytes>, FrameError> {
    decoder.decode_eof(&mut BytesMut::from(stream))
}

fn frame(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    write_frame(&mut out, |out| out.extend_from_slice(body));
    out
}

proptest! {
    #[test]
    fn come_out_as_they_went_in_however_the_stream_is_cut(
        bodies in vec(vec(any::<u8>(), 1..200), 0..20),
        chunks in vec(1..100usize, 1..20),
    ) {
        let mut stream = BytesMut::new();
        for body in &bodies {
            write_frame(&mut stream, |out| out.extend_from_slice(body));
        }
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let mut buffer = BytesMut::new();
        let mut received = Vec::new();
        let mut sizes = chunks.iter().cycle();
        while !stream.is_empty() {
            let size = sizes.next().map_or(1, |size| *size).min(stream.len());
            buffer.extend_from_slice(&stream.split_to(size));
            while let Some(body) = decoder.decode(&mut buffer).unwrap() {
                received.push(body.to_vec());
            }
        }
        prop_assert_eq!(received, bodies);
        prop_assert!(decoder.decode_eof(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn any_bytes_end_in_frames_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        for mut decoder in [FrameDecoder::new(64), FrameDecoder::awaiting_handshake(64)] {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(body)) = decoder.decode_eof(&mut buffer) {
                prop_assert!(!body.is_empty());
            }
        }
    }

    #[test]
    fn any_damage_to_a_body_is_found(body in vec(any::<u8>(), 1..200), at: prop::sample::Index, flip in 1..=u8::MAX) {
        let mut stream = frame(&body);
        stream[FRAME_HEADER_BYTES + at.index(body.len())] ^= flip;
        let found = matches!(first(FrameDecoder::new(MAX_FRAME_BYTES), &stream), Err(FrameError::Checksum { .. }));
        prop_assert!(found);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_told_apart_from_one_that_ends(
        body in vec(any::<u8>(), 1..200),
        cut: prop::sample::Index,
    ) {
        let stream = frame(&body);
        let cut = cut.index(stream.len() - 1) + 1;
        match first(FrameDecoder::new(MAX_FRAME_BYTES), &stream[..cut]) {
            Err(FrameError::Truncated { received }) => prop_assert_eq!(received, cut),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn a_frame_is_length_checksum_and_body_little_endian() {
    // crc32c("123456789") is the check value that the checksum's catalogues give.
    assert_eq!(frame(b"123456789")[..], *b"\x09\0\0\0\x83\x92\x06\xe3123456789");
}

#[test]
fn a_body_keeps_the_place_it_was_read_to() {
    let mut buffer = frame(b"body");
    let place = buffer[FRAME_HEADER_BYTES..].as_ptr();
    let body = FrameDecoder::new(MAX_FRAME_BYTES)
        .decode(&mut buffer)
        .unwrap()
        .unwrap();
    assert_eq!(body.as_ptr(), place);
}

#[test]
fn the_longest_body_is_taken_and_one_byte_more_refused() {
    assert_eq!(
        first(FrameDecoder::new(100), &frame(&[7; 100])).unwrap().unwrap()[..],
        [7; 100]
    );
    let refused = first(FrameDecoder::new(100), &frame(&[7; 101]));
    assert!(
        matches!(
            refused,
            Err(FrameError::TooLong {
                length: 101,
                limit: 100
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn an_over_long_length_is_refused_before_the_rest_of_the_header_came() {
    let refused = FrameDecoder::new(100).decode(&mut BytesMut::from(&[0xff; 4][..]));
    assert!(matches!(refused, Err(FrameError::TooLong { .. })), "{refused:?}");
}

#[test]
fn a_frame_without_a_body_is_refused() {
    let refused = first(FrameDecoder::new(100), &[0; FRAME_HEADER_BYTES]);
    assert!(matches!(refused, Err(FrameError::Empty)), "{refused:?}");
}

#[test]
fn after_an_error_nothing_more_is_read() {
    let mut decoder = FrameDecoder::new(100);
    let mut damaged = frame(b"body");
    damaged[FRAME_HEADER_BYTES] ^= 1;
    assert!(matches!(
        decoder.decode(&mut damaged),
        Err(FrameError::Checksum { .. })
    ));
    for _ in 0..2 {
        let refused = decoder.decode(&mut frame(b"a valid one"));
        assert!(matches!(refused, Err(FrameError::Poisoned)), "{refused:?}");
    }
}

#[test]
fn an_announced_length_costs_no_more_than_a_step_beyond_twice_what_came() {
    const ANNOUNCED: usize = 1 << 30;
    let mut decoder = FrameDecoder::new(ANNOUNCED);
    let mut buffer = BytesMut::new();
    buffer.put_u32_le(u32::try_from(ANNOUNCED).unwrap());
    buffer.put_u32_le(0);
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    let mut received = 0;
    for size in [1; 1000].into_iter().chain([1000; 1000]) {
        assert!(
            buffer.capacity() <= 2 * received + RESERVE_STEP_BYTES + FRAME_HEADER_BYTES,
            "{received} received"
        );
        buffer.put_bytes(0, size);
        received += size;
        assert!(decoder.decode(&mut buffer).unwrap().is_none());
    }
}

#[test]
fn room_for_the_rest_of_a_short_frame_is_made_at_once() {
    let whole = frame(&[1; 1000]);
    let mut buffer = BytesMut::from(&whole[..FRAME_HEADER_BYTES]);
    assert!(
        FrameDecoder::new(MAX_FRAME_BYTES)
            .decode(&mut buffer)
            .unwrap()
            .is_none()
    );
    assert!(
        buffer.capacity() >= 1000,
        "the rest fits without another allocation"
    );
}

#[test]
fn http_and_tls_are_named_at_their_first_bytes() {
    let tls = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (stream, expected) in [
        (
            &b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            Foreign::Http,
        ),
        (b"POST /set HTTP/1.1\r\n", Foreign::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::Http),
        (&tls, Foreign::Tls),
    ] {
        let refused =
            FrameDecoder::awaiting_handshake(MAX_FRAME_BYTES).decode(&mut BytesMut::from(&stream[..4]));
        match refused {
            Err(FrameError::Foreign(foreign)) => assert_eq!(foreign, expected),
            other => panic!("{other:?}"),
        }
    }
    let refused = first(FrameDecoder::new(MAX_FRAME_BYTES), b"GET / HTTP/1.1\r\n\r\n");
    assert!(
        matches!(refused, Err(FrameError::Foreign(Foreign::Http))),
        "{refused:?}"
    );
}

#[test]
fn a_first_frame_that_is_no_handshake_is_foreign() {
    for body in [&b"anything else"[..], b"short", &MAGIC[..7]] {
        let refused = first(FrameDecoder::awaiting_handshake(MAX_FRAME_BYTES), &frame(body));
        assert!(
            matches!(refused, Err(FrameError::Foreign(Foreign::Unrecognised))),
            "{refused:?}"
        );
    }
}

#[test]
fn the_handshakes_limit_holds_for_the_first_frame_only() {
    let mut stream = BytesMut::new();
    encode_hello(&mut stream, &Hello::new(Speaker::Client, None, None));
    let long = vec![7; HANDSHAKE_BYTES + 1];
    write_frame(&mut stream, |out| out.extend_from_slice(&long));
    let mut decoder = FrameDecoder::awaiting_handshake(MAX_FRAME_BYTES);
    assert!(decoder.decode(&mut stream).unwrap().unwrap().starts_with(&MAGIC));
    assert_eq!(decoder.decode(&mut stream).unwrap().unwrap()[..], long);

    let refused = first(FrameDecoder::awaiting_handshake(MAX_FRAME_BYTES), &frame(&long));
    assert!(
        matches!(
            refused,
            Err(FrameError::TooLong {
                limit: HANDSHAKE_BYTES,
                ..
            })
        ),
        "{refused:?}"
    );
}
