//! Frames: how messages are cut out of a stream of bytes.
//!
//! ```text
//!  0         4         8                         8 + length
//! +---------+---------+---------------------------+
//! | length  | crc32c  | body                      |
//! | u32 LE  | u32 LE  | length bytes, at least 1  |
//! +---------+---------+---------------------------+
//!             over the body
//! ```
//! The length says nothing about how much memory is set aside: a reader's buffer grows with what has arrived, not with
//! what was announced. (The ready-made length-delimited codec reserves the announced length at once, so a few bytes from
//! anyone would cost megabytes.)

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio_util::codec::Decoder;

use crate::Foreign;
use crate::handshake::MAGIC;

/// Bytes before the body: length and checksum.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Longest body of the first frame of a connection. Room for any credentials, and short enough that the first bytes of
/// HTTP and TLS, read as a length, are beyond it: such a speaker is told at once, not waited for.
pub const HANDSHAKE_BYTES: usize = 16 << 10;

/// How far ahead of what has arrived the buffer of an incomplete frame grows at least, bytes; beyond that it doubles. Large enough that a long frame takes
/// few reads, small enough that announcing a length costs us nothing worth attacking.
pub const RESERVE_STEP_BYTES: usize = 64 << 10;

/// Room that makes a read worth its system call, bytes.
const READ_BYTES: usize = 4 << 10;

const _: () = assert!(READ_BYTES <= RESERVE_STEP_BYTES);

/// A TLS record begins `16 03 01`: as a length at least 0x010316.
const _: () = assert!(HANDSHAKE_BYTES < 0x01_0316);

/// Why a stream of bytes is not a stream of frames. Each ends the connection: after the first, where the next frame begins
/// is not known.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The connection itself failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The first bytes are of another protocol.
    #[error("expected the native protocol of raftkv, {0}")]
    Foreign(Foreign),
    /// A body over the limit was announced.
    #[error(
        "a frame of {length} bytes was announced, the limit is {limit}: send smaller requests, or raise the limit"
    )]
    TooLong {
        /// Announced, bytes.
        length: usize,
        /// Allowed, bytes.
        limit: usize,
    },
    /// A body of no bytes was announced.
    #[error("a frame without a body was announced; every message has at least one byte")]
    Empty,
    /// The body is not what was sent.
    #[error(
        "a frame's body was damaged on its way: its checksum is {computed:08x}, announced was {announced:08x}; \
         if it happens again, look for faulty memory or network hardware"
    )]
    Checksum {
        /// In the frame's header.
        announced: u32,
        /// Over the bytes that came.
        computed: u32,
    },
    /// The stream ended inside a frame.
    #[error("the connection ended inside a frame, after {received} bytes of it")]
    Truncated {
        /// Bytes of the last frame, its header included.
        received: usize,
    },
    /// An earlier frame of this stream was refused; nothing after it is read.
    #[error("an earlier frame on this connection was not valid: close it and connect again")]
    Poisoned,
}

/// Appends one frame to `out`; `body` appends the body and must not touch what stands before it.
///
/// # Panics
/// If `body` appends nothing or 4 GiB and more: no message does.
pub fn write_frame(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_bytes(0, FRAME_HEADER_BYTES);
    body(out);
    let (header, body) = out[start..].split_at_mut(FRAME_HEADER_BYTES);
    assert!(!body.is_empty(), "expected a body of at least one byte");
    let length = u32::try_from(body.len()).expect("messages are bounded by limits far below 4 GiB");
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// Makes room for the next read of an incomplete body. A body that comes byte by byte must not make it each time: the
/// buffer doubles when it grows.
fn make_room(source: &mut BytesMut, missing: usize) {
    let room = source.capacity() - source.len();
    if room < missing.min(READ_BYTES) {
        source.reserve(missing.min(RESERVE_STEP_BYTES));
    }
}

/// What the next bytes of the stream are.
#[derive(Clone, Copy, Debug)]
enum Expecting {
    /// The first frame: a handshake.
    Handshake,
    /// The first frame, of any kind.
    First,
    /// A later frame's header.
    Header,
    /// The body of a frame whose header was read.
    Body { length: usize, checksum: u32 },
    /// Nothing, after an error.
    Nothing,
}

/// Cuts frames out of a buffer. A body is split off it, not copied: it keeps the buffer it was read into alive.
#[derive(Debug)]
pub struct FrameDecoder {
    max_frame_bytes: usize,
    expecting: Expecting,
}

impl FrameDecoder {
    /// A decoder that takes bodies of up to `max_frame_bytes`.
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> FrameDecoder {
        FrameDecoder {
            max_frame_bytes,
            expecting: Expecting::First,
        }
    }

    /// A decoder for a connection from its first byte on: the first frame must be a handshake, of at most
    /// [`HANDSHAKE_BYTES`]; bodies after it may have up to `max_frame_bytes`.
    #[must_use]
    pub fn awaiting_handshake(max_frame_bytes: usize) -> FrameDecoder {
        FrameDecoder {
            max_frame_bytes,
            expecting: Expecting::Handshake,
        }
    }

    /// Changes the longest body, for frames whose header was not read yet.
    pub fn set_max_frame_bytes(&mut self, max_frame_bytes: usize) {
        self.max_frame_bytes = max_frame_bytes;
    }

    fn next_frame(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let (length, checksum) = match self.expecting {
            Expecting::Nothing => return Err(FrameError::Poisoned),
            Expecting::Body { length, checksum } => (length, checksum),
            Expecting::Handshake | Expecting::First | Expecting::Header => match self.header(source)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        self.expecting = Expecting::Body { length, checksum };
        if source.len() < length {
            make_room(source, length - source.len());
            return Ok(None);
        }
        let body = source.split_to(length).freeze();
        let computed = crc32c::crc32c(&body);
        if computed != checksum {
            let announced = checksum;
            return Err(FrameError::Checksum { announced, computed });
        }
        self.expecting = Expecting::Header;
        Ok(Some(body))
    }

    /// Takes a frame's header off the buffer, once it is there and, for a handshake, what stands behind it begins as one.
    fn header(&self, source: &mut BytesMut) -> Result<Option<(usize, u32)>, FrameError> {
        let Some(length) = source.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        let (limit, is_first) = match self.expecting {
            Expecting::Handshake => (HANDSHAKE_BYTES, true),
            Expecting::First => (self.max_frame_bytes, true),
            Expecting::Header | Expecting::Body { .. } | Expecting::Nothing => (self.max_frame_bytes, false),
        };
        if length > limit {
            return Err(match Foreign::recognise(source) {
                Some(foreign) if is_first => FrameError::Foreign(foreign),
                Some(_) | None => FrameError::TooLong { length, limit },
            });
        }
        if length == 0 {
            return Err(FrameError::Empty);
        }
        let needed = match self.expecting {
            Expecting::Handshake => FRAME_HEADER_BYTES + MAGIC.len(),
            Expecting::First | Expecting::Header | Expecting::Body { .. } | Expecting::Nothing => {
                FRAME_HEADER_BYTES
            }
        };
        let begin = source
            .get(FRAME_HEADER_BYTES..needed.min(source.len()))
            .unwrap_or_default();
        let is_foreign = length < needed - FRAME_HEADER_BYTES || begin != &MAGIC[..begin.len()];
        if is_foreign {
            return Err(FrameError::Foreign(Foreign::Unrecognised));
        }
        if source.len() < needed {
            return Ok(None);
        }
        source.advance(4);
        let checksum = source.get_u32_le();
        Ok(Some((length, checksum)))
    }
}

impl Decoder for FrameDecoder {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let frame = self.next_frame(source);
        if frame.is_err() {
            self.expecting = Expecting::Nothing;
        }
        frame
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        if let Some(frame) = self.decode(source)? {
            return Ok(Some(frame));
        }
        let header = match self.expecting {
            Expecting::Body { .. } => FRAME_HEADER_BYTES,
            Expecting::Handshake | Expecting::First | Expecting::Header | Expecting::Nothing => 0,
        };
        match header + source.len() {
            0 => Ok(None),
            received => {
                self.expecting = Expecting::Nothing;
                Err(FrameError::Truncated { received })
            }
        }
    }
}
