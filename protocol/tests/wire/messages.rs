//! Strategies: any message of each family.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raftkv_protocol::{
    Address, Admission, Answer, CheckedCommand, CheckedFiles, ClusterId, Command, Condition,
    ConnectionContext, Consistency, DifferingMember, ErrorCode, Failure, Force, FormedIn, Founding, GroupId,
    HandshakeReply, Header, Hello, HistoryEpoch, Introduction, Knock, KnockWay, LeaderHint, Limits,
    MAX_TTL_MS, Member, MemberCommand, MembershipMessage, NodeId, NodeName, PeerMessage, Presence, Promotion,
    RaftBody, RaftMessage, ReadBasis, Record, Rejection, RejectionCode, Request, Response, Revision,
    RoleName, ScrubCommand, ScrubPass, ScrubState, SnapshotProgress, Speaker, Standing, StandingReply,
    Status, Welcome, WireEntry, WireEntryId,
};

/// What the answers' connection tells.
pub(crate) const CONTEXT: ConnectionContext = ConnectionContext {
    cluster: Some(ClusterId(0xc1)),
    node: NodeId(0x0d),
    epoch: HistoryEpoch(2),
};

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..8).prop_map(String::from_iter)
}

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

/// Numbers of every encoded length.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn name() -> impl Strategy<Value = NodeName> {
    text().prop_map(|text| NodeName::from(text.as_str()))
}

fn address() -> impl Strategy<Value = Address> {
    text().prop_map(|text| Address::from(text.as_str()))
}

fn cluster() -> impl Strategy<Value = ClusterId> {
    number().prop_map(ClusterId)
}

fn node() -> impl Strategy<Value = NodeId> {
    number().prop_map(NodeId)
}

fn revision() -> impl Strategy<Value = Revision> {
    number().prop_map(Revision)
}

fn member() -> impl Strategy<Value = Member> {
    (name(), node(), address(), option::of(address()), any::<bool>()).prop_map(
        |(name, identity, address, http, voter)| Member {
            name,
            identity,
            address,
            http,
            voter,
        },
    )
}

pub(crate) fn hello() -> impl Strategy<Value = Hello> {
    let speaker = prop_oneof![
        Just(Speaker::Client),
        Just(Speaker::Peer),
        Just(Speaker::Forwarder)
    ];
    let authentication = option::of(vec(any::<u8>(), 0..20));
    let versions = (any::<u16>(), any::<u16>());
    (
        versions,
        any::<u64>(),
        speaker,
        option::of(cluster()),
        option::of(node()),
        authentication,
    )
        .prop_map(
            |((one, other), features, speaker, cluster, node, authentication)| Hello {
                versions: one.min(other)..=one.max(other),
                features,
                speaker,
                cluster,
                node,
                authentication,
            },
        )
}

pub(crate) fn handshake_reply() -> impl Strategy<Value = HandshakeReply> {
    let limits = [any::<usize>(), any::<usize>(), any::<usize>()];
    let welcome = (
        any::<u16>(),
        any::<u64>(),
        option::of(cluster()),
        node(),
        number(),
        limits,
    )
        .prop_map(
            |(version, features, cluster, node, epoch, [key_bytes, value_bytes, request_bytes])| {
                HandshakeReply::Welcome(Welcome {
                    version,
                    features,
                    cluster,
                    node,
                    epoch: HistoryEpoch(epoch),
                    limits: Limits {
                        key_bytes,
                        value_bytes,
                        request_bytes,
                    },
                })
            },
        );
    let rejection = (0..12u16, text()).prop_map(|(number, message)| {
        let code = RejectionCode::from_number(number);
        HandshakeReply::Rejection(Rejection { code, message })
    });
    prop_oneof![welcome, rejection]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Always),
        Just(Condition::Absent),
        revision().prop_map(Condition::ModRevision)
    ]
}

fn checked(command: &Command<'_>) -> Request {
    Request::Write(CheckedCommand::new(command, &Limits::default()).expect("within the limits"))
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let consistency = prop_oneof![
        Just(Consistency::Linearizable),
        Just(Consistency::Stale),
        Just(Consistency::LeaderLease),
        number().prop_map(|max_staleness_ms| Consistency::StaleWithin { max_staleness_ms }),
    ];
    let get = (bytes(1..40), consistency).prop_map(|(key, consistency)| Request::Get { key, consistency });
    let put = (
        bytes(1..40),
        bytes(0..300),
        condition(),
        option::of(1..=MAX_TTL_MS),
    )
        .prop_map(|(key, value, condition, ttl_ms)| {
            checked(&Command::Put {
                key: &key,
                value: &value,
                condition,
                ttl_ms,
            })
        });
    let delete = (bytes(1..40), condition())
        .prop_map(|(key, condition)| checked(&Command::Delete { key: &key, condition }));
    prop_oneof![
        get,
        put,
        delete,
        Just(Request::Status),
        member_command().prop_map(Request::Member),
        prop_oneof![Just(ScrubCommand::Start), Just(ScrubCommand::Status)].prop_map(Request::Scrub)
    ]
}

fn member_command() -> impl Strategy<Value = MemberCommand> {
    let force = || prop_oneof![Just(Force::No), Just(Force::Yes)];
    let promotion = prop_oneof![Just(Promotion::CaughtUp), Just(Promotion::Asked)];
    prop_oneof![
        (name(), option::of(address()), promotion).prop_map(|(name, address, promotion)| {
            MemberCommand::Add {
                name,
                address,
                promotion,
            }
        }),
        (name(), force()).prop_map(|(name, force)| MemberCommand::Promote { name, force }),
        (name(), force()).prop_map(|(name, force)| MemberCommand::Remove { name, force }),
        (name(), force()).prop_map(|(name, force)| MemberCommand::Replace { name, force }),
        option::of(name()).prop_map(|to| MemberCommand::TransferLeader { to }),
    ]
}

fn status() -> impl Strategy<Value = Status> {
    let role = prop_oneof![
        Just(RoleName::Leader),
        Just(RoleName::Follower),
        Just(RoleName::Candidate),
        Just(RoleName::Learner)
    ];
    let place = (number(), number(), number(), revision(), option::of(cluster()));
    let words = (text(), vec(member(), 0..4), any::<bool>(), option::of(text()));
    (name(), role, option::of(name()), place, words).prop_map(
        |(name, role, leader, (term, commit_index, applied_index, revision, cluster), words)| {
            let (version, members, ready, not_ready_because) = words;
            Status {
                name,
                role,
                leader,
                term,
                commit_index,
                applied_index,
                revision,
                cluster,
                version,
                members,
                ready,
                not_ready_because,
            }
        },
    )
}

fn scrub_state() -> impl Strategy<Value = ScrubState> {
    let times = (number(), option::of(number()));
    let counts = (number(), number(), number(), number());
    let agreed = vec((name(), number()), 0..4);
    let pass = ((number(), number()), times, counts, agreed).prop_map(
        |((first_index, last_index), (began_ms_ago, ended_ms_ago), counts, agreed)| {
            let (pieces, left_out, keys, bytes) = counts;
            ScrubPass {
                first_index,
                last_index,
                began_ms_ago,
                ended_ms_ago,
                pieces,
                left_out,
                keys,
                bytes,
                agreed,
            }
        },
    );
    let differing =
        (name(), number(), option::of(text())).prop_map(|(name, since_index, keys)| DifferingMember {
            name,
            since_index,
            keys,
        });
    let files = (number(), number(), vec(text(), 0..3)).prop_map(|(ms_ago, bytes, damage)| CheckedFiles {
        ms_ago,
        bytes,
        damage,
    });
    let state = (
        option::of(pass),
        vec(differing, 0..4),
        option::of(text()),
        option::of(files),
    );
    state.prop_map(|(pass, differing, quarantine, files)| ScrubState {
        pass,
        differing,
        quarantine,
        files,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let leader = (name(), address(), option::of(address())).prop_map(|(name, address, http)| LeaderHint {
        name,
        address,
        http,
    });
    (
        proptest::sample::select(&ErrorCode::ALL[..]),
        text(),
        option::of(leader),
    )
        .prop_map(|(code, message, leader)| Failure {
            code,
            message,
            leader,
        })
}

fn answer() -> impl Strategy<Value = Answer> {
    let record = || {
        (bytes(0..300), revision(), revision(), number()).prop_map(
            |(value, create_revision, mod_revision, version)| Record {
                value,
                create_revision,
                mod_revision,
                version,
                lease: None,
            },
        )
    };
    let basis = prop_oneof![
        Just(ReadBasis::ReadIndex),
        Just(ReadBasis::LeaderLease),
        (number(), option::of(number())).prop_map(|(applied_index, leader_contact_ms)| ReadBasis::Local {
            applied_index,
            leader_contact_ms,
        }),
    ];
    prop_oneof![
        record().prop_map(Answer::Found),
        (option::of(record()), basis).prop_map(|(record, basis)| Answer::Read { record, basis }),
        vec(member(), 0..4).prop_map(Answer::Members),
        Just(Answer::NotFound),
        revision().prop_map(|revision| Answer::Put { revision }),
        (any::<bool>(), revision()).prop_map(|(existed, revision)| Answer::Deleted { existed, revision }),
        option::of(revision()).prop_map(|current| Answer::ConditionFailed { current }),
        status().prop_map(|status| Answer::Status(Box::new(status))),
        scrub_state().prop_map(|state| Answer::Scrub(Box::new(state))),
    ]
}

/// An answer given in [`CONTEXT`].
pub(crate) fn response() -> impl Strategy<Value = Response> {
    let outcome = prop_oneof![4 => answer().prop_map(Ok), 1 => failure().prop_map(Err)];
    (number(), revision(), outcome).prop_map(|(term, revision, outcome)| Response {
        header: Header {
            cluster: CONTEXT.cluster,
            node: CONTEXT.node,
            term,
            revision,
            epoch: CONTEXT.epoch,
        },
        outcome,
    })
}

fn entry_id() -> impl Strategy<Value = WireEntryId> {
    (number(), number()).prop_map(|(term, index)| WireEntryId { term, index })
}

fn entry() -> impl Strategy<Value = WireEntry> {
    (
        number(),
        any::<u8>(),
        number(),
        number(),
        number(),
        number(),
        bytes(0..200),
    )
        .prop_map(
            |(term, kind, log_time_us, session, sequence, first_unacknowledged, payload)| WireEntry {
                term,
                kind,
                log_time_us,
                session,
                sequence,
                first_unacknowledged,
                payload,
            },
        )
}

fn append() -> impl Strategy<Value = RaftBody> {
    (number(), entry_id(), number(), vec(entry(), 0..20)).prop_map(|(session, prev, commit, entries)| {
        RaftBody::Append {
            session,
            prev,
            commit,
            entries,
        }
    })
}

fn election() -> impl Strategy<Value = RaftBody> {
    prop_oneof![
        (number(), entry_id())
            .prop_map(|(campaign_term, last)| RaftBody::PreVoteRequest { campaign_term, last }),
        (number(), any::<bool>()).prop_map(|(campaign_term, granted)| RaftBody::PreVoteReply {
            campaign_term,
            granted
        }),
        (entry_id(), any::<bool>()).prop_map(|(last, transfer)| RaftBody::VoteRequest { last, transfer }),
        any::<bool>().prop_map(|granted| RaftBody::VoteReply { granted }),
    ]
}

fn replication() -> impl Strategy<Value = RaftBody> {
    prop_oneof![
        (number(), number()).prop_map(|(session, matched)| RaftBody::AppendAccepted { session, matched }),
        (number(), number(), entry_id()).prop_map(|(session, refused, hint)| RaftBody::AppendRefused {
            session,
            refused,
            hint
        }),
        (number(), option::of(number()), number()).prop_map(|(session, commit, round)| RaftBody::Heartbeat {
            session,
            commit,
            round
        }),
        (number(), number()).prop_map(|(session, round)| RaftBody::HeartbeatReply { session, round }),
        number().prop_map(|id| RaftBody::ReadIndexRequest { id }),
        (number(), option::of(number())).prop_map(|(id, index)| RaftBody::ReadIndexReply { id, index }),
        Just(RaftBody::TimeoutNow),
        (number(), number(), number(), bytes(0..40)).prop_map(|(session, index, snapshot, part)| {
            RaftBody::SnapshotPart {
                session,
                last: WireEntryId { term: 1, index },
                snapshot,
                part,
            }
        }),
        (number(), any::<u64>()).prop_map(|(index, hash)| RaftBody::StateHash { index, hash }),
        (number(), any::<u64>()).prop_map(|(index, hash)| RaftBody::RecordsHash { index, hash }),
        (number(), number(), bytes(0..40)).prop_map(|(session, snapshot, position)| {
            RaftBody::SnapshotReply {
                session,
                snapshot,
                progress: SnapshotProgress::Installed,
                position,
            }
        }),
    ]
}

fn raft() -> impl Strategy<Value = PeerMessage> {
    let body = prop_oneof![2 => append(), 1 => election(), 1 => replication()];
    (cluster(), any::<u32>(), node(), node(), number(), body).prop_map(
        |(cluster, group, from, to, term, body)| {
            PeerMessage::Raft(RaftMessage {
                cluster,
                group: GroupId(group),
                from,
                to,
                term,
                body,
            })
        },
    )
}

fn introduction() -> impl Strategy<Value = Introduction> {
    let formed =
        (cluster(), vec(member(), 0..4)).prop_map(|(cluster, members)| FormedIn { cluster, members });
    let peers = vec((name(), address()), 0..4);
    (
        name(),
        node(),
        address(),
        option::of(address()),
        peers,
        vec(node(), 0..4),
        option::of(formed),
    )
        .prop_map(
            |(name, identity, address, http, peers, heard, formed)| Introduction {
                name,
                identity,
                address,
                http,
                peers,
                heard,
                formed,
            },
        )
}

fn founding() -> impl Strategy<Value = PeerMessage> {
    (node(), cluster(), vec(any::<u8>(), 0..50)).prop_map(|(to, cluster, configuration)| {
        PeerMessage::Found(Founding {
            to,
            cluster,
            configuration,
        })
    })
}

pub(crate) fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let introduction = introduction().prop_map(PeerMessage::Introduce);
    let membership = membership_message().prop_map(PeerMessage::Membership);
    prop_oneof![6 => raft(), 1 => introduction, 1 => founding(), 1 => membership]
}

fn membership_message() -> impl Strategy<Value = MembershipMessage> {
    let way = prop_oneof![Just(KnockWay::Direct), Just(KnockWay::Relayed)];
    let payload = || vec(any::<u8>(), 0..50);
    let standing = prop_oneof![
        Just(Standing::Welcome),
        Just(Standing::Removed),
        address().prop_map(|address| Standing::Duplicate { address }),
    ];
    let presence = (
        cluster(),
        node(),
        name(),
        address(),
        option::of(address()),
        number(),
    );
    prop_oneof![
        (introduction(), way)
            .prop_map(|(introduction, way)| MembershipMessage::Knock(Knock { introduction, way })),
        (node(), cluster(), payload(), payload()).prop_map(|(to, cluster, founding, configuration)| {
            MembershipMessage::Admit(Admission {
                to,
                cluster,
                founding,
                configuration,
            })
        }),
        (presence, option::of(any::<u32>())).prop_map(
            |((cluster, identity, name, address, http, incarnation), lease_drift_ppm)| {
                MembershipMessage::Present(Presence {
                    cluster,
                    identity,
                    name,
                    address,
                    http,
                    incarnation,
                    lease_drift_ppm,
                })
            }
        ),
        (node(), number(), cluster(), standing).prop_map(|(to, incarnation, cluster, standing)| {
            MembershipMessage::Standing(StandingReply {
                to,
                incarnation,
                cluster,
                standing,
            })
        }),
    ]
}
