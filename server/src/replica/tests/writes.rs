//! Writes: on every node, across the death of leaders, and what clients are told.

use std::time::Duration;

use raftkv_protocol::{Answer, Consistency, ErrorCode, Revision};
use raftkv_raft::Transition;

use super::cluster::{Cluster, code, delete, found, get, put};
use crate::replica::{Hop, Notice};

#[test]
fn every_node_takes_writes_and_reads() {
    let mut cluster = Cluster::ready(1);
    for machine in 0..3 {
        let key = format!("key{machine}");
        let answer = cluster.call(machine, put(&key, "value"));
        let revision = Revision(2 + machine as u64);
        assert_eq!(answer.outcome, Ok(Answer::Put { revision }));
        assert!(
            answer.header.revision >= revision,
            "a header is never older than the write it answers"
        );
        assert_eq!(
            answer.header.node,
            cluster.node(machine).identity(),
            "the node that was asked answers"
        );
        for reader in 0..3 {
            let read = cluster.call(reader, get(&key, Consistency::Linearizable));
            assert_eq!(found(&read).unwrap().mod_revision, revision);
        }
    }
    for machine in 0..3 {
        let gone = cluster.call(machine, delete(&format!("key{machine}")));
        assert_eq!(
            gone.outcome,
            Ok(Answer::Deleted {
                existed: true,
                revision: Revision(5 + machine as u64)
            })
        );
        let again = cluster.call(machine, delete(&format!("key{machine}")));
        assert_eq!(
            again.outcome,
            Ok(Answer::Deleted {
                existed: false,
                revision: Revision(5 + machine as u64)
            })
        );
    }
}

#[test]
fn what_waits_together_goes_as_one_batch_and_keeps_its_order() {
    let mut cluster = Cluster::ready(2);
    let leader = cluster.leader().unwrap();
    let patience = Duration::from_secs(5);
    let tokens: Vec<_> = (0..50)
        .map(|n| cluster.enqueue(leader, put("k", &n.to_string()), Hop::First, patience))
        .collect();
    cluster.settle(leader);
    for (offset, token) in tokens.into_iter().enumerate() {
        assert_eq!(
            cluster.wait(token).outcome,
            Ok(Answer::Put {
                revision: Revision(2 + offset as u64)
            })
        );
    }
    let read = cluster.call(leader, get("k", Consistency::Linearizable));
    assert_eq!(found(&read).unwrap().value.as_ref(), b"49");
}

#[test]
fn killed_leader_loses_nothing_that_was_acknowledged() {
    for seed in 0..10 {
        let mut cluster = Cluster::ready(10 + seed);
        for round in 0..3 {
            let leader = cluster.leader().unwrap();
            let acknowledged = cluster.call(leader, put(&format!("k{round}"), "v"));
            assert!(acknowledged.outcome.is_ok());
            cluster.kill(leader);
            cluster.run_until("a new leader", |cluster| cluster.leader().is_some());
            let reader = cluster.follower();
            for earlier in 0..=round {
                let read = cluster.call(reader, get(&format!("k{earlier}"), Consistency::Linearizable));
                assert!(found(&read).is_some());
            }
            cluster.start(leader);
            cluster.run_until("all are ready", Cluster::all_ready);
        }
    }
}

#[test]
fn all_killed_at_once_come_back_with_everything_acknowledged() {
    let mut cluster = Cluster::ready(20);
    for n in 0..20 {
        assert!(cluster.call(n % 3, put(&format!("k{n}"), "v")).outcome.is_ok());
    }
    (0..3).for_each(|machine| cluster.kill(machine));
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all are ready", Cluster::all_ready);
    for n in 0..20 {
        let read = cluster.call(n % 3, get(&format!("k{n}"), Consistency::Linearizable));
        assert!(found(&read).is_some());
    }
    let hashes: Vec<_> = (0..3)
        .map(|machine| cluster.node(machine).store().unwrap().state_hash())
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
}

#[test]
pub(super) fn answer_comes_only_after_a_majority_has_it() {
    let mut cluster = Cluster::ready(3);
    let leader = cluster.leader().unwrap();
    for machine in (0..3).filter(|machine| *machine != leader) {
        cluster.stall_disk(machine);
    }
    let token = cluster.ask(leader, put("k", "v"));
    cluster.run_for(Duration::from_millis(200));
    assert!(cluster.answer(token).is_none(), "one disk is no majority");
}

#[test]
pub(super) fn deadline_passed_after_proposing_is_outcome_unknown() {
    let mut cluster = Cluster::ready(4);
    let leader = cluster.leader().unwrap();
    cluster.isolate(leader);
    let token = cluster.ask_within(leader, put("k", "v"), Duration::from_millis(100));
    assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::OutcomeUnknown));
}

#[test]
fn write_displaced_by_a_new_leader_is_told_it_never_happened() {
    let mut cluster = Cluster::ready(5);
    let old = cluster.leader().unwrap();
    cluster.isolate(old);
    let token = cluster.ask_within(old, put("k", "lost"), Duration::from_secs(20));
    cluster.run_until("a new leader", |cluster| cluster.leader().is_some());
    assert!(
        cluster.answer(token).is_none(),
        "while it may still commit nothing is said"
    );
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "kept")).outcome.is_ok());
    cluster.rejoin(old);
    let told = cluster.wait(token);
    assert_eq!(code(&told), Some(ErrorCode::NoLeader), "proven not applied");
    let read = cluster.call(old, get("k", Consistency::Linearizable));
    assert_eq!(found(&read).unwrap().value.as_ref(), b"kept");
}

#[test]
fn write_that_a_new_leader_commits_is_acknowledged_by_the_old_one() {
    let mut cluster = Cluster::ready(6);
    let old = cluster.leader().unwrap();
    let token = cluster.ask_within(old, put("k", "v"), Duration::from_secs(20));
    // The appends are on their way; no acknowledgement comes back before others elect a leader.
    cluster.run_for(Duration::from_micros(250));
    cluster.isolate(old);
    cluster.run_until("a new leader", |cluster| cluster.leader().is_some());
    cluster.rejoin(old);
    assert!(cluster.wait(token).outcome.is_ok());
}

#[test]
fn without_a_leader_a_write_waits_one_second_and_then_says_so() {
    let mut cluster = Cluster::ready(7);
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    (0..3)
        .filter(|machine| *machine != follower)
        .for_each(|machine| cluster.kill(machine));
    cluster.run_for(Duration::from_secs(2));
    assert!(cluster.node(follower).raft().unwrap().leader().is_none());
    let asked = cluster.now;
    let token = cluster.ask(follower, put("k", "v"));
    assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::NoLeader));
    let waited = cluster.now.since(asked);
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_millis(1100),
        "{waited:?}"
    );
    // And it finds a leader that comes in time.
    let token = cluster.ask(follower, put("k", "v"));
    cluster.start(leader);
    assert!(cluster.wait(token).outcome.is_ok());
}

#[test]
fn last_hop_at_a_node_that_does_not_lead_is_refused_at_once() {
    let mut cluster = Cluster::ready(8);
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    let token = cluster.ask_last_hop(follower, put("k", "v"));
    let told = cluster.answer(token).expect("at once").clone();
    assert_eq!(code(&told), Some(ErrorCode::NotLeader));
    let hint = told.outcome.unwrap_err().leader.unwrap();
    assert_eq!(hint.name, cluster.node(leader).status(cluster.now).name);
    assert!(!cluster.forwards.contains_key(&token), "one hop");
}

#[test]
pub(super) fn forwarded_write_lost_on_the_way_is_unknown_and_never_sent_again() {
    let mut cluster = Cluster::ready(9);
    let follower = cluster.follower();
    cluster.breaks_forwards = true;
    let token = cluster.ask(follower, put("k", "v"));
    assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::OutcomeUnknown));
    cluster.breaks_forwards = false;
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.forwards[&token], 1);
    let read = cluster.call(follower, get("k", Consistency::Linearizable));
    assert_eq!(found(&read).unwrap().version, 1, "it did happen, once");
}

#[test]
fn forward_that_was_never_sent_is_retried_within_the_leader_wait() {
    let mut cluster = Cluster::ready(30);
    let follower = cluster.follower();
    cluster.refuses_forwards = true;
    let token = cluster.ask(follower, put("k", "v"));
    cluster.run_for(Duration::from_millis(500));
    assert!(cluster.answer(token).is_none());
    let tries = cluster.forwards[&token];
    assert!((10..100).contains(&tries), "neither never nor in a spin: {tries}");
    cluster.refuses_forwards = false;
    assert!(cluster.wait(token).outcome.is_ok());
    // And for no longer than that.
    cluster.refuses_forwards = true;
    let token = cluster.ask(follower, put("k", "v"));
    let asked = cluster.now;
    assert_eq!(code(&cluster.wait(token)), Some(ErrorCode::NoLeader));
    assert!(cluster.now.since(asked) < Duration::from_millis(1100));
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once() {
    let mut cluster = Cluster::ready(31);
    let leader = cluster.leader().unwrap();
    cluster.isolate(leader);
    let tokens: Vec<_> = (0..101).map(|_| cluster.ask(leader, put("k", "v"))).collect();
    assert!(tokens[..100].iter().all(|token| cluster.answer(*token).is_none()));
    assert_eq!(
        code(cluster.answer(tokens[100]).unwrap()),
        Some(ErrorCode::Overloaded)
    );
    let stale = cluster.ask(leader, get("k", Consistency::Stale));
    assert_eq!(code(cluster.answer(stale).unwrap()), Some(ErrorCode::Overloaded));
}

#[test]
fn draining_node_finishes_what_waits_and_refuses_the_rest() {
    let mut cluster = Cluster::ready(32);
    let leader = cluster.leader().unwrap();
    let waiting = cluster.ask(leader, put("k", "v"));
    cluster.drain(leader);
    assert!(!cluster.node(leader).is_drained());
    let refused = cluster.ask(leader, put("k", "w"));
    assert_eq!(
        code(cluster.answer(refused).unwrap()),
        Some(ErrorCode::NotServing)
    );
    assert!(cluster.wait(waiting).outcome.is_ok());
    assert!(cluster.node(leader).is_drained());
}

#[test]
fn lossy_network_never_makes_an_acknowledged_write_disappear() {
    for seed in 0..5 {
        let mut cluster = Cluster::ready(40 + seed);
        cluster.loss = 0.2;
        let mut acknowledged = Vec::new();
        for n in 0..30 {
            let key = format!("k{n}");
            if cluster.call(n % 3, put(&key, "v")).outcome.is_ok() {
                acknowledged.push(key);
            }
        }
        assert!(acknowledged.len() > 10);
        cluster.loss = 0.0;
        cluster.run_until("all are ready", Cluster::all_ready);
        for key in acknowledged {
            let read = cluster.call(0, get(&key, Consistency::Linearizable));
            assert!(found(&read).is_some(), "{key}");
        }
    }
}

#[test]
fn transitions_are_told() {
    let cluster = Cluster::ready(50);
    let leader = cluster.leader().unwrap();
    let is_election = |(machine, notice): &(usize, Notice)| {
        *machine == leader && matches!(notice, Notice::Transition(Transition::Elected { .. }))
    };
    assert!(cluster.notices.iter().any(is_election));
    let formed = cluster
        .notices
        .iter()
        .filter(|(_, notice)| matches!(notice, Notice::Formed(_)));
    assert_eq!(formed.count(), 3);
}
