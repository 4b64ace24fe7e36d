//! Watches over the native protocol, with the client library.

use std::time::Duration;

use raftkv_client::{
    Client, Error, ErrorCode, EventFilter, KeySpan, Operation, Revision, Transaction, Watch, WatchEvent,
    WatchItem, WhenSlow,
};

use crate::rig::{Cluster, PATIENCE};

fn client(cluster: &Cluster) -> Client {
    let client = Client::builder().endpoints(cluster.endpoints());
    client.build().expect("valid endpoints")
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn next(watch: &mut Watch) -> Result<WatchItem, Error> {
    let next = tokio::time::timeout(PATIENCE, watch.next()).await;
    next.expect("an item in time").expect("not the end")
}

/// The next change: its key, its value unless it was deleted, and the value before.
async fn change(watch: &mut Watch) -> (String, Option<String>, Option<String>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    match next(watch).await.expect("a change") {
        WatchItem::Change(WatchEvent::Put { kv, previous }) => (
            text(&kv.key),
            Some(text(&kv.record.value)),
            previous.map(|record| text(&record.value)),
        ),
        WatchItem::Change(WatchEvent::Delete { key, previous, .. }) => {
            (text(&key), None, previous.map(|record| text(&record.value)))
        }
        other => panic!("expected a change, got {other:?}"),
    }
}

fn put(key: &str, value: &str) -> (String, Option<String>, Option<String>) {
    (key.to_owned(), Some(value.to_owned()), None)
}

#[test]
fn a_watch_tells_every_change_of_its_range_with_what_was_before() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        client.set("a/1", "old").await.expect("set");
        let mut watch = client
            .watch(KeySpan::prefix(b"a/"))
            .with_previous()
            .progress(Duration::from_secs(1))
            .stream();
        assert!(matches!(next(&mut watch).await, Ok(WatchItem::Progress(_))));
        client.set("b", "other").await.expect("set");
        client.set("a/1", "new").await.expect("set");
        client.delete("a/1").await.expect("deleted");
        let (key, value) = ("a/1".to_owned(), Some("new".to_owned()));
        let before = |value: &str| Some(value.to_owned());
        assert_eq!(
            change(&mut watch).await,
            (key.clone(), value.clone(), before("old"))
        );
        assert_eq!(change(&mut watch).await, (key, None, value));
        assert_eq!(watch.position().expect("it began").revision, Revision(5));
    });
}

#[test]
fn a_watch_begins_with_a_snapshot_or_with_any_kept_revision() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        for number in 0..3 {
            client.set(format!("k{number}"), "value").await.expect("set");
        }
        let mut from_snapshot = client.watch(KeySpan::prefix(b"k")).from_snapshot().stream();
        let mut from_two = client
            .watch(KeySpan::prefix(b"k"))
            .from_revision(Revision(3))
            .stream();
        let mut deletes = client
            .watch(KeySpan::all())
            .from_revision(Revision(1))
            .filter(EventFilter::Deletes)
            .stream();
        assert_eq!(
            next(&mut from_snapshot).await.expect("it"),
            WatchItem::SnapshotBegin
        );
        for number in 0..3 {
            match next(&mut from_snapshot).await.expect("a key") {
                WatchItem::Current(kv) => assert_eq!(kv.key, format!("k{number}")),
                other => panic!("expected a key, got {other:?}"),
            }
        }
        let end = WatchItem::SnapshotEnd(Revision(4));
        assert_eq!(next(&mut from_snapshot).await.expect("it"), end);
        client.delete("k0").await.expect("deleted");
        let deleted = ("k0".to_owned(), None, None);
        assert_eq!(change(&mut from_snapshot).await, deleted);
        assert_eq!(change(&mut from_two).await, put("k1", "value"));
        assert_eq!(change(&mut from_two).await, put("k2", "value"));
        assert_eq!(change(&mut from_two).await, deleted);
        assert_eq!(change(&mut deletes).await, deleted);
    });
}

#[test]
fn more_than_the_credit_comes_as_it_is_taken_and_who_asked_for_it_is_dropped() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        let slow = |when_slow| {
            let watch = client.watch(KeySpan::prefix(b"k")).buffer_bytes(2_000);
            watch.when_slow(when_slow).from_revision(Revision(2)).stream()
        };
        let mut patient = slow(WhenSlow::EveryEvent);
        let mut dropped = slow(WhenSlow::Drop);
        let mut latest = slow(WhenSlow::LatestPerKey);
        // They begin with the first look at them.
        client.set("k", "0").await.expect("set");
        for watch in [&mut patient, &mut dropped, &mut latest] {
            assert_eq!(change(watch).await, put("k", "0"));
        }
        for number in 1..3_000 {
            client.set("k", format!("{number:0100}")).await.expect("set");
        }
        for number in 1..3_000 {
            assert_eq!(change(&mut patient).await, put("k", &format!("{number:0100}")));
        }
        let mut told = 0;
        let failure = loop {
            match next(&mut dropped).await {
                Ok(_) => told += 1,
                Err(Error::Rejected(failure)) => break failure,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(failure.code, ErrorCode::WatchTooSlow);
        assert!(told < 100, "{told}");
        assert!(dropped.next().await.is_none());
        let (mut gaps, mut told) = (0, 0);
        loop {
            match next(&mut latest).await.expect("it goes on") {
                WatchItem::Gap => gaps += 1,
                WatchItem::Change(event) => {
                    told += 1;
                    if event.revision() == Revision(3_001) {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(gaps > 0 && told < 2_000, "{gaps} gaps, {told} changes");
    });
}

#[test]
fn a_watch_goes_on_at_another_node_exactly_where_it_was() {
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        let mut watch = client
            .watch(KeySpan::prefix(b"k"))
            .from_revision(Revision(2))
            .stream();
        let mut expected = 0;
        for stopped in 0..3 {
            for number in 0..50 {
                client
                    .set("k", format!("{}", stopped * 50 + number))
                    .await
                    .expect("set");
            }
            for _ in 0..25 {
                assert_eq!(change(&mut watch).await, put("k", &expected.to_string()));
                expected += 1;
            }
            let native = cluster.node(stopped).native_address();
            cluster.stop(stopped);
            cluster.restart(stopped, native);
            cluster.wait_ready();
            // The connections' tasks hear now that theirs has ended, before a write is sent on it.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while expected < 150 {
            assert_eq!(change(&mut watch).await, put("k", &expected.to_string()));
            expected += 1;
        }
    });
}

#[test]
fn a_watch_that_is_dropped_ends_on_the_server_and_a_stop_does_not_wait_for_one_that_is_not() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        for _ in 0..100 {
            let mut watch = client
                .watch(KeySpan::all())
                .progress(Duration::from_secs(1))
                .stream();
            assert!(matches!(next(&mut watch).await, Ok(WatchItem::Progress(_))));
        }
        let mut kept = client.watch(KeySpan::all()).stream();
        client.set("k", "value").await.expect("set");
        let begun = std::time::Instant::now();
        let told = tokio::time::timeout(Duration::from_millis(100), kept.next()).await;
        drop(told);
        drop(cluster);
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn many_watches_of_one_connection_go_on_however_much_it_has_passed_on() {
    const WATCHES: usize = 16;
    const WRITES: u64 = 1_500;
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        let watching: Vec<_> = (0..WATCHES)
            .map(|_| {
                let mut watch = client.watch(KeySpan::all()).from_revision(Revision(2)).stream();
                tokio::spawn(async move {
                    for number in 0..WRITES {
                        assert_eq!(change(&mut watch).await, put("k", &number.to_string()));
                    }
                })
            })
            .collect();
        for number in 0..WRITES {
            client.set("k", number.to_string()).await.expect("set");
        }
        for watch in watching {
            watch.await.expect("told everything");
        }
    });
}

#[test]
fn a_watch_tells_a_transaction_in_its_order_and_at_one_revision() {
    let cluster = Cluster::single();
    cluster.wait_ready();
    block_on(async {
        let client = client(&cluster);
        for key in ["p/b", "p/a", "p/c"] {
            client.set(key, "old").await.expect("set");
        }
        let mut watch = client
            .watch(KeySpan::all())
            .from_revision(Revision(5))
            .with_previous()
            .stream();
        let txn = Transaction::new().then([
            Operation::put("z", "first"),
            Operation::delete(KeySpan::prefix(b"p/")),
            Operation::put("a", "last"),
        ]);
        let done = client.transact(txn).await.expect("applied");
        client.set("behind", "it").await.expect("set");
        let mut told = Vec::new();
        for _ in 0..6 {
            match next(&mut watch).await.expect("a change") {
                WatchItem::Change(event) => told.push((event.key().clone(), event.revision())),
                other => panic!("expected a change, got {other:?}"),
            }
        }
        let at = |key: &'static str, revision| (key.into(), revision);
        let behind = Revision(done.revision.0 + 1);
        let expected = ["z", "p/a", "p/b", "p/c", "a"].map(|key| at(key, done.revision));
        assert_eq!(told[..5], expected);
        assert_eq!(told[5], at("behind", behind));

        // The same from history, with what was there before.
        let mut watch = client
            .watch(KeySpan::prefix(b"p/"))
            .from_revision(done.revision)
            .with_previous()
            .stream();
        for key in ["p/a", "p/b", "p/c"] {
            assert_eq!(
                change(&mut watch).await,
                (key.to_owned(), None, Some("old".to_owned()))
            );
        }
    });
}
