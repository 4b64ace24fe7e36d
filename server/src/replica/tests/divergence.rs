//! D10: a replica whose state is not that of the others is found, stops serving, and says since when.

use std::time::Duration;

use raftkv_protocol::{Consistency, ErrorCode};

use super::cluster::{Cluster, code, found, get, put};
use super::drains::write_many;
use crate::replica::Notice;

pub(super) fn quarantined(cluster: &Cluster) -> Vec<usize> {
    let is_it = |(_, notice): &&(usize, Notice)| matches!(notice, Notice::Quarantined { .. });
    cluster
        .notices
        .iter()
        .filter(is_it)
        .map(|(machine, _)| *machine)
        .collect()
}

fn check_the_odd_one(odd_is_leader: bool) {
    let mut cluster = Cluster::ready(3);
    write_many(&mut cluster, &[0, 1, 2], 20);
    cluster.run_for(Duration::from_millis(200));
    assert!(quarantined(&cluster).is_empty(), "healthy replicas agree");
    let leader = cluster.leader().expect("a leader");
    let odd = if odd_is_leader { leader } else { (leader + 1) % 3 };
    let good = [(odd + 1) % 3, (odd + 2) % 3];
    let before = cluster.node(odd).store().unwrap().applied().unwrap();
    cluster.corrupt(odd);
    assert!(cluster.call(good[0], put("k", "v")).outcome.is_ok());
    cluster.run_until("it is found", |cluster| !quarantined(cluster).is_empty());
    assert_eq!(quarantined(&cluster), [odd]);
    let refused = cluster.call(odd, get("k", Consistency::Stale));
    assert_eq!(code(&refused), Some(ErrorCode::NoLeader));
    let because = cluster
        .node(odd)
        .status(cluster.now)
        .not_ready_because
        .expect("not ready");
    assert!(
        because.contains(&format!("the same at entry {before}")),
        "{because}"
    );
    cluster.run_until("a good node leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != odd)
    });
    write_many(&mut cluster, &good, 20);
    let answer = cluster.call(good[1], get("k", Consistency::Linearizable));
    assert_eq!(found(&answer).expect("there").value[..], b"v"[..]);
    assert_eq!(quarantined(&cluster), [odd], "once, and nobody else");
}

#[test]
fn d10_a_follower_that_differs_stops_serving_and_the_others_go_on() {
    check_the_odd_one(false);
}

#[test]
fn d10_a_leader_that_differs_hands_over_and_stops_serving() {
    check_the_odd_one(true);
}

#[test]
fn a_quarantined_leader_that_nobody_can_follow_rests_between_its_attempts() {
    let mut cluster = Cluster::ready(3);
    write_many(&mut cluster, &[0, 1, 2], 20);
    let odd = cluster.leader().expect("a leader");
    cluster.corrupt(odd);
    // Entries go on being applied, so that there is something to tell when it is found.
    while quarantined(&cluster).is_empty() {
        cluster.ask(odd, put("k", "v"));
        cluster.run_for(Duration::from_millis(1));
    }
    for other in [(odd + 1) % 3, (odd + 2) % 3] {
        cluster.kill(other);
    }
    cluster.run_for(Duration::from_millis(100));
    assert_eq!(cluster.leader(), Some(odd), "not for long");
    let rests = cluster.node(odd).next_deadline().since(cluster.now);
    assert!(
        rests > Duration::ZERO,
        "it would be polled again at once, for ever"
    );
}

#[test]
fn two_nodes_that_differ_say_so_and_go_on() {
    let mut cluster = Cluster::new(
        (1..=2)
            .map(|number| super::cluster::config(number, &[1, 2]))
            .collect(),
        5,
    );
    (0..2).for_each(|machine| cluster.start(machine));
    cluster.run_until("both are ready", Cluster::all_ready);
    cluster.corrupt(0);
    write_many(&mut cluster, &[0, 1], 4);
    cluster.run_for(Duration::from_secs(1));
    let differ = |(_, notice): &(usize, Notice)| matches!(notice, Notice::StatesDiffer { .. });
    assert!(cluster.notices.iter().any(differ));
    assert!(quarantined(&cluster).is_empty(), "nobody can know who is wrong");
}
