//! Reads by lease, and stale reads that say how old they may be.

use std::time::Duration;

use raftkv_protocol::{Answer, Consistency, ErrorCode, ReadBasis, Response};
use raftkv_raft::LeaderLeases;

use super::cluster::{Cluster, code, config, found, get, put};

fn basis(response: &Response) -> ReadBasis {
    match &response.outcome {
        Ok(Answer::Read { basis, .. }) => *basis,
        other => panic!("expected a read with its basis, got {other:?}"),
    }
}

fn with_drift(ppm: [Option<u32>; 3], seed: u64) -> Cluster {
    let configs = (1..=3).zip(ppm).map(|(number, ppm)| {
        let mut config = config(number, &[1, 2, 3]);
        if let Some(max_clock_drift_ppm) = ppm {
            config.raft.leader_leases = LeaderLeases::On { max_clock_drift_ppm };
        }
        config
    });
    let mut cluster = Cluster::new(configs.collect(), seed);
    (0..3).for_each(|machine| cluster.start(machine));
    cluster.run_until("all are ready", Cluster::all_ready);
    // Everybody has told of itself.
    cluster.run_for(Duration::from_secs(3));
    cluster
}

#[test]
fn r70_lease_read_is_served_by_the_leader_alone_and_says_so() {
    let mut cluster = with_drift([Some(500); 3], 300);
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "v")).outcome.is_ok());
    let before = cluster.now;
    let read = cluster.call(leader, get("k", Consistency::LeaderLease));
    assert_eq!(basis(&read), ReadBasis::LeaderLease);
    assert!(found(&read).is_some());
    assert!(
        cluster.now.since(before) < Duration::from_micros(100),
        "nobody was asked"
    );
    let follower = cluster.follower();
    let read = cluster.call(follower, get("k", Consistency::LeaderLease));
    assert_eq!(basis(&read), ReadBasis::ReadIndex);
    assert!(found(&read).is_some());
}

#[test]
fn lease_read_asks_a_majority_where_leases_are_off_or_members_were_told_different_bounds() {
    for (seed, ppm) in [[None; 3], [Some(500), Some(500), Some(200)]]
        .into_iter()
        .enumerate()
    {
        let mut cluster = with_drift(ppm, 310 + seed as u64);
        let leader = cluster.leader().unwrap();
        let read = cluster.call(leader, get("k", Consistency::LeaderLease));
        assert_eq!(basis(&read), ReadBasis::ReadIndex);
    }
}

#[test]
fn lease_read_of_a_leader_that_is_cut_off_ends_with_its_lease() {
    let mut cluster = with_drift([Some(500); 3], 320);
    let leader = cluster.leader().unwrap();
    cluster.isolate(leader);
    cluster.run_for(Duration::from_millis(300));
    let read = cluster.call(leader, get("k", Consistency::LeaderLease));
    assert_eq!(code(&read), Some(ErrorCode::NoLeader));
}

#[test]
fn read_that_may_be_so_old_is_local_with_proof_and_refused_without() {
    let mut cluster = Cluster::ready(330);
    let leader = cluster.leader().unwrap();
    assert!(cluster.call(leader, put("k", "v")).outcome.is_ok());
    let follower = cluster.follower();
    let within = |ms| get("k", Consistency::StaleWithin { max_staleness_ms: ms });
    cluster.run_for(Duration::from_secs(2));
    let read = cluster.call(follower, within(500));
    assert_eq!(basis(&read), ReadBasis::ReadIndex, "its proof was too old");
    let token = cluster.ask(follower, within(500));
    let read = cluster.answer(token).expect("at once, by the proof of the last");
    assert!(matches!(basis(read), ReadBasis::Local { .. }));
    cluster.isolate(follower);
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(
        code(&cluster.call(follower, within(500))),
        Some(ErrorCode::NoLeader)
    );
    let old = cluster.call(follower, within(60_000));
    let ReadBasis::Local {
        leader_contact_ms, ..
    } = basis(&old)
    else {
        panic!("expected the local state");
    };
    assert!(leader_contact_ms.is_some_and(|age| age >= 1000));
}
