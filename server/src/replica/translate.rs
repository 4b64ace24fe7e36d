//! Consensus messages to and from the wire.
//!
//! Numbers from the network are checked here, once: what comes out can not make the core overflow or break the order that
//! its types promise. Payloads of received entries stay slices of the frame they came in; they live as long as the entry is
//! in flight or in the log's tail in memory, and the store copies.

use std::sync::Arc;

use raftkv_protocol::{ClusterId, GroupId, NodeId, RaftBody, RaftMessage, WireEntry, WireEntryId};
use raftkv_raft::{
    self as raft, Campaign, Entry, EntryId, EntryKind, Envelope, Index, Message, ReadId, ReplicationSession,
    Round, Stamp, Term, Verdict,
};
use thiserror::Error;

use crate::membership::{Membership, UnreadableMembership};

/// Terms and indices above this are refused: arithmetic on those below can not overflow, and no log gets there.
const LARGEST_NUMBER: u64 = 1 << 62;

/// A peer's message that no correct node of this version sends. It is dropped, like one that was lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum UnreadableMessage {
    #[error("{what} is {found}, expected 1 to 2^62")]
    OutOfRange { what: &'static str, found: u64 },
    #[error("an entry has kind {found}, expected 0 (no-op), 1 (command) or 2 (configuration)")]
    UnknownKind { found: u8 },
    #[error("an entry of term {found} follows one of term {before} in an append of term {append}")]
    TermsOutOfOrder { before: Term, found: Term, append: Term },
    #[error("snapshots and state hashes do not go through the core")]
    NotForTheCore,
    #[error(transparent)]
    Configuration(#[from] UnreadableMembership),
}

/// As the core sends it, on the wire.
pub(super) fn to_wire(cluster: ClusterId, envelope: Envelope) -> RaftMessage {
    RaftMessage {
        cluster,
        group: GroupId(0),
        from: NodeId(envelope.from.0),
        to: NodeId(envelope.to.0),
        term: envelope.term.0,
        body: body_to_wire(envelope.message),
    }
}

fn body_to_wire(message: Message) -> RaftBody {
    match message {
        Message::PreVoteRequest { campaign_term, last } => RaftBody::PreVoteRequest {
            campaign_term: campaign_term.0,
            last: wire_entry_id(last),
        },
        Message::PreVoteReply {
            campaign_term,
            verdict,
        } => RaftBody::PreVoteReply {
            campaign_term: campaign_term.0,
            granted: verdict == Verdict::Granted,
        },
        Message::VoteRequest { last, campaign } => RaftBody::VoteRequest {
            last: wire_entry_id(last),
            transfer: campaign == Campaign::Transfer,
        },
        Message::VoteReply { verdict } => RaftBody::VoteReply {
            granted: verdict == Verdict::Granted,
        },
        Message::Append {
            session,
            prev,
            commit,
            entries,
        } => RaftBody::Append {
            session: session.0.get(),
            prev: wire_entry_id(prev),
            commit: commit.get(),
            entries: entries.into_iter().map(entry_to_wire).collect(),
        },
        Message::AppendAccepted { session, matched } => RaftBody::AppendAccepted {
            session: session.0.get(),
            matched: matched.get(),
        },
        Message::AppendRefused {
            session,
            refused,
            hint,
        } => RaftBody::AppendRefused {
            session: session.0.get(),
            refused: refused.get(),
            hint: wire_entry_id(hint),
        },
        Message::Heartbeat {
            session,
            commit,
            round,
        } => RaftBody::Heartbeat {
            session: session.0.get(),
            commit: commit.map(Index::get),
            round: round.0,
        },
        Message::HeartbeatReply { session, round } => RaftBody::HeartbeatReply {
            session: session.0.get(),
            round: round.0,
        },
        Message::ReadIndexRequest { id } => RaftBody::ReadIndexRequest { id: id.0 },
        Message::ReadIndexReply { id, index } => RaftBody::ReadIndexReply {
            id: id.0,
            index: index.map(Index::get),
        },
        Message::TimeoutNow => RaftBody::TimeoutNow,
    }
}

pub(super) fn wire_entry_id(id: EntryId) -> WireEntryId {
    WireEntryId {
        term: id.term.0,
        index: id.index.get(),
    }
}

fn entry_to_wire(entry: Entry) -> WireEntry {
    WireEntry {
        term: entry.id.term.0,
        kind: match entry.kind {
            EntryKind::Noop => 0,
            EntryKind::Command => 1,
            EntryKind::Configuration => 2,
        },
        log_time_us: entry.stamp.log_time_us,
        session: entry.stamp.session,
        sequence: entry.stamp.sequence,
        first_unacknowledged: entry.stamp.first_unacknowledged,
        payload: entry.payload,
    }
}

/// From the wire, checked.
pub(super) fn from_wire(message: RaftMessage) -> Result<Envelope, UnreadableMessage> {
    let term = term_from(message.term)?;
    Ok(Envelope {
        from: raft::NodeId(message.from.0),
        to: raft::NodeId(message.to.0),
        term,
        message: body_from_wire(term, message.body)?,
    })
}

fn body_from_wire(term: Term, body: RaftBody) -> Result<Message, UnreadableMessage> {
    Ok(match body {
        RaftBody::PreVoteRequest { campaign_term, last } => Message::PreVoteRequest {
            campaign_term: term_from(campaign_term)?,
            last: id_from(last)?,
        },
        RaftBody::PreVoteReply {
            campaign_term,
            granted,
        } => Message::PreVoteReply {
            campaign_term: term_from(campaign_term)?,
            verdict: verdict_from(granted),
        },
        RaftBody::VoteRequest { last, transfer } => Message::VoteRequest {
            last: id_from(last)?,
            campaign: if transfer {
                Campaign::Transfer
            } else {
                Campaign::Election
            },
        },
        RaftBody::VoteReply { granted } => Message::VoteReply {
            verdict: verdict_from(granted),
        },
        RaftBody::Append {
            session,
            prev,
            commit,
            entries,
        } => {
            let prev = id_from(prev)?;
            Message::Append {
                session: session_from(session)?,
                prev,
                commit: index_from("commit index", commit)?,
                entries: entries_from(term, prev, entries)?,
            }
        }
        RaftBody::AppendAccepted { session, matched } => Message::AppendAccepted {
            session: session_from(session)?,
            matched: index_from("matched index", matched)?,
        },
        RaftBody::AppendRefused {
            session,
            refused,
            hint,
        } => Message::AppendRefused {
            session: session_from(session)?,
            refused: index_from("refused index", refused)?,
            hint: id_from(hint)?,
        },
        RaftBody::Heartbeat {
            session,
            commit,
            round,
        } => Message::Heartbeat {
            session: session_from(session)?,
            commit: commit
                .map(|commit| index_from("commit index", commit))
                .transpose()?,
            round: Round(round),
        },
        RaftBody::HeartbeatReply { session, round } => Message::HeartbeatReply {
            session: session_from(session)?,
            round: Round(round),
        },
        RaftBody::ReadIndexRequest { id } => Message::ReadIndexRequest { id: ReadId(id) },
        RaftBody::ReadIndexReply { id, index } => Message::ReadIndexReply {
            id: ReadId(id),
            index: index.map(|index| index_from("read index", index)).transpose()?,
        },
        RaftBody::TimeoutNow => Message::TimeoutNow,
        RaftBody::SnapshotPart { .. }
        | RaftBody::SnapshotReply { .. }
        | RaftBody::StateHash { .. }
        | RaftBody::RecordsHash { .. } => {
            return Err(UnreadableMessage::NotForTheCore);
        }
    })
}

fn verdict_from(granted: bool) -> Verdict {
    if granted {
        Verdict::Granted
    } else {
        Verdict::Refused
    }
}

fn term_from(found: u64) -> Result<Term, UnreadableMessage> {
    let what = "term";
    // Formed nodes start in term 1.
    index_from(what, found).map(|_| Term(found))
}

fn index_from(what: &'static str, found: u64) -> Result<Index, UnreadableMessage> {
    Index::new(found)
        .filter(|_| found <= LARGEST_NUMBER)
        .ok_or(UnreadableMessage::OutOfRange { what, found })
}

fn session_from(found: u64) -> Result<ReplicationSession, UnreadableMessage> {
    index_from("replication session", found).map(ReplicationSession)
}

fn id_from(id: WireEntryId) -> Result<EntryId, UnreadableMessage> {
    Ok(EntryId {
        term: term_from(id.term)?,
        index: index_from("entry index", id.index)?,
    })
}

/// Entries after `prev`, their terms in order and none newer than the append's (R16).
fn entries_from(
    append: Term,
    prev: EntryId,
    entries: Vec<WireEntry>,
) -> Result<Vec<Entry>, UnreadableMessage> {
    let mut last = prev;
    let mut translated = Vec::with_capacity(entries.len());
    for entry in entries {
        let term = term_from(entry.term)?;
        if term < last.term || term > append {
            return Err(UnreadableMessage::TermsOutOfOrder {
                before: last.term,
                found: term,
                append,
            });
        }
        last = EntryId {
            term,
            index: last.index.next(),
        };
        translated.push(entry_from(last, entry)?);
    }
    Ok(translated)
}

fn entry_from(id: EntryId, entry: WireEntry) -> Result<Entry, UnreadableMessage> {
    let (kind, configuration) = match entry.kind {
        0 => (EntryKind::Noop, None),
        1 => (EntryKind::Command, None),
        2 => {
            let configuration = Membership::decode(&entry.payload)?.configuration();
            (EntryKind::Configuration, Some(Arc::new(configuration)))
        }
        found => return Err(UnreadableMessage::UnknownKind { found }),
    };
    Ok(Entry {
        id,
        kind,
        stamp: Stamp {
            log_time_us: entry.log_time_us,
            session: entry.session,
            sequence: entry.sequence,
            first_unacknowledged: entry.first_unacknowledged,
        },
        payload: entry.payload,
        configuration,
    })
}
