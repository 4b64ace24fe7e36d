//! `kill -9` under load: nothing acknowledged is ever missing.
//!
//! `KILL_ROUNDS` says how many rounds each test goes (3 by default; 20 make the long test).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raftkv_client::Client;
use raftkv_tests::harness::{Cluster, Deadline, Node, wait_for};
use raftkv_tests::linearizability::SharedRecorder;
use raftkv_tests::workload::{
    AcknowledgedPut, Keys, Mix, Plan, Workload, acknowledged_puts, assert_linearizable, doors,
};
use tokio::task::JoinSet;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const PROGRESS_SECONDS: u64 = 60;

fn rounds() -> u64 {
    let rounds = std::env::var("KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("KILL_ROUNDS is a number"))
}

fn writers(cluster: &Cluster, round: u64, recorder: Arc<SharedRecorder>) -> Workload {
    let plan = Plan {
        clients: 8,
        keys: Keys::OwnEach,
        mix: Mix::PUTS,
        seed: round,
    };
    Workload::resume(plan, recorder, |client| doors(cluster, client, REQUEST_TIMEOUT))
}

/// Reads acknowledged writes back, on this node.
#[track_caller]
fn assert_nothing_missing(node: &Node, puts: &[AcknowledgedPut]) {
    assert!(!puts.is_empty(), "a load that wrote nothing shows nothing");
    for put in puts {
        let got = node.http().get(&put.key).expect("an answer");
        let value = std::str::from_utf8(&put.value).expect("values are text");
        let seen = (got.status, got.body["value"].as_str(), got.revision());
        assert_eq!(
            seen,
            (200, Some(value), Some(put.revision.0)),
            "{} lost {put:?}: {}",
            node.name(),
            got.body
        );
    }
    println!(
        "{}: all {} acknowledged writes are there",
        node.name(),
        puts.len()
    );
}

#[test]
fn killed_leader_under_load_costs_no_acknowledged_write() {
    let mut cluster = Cluster::start(3);
    let recorder: Arc<SharedRecorder> = Arc::default();
    let mut checked = 0;
    for round in 0..rounds() {
        let load = writers(&cluster, round, Arc::clone(&recorder));
        load.wait_for_answers(1000, Deadline::seconds(PROGRESS_SECONDS));
        let killed = cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS));
        cluster.node_mut(killed).kill9();
        let leader = wait_for("a new leader", Deadline::seconds(PROGRESS_SECONDS), || {
            cluster.leader().and_then(|leader| {
                if leader == killed {
                    Err("the old one".into())
                } else {
                    Ok(leader)
                }
            })
        });
        load.wait_for_answers(300, Deadline::seconds(PROGRESS_SECONDS));
        let puts = acknowledged_puts(&load.finish().history());
        for survivor in (0..3).filter(|&node| node != killed) {
            assert_nothing_missing(cluster.node(survivor), &puts[checked..]);
        }
        cluster.node_mut(killed).start();
        cluster.wait_until_ready();
        cluster.wait_until_caught_up();
        assert_nothing_missing(cluster.node(killed), &puts[checked..]);
        checked = puts.len();
        println!(
            "round {round}: {} died, {} took over",
            cluster.node(killed).name(),
            cluster.node(leader).name()
        );
    }
    for node in cluster.nodes() {
        assert_nothing_missing(node, &acknowledged_puts(&recorder.history()));
    }
    assert_linearizable(&recorder.history());
}

#[test]
fn killing_all_nodes_at_once_under_load_costs_no_acknowledged_write() {
    let mut cluster = Cluster::start(3);
    let recorder: Arc<SharedRecorder> = Arc::default();
    let mut checked = 0;
    for round in 0..rounds() {
        let load = writers(&cluster, round, Arc::clone(&recorder));
        load.wait_for_answers(1000, Deadline::seconds(PROGRESS_SECONDS));
        cluster.kill9_all();
        let puts = acknowledged_puts(&load.finish().history());
        cluster.start_all();
        cluster.wait_until_ready();
        cluster.wait_until_caught_up();
        for node in cluster.nodes() {
            assert_nothing_missing(node, &puts[checked..]);
        }
        checked = puts.len();
        println!("round {round}: all died, all came back");
    }
    for node in cluster.nodes() {
        assert_nothing_missing(node, &acknowledged_puts(&recorder.history()));
    }
    assert_linearizable(&recorder.history());
}

/// Adds 1 to one key from many tasks until it is told to stop, and returns what the additions were answered, in order.
fn count_up(client: &Client, is_over: &Arc<AtomicBool>, answered: &Arc<AtomicU64>) -> Vec<i64> {
    const TASKS: usize = 16;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (client, is_over, answered) = (client.clone(), Arc::clone(is_over), Arc::clone(answered));
            tasks.spawn(async move {
                let mut sums = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let sum = client.increment("counter", 1).await;
                    sums.push(sum.expect("it is sent again until it is answered"));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                sums
            });
        }
        let mut all = tasks.join_all().await.concat();
        all.sort_unstable();
        all
    })
}

#[test]
fn each_increment_of_a_client_as_it_comes_is_applied_once_though_leaders_are_killed() {
    let mut cluster = Cluster::start(3);
    let endpoints: Vec<String> = cluster
        .native_ports()
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let timeout = Duration::from_secs(PROGRESS_SECONDS);
    let client = Client::builder().endpoints(endpoints).timeout(timeout);
    let client = client.build().expect("endpoints");
    let (is_over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let load = std::thread::spawn({
        let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
        move || count_up(&client, &is_over, &answered)
    });
    let wait_for_answers = |more: u64| {
        let until = answered.load(Ordering::Relaxed) + more;
        wait_for("answers", Deadline::seconds(PROGRESS_SECONDS), || {
            let so_far = answered.load(Ordering::Relaxed);
            if so_far >= until {
                Ok(())
            } else {
                Err(format!("{so_far} of {until}"))
            }
        });
    };
    for _ in 0..rounds() {
        wait_for_answers(500);
        let leader = cluster.wait_for_leader(Deadline::seconds(PROGRESS_SECONDS));
        cluster.node_mut(leader).kill9();
        wait_for_answers(300);
        cluster.node_mut(leader).start();
        cluster.wait_until_ready();
    }
    is_over.store(true, Ordering::Relaxed);
    let sums = load.join().expect("the load ends well");
    // Each was applied once, and was told what it came to then.
    let expected: Vec<i64> = (1..=sums.len() as i64).collect();
    assert_eq!(sums, expected);
    println!("{} increments, each applied once", sums.len());
}
