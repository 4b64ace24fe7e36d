//! Messages as bodies of frames.
//!
//! Each body is a header in postcard, which is compact but does not describe itself: a struct below never changes once it
//! was released, variants are only appended, and the golden bytes of each version are a test. Raw bytes (keys, values,
//! commands, payloads of entries) stand behind the header as they are: the encoder copies them once into the output, and
//! what a decoder returns are slices of the frame.

mod client;
mod entries;
mod handshake;
mod peer;

use bytes::BytesMut;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::ProtocolError;

pub use client::{
    ClientRequest, ConnectionContext, EncodedWatchPart, decode_request, decode_response, encode_request,
    encode_response, encode_watch_response,
};
pub use handshake::{decode_handshake_reply, decode_hello, encode_handshake_reply, encode_hello};
pub use peer::{decode_peer, encode_peer};

/// Lets postcard write straight to the end of an output buffer.
struct Appender<'a>(&'a mut BytesMut);

impl Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend_from_slice(&[byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends the encoding of `value`.
pub(crate) fn append(out: &mut BytesMut, value: &impl Serialize) {
    postcard::serialize_with_flavor(value, Appender(out))
        .expect("a growing buffer takes everything, and our types only hold sequences of known length");
}

/// Decodes a `T` from the begin of `bytes`, and returns what stands behind it.
fn take<'a, T: Deserialize<'a>>(
    expected: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), ProtocolError> {
    postcard::take_from_bytes(bytes).map_err(|source| ProtocolError::Malformed { expected, source })
}

/// Nothing may stand behind a message that has no raw bytes.
fn expect_end(expected: &'static str, rest: &[u8]) -> Result<(), ProtocolError> {
    match rest.len() {
        0 => Ok(()),
        count => Err(ProtocolError::TrailingBytes { expected, count }),
    }
}
