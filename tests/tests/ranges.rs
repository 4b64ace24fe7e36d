//! Listings of many keys, and reads in the past, of real processes: while others write, and a node dies in the middle.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftkv_client::{Client, Error, ErrorCode, KeySpan, KeyValue, Order, Revision, Shape};
use raftkv_tests::harness::{Cluster, Deadline, Links, Node};
use tokio::task::LocalSet;

const KEYS: u64 = 200_000;
const VALUE_BYTES: usize = 256;
const LOADERS: u64 = 128;
const WRITERS: u64 = 8;
/// Memory that a listing may cost a server: some pages, the order of the keys that memory holds (four bytes each, and sixteen while
/// it is made), and what the allocator makes of them, in huge pages of the system. The keys and values are twice as much.
const LISTING_BYTES: u64 = 32 << 20;

/// What became of each write, by revision: the recorded history.
#[derive(Default)]
struct Journal {
    writes: RefCell<BTreeMap<u64, (Bytes, Option<Bytes>)>>,
    /// Writes whose outcome is unknown.
    unknown: Cell<u64>,
}

type State = BTreeMap<Bytes, (Bytes, u64)>;

impl Journal {
    fn note(&self, revision: Revision, key: Bytes, value: Option<Bytes>) {
        let before = self.writes.borrow_mut().insert(revision.0, (key, value));
        assert!(before.is_none(), "revision {revision} was given twice");
    }

    /// The state at a revision: all revisions up to there are known.
    fn state_at(&self, at: Revision) -> State {
        let writes = self.writes.borrow();
        let until = writes.range(..=at.0);
        assert_eq!(
            until.clone().count() as u64,
            at.0 - 1,
            "every revision up to {at} was told"
        );
        let mut state = State::new();
        for (revision, (key, value)) in until {
            match value {
                Some(value) => state.insert(key.clone(), (value.clone(), *revision)),
                None => state.remove(key),
            };
        }
        state
    }
}

fn client(cluster: &Cluster) -> Client {
    let endpoints: Vec<_> = cluster.native_ports();
    let endpoints = endpoints.iter().map(|port| format!("127.0.0.1:{port}"));
    let client = Client::builder()
        .endpoints(endpoints)
        .timeout(Duration::from_secs(20));
    client.build().expect("endpoints")
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key{number:08}"))
}

fn value(tag: u64) -> Bytes {
    let mut value = tag.to_le_bytes().to_vec();
    value.resize(VALUE_BYTES, b'.');
    value.into()
}

/// Writes every key once; each round writes other values.
async fn load(client: &Client, journal: &Rc<Journal>, round: u64) {
    let tasks: Vec<_> = (0..LOADERS)
        .map(|loader| {
            let (client, journal) = (client.clone(), journal.clone());
            tokio::task::spawn_local(async move {
                for number in (loader..KEYS).step_by(LOADERS as usize) {
                    let value = value(number + round * KEYS);
                    let set = client.set(key(number), value.clone()).await;
                    journal.note(set.expect("a write"), key(number), Some(value));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a loader");
    }
}

/// Overwrites, deletes and creates until it is stopped.
fn write_on(client: &Client, journal: &Rc<Journal>, is_stopped: &Rc<Cell<bool>>) {
    for writer in 0..WRITERS {
        let (client, journal, is_stopped) = (client.clone(), journal.clone(), is_stopped.clone());
        tokio::task::spawn_local(async move {
            let mut rng = fastrand::Rng::with_seed(writer);
            while !is_stopped.get() {
                let key = key(rng.u64(..KEYS + KEYS / 10));
                let tag = rng.u64(..);
                let written = match rng.u32(..4) {
                    0 => client.delete(key.clone()).await.map(|deleted| {
                        let is_change = deleted.existed;
                        is_change.then_some((deleted.revision, None))
                    }),
                    _ => {
                        let set = client.set(key.clone(), value(tag)).await;
                        set.map(|revision| Some((revision, Some(value(tag)))))
                    }
                };
                match written {
                    Ok(Some((revision, value))) => journal.note(revision, key, value),
                    Ok(None) => {}
                    Err(_) => journal.unknown.set(journal.unknown.get() + 1),
                }
            }
        });
    }
}

#[track_caller]
fn assert_state(found: &[KeyValue], expected: &State) {
    let found = found
        .iter()
        .map(|kv| (&kv.key, &kv.record.value, kv.record.mod_revision.0));
    let expected = expected
        .iter()
        .map(|(key, (value, revision))| (key, value, *revision));
    for (number, (found, expected)) in found.clone().zip(expected.clone()).enumerate() {
        assert_eq!(found, expected, "key number {number}");
    }
    assert_eq!(found.count(), expected.count(), "number of keys");
}

/// Resident memory, bytes.
fn resident_bytes(node: &Node) -> u64 {
    let process = node.process_id().expect("it runs");
    let status = Path::new("/proc").join(process.to_string()).join("status");
    let status = std::fs::read_to_string(status).expect("its status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a line");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") << 10
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test);
}

/// Reads some keys and some prefixes at some revisions, and compares them with what was recorded.
async fn compare_past(client: &Client, journal: &Journal, newest: Revision) {
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..4 {
        let at = Revision(rng.u64(KEYS / 2..=newest.0));
        let state = journal.state_at(at);
        for _ in 0..50 {
            let key = key(rng.u64(..KEYS + KEYS / 10));
            let found = client.get(key.clone()).at_revision(at).await.expect("it is kept");
            let found = found.map(|record| (record.value, record.mod_revision.0));
            assert_eq!(found.as_ref(), state.get(&key), "{key:?} at {at}");
        }
        let prefix = format!("key{:05}", rng.u64(..KEYS / 1000));
        let range = client
            .prefix(&prefix)
            .at_revision(at)
            .order(Order::Descending)
            .page_bytes(8 << 10);
        let mut found = range.collect_all(1000).await.expect("it is kept");
        found.reverse();
        let span = KeySpan::prefix(prefix.as_bytes());
        let expected = state.into_iter().filter(|(key, _)| span.contains(key)).collect();
        assert_state(&found, &expected);
    }
}

#[test]
fn listing_is_of_one_state_while_others_write_and_the_leader_dies() {
    // Small memory: generations drain all the while.
    let mut cluster = Cluster::prepare_with(
        3,
        Links::Direct,
        &[
            "--overlay-mib",
            "16",
            "--cache-mib",
            "4",
            "--log-segment-mib",
            "4",
        ],
    );
    cluster.start_all();
    cluster.wait_until_ready();
    run(async move {
        let client = client(&cluster);
        let journal = Rc::<Journal>::default();
        load(&client, &journal, 0).await;
        let is_stopped = Rc::new(Cell::new(false));
        write_on(&client, &journal, &is_stopped);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut stream = client.prefix("key").page_bytes(64 << 10).stream();
        let (mut listed, begin) = (Vec::new(), Instant::now());
        while let Some(kv) = stream.next().await {
            listed.push(kv.expect("a listing goes on"));
            if listed.len() == 1 {
                // What was under way when the listing began has its answer by then.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if listed.len() == KEYS as usize / 3 {
                let leader = cluster.wait_for_leader(Deadline::seconds(30));
                cluster.node_mut(leader).kill9();
                println!("the leader died after {} keys", listed.len());
            }
        }
        let at = stream.at().expect("a key came");
        println!("{} keys of revision {at} in {:?}", listed.len(), begin.elapsed());
        is_stopped.set(true);
        let later = client
            .prefix("")
            .shape(Shape::CountOnly)
            .page()
            .await
            .expect("a page");
        assert!(later.at.0 > at.0 + 100, "others wrote meanwhile: {}", later.at);
        assert_state(&listed, &journal.state_at(at));
        println!(
            "{} writes, {} of unknown outcome",
            journal.writes.borrow().len(),
            journal.unknown.get()
        );
        compare_past(&client, &journal, at).await;
        cluster.start_all();
        cluster.wait_until_ready();
        for node in cluster.nodes() {
            assert!(!node.output().contains("panicked"), "{}", node.output_tail());
        }
    });
}

#[test]
fn listing_costs_a_page_of_memory_and_the_past_is_as_it_was_recorded() {
    // Memory holds everything: no drain comes in between, so what grows is what listings cost.
    let mut cluster = Cluster::prepare_with(1, Links::Direct, &["--overlay-mib", "1024"]);
    cluster.start_all();
    cluster.wait_until_ready();
    run(async move {
        let client = client(&cluster);
        let journal = Rc::<Journal>::default();
        load(&client, &journal, 0).await;
        let newest = Revision(KEYS + 1);
        let before = resident_bytes(cluster.node(0));
        for order in [Order::Ascending, Order::Descending, Order::Ascending] {
            let (mut stream, mut keys, begin) =
                (client.prefix("key").order(order).stream(), 0_u64, Instant::now());
            let mut most = 0;
            while let Some(kv) = stream.next().await {
                kv.expect("a listing goes on");
                keys += 1;
                if keys.is_multiple_of(KEYS / 16) {
                    most = most.max(resident_bytes(cluster.node(0)));
                }
            }
            let took = begin.elapsed();
            println!(
                "{order:?}: {keys} keys in {took:?}, {} keys/s; memory {} MiB before, {} MiB at most",
                (keys as f64 / took.as_secs_f64()) as u64,
                before >> 20,
                most >> 20
            );
            assert_eq!((keys, stream.at()), (KEYS, Some(newest)));
            assert!(
                most < before + LISTING_BYTES,
                "{before} bytes before, {most} at most"
            );
        }
        let begin = Instant::now();
        assert_eq!(client.prefix("key").count().await.expect("a count"), KEYS);
        println!("counted in {:?}", begin.elapsed());
        compare_past(&client, &journal, newest).await;
        let future = client.get("key").at_revision(Revision(newest.0 + 1)).await;
        assert!(
            matches!(&future, Err(Error::Rejected(failure)) if failure.code == ErrorCode::FutureRevision),
            "{future:?}"
        );
        let empty = client.get(key(0)).ago(Duration::from_secs(3600)).await;
        assert_eq!(empty.expect("before everything"), None);
    });
}

#[test]
fn whole_past_is_listed_though_every_key_has_changed_and_was_drained_since() {
    let flags = ["--overlay-mib", "16", "--cache-mib", "4"];
    let mut cluster = Cluster::prepare_with(1, Links::Direct, &flags);
    cluster.start_all();
    cluster.wait_until_ready();
    run(async move {
        let client = client(&cluster);
        let journal = Rc::<Journal>::default();
        load(&client, &journal, 0).await;
        let (then, between) = (Revision(KEYS + 1), Revision(KEYS + KEYS / 2));
        load(&client, &journal, 1).await;
        for at in [then, between] {
            let (mut stream, mut listed, begin) = (
                client.prefix("key").at_revision(at).stream(),
                Vec::new(),
                Instant::now(),
            );
            while let Some(kv) = stream.next().await {
                listed.push(kv.expect("it is kept"));
            }
            let took = begin.elapsed();
            let rate = (listed.len() as f64 / took.as_secs_f64()) as u64;
            println!(
                "revision {at}: {rate} keys/s from history; {:?}",
                cluster.data_files(0)
            );
            assert_state(&listed, &journal.state_at(at));
        }
    });
}
