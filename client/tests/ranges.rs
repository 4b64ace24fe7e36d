//! Listings, against a server that does what a script says.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod fake_server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fake_server::{Act, FakeServer, client_of};
use raftkv_client::{Consistency, Error, ErrorCode, KeySpan, Order, Revision, Shape};
use raftkv_protocol::{
    Answer, At, ClientRequest, Cursor, Failure, HistoryEpoch, KeyValue, RangePage, RangeRequest, Record,
    Request,
};

const AT: Revision = Revision(9);

fn range_of(request: &ClientRequest) -> &RangeRequest {
    match &request.request {
        Ok(Request::Range(range)) => range,
        other => panic!("expected a range, got {other:?}"),
    }
}

/// Keys `00` to `24`, in pages of five at most, as a server would tell them.
fn page(range: &RangeRequest) -> Result<Answer, Failure> {
    let cursor = range.cursor().unwrap();
    let all: BTreeMap<Bytes, Bytes> = (0..25)
        .map(|number| (Bytes::from(format!("{number:02}")), Bytes::from("value")))
        .collect();
    let mut keys: Vec<Bytes> = all.into_keys().filter(|key| range.span.contains(key)).collect();
    if range.order == Order::Descending {
        keys.reverse();
    }
    let begin = cursor.map_or(0, |cursor| {
        1 + keys.iter().position(|key| *key == cursor.last).unwrap()
    });
    let count = range.limit.map_or(5, |limit| limit.min(5)) as usize;
    let end = (begin + count).min(keys.len());
    let last = (end < keys.len()).then(|| keys[end - 1].clone());
    let kv = |key: &Bytes| KeyValue {
        key: key.clone(),
        record: Record {
            value: "value".into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: None,
        },
    };
    let kvs = match range.shape {
        Shape::CountOnly => Vec::new(),
        Shape::Records | Shape::KeysOnly => keys[begin..end].iter().map(kv).collect(),
    };
    Ok(Answer::Range(RangePage {
        at: AT,
        kvs,
        count: (end - begin) as u64,
        cursor: last.map(|last| {
            let epoch = HistoryEpoch(1);
            Cursor { at: AT, epoch, last }.encode()
        }),
        basis: None,
    }))
}

async fn honest() -> FakeServer {
    FakeServer::start(|request| vec![Act::Answer(request.id, page(range_of(request)))]).await
}

async fn keys_of(mut stream: raftkv_client::RangeStream) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    while let Some(kv) = stream.next().await {
        keys.push(String::from_utf8_lossy(&kv?.key).into_owned());
    }
    Ok(keys)
}

#[tokio::test]
async fn stream_tells_every_key_once_and_in_order() {
    let server = honest().await;
    let client = client_of(&[&server]);
    let all: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    assert_eq!(keys_of(client.range(KeySpan::all()).stream()).await.unwrap(), all);
    assert_eq!(server.seen().requests, 5);
    let down = client.prefix("1").order(Order::Descending).stream();
    let expected: Vec<String> = (10..20).rev().map(|number| number.to_string()).collect();
    assert_eq!(keys_of(down).await.unwrap(), expected);
}

#[tokio::test]
async fn one_page_is_fetched_ahead_and_no_more() {
    let server = honest().await;
    let client = client_of(&[&server]);
    let mut stream = client.range(KeySpan::all()).stream();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        server.seen().requests,
        0,
        "nothing is asked before the first poll"
    );
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.seen().requests, 2);
    assert_eq!(stream.at(), Some(AT));
}

#[tokio::test]
async fn limit_holds_over_all_pages() {
    let server = honest().await;
    let client = client_of(&[&server]);
    let range = || client.range(KeySpan::all());
    assert_eq!(keys_of(range().limit(12).stream()).await.unwrap().len(), 12);
    assert_eq!(server.seen().requests, 3, "what is not wanted is not asked for");
    assert_eq!(
        keys_of(range().limit(0).stream()).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(range().count().await.unwrap(), 25);
    assert_eq!(range().collect_all(25).await.unwrap().len(), 25);
    assert_eq!(range().limit(3).collect_all(3).await.unwrap().len(), 3);
    let error = range().collect_all(24).await.unwrap_err();
    assert!(
        matches!(&error, Error::Rejected(failure) if failure.code == ErrorCode::TooLarge),
        "{error}"
    );
}

#[tokio::test]
async fn page_goes_on_where_a_cursor_says() {
    let server = honest().await;
    let client = client_of(&[&server]);
    let first = client.range(KeySpan::all()).limit(3).page().await.unwrap();
    assert_eq!(first.kvs.len(), 3);
    let next = client.range(KeySpan::all()).cursor(first.cursor.unwrap()).page();
    assert_eq!(next.await.unwrap().kvs[0].key, "03");
}

#[tokio::test]
async fn listing_goes_on_at_another_node_with_the_same_cursor() {
    // The first one gives two pages and is gone.
    let mut pages = 0;
    let first = FakeServer::start(move |request| {
        pages += 1;
        match pages {
            1 | 2 => vec![Act::Answer(request.id, page(range_of(request)))],
            _ => vec![Act::Close],
        }
    })
    .await;
    let cursors = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&cursors);
    let second = FakeServer::start(move |request| {
        let range = range_of(request);
        asked
            .lock()
            .unwrap()
            .push(range.cursor().unwrap().map(|cursor| cursor.last));
        vec![Act::Answer(request.id, page(range))]
    })
    .await;
    let client = client_of(&[&first, &second]);
    assert_eq!(
        keys_of(client.range(KeySpan::all()).stream())
            .await
            .unwrap()
            .len(),
        25
    );
    let cursors = cursors.lock().unwrap();
    assert_eq!(cursors.first(), Some(&Some(Bytes::from("09"))));
}

#[tokio::test]
async fn stream_ends_with_the_refusal_and_its_reason() {
    let server = FakeServer::start(|request| {
        let range = range_of(request);
        let outcome = match range.cursor {
            None => page(range),
            Some(_) => Err(Failure::new(ErrorCode::Compacted, "the oldest is revision 12")),
        };
        vec![Act::Answer(request.id, outcome)]
    })
    .await;
    let client = client_of(&[&server]);
    let mut stream = client.range(KeySpan::all()).stream();
    for _ in 0..5 {
        stream.next().await.unwrap().unwrap();
    }
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("revision 12"), "{error}");
    assert!(stream.next().await.is_none(), "it has ended");
}

#[tokio::test]
async fn key_of_the_past_is_a_range_of_one() {
    let server = FakeServer::start(|request| {
        let range = range_of(request);
        assert_eq!(range.span, KeySpan::one(b"07"));
        match range.at {
            At::Revision(Revision(5)) => {}
            At::Ago { ago_ms: 90_000 } => assert_eq!(range.consistency, Consistency::Stale),
            other => panic!("{other:?}"),
        }
        vec![Act::Answer(request.id, page(range))]
    })
    .await;
    let client = client_of(&[&server]);
    let then = client.get("07").at_revision(Revision(5)).await.unwrap();
    assert_eq!(then.unwrap().value, "value");
    let then = client
        .get("07")
        .ago(Duration::from_secs(90))
        .consistency(Consistency::Stale);
    assert!(then.await.unwrap().is_some());
}
