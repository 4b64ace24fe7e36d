//! Keys with a TTL: the same on every node, across leaders and pauses.

use std::time::Duration;

use raftkv_protocol::Consistency;

use crate::store::Looked;

use super::cluster::{Cluster, found, get, put, put_with_ttl};

fn is_present(cluster: &Cluster, machine: usize, key: &str) -> bool {
    let store = cluster.node(machine).store().unwrap();
    matches!(store.look(key.as_bytes()), Looked::Found(_))
}

#[test]
pub(super) fn key_expires_on_all_nodes_without_any_request() {
    let mut cluster = Cluster::ready(1);
    assert!(
        cluster
            .call(0, put_with_ttl("k", "v", Some(2000)))
            .outcome
            .is_ok()
    );
    cluster.run_for(Duration::from_millis(1800));
    assert!((0..3).all(|machine| is_present(&cluster, machine, "k")));
    cluster.run_for(Duration::from_millis(400));
    assert!((0..3).all(|machine| !is_present(&cluster, machine, "k")));
    let hashes: Vec<_> = (0..3)
        .map(|machine| cluster.node(machine).store().unwrap().state_hash())
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}

#[test]
fn ticks_end_when_no_key_can_expire() {
    let mut cluster = Cluster::ready(2);
    assert!(cluster.call(0, put_with_ttl("k", "v", Some(100))).outcome.is_ok());
    cluster.run_for(Duration::from_secs(1));
    let last = cluster.node(0).raft().unwrap().last();
    cluster.run_for(Duration::from_secs(5));
    assert_eq!(cluster.node(0).raft().unwrap().last(), last);
}

#[test]
fn time_without_a_leader_does_not_count() {
    let mut cluster = Cluster::ready(3);
    assert!(
        cluster
            .call(0, put_with_ttl("k", "v", Some(3000)))
            .outcome
            .is_ok()
    );
    cluster.run_for(Duration::from_millis(1000));
    (0..3).for_each(|machine| cluster.kill(machine));
    cluster.run_for(Duration::from_secs(20));
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all are ready", Cluster::all_ready);
    cluster.run_for(Duration::from_secs(1));
    assert!(
        is_present(&cluster, 0, "k"),
        "two seconds had been left, one has passed"
    );
    cluster.run_for(Duration::from_secs(2));
    assert!((0..3).all(|machine| !is_present(&cluster, machine, "k")));
}

#[test]
fn new_leader_goes_on_where_log_time_stood() {
    let mut cluster = Cluster::ready(4);
    assert!(
        cluster
            .call(0, put_with_ttl("k", "v", Some(4000)))
            .outcome
            .is_ok()
    );
    cluster.run_for(Duration::from_millis(1500));
    let old = cluster.leader().unwrap();
    cluster.kill(old);
    cluster.run_until("a new leader", |cluster| cluster.leader().is_some());
    let leader = cluster.leader().unwrap();
    cluster.run_for(Duration::from_millis(1500));
    assert!(is_present(&cluster, leader, "k"));
    cluster.run_for(Duration::from_millis(2500));
    assert!(!is_present(&cluster, leader, "k"));
}

#[test]
fn write_without_ttl_keeps_the_key() {
    let mut cluster = Cluster::ready(5);
    assert!(cluster.call(1, put_with_ttl("k", "v", Some(500))).outcome.is_ok());
    assert!(cluster.call(2, put("k", "w")).outcome.is_ok());
    cluster.run_for(Duration::from_secs(3));
    assert!(found(&cluster.call(0, get("k", Consistency::Linearizable))).is_some());
}
