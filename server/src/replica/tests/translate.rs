//! Consensus messages keep their meaning over the wire, and numbers from the network never reach the core unchecked.

use std::sync::Arc;

use bytes::Bytes;
use raftkv_protocol::{ClusterId, GroupId, NodeId, RaftBody, RaftMessage, WireEntry, WireEntryId};
use raftkv_raft::{
    self as raft, Campaign, Entry, EntryId, EntryKind, Envelope, Index, Message, ReadId, ReplicationSession,
    Round, Stamp, Term, Verdict,
};

use super::cluster::Cluster;
use crate::replica::translate::{UnreadableMessage, from_wire, to_wire};

fn index(number: u64) -> Index {
    Index::new(number).unwrap()
}

fn id(term: u64, number: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: index(number),
    }
}

fn entry(id: EntryId, kind: EntryKind, payload: Bytes) -> Entry {
    Entry {
        id,
        kind,
        stamp: Stamp {
            log_time_us: 1,
            session: 2,
            sequence: 3,
            first_unacknowledged: 4,
        },
        payload,
        configuration: None,
    }
}

/// One of every kind of message, and both values of each choice.
fn every_message() -> Vec<Message> {
    let session = ReplicationSession(index(9));
    let membership = Cluster::ready(1).membership(0).unwrap();
    let configuration = Entry {
        configuration: Some(Arc::new(membership.configuration())),
        ..entry(id(4, 8), EntryKind::Configuration, membership.encode())
    };
    let entries = vec![
        entry(id(3, 6), EntryKind::Noop, Bytes::new()),
        entry(id(4, 7), EntryKind::Command, Bytes::from_static(b"payload")),
        configuration,
    ];
    let (campaign_term, last, prev) = (Term(6), id(4, 20), id(3, 5));
    let append = |entries| Message::Append {
        session,
        prev,
        commit: index(5),
        entries,
    };
    vec![
        Message::PreVoteRequest { campaign_term, last },
        Message::PreVoteReply {
            campaign_term,
            verdict: Verdict::Granted,
        },
        Message::PreVoteReply {
            campaign_term,
            verdict: Verdict::Refused,
        },
        Message::VoteRequest {
            last,
            campaign: Campaign::Election,
        },
        Message::VoteRequest {
            last,
            campaign: Campaign::Transfer,
        },
        Message::VoteReply {
            verdict: Verdict::Granted,
        },
        Message::VoteReply {
            verdict: Verdict::Refused,
        },
        append(entries),
        append(Vec::new()),
        Message::AppendAccepted {
            session,
            matched: index(7),
        },
        Message::AppendRefused {
            session,
            refused: index(7),
            hint: id(2, 3),
        },
        Message::Heartbeat {
            session,
            commit: Some(index(5)),
            round: Round(8),
        },
        Message::Heartbeat {
            session,
            commit: None,
            round: Round(0),
        },
        Message::HeartbeatReply {
            session,
            round: Round(8),
        },
        Message::ReadIndexRequest { id: ReadId(3) },
        Message::ReadIndexReply {
            id: ReadId(3),
            index: Some(index(4)),
        },
        Message::ReadIndexReply {
            id: ReadId(3),
            index: None,
        },
    ]
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    for message in every_message() {
        let envelope = Envelope {
            from: raft::NodeId(1),
            to: raft::NodeId(2),
            term: Term(5),
            message,
        };
        let wire = to_wire(ClusterId(7), envelope.clone());
        assert_eq!((wire.cluster, wire.group), (ClusterId(7), GroupId(0)));
        assert_eq!(from_wire(wire), Ok(envelope));
    }
}

fn wire(term: u64, body: RaftBody) -> RaftMessage {
    RaftMessage {
        cluster: ClusterId(7),
        group: GroupId(0),
        from: NodeId(1),
        to: NodeId(2),
        term,
        body,
    }
}

fn append_of(prev: WireEntryId, term: u64, kind: u8) -> RaftBody {
    let entry = WireEntry {
        term,
        kind,
        log_time_us: 0,
        session: 0,
        sequence: 0,
        first_unacknowledged: 0,
        payload: Bytes::from_static(&[255; 20]),
    };
    RaftBody::Append {
        session: 1,
        prev,
        commit: 1,
        entries: vec![entry],
    }
}

#[test]
fn numbers_that_no_log_reaches_are_refused() {
    let good = WireEntryId { term: 3, index: 5 };
    for number in [0, u64::MAX] {
        let bad = WireEntryId {
            term: 3,
            index: number,
        };
        let bodies = [
            RaftBody::AppendAccepted {
                session: 1,
                matched: number,
            },
            RaftBody::AppendAccepted {
                session: number,
                matched: 1,
            },
            RaftBody::AppendRefused {
                session: 1,
                refused: 1,
                hint: bad,
            },
            RaftBody::Heartbeat {
                session: 1,
                commit: Some(number),
                round: 1,
            },
            RaftBody::ReadIndexReply {
                id: 1,
                index: Some(number),
            },
            RaftBody::VoteRequest {
                last: bad,
                transfer: false,
            },
            RaftBody::PreVoteRequest {
                campaign_term: number,
                last: good,
            },
            append_of(bad, 3, 1),
        ];
        for body in bodies {
            let refused = from_wire(wire(3, body));
            assert!(
                matches!(refused, Err(UnreadableMessage::OutOfRange { .. })),
                "{refused:?}"
            );
        }
        let refused = from_wire(wire(number, RaftBody::VoteReply { granted: true }));
        assert!(matches!(refused, Err(UnreadableMessage::OutOfRange { .. })));
    }
}

#[test]
fn entries_that_no_leader_sends_are_refused() {
    let prev = WireEntryId { term: 3, index: 5 };
    let unknown = from_wire(wire(4, append_of(prev, 4, 3)));
    assert_eq!(unknown, Err(UnreadableMessage::UnknownKind { found: 3 }));
    let unreadable = from_wire(wire(4, append_of(prev, 4, 2)));
    assert!(matches!(unreadable, Err(UnreadableMessage::Configuration(_))));
    for falling_or_from_the_future in [2, 5] {
        let refused = from_wire(wire(4, append_of(prev, falling_or_from_the_future, 1)));
        assert!(matches!(refused, Err(UnreadableMessage::TermsOutOfOrder { .. })));
    }
}
