//! The state on disk under `kill -9`: drains, compactions, cuts of the log and trims of history happen all the time, and
//! every key and the kept past are what the acknowledged writes made them.
//!
//! `KILL_ROUNDS` says how many rounds each test goes (3 by default; 30 make the long test).

use std::time::Duration;

use raftkv_tests::harness::{Cluster, DataFiles, Deadline, Links, wait_for};
use raftkv_tests::ledger::{Ledger, Load, LoadPlan, StoppedNode, assert_all_keys, read_stale};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const PROGRESS_SECONDS: u64 = 60;
/// Requests answered in a round before anything is killed, about.
const ROUND_ANSWERS: u64 = 6000;
/// Revisions at which the past is compared.
const LOOKS_BACK: u64 = 9;

/// Everything as small as it goes.
const TINY: [&str; 14] = [
    "--overlay-mib",
    "1",
    "--cache-mib",
    "1",
    "--log-segment-mib",
    "1",
    "--log-tail-mib",
    "1",
    "--history-mib",
    "3",
    "--history-events",
    "8000",
    "--disk-reserve-mib",
    "16",
];

fn rounds() -> u64 {
    let rounds = std::env::var("KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("KILL_ROUNDS is a number"))
}

/// The load of a round, until everything is killed at some moment of it.
fn load_and_kill(cluster: &mut Cluster, round: u64, ledger: &mut Ledger) {
    let plan = LoadPlan {
        writers: 48,
        keys_each: 60,
        value_bytes: 600,
        round,
    };
    let load = Load::start(plan, &cluster.native_ports(), REQUEST_TIMEOUT);
    let more = ROUND_ANSWERS + fastrand::u64(0..ROUND_ANSWERS / 2);
    load.wait_for_answers(more, Deadline::seconds(PROGRESS_SECONDS));
    cluster.kill9_all();
    load.finish_into(ledger);
}

/// Drains, compactions, cuts and trims: what this test is about has happened.
#[track_caller]
fn assert_storage_worked(files: &DataFiles) {
    println!("{files:?}");
    let (_, last) = *files.generations.last().expect("history is kept");
    assert!(last >= 10, "drains: {files:?}");
    assert!(files.generations[0].1 > 1, "trims of history: {files:?}");
    assert!(files.segments[0] > 1, "cuts of the log: {files:?}");
    let (tables, newest) = files.tables;
    assert!(tables as u64 + 1 < newest, "compactions: {files:?}");
}

#[track_caller]
fn wait_until_expired(cluster: &Cluster, ledger: &Ledger) {
    for node in cluster.nodes() {
        let deadline = Deadline::seconds(PROGRESS_SECONDS);
        wait_for("the keys that expire to be gone", deadline, || match read_stale(
            node,
            ledger.expiring().cloned(),
        )
        .len()
        {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        });
    }
}

fn killed_again_and_again(nodes: usize) {
    let mut cluster = Cluster::prepare_with(nodes, Links::Direct, &TINY);
    cluster.start_all();
    cluster.wait_until_ready();
    let mut ledger = Ledger::default();
    for round in 0..rounds() {
        load_and_kill(&mut cluster, round, &mut ledger);
        cluster.start_all();
        cluster.wait_until_ready();
        cluster.wait_until_caught_up();
        for node in cluster.nodes() {
            assert_all_keys(node, &ledger);
        }
        println!("round {round}: all died, all came back");
    }
    wait_until_expired(&cluster, &ledger);
    load_and_kill(&mut cluster, rounds(), &mut ledger);
    ledger.assert_revisions_differ();
    for node in 0..nodes {
        assert_storage_worked(&cluster.data_files(node));
        let stopped = StoppedNode::open(&cluster.data_directory(node));
        let stopped = stopped.expect("a data directory that was left by kill -9");
        stopped.assert_past(&ledger, LOOKS_BACK);
    }
    // Looking did no harm.
    cluster.start_all();
    cluster.wait_until_ready();
    cluster.wait_until_caught_up();
    for node in cluster.nodes() {
        assert_all_keys(node, &ledger);
        let output = node.output();
        assert!(
            !output.contains("panicked") && !output.contains("ERROR"),
            "{}",
            node.output_tail()
        );
    }
}

#[test]
fn a_node_killed_while_it_drains_keeps_every_key_and_the_past() {
    killed_again_and_again(1);
}

#[test]
fn three_nodes_killed_while_they_drain_keep_every_key_and_the_past() {
    killed_again_and_again(3);
}
