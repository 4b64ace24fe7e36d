//! Messages between nodes.
//!
//! ```text
//! all but Append   PeerHeader
//! Append           PeerHeader, EntryHeader * count, payload * count
//! ```
//! The header of an append tells the length of all payloads together, so that one pass over the entry headers cuts the
//! payloads out of the frame.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{append, expect_end, take};
use crate::{
    ClusterId, EntriesError, Founding, GroupId, Introduction, NodeId, PeerMessage, ProtocolError, RaftBody,
    RaftMessage, WireEntry, WireEntryId, write_frame,
};

const EXPECTED: &str = "a message between nodes";

/// Fewest bytes of an [`EntryHeader`]: one per field.
const MIN_ENTRY_HEADER_BYTES: usize = 7;

/// Most entries that room is made for before their headers were read.
const MAX_ENTRIES_AHEAD: usize = 1024;

/// `I` and `F` are references when written, and owned when read.
#[derive(Serialize, Deserialize)]
struct PeerHeader<I, F> {
    /// Introductions and foundings are about the node, not a group: theirs is 0.
    group: GroupId,
    message: MessageHeader<I, F>,
}

#[derive(Serialize, Deserialize)]
enum MessageHeader<I, F> {
    Raft(RaftHeader),
    Introduce(I),
    Found(F),
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
}

#[derive(Serialize, Deserialize)]
struct EntryHeader {
    term: u64,
    kind: u8,
    log_time_us: u64,
    session: u64,
    sequence: u64,
    first_unacknowledged: u64,
    payload_bytes: u64,
}

/// Appends a message between nodes as one frame.
pub fn encode_peer(out: &mut BytesMut, message: &PeerMessage) {
    write_frame(out, |out| match message {
        PeerMessage::Raft(message) => append_raft(out, message),
        PeerMessage::Introduce(introduction) => append_header(out, MessageHeader::Introduce(introduction)),
        PeerMessage::Found(founding) => append_header(out, MessageHeader::Found(founding)),
    });
}

fn append_header(out: &mut BytesMut, message: MessageHeader<&Introduction, &Founding>) {
    let group = GroupId(0);
    append(out, &PeerHeader { group, message });
}

fn append_raft(out: &mut BytesMut, message: &RaftMessage) {
    let entries: &[WireEntry] = match &message.body {
        RaftBody::Append { entries, .. } => entries,
        _ => &[],
    };
    let payload_bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    let header = PeerHeader::<(), ()> {
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
    for entry in entries {
        append(out, &entry_header(entry));
    }
    out.reserve(payload_bytes);
    for entry in entries {
        out.extend_from_slice(&entry.payload);
    }
}

fn entry_header(entry: &WireEntry) -> EntryHeader {
    EntryHeader {
        term: entry.term,
        kind: entry.kind,
        log_time_us: entry.log_time_us,
        session: entry.session,
        sequence: entry.sequence,
        first_unacknowledged: entry.first_unacknowledged,
        payload_bytes: entry.payload.len() as u64,
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
    let (header, rest) = take::<PeerHeader<Introduction, Founding>>(EXPECTED, &body)?;
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
                entries: entries(frame, rest, count, payload_bytes)?,
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
    };
    expect_end(EXPECTED, rest)?;
    Ok(body)
}

/// Reads `count` entries from `rest`, the end of `frame`: headers, then payloads of `payload_bytes` together.
fn entries(
    frame: &Bytes,
    rest: &[u8],
    count: u64,
    payload_bytes: u64,
) -> Result<Vec<WireEntry>, ProtocolError> {
    let headers_length = usize::try_from(payload_bytes)
        .ok()
        .and_then(|bytes| rest.len().checked_sub(bytes));
    let Some(headers_length) = headers_length else {
        let (announced, available) = (payload_bytes, rest.len());
        return Err(EntriesError::PayloadsMissing { announced, available }.into());
    };
    let (mut headers, mut payloads) = rest.split_at(headers_length);
    let most = (headers.len() / MIN_ENTRY_HEADER_BYTES).min(MAX_ENTRIES_AHEAD);
    let mut entries = Vec::with_capacity(usize::try_from(count).map_or(most, |count| count.min(most)));
    for position in 0..count {
        let (header, later) = take::<EntryHeader>("an entry's header", headers)?;
        let length = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let Some((payload, later_payloads)) = payloads.split_at_checked(length) else {
            return Err(EntriesError::PayloadTooLong { position }.into());
        };
        (headers, payloads) = (later, later_payloads);
        entries.push(wire_entry(&header, frame.slice_ref(payload)));
    }
    expect_end("the entry headers of an append", headers)?;
    match payloads.len() {
        0 => Ok(entries),
        count => Err(EntriesError::PayloadLeftOver { count }.into()),
    }
}

fn wire_entry(header: &EntryHeader, payload: Bytes) -> WireEntry {
    WireEntry {
        term: header.term,
        kind: header.kind,
        log_time_us: header.log_time_us,
        session: header.session,
        sequence: header.sequence,
        first_unacknowledged: header.first_unacknowledged,
        payload,
    }
}
