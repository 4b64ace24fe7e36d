//! Watches of real processes: while nodes are killed, and by clients that do not read.
//!
//! `KILL_ROUNDS` says how many rounds the first test goes (3 by default).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_client::connection::Connection;
use raftkv_client::{Client, KeySpan, Revision, WatchEvent, WatchItem};
use raftkv_protocol::{Address, Request, RequestId, WatchRequest};
use raftkv_tests::harness::{Cluster, Deadline, Links, wait_for};
use raftkv_tests::linearizability::SharedRecorder;
use raftkv_tests::workload::{Keys, Mix, Plan, Workload, acknowledged_puts, doors};
use tokio::sync::watch as latest;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const PROGRESS_SECONDS: u64 = 60;

fn rounds() -> u64 {
    let rounds = std::env::var("KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("KILL_ROUNDS is a number"))
}

/// A client that asks this node first.
fn client_at(cluster: &Cluster, first: usize) -> Client {
    let mut ports = cluster.native_ports();
    let count = ports.len();
    ports.rotate_left(first % count);
    let endpoints = ports.into_iter().map(|port| format!("127.0.0.1:{port}"));
    Client::builder()
        .endpoints(endpoints)
        .build()
        .expect("valid endpoints")
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Follows all keys from the first revision on, until everything up to the last one was told.
async fn follow(client: Client, mut last: latest::Receiver<Option<Revision>>) -> Vec<WatchEvent> {
    let watch = client.watch(KeySpan::all()).from_revision(Revision(2));
    let mut watch = watch
        .with_previous()
        .progress(Duration::from_millis(200))
        .stream();
    let mut events = Vec::new();
    loop {
        let told = watch.position().map(|position| position.revision);
        if last.borrow_and_update().is_some_and(|last| told >= Some(last)) {
            return events;
        }
        match watch
            .next()
            .await
            .expect("a watch goes on")
            .expect("whatever fails")
        {
            WatchItem::Change(event) => events.push(event),
            WatchItem::Progress(_) => {}
            other => panic!("not asked for: {other:?}"),
        }
    }
}

/// Each revision once, in order, none missing; and each change on top of the record that it says was before.
fn check(events: &[WatchEvent], last: Revision) {
    let revisions: Vec<u64> = events.iter().map(|event| event.revision().0).collect();
    assert_eq!(revisions, (2..=last.0).collect::<Vec<_>>());
    let mut state: BTreeMap<Bytes, raftkv_client::Record> = BTreeMap::new();
    for event in events {
        let (previous, now) = match event {
            WatchEvent::Put { kv, previous } => (previous, Some(kv.record.clone())),
            WatchEvent::Delete { previous, .. } => (previous, None),
        };
        assert_eq!(state.get(event.key()), previous.as_ref(), "{event:?}");
        match now {
            Some(record) => drop(state.insert(event.key().clone(), record)),
            None => drop(state.remove(event.key())),
        }
    }
}

#[test]
fn watchers_see_the_history_once_and_in_order_while_nodes_are_killed() {
    // Little memory, so that the watchers read behind drains as well.
    let mut cluster = Cluster::prepare_with(3, Links::Direct, &["--overlay-mib", "1"]);
    cluster.start_all();
    cluster.wait_until_ready();
    let (tell, told) = latest::channel(None);
    let clients: Vec<Client> = (0..6).map(|number| client_at(&cluster, number)).collect();
    let watchers = std::thread::spawn(move || {
        runtime().block_on(async {
            let follow = |client| tokio::spawn(follow(client, told.clone()));
            let watchers: Vec<_> = clients.into_iter().map(follow).collect();
            let mut followed = Vec::new();
            for watcher in watchers {
                followed.push(watcher.await.expect("no panic"));
            }
            followed
        })
    });
    let recorder: Arc<SharedRecorder> = Arc::default();
    let mix = Mix {
        deletes: 1,
        ..Mix::EVERYTHING
    };
    for round in 0..rounds() {
        let plan = Plan {
            clients: 8,
            keys: Keys::Shared(200),
            mix,
            seed: round,
        };
        let load = Workload::resume(plan, Arc::clone(&recorder), |client| {
            doors(&cluster, client, REQUEST_TIMEOUT)
        });
        load.wait_for_answers(1000, Deadline::seconds(PROGRESS_SECONDS));
        let victim = match round % 2 {
            0 => cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS)),
            _ => (cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS)) + 1) % 3,
        };
        cluster.node_mut(victim).kill9();
        load.wait_for_answers(1000, Deadline::seconds(PROGRESS_SECONDS));
        cluster.node_mut(victim).start();
        cluster.wait_until_ready();
        load.wait_for_answers(300, Deadline::seconds(PROGRESS_SECONDS));
        drop(load.finish());
    }
    cluster.wait_until_caught_up();
    let last = Revision(cluster.node(0).http().status().expect("a status").revision);
    tell.send(Some(last)).expect("they follow");
    let end = Deadline::seconds(PROGRESS_SECONDS);
    wait_for("all watchers to have everything", end, || {
        watchers.is_finished().then_some(()).ok_or("they do not")
    });
    let followed = watchers.join().expect("no panic");
    check(&followed[0], last);
    for other in &followed[1..] {
        assert_eq!(other, &followed[0], "all watchers see one history");
    }
    let puts = acknowledged_puts(&recorder.history());
    for put in &puts {
        let event = &followed[0][usize::try_from(put.revision.0 - 2).expect("few")];
        let WatchEvent::Put { kv, .. } = event else {
            panic!("{put:?} is told as {event:?}");
        };
        assert_eq!((&kv.key[..], &kv.record.value), (&put.key[..], &put.value));
    }
    println!(
        "{} revisions, {} acknowledged puts, 6 watchers",
        last.0,
        puts.len()
    );
}

/// Resident memory, bytes.
fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("VmRSS in kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Writes so many values of 4 KiB over 64 keys; how long it took.
async fn load(client: &Client, count: u32) -> Duration {
    let begun = Instant::now();
    let value = Bytes::from(vec![b'v'; 4096]);
    let writers = (0..64).map(|writer| {
        let (client, value) = (client.clone(), value.clone());
        tokio::spawn(async move {
            for _ in 0..count / 64 {
                client
                    .set(format!("k{writer}"), value.clone())
                    .await
                    .expect("written");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    begun.elapsed()
}

#[test]
fn clients_that_read_nothing_neither_grow_the_server_nor_slow_its_writes() {
    const SLOW: u64 = 40;
    let cluster = Cluster::start(1);
    let process = cluster.node(0).process_id().expect("it runs");
    let address = Address::from(format!("127.0.0.1:{}", cluster.native_ports()[0]).as_str());
    runtime().block_on(async {
        let client = client_at(&cluster, 0);
        load(&client, 6_400).await;
        let alone = load(&client, 12_800).await;
        let before = resident_bytes(process);
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut connection = Connection::open(address.clone(), None, REQUEST_TIMEOUT)
                .await
                .expect("connected");
            let request = Request::Watch(WatchRequest {
                credit_bytes: u32::MAX,
                ..WatchRequest::new(KeySpan::all())
            });
            connection
                .enqueue(RequestId(1), REQUEST_TIMEOUT, &request)
                .expect("small");
            connection.send().expect("sent");
            slow.push(connection);
        }
        let mut reading = client.watch(KeySpan::prefix(b"k")).stream();
        let from = client.set("other", "value").await.expect("written");
        let reader = tokio::spawn(async move {
            let mut events = 0;
            while events < 12_800 {
                if let WatchItem::Change(_) = reading.next().await.expect("goes on").expect("no error") {
                    events += 1;
                }
            }
            reading.position().expect("it has begun")
        });
        // It begins with its first look.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let beside = load(&client, 12_800).await;
        let position = tokio::time::timeout(Duration::from_secs(60), reader).await;
        let position = position.expect("in time").expect("no panic");
        assert_eq!(position.revision, Revision(from.0 + 12_800));
        // What is on its way is bounded by some 2 MiB each, of 50 MiB and more that each would have to be told. What a
        // drain holds is given back when it ends; what is kept for watchers would grow on.
        let bound = (3 * SLOW) << 20;
        let until = Instant::now() + Duration::from_secs(30);
        let mut grown = u64::MAX;
        while grown >= bound {
            assert!(Instant::now() < until, "{grown} bytes more, and they stay");
            // The allocator gives back what is free while it is used.
            load(&client, 640).await;
            grown = resident_bytes(process).saturating_sub(before);
        }
        println!(
            "12800 puts of 4 KiB: {alone:?} alone, {beside:?} beside {SLOW} watchers that read nothing; the server grew by {} MiB",
            grown >> 20
        );
        assert!(
            beside < alone * 4 + Duration::from_secs(5),
            "{alone:?} alone, {beside:?} beside"
        );
        drop(slow);
    });
}
