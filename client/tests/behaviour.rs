//! What the client makes of servers that answer late, in another order, wrongly or not at all.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod fake_server;

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fake_server::{Act, FakeServer, PATIENCE, answer_frame, builder, client_of, member, put_at};
use raftkv_client::{Applied, Consistency, Error, ErrorCode, UnknownReason};
use raftkv_protocol::{
    Answer, Command, Failure, LeaderHint, NodeName, Record, Request, Revision, decode_command,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A runtime on a thread of its own, which ends with this.
struct RuntimeThread {
    handle: tokio::runtime::Handle,
    /// The runtime lives until it is gone.
    _alive: oneshot::Sender<()>,
}

impl RuntimeThread {
    fn start() -> RuntimeThread {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel();
        std::thread::spawn(move || drop(runtime.block_on(ended)));
        RuntimeThread {
            handle,
            _alive: alive,
        }
    }
}

fn failure(code: ErrorCode) -> Result<Answer, Failure> {
    Err(Failure::new(code, "because the script says so"))
}

fn found(value: &[u8]) -> Result<Answer, Failure> {
    Ok(Answer::Found(Record {
        value: Bytes::copy_from_slice(value),
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 2,
        lease: None,
    }))
}

/// The key of a get, echoed as its value: an answer that reaches the wrong caller shows.
fn echo(request: &Request) -> Result<Answer, Failure> {
    match request {
        Request::Get { key, .. } => found(key),
        other => panic!("expected a get, got {other:?}"),
    }
}

#[tokio::test]
async fn many_tasks_share_one_connection_and_answers_find_their_callers_in_any_order() {
    const TASKS: usize = 500;
    let mut held = Vec::new();
    let server = FakeServer::start(move |request| {
        held.push((request.id, echo(request.request.as_ref().unwrap())));
        if held.len() < TASKS {
            return Vec::new();
        }
        held.drain(..)
            .rev()
            .map(|(id, outcome)| Act::Answer(id, outcome))
            .collect()
    })
    .await;
    let client = client_of(&[&server]);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let client = client.clone();
        tasks.spawn(async move {
            let key = format!("key-{task}");
            let record = client.get(key.clone()).await.unwrap().unwrap();
            assert_eq!(record.value, key);
        });
    }
    tasks.join_all().await;
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn connections_of_a_server_take_turns() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(2))]).await;
    let client = builder()
        .endpoints([server.address().to_string()])
        .connections(NonZeroUsize::new(3).unwrap())
        .build()
        .unwrap();
    for _ in 0..9 {
        client.set("key", "value").await.unwrap();
    }
    assert_eq!(server.seen().connections, 3);
}

#[tokio::test]
async fn a_write_carries_its_condition_and_its_time_to_live() {
    let server = FakeServer::start(|request| {
        let Ok(Request::Write(command)) = &request.request else {
            panic!("{request:?}")
        };
        let outcome = match decode_command(command.encoded()).unwrap() {
            Command::Put {
                key: b"k",
                value: b"v",
                condition: raftkv_protocol::Condition::Absent,
                ttl_ms: Some(1500),
            } => put_at(9),
            Command::Delete {
                key: b"k",
                condition: raftkv_protocol::Condition::ModRevision(Revision(9)),
            } => Ok(Answer::ConditionFailed {
                current: Some(Revision(10)),
            }),
            other => panic!("{other:?}"),
        };
        vec![Act::Answer(request.id, outcome)]
    })
    .await;
    let client = client_of(&[&server]);
    let revision = client
        .set("k", "v")
        .if_absent()
        .ttl(Duration::from_millis(1500))
        .await
        .unwrap();
    assert_eq!(revision, Revision(9));
    let error = client.delete("k").if_revision(revision).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::ConditionFailed {
                current: Some(Revision(10))
            }
        ),
        "{error}"
    );
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_lost_connection_leaves_a_write_unknown_and_is_made_anew_for_the_next() {
    let mut first = true;
    let server = FakeServer::start(move |request| match std::mem::take(&mut first) {
        true => vec![Act::Close],
        false => vec![Act::Answer(request.id, put_at(5))],
    })
    .await;
    let client = client_of(&[&server]);
    let error = client.set("key", "value").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutcomeUnknown {
                reason: UnknownReason::ConnectionLost(_)
            }
        ),
        "{error}"
    );
    assert_eq!(error.applied(), Applied::Unknown);
    assert_eq!(
        server.seen().requests,
        1,
        "a write whose outcome is unknown was sent again"
    );
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(5));
    assert_eq!(server.seen().connections, 2);
}

#[tokio::test]
async fn a_read_survives_lost_connections() {
    let mut losses = 3;
    let server = FakeServer::start(move |request| {
        if losses > 0 {
            losses -= 1;
            return vec![Act::Close];
        }
        vec![Act::Answer(request.id, echo(request.request.as_ref().unwrap()))]
    })
    .await;
    assert_eq!(
        client_of(&[&server]).get("key").await.unwrap().unwrap().value,
        "key"
    );
}

#[tokio::test]
async fn a_write_waits_for_a_leader_and_for_an_overloaded_server() {
    let mut codes = vec![ErrorCode::Overloaded, ErrorCode::NoLeader];
    let server = FakeServer::start(move |request| {
        let outcome = codes.pop().map_or(put_at(4), failure);
        vec![Act::Answer(request.id, outcome)]
    })
    .await;
    assert_eq!(
        client_of(&[&server]).set("key", "value").await.unwrap(),
        Revision(4)
    );
    assert_eq!(server.seen().requests, 3);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let server =
        FakeServer::start(|request| vec![Act::Answer(request.id, failure(ErrorCode::NoLeader))]).await;
    let client = builder()
        .endpoints([server.address().to_string()])
        .attempts(NonZeroUsize::new(3).unwrap())
        .build()
        .unwrap();
    let error = client.set("key", "value").await.unwrap_err();
    assert!(matches!(error, Error::NoLeader(_)), "{error}");
    assert_eq!(error.applied(), Applied::No);
    assert_eq!(server.seen().requests, 3);
}

#[tokio::test]
async fn not_leader_sends_a_write_to_the_leader_that_it_names() {
    let leader = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(8))]).await;
    let hint = LeaderHint {
        name: NodeName::from("node2"),
        address: leader.address().clone(),
        http: None,
    };
    let follower = FakeServer::start(move |request| {
        let mut failure = Failure::new(ErrorCode::NotLeader, "ask node2");
        failure.leader = Some(hint.clone());
        vec![Act::Answer(request.id, Err(failure))]
    })
    .await;
    let client = client_of(&[&follower]);
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(8));
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(8));
    assert_eq!((follower.seen().requests, leader.seen().requests), (1, 2));
}

#[tokio::test]
async fn the_leader_is_learnt_from_any_member_and_stale_reads_stay_where_they_were_sent() {
    let leader = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(8))]).await;
    let follower = FakeServer::start(|request| {
        let Ok(request_kind) = &request.request else {
            panic!("{request:?}")
        };
        let outcome = match request_kind {
            Request::Get { .. } => echo(request_kind),
            _ => put_at(8),
        };
        vec![Act::Answer(request.id, outcome)]
    })
    .await;
    follower.set_status(|status| {
        status.leader = Some(NodeName::from("node2"));
        status.members = vec![member("node2", leader.address())];
    });
    let client = client_of(&[&follower]);
    assert_eq!(
        client.status().await.unwrap().leader,
        Some(NodeName::from("node2"))
    );
    client.set("key", "value").await.unwrap();
    client.get("key").consistency(Consistency::Stale).await.unwrap();
    assert_eq!((follower.seen().requests, leader.seen().requests), (1, 1));
}

#[tokio::test]
async fn another_endpoint_serves_when_the_first_is_down() {
    let gone = FakeServer::start(|_| Vec::new()).await;
    let dead = gone.address().to_string();
    drop(gone);
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(8))]).await;
    let client = builder()
        .endpoints([dead, server.address().to_string()])
        .build()
        .unwrap();
    client.set("key", "value").await.unwrap();
}

#[tokio::test]
async fn without_any_server_a_write_was_not_applied() {
    let gone = FakeServer::start(|_| Vec::new()).await;
    let dead = gone.address().to_string();
    drop(gone);
    let client = builder()
        .endpoints([dead])
        .attempts(NonZeroUsize::MIN)
        .build()
        .unwrap();
    let error = client.set("key", "value").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_time_out_leaves_a_sent_write_unknown_and_a_read_unchanged() {
    let server = FakeServer::start(|_| Vec::new()).await;
    let timeout = Duration::from_millis(50);
    let client = builder()
        .endpoints([server.address().to_string()])
        .timeout(timeout)
        .build()
        .unwrap();
    let write = client.set("key", "value").await.unwrap_err();
    assert!(
        matches!(
            write,
            Error::OutcomeUnknown {
                reason: UnknownReason::TimedOut { .. }
            }
        ),
        "{write}"
    );
    let read = client.get("key").await.unwrap_err();
    assert!(matches!(read, Error::TimedOut { .. }), "{read}");
    assert_eq!(read.applied(), Applied::No);
}

#[tokio::test]
async fn a_time_out_before_the_handshake_leaves_a_write_not_applied() {
    // Takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let client = builder()
        .endpoints([endpoint])
        .timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let error = client.set("key", "value").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_late_answer_meets_no_one_and_the_connection_goes_on() {
    let mut late = None;
    let server = FakeServer::start(move |request| match late.take() {
        None => {
            late = Some(request.id);
            Vec::new()
        }
        Some(first) => vec![
            Act::Answer(first, found(b"late")),
            Act::Answer(request.id, found(b"in time")),
        ],
    })
    .await;
    let client = client_of(&[&server]);
    let first = tokio::time::timeout(Duration::from_millis(50), client.get("first").into_future()).await;
    assert!(
        first.is_err(),
        "the server does not answer the first request by itself"
    );
    assert_eq!(client.get("second").await.unwrap().unwrap().value, "in time");
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn an_answer_larger_than_the_servers_own_limits_ends_the_connection_not_the_client() {
    let mut first = true;
    let server = FakeServer::start(move |request| match std::mem::take(&mut first) {
        // Announces a body of 1 GiB.
        true => vec![Act::Raw(Bytes::from_static(&[0, 0, 0, 0x40, 0, 0, 0, 0]))],
        false => vec![Act::Answer(request.id, found(b"value"))],
    })
    .await;
    let client = client_of(&[&server]);
    let error = client.get("key").await.unwrap_err();
    assert!(matches!(error, Error::Unanswered(_)), "{error}");
    assert_eq!(client.get("key").await.unwrap().unwrap().value, "value");
}

#[tokio::test]
async fn a_damaged_answer_to_a_write_leaves_its_outcome_unknown() {
    let server = FakeServer::start(|request| {
        let mut frame: BytesMut = answer_frame(request.id, put_at(3));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        vec![Act::Raw(frame.freeze())]
    })
    .await;
    let error = client_of(&[&server]).set("key", "value").await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error}");
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_error() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, Ok(Answer::NotFound))]).await;
    let error = client_of(&[&server]).set("key", "value").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::UnexpectedAnswer {
                applied: Applied::Unknown,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_over_the_servers_limit_is_refused_before_it_costs_the_others_their_connection() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(3))]).await;
    let client = client_of(&[&server]);
    let error = client.set("key", vec![0; 9 << 20]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Rejected(failure) if failure.code == ErrorCode::TooLarge),
        "{error}"
    );
    let error = client.set("", "value").await.unwrap_err();
    assert!(
        matches!(&error, Error::Rejected(failure) if failure.code == ErrorCode::BadRequest),
        "{error}"
    );
    assert_eq!(server.seen().requests, 0);
    client.set("key", "value").await.unwrap();
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn requests_beyond_what_fits_in_flight_wait_for_their_turn() {
    // More than one lane's flight and queue together hold.
    const TASKS: usize = 10_000;
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(3))]).await;
    let client = client_of(&[&server]);
    // From two threads at once: this one, whose runtime holds the connection, and another.
    let elsewhere = RuntimeThread::start();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (here, there) = (client.clone(), client.clone());
        tasks.spawn(async move { here.set("key", "value").await.unwrap() });
        let set = async move { there.set("key", "value").await.unwrap() };
        tasks.spawn_on(set, &elsewhere.handle);
    }
    assert_eq!(tasks.join_all().await.len(), 2 * TASKS);
    assert_eq!(server.seen().requests, 2 * TASKS);
}

#[tokio::test]
async fn a_write_whose_time_has_passed_is_not_sent() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(2))]).await;
    let client = builder()
        .endpoints([server.address().to_string()])
        .timeout(Duration::ZERO)
        .build()
        .unwrap();
    // The client's own question who leads makes the connection.
    let connected = async {
        while server.seen().connections == 0 {
            let error = client.set("k", "v").await.unwrap_err();
            assert_eq!(error.applied(), Applied::No, "{error}");
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
    for _ in 0..100 {
        let error = client.set("k", "v").await.unwrap_err();
        assert_eq!(error.applied(), Applied::No, "{error}");
    }
    assert_eq!(server.seen().requests, 0);
}

#[tokio::test]
async fn a_time_out_of_for_ever_is_taken() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(2))]).await;
    let client = builder()
        .endpoints([server.address().to_string()])
        .timeout(Duration::MAX)
        .build()
        .unwrap();
    assert_eq!(client.set("k", "v").await.unwrap(), Revision(2));
}

#[tokio::test]
async fn a_write_under_way_when_the_clients_runtime_ends_is_unknown() {
    let server = FakeServer::start(|_| Vec::new()).await;
    let client = client_of(&[&server]);
    let runtime = RuntimeThread::start();
    // First used there, so its connections live there.
    let status = client.clone();
    runtime
        .handle
        .spawn(async move { status.status().await })
        .await
        .unwrap()
        .unwrap();
    let write = tokio::spawn(async move { client.set("k", "v").await });
    let sent = async {
        while server.seen().requests == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.unwrap();
    drop(runtime);
    let error = tokio::time::timeout(PATIENCE, write)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown, "{error}");
}
