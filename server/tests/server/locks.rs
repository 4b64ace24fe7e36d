//! Locks, semaphores and elections of the client library against whole servers.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftkv_client::{Client, Error, FencingToken, Lock, Operation, Revision, Shape, Transaction};
use tokio::time::{Instant, timeout};

use crate::client::{client, run};
use crate::rig::{Cluster, PATIENCE};

/// Waits until this many are in the queue of a lock, semaphore or election.
async fn wait_for_queue(client: &Client, name: &str, expected: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let count = client.prefix(format!("{name}/")).count().await.expect("counted");
        if count == expected {
            return;
        }
        assert!(
            Instant::now() < until,
            "waited in vain for {expected} in the queue, there are {count}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn guarded_put(token: &FencingToken, key: &'static str, value: &'static str) -> Transaction {
    Transaction::new()
        .guarded_by(token)
        .then([Operation::put(key, value)])
}

/// Takes a lock again and again, and writes under it; the tokens, in the order in which they were held.
async fn contend(
    client: Client,
    lock: Lock,
    is_inside: Arc<AtomicBool>,
    tokens: Arc<Mutex<Vec<Revision>>>,
    is_over: Arc<AtomicBool>,
) {
    while !is_over.load(Ordering::Relaxed) {
        let guard = lock.acquire().await.expect("acquired");
        assert!(!is_inside.swap(true, Ordering::SeqCst), "another one is inside");
        tokens.lock().expect("no panic").push(guard.token().revision());
        let count = Transaction::new()
            .guarded_by(guard.token())
            .then([Operation::increment("held", 1)]);
        let done = client.transact(count).await.expect("the guard holds");
        assert!(done.succeeded());
        is_inside.store(false, Ordering::SeqCst);
        guard.release().await.expect("released");
    }
}

#[test]
fn one_at_a_time_holds_a_lock_though_leaders_stop_under_it() {
    const TASKS: usize = 8;
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    let builder = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = builder.build().expect("endpoints");
    let is_over = Arc::new(AtomicBool::new(false));
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let load = std::thread::spawn({
        let (is_over, tokens) = (Arc::clone(&is_over), Arc::clone(&tokens));
        move || {
            run(async move {
                let is_inside = Arc::new(AtomicBool::new(false));
                // Longer than any stop takes: nobody is to lose it here.
                let lock = client.lock("lock").ttl(PATIENCE);
                let contending: Vec<_> = (0..TASKS)
                    .map(|_| {
                        let (is_inside, tokens) = (Arc::clone(&is_inside), Arc::clone(&tokens));
                        let is_over = Arc::clone(&is_over);
                        tokio::spawn(contend(client.clone(), lock.clone(), is_inside, tokens, is_over))
                    })
                    .collect();
                for task in contending {
                    task.await.expect("no panic");
                }
                wait_for_queue(&client, "lock", 0).await;
                client.get("held").await.expect("read").expect("there").value
            })
        }
    });
    let held = || tokens.lock().expect("no panic").len();
    for _ in 0..3 {
        let leader = cluster.leader();
        let native = cluster.node(leader).native_address();
        let before = held();
        cluster.stop(leader);
        crate::rig::eventually("it goes on without that leader", || held() > before + TASKS);
        cluster.restart(leader, native);
        cluster.wait_ready();
    }
    is_over.store(true, Ordering::Relaxed);
    let count = load.join().expect("no panic");
    let tokens = tokens.lock().expect("no panic");
    assert_eq!(count, tokens.len().to_string());
    assert!(
        tokens.is_sorted_by(|a, b| a < b),
        "later holders have greater tokens: {tokens:?}"
    );
}

#[test]
fn those_who_wait_come_in_the_order_in_which_they_asked() {
    const WAITERS: u64 = 6;
    let cluster = Cluster::of(3);
    run(async {
        let client = client(&cluster);
        let lock = client.lock("lock");
        let guard = lock.acquire().await.expect("free");
        assert!(lock.try_acquire().await.expect("asked").is_none());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..WAITERS {
            let (lock, order) = (lock.clone(), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let guard = lock.acquire().await.expect("acquired");
                order.lock().expect("no panic").push(number);
                guard.release().await.expect("released");
            }));
            wait_for_queue(&client, "lock", number + 2).await;
        }
        let (holder, _) = lock.holder().await.expect("read").expect("held");
        assert_eq!(&holder, guard.token());
        guard.release().await.expect("released");
        for waiter in waiting {
            soon("their turn", waiter).await.expect("no panic");
        }
        let order = order.lock().expect("no panic").clone();
        assert!(order.iter().copied().eq(0..WAITERS), "{order:?}");
        assert_eq!(lock.holder().await.expect("read"), None);
    });
}

/// A runtime that stands still while nobody waits for anything on it, as a paused process does.
fn paused_between_calls() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

#[test]
fn a_paused_holder_loses_the_lock_and_learns_it_and_its_write_is_refused() {
    let cluster = Cluster::of(3);
    cluster.wait_ready();
    let connect = || {
        Client::builder()
            .endpoints(cluster.endpoints())
            .timeout(PATIENCE)
            .build()
    };
    let paused = paused_between_calls();
    let holder = connect().expect("endpoints");
    let ttl = Duration::from_secs(1);
    let guard = paused
        .block_on(holder.lock("lock").ttl(ttl).acquire())
        .expect("free");
    let write = |value| holder.transact(guarded_put(guard.token(), "work", value));
    paused.block_on(write("of the first")).expect("it holds the lock");

    let next = run(async {
        let client = connect().expect("endpoints");
        let next = soon("the lease's end", client.lock("lock").acquire()).await;
        let next = next.expect("acquired");
        assert!(!guard.is_held(), "it would say so, before another can hold it");
        assert!(next.is_held() && next.token().revision() > guard.token().revision());
        let write = guarded_put(next.token(), "work", "of the second");
        client.transact(write).await.expect("it holds the lock");
        let token = next.token().clone();
        next.release().await.expect("released");
        token
    });
    match paused.block_on(write("too late")) {
        Err(Error::NotHeld { token }) => assert_eq!(&token, guard.token()),
        other => panic!("{other:?}"),
    }
    paused.block_on(soon("it learns it", guard.lost()));
    let both = Transaction::new()
        .guarded_by(&next)
        .guarded_by(guard.token())
        .then([Operation::put("work", "of nobody")]);
    assert!(matches!(paused.block_on(holder.transact(both)), Err(Error::NotHeld { token }) if token == next));
    let work = paused.block_on(async { holder.get("work").await });
    assert_eq!(work.expect("read").expect("there").value, "of the second");
    paused
        .block_on(guard.release())
        .expect("nothing is left to release");
}

#[test]
fn a_holder_learns_at_once_that_its_lease_was_revoked() {
    let cluster = Cluster::single();
    run(async {
        let client = client(&cluster);
        // Its next renewal is far.
        let guard = client.lock("lock").ttl(Duration::from_secs(600)).acquire().await;
        let guard = guard.expect("free");
        let waiting = tokio::spawn({
            let lock = client.lock("lock");
            async move { lock.acquire().await }
        });
        wait_for_queue(&client, "lock", 2).await;
        let held = client.get(guard.token().key().clone()).await.expect("read");
        let lease = held.expect("there").lease.expect("on a lease");
        client.revoke_lease(lease).await.expect("revoked");
        soon("it learns it", guard.lost()).await;
        let next = soon("their turn", waiting)
            .await
            .expect("no panic")
            .expect("acquired");
        assert!(next.is_held());
    });
}

#[test]
fn waiting_ends_with_its_deadline_and_whoever_gives_up_leaves_the_queue() {
    let cluster = Cluster::single();
    run(async {
        let client = client(&cluster);
        // Nobody leaves by expiry within this test.
        let lock = client.lock("lock").ttl(Duration::from_secs(600));
        let guard = lock.acquire().await.expect("free");
        let patience = Duration::from_millis(200);
        match lock.acquire_within(patience).await {
            Err(Error::NotAcquired { after }) => assert_eq!(after, patience),
            other => panic!("{other:?}"),
        }
        wait_for_queue(&client, "lock", 1).await;

        // One in the middle gives up: who is behind it waits for the holder then.
        let wait = |lock: Lock| tokio::spawn(async move { lock.acquire().await });
        let gives_up = wait(lock.clone());
        wait_for_queue(&client, "lock", 2).await;
        let stays = wait(lock.clone());
        wait_for_queue(&client, "lock", 3).await;
        gives_up.abort();
        wait_for_queue(&client, "lock", 2).await;
        assert!(!stays.is_finished());
        drop(guard);
        let next = soon("its turn", stays)
            .await
            .expect("no panic")
            .expect("acquired");
        drop(next);
        wait_for_queue(&client, "lock", 0).await;
        let free = lock.try_acquire().await.expect("asked");
        free.expect("nobody holds it").release().await.expect("released");
    });
}

#[test]
fn a_semaphore_is_held_by_as_many_as_it_has_permits_and_never_by_more() {
    const PERMITS: usize = 3;
    const TASKS: usize = 12;
    const ROUNDS: usize = 4;
    let cluster = Cluster::of(3);
    run(async {
        let client = client(&cluster);
        let semaphore = client.semaphore("pool", NonZeroUsize::new(PERMITS).expect("some"));
        let (holding, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all_hold = Arc::new(tokio::sync::Barrier::new(PERMITS));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (semaphore, all_hold) = (semaphore.clone(), Arc::clone(&all_hold));
                let (holding, most) = (Arc::clone(&holding), Arc::clone(&most));
                tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        let permit = semaphore.acquire().await.expect("acquired");
                        let now = holding.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        // As many as there are permits hold one at the same time, or this would not end.
                        if round == 0 {
                            all_hold.wait().await;
                        }
                        assert!(permit.is_held());
                        holding.fetch_sub(1, Ordering::SeqCst);
                        permit.release().await.expect("released");
                    }
                })
            })
            .collect();
        for task in tasks {
            soon("their turns", task).await.expect("no panic");
        }
        assert_eq!(most.load(Ordering::SeqCst), PERMITS);
        assert_eq!(semaphore.queue_len().await.expect("read"), 0);
        let permits: Vec<_> = [semaphore.try_acquire().await, semaphore.try_acquire().await]
            .into_iter()
            .map(|permit| permit.expect("asked").expect("free"))
            .collect();
        let third = semaphore.acquire_within(PATIENCE).await.expect("free");
        assert!(semaphore.try_acquire().await.expect("asked").is_none());
        drop((permits, third));
    });
}

#[test]
fn observers_of_an_election_see_each_leader_once_and_in_order() {
    const CANDIDATES: u64 = 5;
    let mut cluster = Cluster::of(3);
    cluster.wait_ready();
    // The node that stops may lead: a write that was sent to it and not answered is to be sent again.
    let builder = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = builder.build().expect("endpoints");
    let runtime = paused_between_calls();
    let election = client.election("election");
    let (mut leaders, first) = runtime.block_on(async {
        let mut leaders = election.observe();
        assert_eq!(
            soon("the state", leaders.next())
                .await
                .expect("goes on")
                .expect("told"),
            None
        );
        let first = election.campaign("candidate 0").await.expect("elected");
        let seen = soon("the first", leaders.next())
            .await
            .expect("goes on")
            .expect("told");
        let seen = seen.expect("somebody leads");
        assert_eq!(
            (&seen.token, &seen.value[..]),
            (first.token(), &b"candidate 0"[..])
        );
        (leaders, first)
    });
    // The first endpoint, which watches ask first, stops: the observer goes on at another one.
    cluster.stop(0);
    runtime.block_on(async {
        let revision = first.proclaim("candidate 0, moved").await.expect("it leads");
        let mut expected = vec![(first.token().clone(), "candidate 0, moved".to_owned())];
        let mut candidates = Vec::new();
        for number in 1..CANDIDATES {
            let election = election.clone();
            candidates.push(tokio::spawn(async move {
                let leadership = election
                    .campaign(format!("candidate {number}"))
                    .await
                    .expect("elected");
                let leader = election.leader().await.expect("read").expect("somebody leads");
                assert_eq!(&leader.token, leadership.token());
                let token = leadership.token().clone();
                leadership.resign().await.expect("resigned");
                (token, format!("candidate {number}"))
            }));
            wait_for_queue(&client, "election", number + 1).await;
        }
        assert!(revision > first.token().revision());
        first.resign().await.expect("resigned");
        for candidate in candidates {
            expected.push(soon("its turn", candidate).await.expect("no panic"));
        }
        let mut seen = Vec::new();
        while let Some(leader) = soon("the next leader", leaders.next())
            .await
            .expect("goes on")
            .expect("told")
        {
            seen.push((leader.token, String::from_utf8_lossy(&leader.value).into_owned()));
        }
        assert_eq!(seen, expected);
        assert_eq!(election.leader().await.expect("read"), None);
    });
}

#[test]
fn a_guarded_transaction_inside_another_one_does_nothing_without_its_guard() {
    let cluster = Cluster::single();
    run(async {
        let client = client(&cluster);
        let guard = client.lock("lock").acquire().await.expect("free");
        let token = guard.token().clone();
        let nested = || {
            let inner = guarded_put(&token, "inner", "x");
            Transaction::new().then([Operation::nested(&inner), Operation::increment("outer", 1)])
        };
        client.transact(nested()).await.expect("applied");
        assert!(client.get("inner").await.expect("read").is_some());
        client.delete("inner").await.expect("deleted");
        guard.release().await.expect("released");
        client.transact(nested()).await.expect("applied");
        let all = client
            .prefix("")
            .shape(Shape::KeysOnly)
            .collect_all(9)
            .await
            .expect("read");
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].key, "outer");
        assert_eq!(all[0].record.version, 2);
    });
}
