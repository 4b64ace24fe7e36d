//! Messages between nodes.
//!
//! ```text
//! all but Append   PeerHeader
//! Append           PeerHeader, EntryHeader * count, payload * count
//! SnapshotPart     PeerHeader, the part, raw        SnapshotReply    PeerHeader, the position, raw
//! ```
//! What stands behind the header of an append is the matter of `entries`.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::entries::{append_entries, payload_bytes, take_entries};
use super::{append, expect_end, take};
use crate::{
    ClusterId, Founding, GroupId, Introduction, MembershipMessage, NodeId, PeerMessage, ProtocolError,
    RaftBody, RaftMessage, SnapshotProgress, WireEntry, WireEntryId, write_frame,
};

const EXPECTED: &str = "a message between nodes";

/// `I`, `F` and `M` are references when written, and owned when read.
#[derive(Serialize, Deserialize)]
struct PeerHeader<I, F, M> {
    /// Introductions and foundings are about the node, not a group: theirs is 0.
    group: GroupId,
    message: MessageHeader<I, F, M>,
}

#[derive(Serialize, Deserialize)]
enum MessageHeader<I, F, M> {
    Raft(RaftHeader),
    Introduce(I),
    Found(F),
    Membership(M),
}

/// Identifiers are random: as variable-length numbers they would take ten bytes instead of eight.
#[derive(Serialize, Deserialize)]
struct RaftHeader {
    #[serde(with = "postcard::fixint::le")]
    cluster: u64,
    #[serde(with = "postcard::fixint::le")]
    from: u64,
    #[serde(with = "postcard::fixint::le")]
    to: u64,
    term: u64,
    body: BodyHeader,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum BodyHeader {
    PreVoteRequest {
        campaign_term: u64,
        last: WireEntryId,
    },
    PreVoteReply {
        campaign_term: u64,
        granted: bool,
    },
    VoteRequest {
        last: WireEntryId,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        session: u64,
        prev: WireEntryId,
        commit: u64,
        count: u64,
        payload_bytes: u64,
    },
    AppendAccepted {
        session: u64,
        matched: u64,
    },
    AppendRefused {
        session: u64,
        refused: u64,
        hint: WireEntryId,
    },
    Heartbeat {
        session: u64,
        commit: Option<u64>,
        round: u64,
    },
    HeartbeatReply {
        session: u64,
        round: u64,
    },
    ReadIndexRequest {
        id: u64,
    },
    ReadIndexReply {
        id: u64,
        index: Option<u64>,
    },
    TimeoutNow,
    SnapshotPart {
        session: u64,
        last: WireEntryId,
        snapshot: u64,
        raw_bytes: u64,
    },
    SnapshotReply {
        session: u64,
        snapshot: u64,
        progress: SnapshotProgress,
        raw_bytes: u64,
    },
    StateHash {
        index: u64,
        #[serde(with = "postcard::fixint::le")]
        hash: u64,
    },
    RecordsHash {
        index: u64,
        #[serde(with = "postcard::fixint::le")]
        hash: u64,
    },
}

/// Appends a message between nodes as one frame.
pub fn encode_peer(out: &mut BytesMut, message: &PeerMessage) {
    write_frame(out, |out| match message {
        PeerMessage::Raft(message) => append_raft(out, message),
        PeerMessage::Introduce(introduction) => append_header(out, MessageHeader::Introduce(introduction)),
        PeerMessage::Found(founding) => append_header(out, MessageHeader::Found(founding)),
        PeerMessage::Membership(message) => append_header(out, MessageHeader::Membership(message)),
    });
}

fn append_header(out: &mut BytesMut, message: MessageHeader<&Introduction, &Founding, &MembershipMessage>) {
    let group = GroupId(0);
    append(out, &PeerHeader { group, message });
}

fn append_raft(out: &mut BytesMut, message: &RaftMessage) {
    let entries: &[WireEntry] = if let RaftBody::Append { entries, .. } = &message.body {
        entries
    } else {
        &[]
    };
    let payload_bytes = payload_bytes(entries);
    let header = PeerHeader::<(), (), ()> {
        group: message.group,
        message: MessageHeader::Raft(RaftHeader {
            cluster: message.cluster.0,
            from: message.from.0,
            to: message.to.0,
            term: message.term,
            body: body_header(&message.body, payload_bytes as u64),
        }),
    };
    append(out, &header);
    match &message.body {
        RaftBody::SnapshotPart { part: raw, .. } | RaftBody::SnapshotReply { position: raw, .. } => {
            out.extend_from_slice(raw);
        }
        _ => append_entries(out, entries, payload_bytes),
    }
}

fn body_header(body: &RaftBody, payload_bytes: u64) -> BodyHeader {
    match *body {
        RaftBody::PreVoteRequest { campaign_term, last } => {
            BodyHeader::PreVoteRequest { campaign_term, last }
        }
        RaftBody::PreVoteReply {
            campaign_term,
            granted,
        } => BodyHeader::PreVoteReply {
            campaign_term,
            granted,
        },
        RaftBody::VoteRequest { last, transfer } => BodyHeader::VoteRequest { last, transfer },
        RaftBody::VoteReply { granted } => BodyHeader::VoteReply { granted },
        RaftBody::Append {
            session,
            prev,
            commit,
            ref entries,
        } => BodyHeader::Append {
            session,
            prev,
            commit,
            count: entries.len() as u64,
            payload_bytes,
        },
        RaftBody::AppendAccepted { session, matched } => BodyHeader::AppendAccepted { session, matched },
        RaftBody::AppendRefused {
            session,
            refused,
            hint,
        } => BodyHeader::AppendRefused {
            session,
            refused,
            hint,
        },
        RaftBody::Heartbeat {
            session,
            commit,
            round,
        } => BodyHeader::Heartbeat {
            session,
            commit,
            round,
        },
        RaftBody::HeartbeatReply { session, round } => BodyHeader::HeartbeatReply { session, round },
        RaftBody::ReadIndexRequest { id } => BodyHeader::ReadIndexRequest { id },
        RaftBody::ReadIndexReply { id, index } => BodyHeader::ReadIndexReply { id, index },
        RaftBody::TimeoutNow => BodyHeader::TimeoutNow,
        RaftBody::SnapshotPart {
            session,
            last,
            snapshot,
            ref part,
        } => BodyHeader::SnapshotPart {
            session,
            last,
            snapshot,
            raw_bytes: part.len() as u64,
        },
        RaftBody::SnapshotReply {
            session,
            snapshot,
            progress,
            ref position,
        } => BodyHeader::SnapshotReply {
            session,
            snapshot,
            progress,
            raw_bytes: position.len() as u64,
        },
        RaftBody::StateHash { index, hash } => BodyHeader::StateHash { index, hash },
        RaftBody::RecordsHash { index, hash } => BodyHeader::RecordsHash { index, hash },
    }
}

/// Decodes the body of a frame between nodes. Payloads are slices of it.
///
/// # Errors
/// If it is not a message of this version.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a frame is done with once its message is taken out"
)]
pub fn decode_peer(body: Bytes) -> Result<PeerMessage, ProtocolError> {
    let (header, rest) = take::<PeerHeader<Introduction, Founding, MembershipMessage>>(EXPECTED, &body)?;
    let raft = match header.message {
        MessageHeader::Raft(raft) => raft,
        MessageHeader::Introduce(introduction) => {
            expect_end(EXPECTED, rest)?;
            return Ok(PeerMessage::Introduce(introduction));
        }
        MessageHeader::Found(founding) => {
            expect_end(EXPECTED, rest)?;
            return Ok(PeerMessage::Found(founding));
        }
        MessageHeader::Membership(message) => {
            expect_end(EXPECTED, rest)?;
            return Ok(PeerMessage::Membership(message));
        }
    };
    Ok(PeerMessage::Raft(RaftMessage {
        cluster: ClusterId(raft.cluster),
        group: header.group,
        from: NodeId(raft.from),
        to: NodeId(raft.to),
        term: raft.term,
        body: raft_body(raft.body, &body, rest)?,
    }))
}

/// The raw bytes behind a header, which must be all that is left of the frame.
fn take_raw(frame: &Bytes, rest: &[u8], raw_bytes: u64) -> Result<Bytes, ProtocolError> {
    let length = usize::try_from(raw_bytes).unwrap_or(usize::MAX).min(rest.len());
    if (length as u64) < raw_bytes {
        let source = postcard::Error::DeserializeUnexpectedEnd;
        return Err(ProtocolError::Malformed {
            expected: EXPECTED,
            source,
        });
    }
    expect_end(EXPECTED, &rest[length..])?;
    Ok(frame.slice_ref(&rest[..length]))
}

/// Turns a body's header, and what stands behind it in the frame, into the body.
fn raft_body(header: BodyHeader, frame: &Bytes, rest: &[u8]) -> Result<RaftBody, ProtocolError> {
    let body = match header {
        BodyHeader::Append {
            session,
            prev,
            commit,
            count,
            payload_bytes,
        } => {
            return Ok(RaftBody::Append {
                session,
                prev,
                commit,
                entries: take_entries(frame, rest, count, payload_bytes)?,
            });
        }
        BodyHeader::SnapshotPart {
            session,
            last,
            snapshot,
            raw_bytes,
        } => {
            return Ok(RaftBody::SnapshotPart {
                session,
                last,
                snapshot,
                part: take_raw(frame, rest, raw_bytes)?,
            });
        }
        BodyHeader::SnapshotReply {
            session,
            snapshot,
            progress,
            raw_bytes,
        } => {
            return Ok(RaftBody::SnapshotReply {
                session,
                snapshot,
                progress,
                position: take_raw(frame, rest, raw_bytes)?,
            });
        }
        BodyHeader::PreVoteRequest { campaign_term, last } => {
            RaftBody::PreVoteRequest { campaign_term, last }
        }
        BodyHeader::PreVoteReply {
            campaign_term,
            granted,
        } => RaftBody::PreVoteReply {
            campaign_term,
            granted,
        },
        BodyHeader::VoteRequest { last, transfer } => RaftBody::VoteRequest { last, transfer },
        BodyHeader::VoteReply { granted } => RaftBody::VoteReply { granted },
        BodyHeader::AppendAccepted { session, matched } => RaftBody::AppendAccepted { session, matched },
        BodyHeader::AppendRefused {
            session,
            refused,
            hint,
        } => RaftBody::AppendRefused {
            session,
            refused,
            hint,
        },
        BodyHeader::Heartbeat {
            session,
            commit,
            round,
        } => RaftBody::Heartbeat {
            session,
            commit,
            round,
        },
        BodyHeader::HeartbeatReply { session, round } => RaftBody::HeartbeatReply { session, round },
        BodyHeader::ReadIndexRequest { id } => RaftBody::ReadIndexRequest { id },
        BodyHeader::ReadIndexReply { id, index } => RaftBody::ReadIndexReply { id, index },
        BodyHeader::TimeoutNow => RaftBody::TimeoutNow,
        BodyHeader::StateHash { index, hash } => RaftBody::StateHash { index, hash },
        BodyHeader::RecordsHash { index, hash } => RaftBody::RecordsHash { index, hash },
    };
    expect_end(EXPECTED, rest)?;
    Ok(body)
}
