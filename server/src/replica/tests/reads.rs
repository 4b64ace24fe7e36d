//! Linearizable and stale reads, and readiness.

use std::time::Duration;

use raftkv_protocol::{Answer, Consistency, ErrorCode, ReadBasis};

use super::cluster::{Cluster, code, found, get, put};

#[test]
fn stale_read_is_answered_at_once_from_the_local_store() {
    let mut cluster = Cluster::ready(1);
    let follower = cluster.follower();
    cluster.isolate(follower);
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "new")).outcome.is_ok());
    let token = cluster.ask(follower, get("k", Consistency::Stale));
    let answer = cluster.answer(token).expect("at once").outcome.clone();
    let Ok(Answer::Read { record: None, basis }) = answer else {
        panic!("expected what is old, and allowed to be: {answer:?}");
    };
    let applied_index = cluster.node(follower).status(cluster.now).applied_index;
    assert!(
        matches!(basis, ReadBasis::Local { applied_index: told, leader_contact_ms: Some(_) } if told == applied_index),
        "{basis:?}"
    );
}

#[test]
fn linearizable_read_on_a_lagging_follower_waits_until_it_has_applied_the_index() {
    let mut cluster = Cluster::ready(2);
    for n in 0..20 {
        let leader = cluster.leader().unwrap();
        assert!(cluster.call(leader, put("k", &n.to_string())).outcome.is_ok());
        // The follower may not even know yet that this is committed.
        let follower = cluster.follower();
        let read = cluster.call(follower, get("k", Consistency::Linearizable));
        assert_eq!(found(&read).unwrap().value.as_ref(), n.to_string().as_bytes());
        assert!(read.header.revision >= found(&read).unwrap().mod_revision);
    }
}

#[test]
pub(super) fn confirmed_read_waits_for_entries_that_are_not_applied_here_yet() {
    let mut cluster = Cluster::ready(9);
    let (leader, follower) = (cluster.leader().unwrap(), cluster.follower());
    cluster.stall_disk(follower);
    assert!(cluster.call(leader, put("k", "v")).outcome.is_ok());
    let token = cluster.ask(follower, get("k", Consistency::Linearizable));
    cluster.run_for(Duration::from_millis(200));
    assert!(
        cluster.answer(token).is_none(),
        "the index is known, its entry is not durable here"
    );
    cluster.resume_disk(follower);
    assert!(found(&cluster.wait(token)).is_some());
}

#[test]
fn isolated_old_leader_serves_no_stale_read_as_linearizable() {
    let mut cluster = Cluster::ready(3);
    let old = cluster.leader().unwrap();
    assert!(cluster.call(old, put("k", "old")).outcome.is_ok());
    cluster.isolate(old);
    let early = cluster.ask(old, get("k", Consistency::Linearizable));
    cluster.run_until("a new leader", |cluster| cluster.leader().is_some());
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "new")).outcome.is_ok());
    let late = cluster.ask(old, get("k", Consistency::Linearizable));
    assert_eq!(code(&cluster.wait(late)), Some(ErrorCode::NoLeader));
    assert_eq!(code(&cluster.wait(early)), Some(ErrorCode::NoLeader));
}

#[test]
fn read_under_way_survives_the_death_of_the_leader() {
    let mut cluster = Cluster::ready(4);
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "v")).outcome.is_ok());
    let follower = cluster.follower();
    let token = cluster.ask(follower, get("k", Consistency::Linearizable));
    cluster.kill(leader);
    assert!(found(&cluster.wait(token)).is_some());
}

#[test]
fn read_without_a_leader_ends_with_no_leader_after_the_leader_wait() {
    let mut cluster = Cluster::ready(5);
    let survivor = cluster.follower();
    (0..3)
        .filter(|machine| *machine != survivor)
        .for_each(|machine| cluster.kill(machine));
    cluster.run_for(Duration::from_secs(2));
    let asked = cluster.now;
    let token = cluster.ask(survivor, get("k", Consistency::Linearizable));
    assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::NoLeader));
    let waited = cluster.now.since(asked);
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_millis(1100),
        "{waited:?}"
    );
}

#[test]
fn restarted_node_is_not_ready_until_it_has_applied_what_was_committed() {
    let mut cluster = Cluster::ready(6);
    let follower = cluster.follower();
    cluster.kill(follower);
    let leader = cluster.leader().unwrap();
    for n in 0..50 {
        assert!(cluster.call(leader, put(&format!("k{n}"), "v")).outcome.is_ok());
    }
    cluster.start(follower);
    let status = cluster.node(follower).status(cluster.now);
    assert!(!status.ready && status.not_ready_because.is_some());
    let committed = cluster.node(leader).raft().unwrap().commit();
    cluster.run_until("the follower is ready", |cluster| {
        cluster.node(follower).status(cluster.now).ready
    });
    assert!(cluster.node(follower).store().unwrap().applied().unwrap() >= committed);
}

#[test]
fn node_that_loses_its_leader_is_not_ready() {
    let mut cluster = Cluster::ready(7);
    let follower = cluster.follower();
    cluster.isolate(follower);
    cluster.run_until("the leader is lost", |cluster| {
        !cluster.node(follower).status(cluster.now).ready
    });
    cluster.rejoin(follower);
    cluster.run_until("ready again", |cluster| {
        cluster.node(follower).status(cluster.now).ready
    });
}

#[test]
fn idle_cluster_is_left_alone() {
    let mut cluster = Cluster::ready(8);
    let terms = |cluster: &Cluster| {
        (0..3)
            .map(|m| cluster.node(m).raft().unwrap().last())
            .collect::<Vec<_>>()
    };
    let before = terms(&cluster);
    cluster.run_for(Duration::from_secs(10));
    assert_eq!(
        terms(&cluster),
        before,
        "no election, no tick, no entry without a cause"
    );
}
