//! Version 1, byte by byte: frames as released programs write and read them, and commands as they stand in logs.
//!
//! `golden_v1.txt` only grows. A line that differs means that a released struct changed: give the change a new variant or a
//! new protocol version instead.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use raftkv_protocol::{
    Address, Admission, Answer, Branch, CheckedCommand, CheckedFiles, ClusterId, Command, Compare, Condition,
    Consistency, DifferingMember, ErrorCode, Failure, Force, FormedIn, Founding, GroupId, HandshakeReply,
    Header, Hello, HistoryEpoch, Introduction, KeyValue, Keys, Knock, KnockWay, LeaderHint, LeaseId,
    LeaseQuery, LeaseState, Lifetime, Limits, Member, MemberCommand, MembershipMessage, NodeId, NodeName,
    Once, Op, OpResult, PeerMessage, Presence, Previous, Promotion, RaftBody, RaftMessage, ReadBasis, Record,
    Rejection, RejectionCode, Relation, Request, RequestId, Response, Revision, RoleName, ScrubCommand,
    ScrubPass, ScrubState, SessionId, Shape, SnapshotProgress, Speaker, Standing, StandingReply, Status,
    Test, Txn, TxnResult, Welcome, WireEntry, WireEntryId, decode_command, encode_handshake_reply,
    encode_hello, encode_peer, encode_request, encode_response,
};

use crate::messages::CONTEXT;

const GOLDEN: &str = include_str!("golden_v1.txt");

/// A name and the bytes that go with it.
type Line = (String, Bytes);

fn line(name: impl std::fmt::Display, encode: impl FnOnce(&mut BytesMut)) -> Line {
    let mut out = BytesMut::new();
    encode(&mut out);
    (name.to_string(), out.freeze())
}

fn handshakes() -> Vec<Line> {
    let hello = |speaker| Hello {
        versions: 1..=1,
        features: 0,
        ..Hello::new(speaker, None, None)
    };
    let full = Hello {
        versions: 1..=300,
        features: 1 << 40,
        speaker: Speaker::Peer,
        cluster: Some(ClusterId(0x1122_3344_5566_7788)),
        node: Some(NodeId(5)),
        authentication: Some(b"secret".to_vec()),
    };
    let welcome = HandshakeReply::Welcome(Welcome {
        version: 1,
        features: 0,
        cluster: Some(ClusterId(0x1122_3344_5566_7788)),
        node: NodeId(5),
        epoch: HistoryEpoch(1),
        limits: Limits {
            key_bytes: 4 << 10,
            value_bytes: 2 << 20,
            request_bytes: 8 << 20,
        },
    });
    let rejection = HandshakeReply::Rejection(Rejection {
        code: RejectionCode::WrongCluster,
        message: "why".to_owned(),
    });
    vec![
        line("hello_client", |out| encode_hello(out, &hello(Speaker::Client))),
        line("hello_peer", |out| encode_hello(out, &hello(Speaker::Peer))),
        line("hello_forwarder", |out| {
            encode_hello(out, &hello(Speaker::Forwarder))
        }),
        line("hello_full", |out| encode_hello(out, &full)),
        line("welcome", |out| encode_handshake_reply(out, &welcome)),
        line("rejection", |out| encode_handshake_reply(out, &rejection)),
    ]
}

/// A command of each kind, with each condition.
fn commands() -> Vec<(&'static str, Command<'static>)> {
    let put = |condition, ttl_ms| Command::Put {
        key: b"key",
        value: b"value",
        condition,
        ttl_ms,
    };
    let delete = Command::Delete {
        key: b"key",
        condition: Condition::Always,
    };
    vec![
        ("command_put", put(Condition::Always, None)),
        ("command_put_absent", put(Condition::Absent, None)),
        (
            "command_put_revision",
            put(Condition::ModRevision(Revision(300)), Some(1000)),
        ),
        ("command_delete", delete),
    ]
}

/// A transaction with each compare and operation.
fn transaction(nested: &[u8]) -> Txn<'_> {
    let key = Keys::One(b"key");
    let compare = |test| Compare { keys: key, test };
    let put = |lifetime| Op::Put {
        key: b"key",
        value: b"value",
        lifetime,
        previous: Previous::Wanted,
    };
    Txn {
        compare: vec![
            compare(Test::Exists),
            compare(Test::Absent),
            compare(Test::Value(Relation::Equal, b"value")),
            compare(Test::Version(Relation::NotEqual, 300)),
            compare(Test::CreateRevision(Relation::Less, Revision(300))),
            compare(Test::ModRevision(Relation::Greater, Revision(300))),
            compare(Test::Lease(Relation::Equal, Some(LeaseId(300)))),
        ],
        then: vec![
            put(Lifetime::Unlimited),
            put(Lifetime::Ttl { ttl_ms: 1000 }),
            put(Lifetime::Lease(LeaseId(300))),
            put(Lifetime::Kept),
            Op::Increment { key: b"key", by: -1 },
            Op::Txn(nested),
        ],
        otherwise: vec![
            Op::Delete {
                keys: key,
                previous: Previous::Unwanted,
            },
            Op::Get {
                keys: key,
                shape: Shape::KeysOnly,
                limit: Some(300),
            },
        ],
    }
}

fn later_commands() -> Vec<Line> {
    let nested = Txn::default().encode();
    let put = checked(&commands()[0].1);
    let session = SessionId(300);
    let commands = [
        ("command_txn", Command::Txn(transaction(&nested))),
        (
            "command_once",
            Command::Once {
                idempotency_key: b"name",
                command: put.encoded(),
            },
        ),
        (
            "command_grant_lease",
            Command::GrantLease {
                id: Some(LeaseId(300)),
                ttl_ms: 1000,
            },
        ),
        (
            "command_renew_leases",
            Command::RenewLeases {
                ids: vec![LeaseId(300)],
            },
        ),
        ("command_revoke_lease", Command::RevokeLease { id: LeaseId(300) }),
        ("command_open_session", Command::OpenSession { ttl_ms: 1000 }),
        ("command_renew_session", Command::RenewSession { session }),
        ("command_close_session", Command::CloseSession { session }),
    ];
    let mut lines: Vec<Line> = commands
        .iter()
        .map(|(name, command)| (name.to_string(), checked(command).encoded().clone()))
        .collect();
    let once = Once {
        session,
        sequence: 9,
        first_unacknowledged: 7,
    };
    for (name, request) in [
        ("request_write_once", Request::Write(put.within(once))),
        ("request_lease", Request::Lease(LeaseQuery::One(LeaseId(300)))),
        ("request_leases", Request::Lease(LeaseQuery::After(LeaseId(300)))),
    ] {
        lines.push(line(name, |out| {
            encode_request(out, RequestId(300), 1000, &request)
        }));
    }
    lines
}

fn later_answers() -> Vec<Line> {
    let record = Record {
        value: Bytes::from_static(b"value"),
        create_revision: Revision(2),
        mod_revision: Revision(200),
        version: 4,
        lease: Some(LeaseId(300)),
    };
    let kv = KeyValue {
        key: Bytes::from_static(b"key"),
        record,
    };
    let result = TxnResult {
        revision: Revision(200),
        branch: Branch::Otherwise,
        results: vec![
            OpResult::Put {
                previous: Some(kv.clone()),
            },
            OpResult::Incremented { value: -1 },
            OpResult::Deleted {
                count: 1,
                previous: vec![kv.clone()],
            },
            OpResult::Got {
                kvs: vec![kv],
                count: 1,
            },
            OpResult::Txn {
                branch: Branch::Then,
                results: Vec::new(),
            },
        ],
    };
    let (id, ttl_ms) = (LeaseId(300), 1000);
    let lease = LeaseState {
        id,
        ttl_ms,
        remaining_ms: 500,
        key_count: 1,
        keys: vec![Bytes::from_static(b"key")],
    };
    let revoked = Answer::LeaseRevoked {
        deleted: 1,
        revision: Revision(200),
    };
    let opened = Answer::SessionOpened {
        session: SessionId(300),
        ttl_ms,
    };
    [
        ("answer_txn", Answer::Txn(result)),
        ("answer_lease_granted", Answer::LeaseGranted { id, ttl_ms }),
        (
            "answer_leases_renewed",
            Answer::LeasesRenewed(vec![Some(1000), None]),
        ),
        ("answer_lease_revoked", revoked),
        ("answer_lease", Answer::Lease(Some(lease.clone()))),
        ("answer_leases", Answer::Leases(vec![lease])),
        ("answer_session_opened", opened),
        ("answer_session_done", Answer::SessionDone),
    ]
    .into_iter()
    .map(|(name, answer)| line(name, response(Ok(answer))))
    .collect()
}

fn checked(command: &Command<'_>) -> CheckedCommand {
    CheckedCommand::new(command, &Limits::default()).expect("within the limits")
}

fn encoded_commands() -> Vec<Line> {
    let mut lines: Vec<Line> = commands()
        .iter()
        .map(|(name, command)| (name.to_string(), checked(command).encoded().clone()))
        .collect();
    lines.push((
        "command_tick".to_owned(),
        CheckedCommand::tick().encoded().clone(),
    ));
    lines.push((
        "command_keep_history_from".to_owned(),
        CheckedCommand::keep_history_from(Revision(300)).encoded().clone(),
    ));
    lines
}

fn scrubs() -> Vec<Line> {
    let command = CheckedCommand::scrub(b"key", 300, 1000);
    let pass = ScrubPass {
        first_index: 300,
        last_index: 301,
        began_ms_ago: 7000,
        ended_ms_ago: Some(5),
        pieces: 2,
        left_out: 1,
        keys: 1000,
        bytes: 70_000,
        agreed: vec![("n2".into(), 2)],
    };
    let differing = DifferingMember {
        name: "n3".into(),
        since_index: 299,
        keys: Some("all".to_owned()),
    };
    let state = ScrubState {
        pass: Some(pass),
        differing: vec![differing],
        quarantine: Some("why".to_owned()),
        files: Some(CheckedFiles {
            ms_ago: 300,
            bytes: 1000,
            damage: vec!["rot".to_owned()],
        }),
    };
    let asked = |command| {
        move |out: &mut BytesMut| encode_request(out, RequestId(300), 1000, &Request::Scrub(command))
    };
    vec![
        ("command_scrub".to_owned(), command.encoded().clone()),
        line("request_scrub_start", asked(ScrubCommand::Start)),
        line("request_scrub_status", asked(ScrubCommand::Status)),
        line("answer_scrub", response(Ok(Answer::Scrub(Box::new(state))))),
        line(
            "answer_scrub_nothing_seen",
            response(Ok(Answer::Scrub(Box::default()))),
        ),
    ]
}

fn requests() -> Vec<Line> {
    let get = |consistency| Request::Get {
        key: Bytes::from_static(b"key"),
        consistency,
    };
    let write = Request::Write(checked(&commands()[0].1));
    [
        ("request_get", get(Consistency::Linearizable)),
        ("request_get_stale", get(Consistency::Stale)),
        ("request_get_leader_lease", get(Consistency::LeaderLease)),
        (
            "request_get_stale_within",
            get(Consistency::StaleWithin {
                max_staleness_ms: 1000,
            }),
        ),
        ("request_write", write),
        ("request_status", Request::Status),
    ]
    .into_iter()
    .map(|(name, request)| line(name, |out| encode_request(out, RequestId(300), 1000, &request)))
    .collect()
}

fn member_requests() -> Vec<Line> {
    let name = || NodeName::from("n4");
    let force = Force::Yes;
    [
        (
            "request_member_add",
            MemberCommand::Add {
                name: name(),
                address: Some(Address::from("127.0.0.1:7004")),
                promotion: Promotion::Asked,
            },
        ),
        (
            "request_member_promote",
            MemberCommand::Promote { name: name(), force },
        ),
        (
            "request_member_remove",
            MemberCommand::Remove { name: name(), force },
        ),
        (
            "request_member_replace",
            MemberCommand::Replace { name: name(), force },
        ),
        (
            "request_transfer_leader",
            MemberCommand::TransferLeader { to: Some(name()) },
        ),
    ]
    .into_iter()
    .map(|(label, command)| {
        line(label, |out| {
            encode_request(out, RequestId(300), 1000, &Request::Member(command));
        })
    })
    .collect()
}

fn response(outcome: Result<Answer, Failure>) -> impl FnOnce(&mut BytesMut) {
    let header = Header {
        cluster: CONTEXT.cluster,
        node: CONTEXT.node,
        term: 3,
        revision: Revision(200),
        epoch: CONTEXT.epoch,
    };
    move |out| encode_response(out, RequestId(300), &Response { header, outcome })
}

fn member() -> Member {
    Member {
        name: "n1".into(),
        identity: NodeId(5),
        address: "127.0.0.1:7001".into(),
        http: Some("127.0.0.1:8080".into()),
        voter: true,
    }
}

fn status(role: RoleName) -> Answer {
    Answer::Status(Box::new(Status {
        name: "n1".into(),
        role,
        leader: Some("n2".into()),
        term: 3,
        commit_index: 10,
        applied_index: 9,
        revision: Revision(7),
        cluster: Some(ClusterId(6)),
        version: "0.1.0".to_owned(),
        members: vec![member()],
        ready: false,
        not_ready_because: Some("why".to_owned()),
    }))
}

fn answers() -> Vec<Line> {
    let record = Record {
        value: Bytes::from_static(b"value"),
        create_revision: Revision(2),
        mod_revision: Revision(200),
        version: 4,
        lease: None,
    };
    let found = Answer::Found(record.clone());
    let deleted = Answer::Deleted {
        existed: true,
        revision: Revision(200),
    };
    let current = Some(Revision(9));
    let mut lines = vec![
        line("answer_found", response(Ok(found))),
        line("answer_not_found", response(Ok(Answer::NotFound))),
        line(
            "answer_put",
            response(Ok(Answer::Put {
                revision: Revision(200),
            })),
        ),
        line("answer_deleted", response(Ok(deleted))),
        line(
            "answer_condition_failed",
            response(Ok(Answer::ConditionFailed { current })),
        ),
        line("answer_members", response(Ok(Answer::Members(vec![member()])))),
    ];
    for (label, basis) in [
        ("read_index", ReadBasis::ReadIndex),
        ("leader_lease", ReadBasis::LeaderLease),
        (
            "local",
            ReadBasis::Local {
                applied_index: 300,
                leader_contact_ms: Some(50),
            },
        ),
    ] {
        let record = Some(record.clone());
        lines.push(line(
            format!("answer_read_{label}"),
            response(Ok(Answer::Read { record, basis })),
        ));
    }
    let record = None;
    let basis = ReadBasis::ReadIndex;
    lines.push(line(
        "answer_read_nothing",
        response(Ok(Answer::Read { record, basis })),
    ));
    for role in [
        RoleName::Leader,
        RoleName::Follower,
        RoleName::Candidate,
        RoleName::Learner,
    ] {
        lines.push(line(
            format!("answer_status_{role:?}").to_lowercase(),
            response(Ok(status(role))),
        ));
    }
    for code in ErrorCode::ALL {
        let leader = (code == ErrorCode::NotLeader).then(|| LeaderHint {
            name: "n2".into(),
            address: "127.0.0.1:7002".into(),
            http: None,
        });
        let message = "why".to_owned();
        lines.push(line(
            format!("failure_{code}"),
            response(Err(Failure {
                code,
                message,
                leader,
            })),
        ));
    }
    lines
}

/// One append of two entries, and all other consensus messages.
fn raft_bodies() -> Vec<(&'static str, RaftBody)> {
    let id = WireEntryId { term: 2, index: 300 };
    let entry = |kind, payload: &'static [u8]| WireEntry {
        term: 3,
        kind,
        log_time_us: 1_000_000,
        session: 4,
        sequence: 5,
        first_unacknowledged: 6,
        payload: Bytes::from_static(payload),
    };
    let append = RaftBody::Append {
        session: 1,
        prev: id,
        commit: 299,
        entries: vec![entry(0, b""), entry(1, b"payload")],
    };
    let (session, round) = (1, 8);
    let heartbeat = |commit| RaftBody::Heartbeat {
        session,
        commit,
        round,
    };
    vec![
        (
            "pre_vote_request",
            RaftBody::PreVoteRequest {
                campaign_term: 4,
                last: id,
            },
        ),
        (
            "pre_vote_reply",
            RaftBody::PreVoteReply {
                campaign_term: 4,
                granted: true,
            },
        ),
        (
            "vote_request",
            RaftBody::VoteRequest {
                last: id,
                transfer: true,
            },
        ),
        ("vote_reply", RaftBody::VoteReply { granted: false }),
        ("append", append),
        (
            "append_accepted",
            RaftBody::AppendAccepted {
                session,
                matched: 302,
            },
        ),
        (
            "append_refused",
            RaftBody::AppendRefused {
                session,
                refused: 300,
                hint: id,
            },
        ),
        ("heartbeat", heartbeat(Some(299))),
        ("heartbeat_without_commit", heartbeat(None)),
        ("heartbeat_reply", RaftBody::HeartbeatReply { session, round }),
        ("read_index_request", RaftBody::ReadIndexRequest { id: 7 }),
        (
            "read_index_reply",
            RaftBody::ReadIndexReply {
                id: 7,
                index: Some(299),
            },
        ),
        ("timeout_now", RaftBody::TimeoutNow),
        (
            "snapshot_part",
            RaftBody::SnapshotPart {
                session: 1,
                last: WireEntryId { term: 2, index: 300 },
                snapshot: 5,
                part: Bytes::from_static(b"part"),
            },
        ),
        (
            "snapshot_reply",
            RaftBody::SnapshotReply {
                session: 1,
                snapshot: 5,
                progress: SnapshotProgress::Wanted,
                position: Bytes::from_static(b"here"),
            },
        ),
        (
            "state_hash",
            RaftBody::StateHash {
                index: 300,
                hash: 0x1122,
            },
        ),
        (
            "records_hash",
            RaftBody::RecordsHash {
                index: 300,
                hash: 0x1122,
            },
        ),
    ]
}

fn peer_messages() -> Vec<Line> {
    let introduction = |formed| {
        PeerMessage::Introduce(Introduction {
            name: "n1".into(),
            identity: NodeId(5),
            address: "127.0.0.1:7001".into(),
            http: None,
            peers: vec![
                ("n1".into(), "127.0.0.1:7001".into()),
                ("n2".into(), "127.0.0.1:7002".into()),
            ],
            heard: vec![NodeId(9)],
            formed,
        })
    };
    let formed = FormedIn {
        cluster: ClusterId(6),
        members: vec![member()],
    };
    let founding = PeerMessage::Found(Founding {
        to: NodeId(5),
        cluster: ClusterId(6),
        configuration: b"entry 1".to_vec(),
    });
    let mut lines = vec![
        line("introduce_unformed", |out| encode_peer(out, &introduction(None))),
        line("introduce_formed", |out| {
            encode_peer(out, &introduction(Some(formed)))
        }),
        line("found", |out| encode_peer(out, &founding)),
    ];
    for (name, body) in raft_bodies() {
        let message = PeerMessage::Raft(RaftMessage {
            cluster: ClusterId(0x1122_3344_5566_7788),
            group: GroupId(0),
            from: NodeId(5),
            to: NodeId(0x8877_6655_4433_2211),
            term: 3,
            body,
        });
        lines.push(line(name, |out| encode_peer(out, &message)));
    }
    lines
}

fn membership_messages() -> Vec<Line> {
    let introduction = Introduction {
        name: "n4".into(),
        identity: NodeId(5),
        address: "127.0.0.1:7004".into(),
        http: None,
        peers: Vec::new(),
        heard: Vec::new(),
        formed: None,
    };
    let standing = |standing| {
        MembershipMessage::Standing(StandingReply {
            to: NodeId(5),
            incarnation: 300,
            cluster: ClusterId(6),
            standing,
        })
    };
    let address = Address::from("127.0.0.1:7004");
    let way = KnockWay::Relayed;
    [
        ("knock", MembershipMessage::Knock(Knock { introduction, way })),
        (
            "admit",
            MembershipMessage::Admit(Admission {
                to: NodeId(5),
                cluster: ClusterId(6),
                founding: b"entry 1".to_vec(),
                configuration: b"entry 9".to_vec(),
            }),
        ),
        (
            "present",
            MembershipMessage::Present(Presence {
                cluster: ClusterId(6),
                identity: NodeId(5),
                name: "n4".into(),
                address: address.clone(),
                http: None,
                incarnation: 300,
                lease_drift_ppm: Some(200),
            }),
        ),
        ("standing_welcome", standing(Standing::Welcome)),
        ("standing_duplicate", standing(Standing::Duplicate { address })),
        ("standing_removed", standing(Standing::Removed)),
    ]
    .into_iter()
    .map(|(label, message)| {
        line(label, |out| {
            encode_peer(out, &PeerMessage::Membership(message));
        })
    })
    .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[test]
fn released_bytes_never_change() {
    let lines = [
        handshakes(),
        encoded_commands(),
        requests(),
        member_requests(),
        answers(),
        peer_messages(),
        membership_messages(),
        later_commands(),
        later_answers(),
        scrubs(),
    ]
    .concat();
    let written: Vec<String> = lines
        .iter()
        .map(|(name, bytes)| format!("{name} {}", hex(bytes)))
        .collect();
    let golden: Vec<&str> = GOLDEN.lines().collect();
    for line in &golden {
        assert!(
            written.iter().any(|written| written == line),
            "a released message changed, it was\n{line}"
        );
    }
    let new: Vec<&str> = written
        .iter()
        .map(String::as_str)
        .filter(|line| !golden.contains(line))
        .collect();
    assert!(
        new.is_empty(),
        "new messages; append them to golden_v1.txt:\n{}",
        new.join("\n")
    );
}

/// The file is not only what this program writes: two of its lines, taken apart by hand.
#[test]
fn golden_lines_mean_what_the_documentation_draws() {
    let put = [&b"\0\x03key\x05value"[..], b"\0\0"].concat(); // variant, length, key, length, value, always, no ttl
    assert!(GOLDEN.contains(&format!("command_put {}\n", hex(&put))));
    assert!(decode_command(&put).is_ok());

    let body = [&b"\0\xac\x02\xe8\x07\x01"[..], &put].concat(); // group 0, id 300, 1000 ms, write
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    frame.extend_from_slice(&body);
    assert!(GOLDEN.contains(&format!("request_write {}\n", hex(&frame))));
}
