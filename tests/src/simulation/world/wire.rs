//! Messages as bytes, where a run wants them so: the frames and encodings of the real wire; and as words, for the trace.

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use raftkv_protocol::{FrameDecoder, MembershipMessage, PeerMessage, Response, decode_peer, encode_peer};
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

/// Two words that tell messages apart in the trace's hash.
pub(super) fn fingerprint(message: &PeerMessage) -> [u64; 2] {
    use raftkv_protocol::RaftBody as Body;
    match message {
        PeerMessage::Introduce(introduction) => [1, introduction.identity.0],
        PeerMessage::Found(founding) => [2, founding.to.0],
        PeerMessage::Membership(membership) => [18, membership_word(membership)],
        PeerMessage::Raft(raft) => {
            let (kind, word) = match &raft.body {
                Body::PreVoteRequest { campaign_term, last } => (3, campaign_term << 32 | last.index),
                Body::PreVoteReply {
                    campaign_term,
                    granted,
                } => (4, campaign_term << 1 | u64::from(*granted)),
                Body::VoteRequest { last, .. } => (5, last.term << 32 | last.index),
                Body::VoteReply { granted } => (6, u64::from(*granted)),
                Body::Append {
                    prev,
                    commit,
                    entries,
                    ..
                } => (7, (prev.index << 40) ^ (commit << 20) ^ entries.len() as u64),
                Body::AppendAccepted { matched, .. } => (8, *matched),
                Body::AppendRefused { refused, hint, .. } => (9, refused << 32 | hint.index),
                Body::Heartbeat { commit, round, .. } => (10, commit.unwrap_or(0) << 32 | round),
                Body::HeartbeatReply { round, .. } => (11, *round),
                Body::ReadIndexRequest { id } => (12, *id),
                Body::ReadIndexReply { id, index } => (13, id << 32 | index.unwrap_or(0)),
                Body::TimeoutNow => (14, 0),
                Body::SnapshotPart { snapshot, part, .. } => (15, snapshot ^ part.len() as u64),
                Body::SnapshotReply {
                    snapshot, position, ..
                } => (16, snapshot ^ position.len() as u64),
                Body::StateHash { index, hash } => (17, index ^ hash),
                Body::RecordsHash { index, hash } => (18, index ^ hash),
            };
            [
                kind << 56 | raft.term << 32 | (raft.from.0 ^ raft.to.0) >> 40,
                word,
            ]
        }
    }
}

fn membership_word(message: &MembershipMessage) -> u64 {
    match message {
        MembershipMessage::Knock(knock) => knock.introduction.identity.0,
        MembershipMessage::Admit(admission) => admission.to.0,
        MembershipMessage::Present(presence) => presence.identity.0 ^ presence.incarnation,
        MembershipMessage::Standing(reply) => reply.to.0 ^ reply.incarnation,
    }
}

/// What an answer was, in two words.
pub(super) fn answer_words(response: &Response) -> [u64; 2] {
    let kind = match &response.outcome {
        Ok(_) => 0,
        Err(failure) => 1 + failure.code as u64,
    };
    [kind, response.header.revision.0]
}
