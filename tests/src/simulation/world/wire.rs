//! Messages as bytes, where a run wants them so: the frames and encodings of the real wire.

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use raftkv_protocol::{FrameDecoder, PeerMessage, decode_peer, encode_peer};
use tokio_util::codec::Decoder;

use super::World;

/// No message of a simulation comes near it.
const MAX_FRAME_BYTES: usize = 16 << 20;

impl World {
    /// What the receiver makes of a message that was encoded, and arrived whole.
    pub(super) fn over_the_wire(&mut self, from: usize, message: &PeerMessage) -> Option<PeerMessage> {
        let mut frame = encoded(message);
        let decoded = take_frame(&mut frame).and_then(|body| decode_peer(body).ok());
        if decoded.as_ref() != Some(message) {
            let what = format!("{message:?} comes over the wire as {decoded:?}");
            self.observer.violate("I11", Some(from), what);
        }
        decoded
    }

    /// What the receiver makes of a message of which a bit flipped on the way: nothing, for the frame's checksum.
    pub(super) fn over_a_bad_wire(&mut self, from: usize, message: &PeerMessage) -> Option<PeerMessage> {
        let mut frame = encoded(message);
        flip_bit(&mut frame, &mut self.machines[from].rng);
        if let Some(body) = take_frame(&mut frame) {
            let what = format!(
                "a damaged frame was taken: {message:?} as {:?}",
                decode_peer(body)
            );
            self.observer.violate("I11", Some(from), what);
        }
        None
    }
}

fn encoded(message: &PeerMessage) -> BytesMut {
    let mut frame = BytesMut::new();
    encode_peer(&mut frame, message);
    frame
}

fn take_frame(frame: &mut BytesMut) -> Option<Bytes> {
    FrameDecoder::new(MAX_FRAME_BYTES).decode(frame).ok().flatten()
}

fn flip_bit(frame: &mut BytesMut, rng: &mut Rng) {
    let at = rng.usize(..frame.len());
    frame[at] ^= 1 << rng.u8(..8);
}
