//! The client library's transactions and leases against whole servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raftkv_client::{
    Check, Client, Error, ErrorCode, KeySpan, LeaseId, OpResult, Operation, Relation, Revision, Shape,
    Target, Transaction,
};

use crate::rig::{Cluster, PATIENCE, get};

pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

pub(crate) fn client(cluster: &Cluster) -> Client {
    cluster.wait_ready();
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    client.build().expect("endpoints")
}

#[test]
fn transactions_compare_and_do_one_thing_or_the_other() {
    let cluster = Cluster::of(3);
    run(async {
        let client = client(&cluster);
        assert_eq!(client.increment("sold", 3).await.expect("a number"), 3);
        let claim = || {
            Transaction::new()
                .when([Check::absent("seat"), Check::value("sold", Relation::Equal, "3")])
                .then([
                    Operation::put("seat", "alice").with_previous(),
                    Operation::increment("sold", 1),
                    Operation::get("seat"),
                ])
                .otherwise([Operation::get("seat")])
        };
        let done = client.transact(claim()).await.expect("applied");
        assert!(done.succeeded());
        assert_eq!(done.results[0], OpResult::Put { previous: None });
        assert_eq!(done.results[1], OpResult::Incremented { value: 4 });
        assert_eq!(done.read(2)[0].record.create_revision, done.revision);
        let again = client.transact(claim()).await.expect("applied");
        assert!(!again.succeeded());
        assert_eq!(again.read(0)[0].record.value, "alice");

        // A write that names a fencing token is refused when another has made the key anew.
        let token = done.revision;
        client.delete("seat").await.expect("deleted");
        client.set("seat", "bob").await.expect("set");
        let guarded = Transaction::new()
            .when([Check::create_revision("seat", Relation::Equal, token)])
            .then([Operation::put("work", "by alice")]);
        assert!(!client.transact(guarded).await.expect("applied").succeeded());
        assert_eq!(client.get("work").await.expect("read"), None);

        let nested = Transaction::new().then([Operation::nested(
            &Transaction::new().then([Operation::put("inner", "y")]),
        )]);
        let done = client.transact(nested).await.expect("applied");
        let inner = client.get("inner").await.expect("read").expect("set");
        assert_eq!(inner.mod_revision, done.revision);

        client.set("word", "x").await.expect("set");
        match client.increment("word", 1).await {
            Err(Error::Rejected(failure)) => assert_eq!(failure.code, ErrorCode::NotANumber),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.get("word").await.expect("read").expect("there").version, 1);
    });
}

#[test]
fn a_lease_is_kept_alive_and_its_holder_learns_when_it_is_lost() {
    let cluster = Cluster::of(3);
    run(async {
        let client = client(&cluster);
        let begun = Instant::now();
        let ttl = Duration::from_secs(1);
        let lease = client.grant_lease(ttl).await.expect("granted");
        let held = client.keep_alive(lease, begun);
        let put = Transaction::new().then([Operation::put("held", "by me").lease(lease.id)]);
        client.transact(put).await.expect("applied");
        // Three times its time to live, and it is there.
        tokio::time::timeout(3 * ttl, held.lost())
            .await
            .expect_err("it is renewed");
        assert!(held.is_held());
        let state = client.lease(lease.id).await.expect("read").expect("there");
        assert_eq!((state.key_count, &state.keys[..]), (1, &["held".into()][..]));
        assert_eq!(client.leases(LeaseId(0)).await.expect("read").len(), 1);

        assert_eq!(client.revoke_lease(lease.id).await.expect("revoked"), 1);
        tokio::time::timeout(PATIENCE, held.lost())
            .await
            .expect("it is told");
        assert!(!held.is_held());
        assert_eq!(client.get("held").await.expect("read"), None);
        assert_eq!(client.renew_lease(lease.id).await.expect("answered"), None);
        let late = Transaction::new()
            .when([Check::mod_revision("held", Relation::Equal, Revision(0))])
            .then([Operation::put("held", "late").lease(lease.id)]);
        match client.transact(late).await {
            Err(Error::Rejected(failure)) => assert_eq!(failure.code, ErrorCode::LeaseNotFound),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_holder_whose_renewals_fail_learns_it_when_the_time_is_over() {
    let mut cluster = Cluster::single();
    run(async {
        let client = client(&cluster);
        let begun = Instant::now();
        let ttl = Duration::from_secs(1);
        let lease = client.grant_lease(ttl).await.expect("granted");
        let held = client.keep_alive(lease, begun);
        cluster.stop(0);
        tokio::time::timeout(PATIENCE, held.lost())
            .await
            .expect("it is told");
        assert!(begun.elapsed() >= ttl && !held.is_held());
    });
}

#[test]
fn increments_are_applied_once_each_though_nodes_stop_under_them() {
    const TASKS: i64 = 8;
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    let builder = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = builder.build().expect("endpoints");
    let is_over = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            run(async move {
                let tasks: Vec<_> = (0..TASKS)
                    .map(|_| {
                        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
                        tokio::spawn(async move {
                            let mut seen = Vec::new();
                            while !is_over.load(Ordering::Relaxed) {
                                seen.push(client.increment("n", 1).await.expect("applied once"));
                            }
                            seen
                        })
                    })
                    .collect();
                let mut sums = Vec::new();
                for task in tasks {
                    sums.extend(task.await.expect("no panic"));
                }
                // In the runtime that the connections belong to.
                let last = client.get("n").await.expect("read").expect("there");
                (sums, last.value)
            })
        }
    });
    for _ in 0..3 {
        let leader = cluster.leader();
        let native = cluster.node(leader).native_address();
        cluster.stop(leader);
        cluster.restart(leader, native);
        cluster.wait_ready();
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut sums, last) = load.join().expect("no panic");
    // Each increment has a sum of its own: none was lost, and none applied twice.
    sums.sort_unstable();
    let count = i64::try_from(sums.len()).expect("few");
    assert!(sums.into_iter().eq(1..=count));
    assert_eq!(last, count.to_string());
    assert!(count > 3 * TASKS, "{count}");
}

#[test]
fn ranges_go_with_one_transaction_also_over_a_restart() {
    let mut cluster = Cluster::of(3);
    run(async {
        let client = client(&cluster);
        for number in 0..20 {
            client.set(format!("job/{number:02}"), "idle").await.expect("set");
        }
        let jobs = || Target::prefix("job/");
        let busy = Transaction::new()
            .when([Check::value(jobs(), Relation::Equal, "idle")])
            .then([
                Operation::get(jobs()).shape(Shape::KeysOnly).limit(3),
                Operation::delete(KeySpan {
                    from: "job/".into(),
                    to: Some("job/05".into()),
                })
                .with_previous(),
                Operation::get(jobs()).shape(Shape::CountOnly),
            ]);
        let done = client.transact(busy).await.expect("applied");
        assert!(done.succeeded());
        assert_eq!(done.read(0).len(), 3);
        match &done.results[1] {
            OpResult::Deleted { count: 5, previous } => assert_eq!(previous[4].key, "job/04"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(done.results[2], OpResult::Got { count: 15, .. }));

        let deleted = client
            .delete_prefix("job/1")
            .with_previous()
            .await
            .expect("applied");
        assert_eq!((deleted.count, deleted.previous.len()), (10, 10));
        assert_eq!(deleted.revision, Revision(done.revision.0 + 1));
        let nothing = client
            .delete_range(KeySpan::prefix(b"none"))
            .await
            .expect("applied");
        assert_eq!((nothing.count, nothing.revision), (0, deleted.revision));

        let twice = Transaction::new().then([Operation::delete(jobs()), Operation::put("job/00", "again")]);
        match client.transact(twice).await {
            Err(Error::Rejected(failure)) => assert_eq!(failure.code, ErrorCode::BadRequest),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.prefix("job/").count().await.expect("read"), 5);
    });
    // The log is applied again, over ranges too.
    let native = cluster.node(0).native_address();
    cluster.stop(0);
    cluster.restart(0, native);
    cluster.wait_ready();
    assert_eq!(
        get(&cluster.url(0, "/v1/kv?prefix=job/&count_only&consistency=stale")).json["count"],
        5
    );
}
