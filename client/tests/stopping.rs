//! What becomes of requests when the nodes that a client was given, or knows, stop serving.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod fake_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fake_server::{Act, FakeServer, PATIENCE, client_of, member, put_at};
use raftkv_client::ErrorCode;
use raftkv_protocol::{Address, Answer, Failure, LeaderHint, NodeName, Record, Revision};
use tokio::time::{Instant, sleep};

/// A client that was given one endpoint.
/// As a node refuses: with the leader it believes in.
fn refusal(code: ErrorCode, name: &str, address: &Address) -> Result<Answer, Failure> {
    let mut failure = Failure::new(code, "because the script says so");
    failure.leader = Some(LeaderHint {
        name: NodeName::from(name),
        address: address.clone(),
        http: None,
    });
    Err(failure)
}

fn found() -> Result<Answer, Failure> {
    Ok(Answer::Found(Record {
        value: Bytes::from_static(b"value"),
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 2,
        lease: None,
    }))
}

/// Puts at 2 until it is told to stop, and then names itself as the leader, as a leader does that has not handed over yet.
async fn leader_that_stops(is_stopping: &Arc<AtomicBool>) -> FakeServer {
    let (is_stopping, own) = (
        Arc::clone(is_stopping),
        Arc::new(std::sync::OnceLock::<Address>::new()),
    );
    let named = Arc::clone(&own);
    let server = FakeServer::start(move |request| {
        let outcome = match is_stopping.load(Ordering::Relaxed) {
            true => refusal(ErrorCode::NotServing, "node1", named.get().unwrap()),
            false => put_at(2),
        };
        vec![Act::Answer(request.id, outcome)]
    })
    .await;
    own.set(server.address().clone()).unwrap();
    server.set_status(|status| {
        status.leader = Some(NodeName::from("node1"));
        status.members = vec![member("node1", server.address())];
    });
    server
}

#[tokio::test]
async fn a_client_of_one_endpoint_goes_to_those_that_joined_later_when_that_one_stops() {
    let is_stopping = Arc::new(AtomicBool::new(false));
    let first = leader_that_stops(&is_stopping).await;
    let second = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(3))]).await;
    let client = client_of(&[&first]);
    client.status().await.unwrap();
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(2));
    first.set_status(|status| status.members.push(member("node2", second.address())));
    is_stopping.store(true, Ordering::Relaxed);
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(3));
}

#[tokio::test]
async fn a_leader_that_stops_and_names_itself_is_asked_again_until_the_time_out() {
    let is_stopping = Arc::new(AtomicBool::new(true));
    let server = leader_that_stops(&is_stopping).await;
    let client = client_of(&[&server]);
    let restart = async {
        sleep(Duration::from_millis(300)).await;
        is_stopping.store(false, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(client.set("key", "value").into_future(), restart);
    assert_eq!(written.unwrap(), Revision(2));
    let asked = server.seen().requests;
    assert!(asked < 20, "it was asked {asked} times in 300 ms");
}

#[tokio::test]
async fn refusals_are_tried_again_for_as_long_as_the_request_may_take() {
    let mut refusals = 17;
    let server = FakeServer::start(move |request| {
        let is_refused = refusals > 0;
        refusals -= i32::from(is_refused);
        let refused = || Err(Failure::new(ErrorCode::Overloaded, "later"));
        vec![Act::Answer(
            request.id,
            if is_refused { refused() } else { put_at(2) },
        )]
    })
    .await;
    let written = client_of(&[&server]).set("key", "value").await;
    assert_eq!(written.unwrap(), Revision(2));
}

#[tokio::test]
async fn who_knows_a_leader_by_a_redirect_only_learns_the_members_as_well() {
    let third = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(4))]).await;
    let second = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(3))]).await;
    let leader = second.address().clone();
    let first = FakeServer::start(move |request| {
        vec![Act::Answer(
            request.id,
            refusal(ErrorCode::NotLeader, "node2", &leader),
        )]
    })
    .await;
    let client = client_of(&[&first]);
    assert_eq!(client.set("key", "value").await.unwrap(), Revision(3));
    for server in [&first, &second] {
        server.set_status(|status| {
            status.leader = Some(NodeName::from("node2"));
            status.members = vec![
                member("node2", second.address()),
                member("node3", third.address()),
            ];
        });
    }
    let statuses = || first.seen().statuses + second.seen().statuses;
    let (before, give_up_at) = (statuses(), Instant::now() + PATIENCE);
    // The answer to the first may have been under way already; behind two, the answer to one is known.
    while statuses() < before + 2 {
        assert!(Instant::now() < give_up_at, "nobody was asked for the members");
        assert_eq!(client.set("key", "value").await.unwrap(), Revision(3));
        sleep(Duration::from_millis(10)).await;
    }
    drop((first, second));
    let give_up_at = Instant::now() + PATIENCE;
    let by_third = async {
        // What was under way when the connection ended is unknown, and not tried again.
        while !client.set("key", "value").await.is_ok_and(|at| at == Revision(4)) {
            assert!(Instant::now() < give_up_at, "node3 was never asked");
        }
    };
    by_third.await;
}

#[tokio::test]
async fn members_are_asked_for_seldom() {
    let server = FakeServer::start(|request| vec![Act::Answer(request.id, put_at(2))]).await;
    server.set_status(|status| {
        status.leader = Some(NodeName::from("node1"));
        status.members = vec![member("node1", server.address())];
    });
    let client = client_of(&[&server]);
    client.status().await.unwrap();
    let began = Instant::now();
    for _ in 0..1_000 {
        client.set("key", "value").await.unwrap();
    }
    let allowed = 2 + began.elapsed().as_secs() as usize;
    let asked = server.seen().statuses;
    assert!(asked <= allowed, "{asked} times, allowed are {allowed}");
}

#[tokio::test]
async fn a_node_that_knows_no_leader_does_not_keep_a_request_from_one_that_leads() {
    let first = FakeServer::start(|request| {
        vec![Act::Answer(
            request.id,
            Err(Failure::new(ErrorCode::NoLeader, "no cluster yet")),
        )]
    })
    .await;
    let mut closes = 1;
    let second = FakeServer::start(move |request| {
        let close = closes > 0;
        closes -= i32::from(close);
        vec![if close {
            Act::Close
        } else {
            Act::Answer(request.id, found())
        }]
    })
    .await;
    first.set_status(|status| {
        status.leader = Some(NodeName::from("node2"));
        status.members = vec![
            member("node1", first.address()),
            member("node2", second.address()),
        ];
    });
    let client = client_of(&[&first]);
    client.status().await.unwrap();
    // It lost its disk, and knows nobody any more.
    first.set_status(|status| {
        (status.leader, status.term, status.cluster) = (None, 0, None);
        status.members.clear();
    });
    assert_eq!(client.get("key").await.unwrap().unwrap().value, "value");
}
