//! Nodes that are behind the log get a snapshot, whatever is lost on the way.

use std::time::Duration;

use raftkv_protocol::{Answer, Command, Consistency, ErrorCode, LeaseId, Once, Request};

use super::cluster::{Cluster, code, found, get, put};
use super::drains::{tiny, write_many};
use super::tenure::{opened, put_on_lease, write};
use crate::replica::Notice;

fn ready(seed: u64) -> Cluster {
    let mut cluster = Cluster::new((1..=3).map(tiny).collect(), seed);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    cluster
}

pub(super) fn installs(cluster: &Cluster, machine: usize) -> usize {
    let is_install = |(at, notice): &&(usize, Notice)| {
        *at == machine && matches!(notice, Notice::SnapshotInstalled { .. })
    };
    cluster.notices.iter().filter(is_install).count()
}

fn follower(cluster: &Cluster) -> usize {
    let leader = cluster.leader().expect("a leader");
    (0..3).find(|machine| *machine != leader).expect("three nodes")
}

pub(super) fn hashes_agree(cluster: &Cluster) -> bool {
    let of = |machine: usize| {
        let store = cluster.node(machine).store().expect("formed");
        (store.applied(), store.state_hash())
    };
    (1..3).all(|machine| of(machine) == of(0))
}

#[test]
fn s02_a_node_behind_the_log_catches_up_by_snapshot_while_writes_go_on() {
    let mut cluster = ready(11);
    let behind = follower(&cluster);
    cluster.kill(behind);
    write_many(&mut cluster, &[(behind + 1) % 3, (behind + 2) % 3], 100);
    cluster.run_for(Duration::from_secs(1));
    cluster.start(behind);
    write_many(&mut cluster, &[(behind + 1) % 3], 30);
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    assert!(installs(&cluster, behind) > 0, "it was behind the log");
    assert!(cluster.parts > 5, "it came in several parts");
    cluster.run_until("all nodes have the same state", hashes_agree);
    let answer = cluster.call(behind, get("key5", Consistency::Linearizable));
    assert_eq!(found(&answer).expect("there").value[..], b"value25"[..]);
    // And it goes on from there, restarts included.
    cluster.kill(behind);
    cluster.start(behind);
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    write_many(&mut cluster, &[behind], 10);
    cluster.run_until("all nodes have the same state", hashes_agree);
}

/// What a snapshot leaves out is not cut away while it is under way: else, under a load that writes a log's tail in less time,
/// each snapshot would only be followed by the next.
#[test]
fn one_snapshot_is_enough_however_much_is_written_meanwhile() {
    for seed in 0..8 {
        let mut cluster = ready(300 + seed);
        let behind = follower(&cluster);
        let others = [(behind + 1) % 3, (behind + 2) % 3];
        cluster.kill(behind);
        write_many(&mut cluster, &others, 100);
        cluster.run_for(Duration::from_secs(1));
        cluster.start(behind);
        cluster.run_until("it gets a snapshot", |cluster| cluster.parts > 0);
        // Many times the tail that the log keeps: five entries.
        write_many(&mut cluster, &others, 20);
        cluster.run_until("all nodes are ready", Cluster::all_ready);
        assert_eq!(installs(&cluster, behind), 1, "seed {seed}");
        cluster.run_until("all nodes have the same state", hashes_agree);
    }
}

/// As the one above, but more is written than any number of tails. What counts is that the snapshot is sent faster than
/// the log grows.
#[test]
fn one_snapshot_of_a_large_state_is_enough() {
    for seed in 0..4 {
        let mut cluster = ready(400 + seed);
        cluster.run_until("all nodes have the same state", hashes_agree);
        let behind = follower(&cluster);
        let others = [(behind + 1) % 3, (behind + 2) % 3];
        cluster.kill(behind);
        for number in 0..200 {
            let answer = cluster.call(others[0], put(&format!("large{number}"), &"x".repeat(10_000)));
            assert!(answer.outcome.is_ok(), "{answer:?}");
        }
        cluster.run_for(Duration::from_secs(1));
        let (had, parts) = (installs(&cluster, behind), cluster.parts);
        cluster.start(behind);
        cluster.run_until("it gets a snapshot", |cluster| cluster.parts > parts);
        let mut written = 0;
        while installs(&cluster, behind) == had {
            write_many(&mut cluster, &others, 10);
            written += 10;
            assert!(written < 5_000, "seed {seed}: no snapshot arrives");
        }
        assert!(written > 16 * 5, "{written} entries are no more than 16 tails");
        cluster.run_until("all nodes are ready", Cluster::all_ready);
        cluster.run_until("all nodes have the same state", hashes_agree);
        assert_eq!(installs(&cluster, behind), had + 1, "seed {seed}");
    }
}

#[test]
fn s09_lost_messages_and_a_restart_of_either_end_only_delay_a_snapshot() {
    for seed in 0..6 {
        let mut cluster = ready(20 + seed);
        let behind = follower(&cluster);
        cluster.kill(behind);
        write_many(&mut cluster, &[(behind + 1) % 3, (behind + 2) % 3], 80);
        cluster.loss = 0.2;
        cluster.start(behind);
        cluster.run_for(Duration::from_millis(100 + 150 * seed));
        if seed % 2 == 0 {
            cluster.kill(behind);
            cluster.start(behind);
        } else if let Some(leader) = cluster.leader() {
            cluster.kill(leader);
            cluster.start(leader);
        }
        cluster.run_for(Duration::from_secs(2));
        cluster.loss = 0.0;
        cluster.run_until("all nodes are ready", Cluster::all_ready);
        cluster.run_until("all nodes have the same state", hashes_agree);
        assert!(
            installs(&cluster, behind) > 0,
            "seed {seed}: it was behind the log"
        );
    }
}

#[test]
fn s07_writes_that_vanish_under_a_snapshot_end_as_unknown() {
    let mut cluster = ready(40);
    let former = cluster.leader().expect("a leader");
    cluster.isolate(former);
    let token = cluster.ask(former, put("lost", "x"));
    let others = [(former + 1) % 3, (former + 2) % 3];
    cluster.run_until("another leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != former)
    });
    write_many(&mut cluster, &others, 80);
    cluster.run_for(Duration::from_millis(200));
    cluster.rejoin(former);
    let answer = cluster.wait(token);
    assert!(
        matches!(
            code(&answer),
            Some(ErrorCode::OutcomeUnknown | ErrorCode::NoLeader)
        ),
        "{answer:?}"
    );
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    cluster.run_until("all nodes have the same state", hashes_agree);
}

#[test]
fn leases_and_sessions_travel_with_a_snapshot() {
    let mut cluster = ready(14);
    let behind = follower(&cluster);
    let others = [(behind + 1) % 3, (behind + 2) % 3];
    cluster.kill(behind);
    let (id, ttl_ms) = (LeaseId(5), 600_000);
    let grant = write(&Command::GrantLease { id: Some(id), ttl_ms });
    assert!(cluster.call(others[0], grant).outcome.is_ok());
    assert!(cluster.call(others[1], put_on_lease(id)).outcome.is_ok());
    let session = opened(&cluster.call(others[0], write(&Command::OpenSession { ttl_ms })));
    let put = match put("once", "first") {
        Request::Write(command) => Request::Write(command.within(Once {
            session,
            sequence: 1,
            first_unacknowledged: 1,
        })),
        other => panic!("{other:?}"),
    };
    let first = cluster.call(others[0], put.clone());
    write_many(&mut cluster, &others, 100);
    cluster.run_for(Duration::from_secs(1));
    cluster.start(behind);
    cluster.run_until("all nodes are ready", Cluster::all_ready);
    assert!(installs(&cluster, behind) > 0, "it was behind the log");
    cluster.run_until("all nodes have the same state", hashes_agree);
    let state = |machine: usize| cluster.node(machine).store().expect("formed").lease(id, 0);
    assert_eq!(state(behind), state(others[0]));
    assert_eq!(state(behind).expect("it is there").key_count, 2);
    // It executes as the others do what depends on them: the lease's end, and a write that was applied.
    let again = cluster.call(behind, put);
    assert_eq!(again.outcome, first.outcome);
    let revoked = cluster.call(behind, write(&Command::RevokeLease { id }));
    assert!(matches!(
        revoked.outcome,
        Ok(Answer::LeaseRevoked { deleted: 2, .. })
    ));
    cluster.run_until("all nodes have the same state", hashes_agree);
}
