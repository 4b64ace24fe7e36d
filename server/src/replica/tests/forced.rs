//! Changes of members by force: what it overrides, and what it does not.

use std::time::Duration;

use raftkv_protocol::{Consistency, ErrorCode, Force, MemberCommand, Request};

use super::cluster::{Cluster, code, config, found, get, name};
use super::members::{add_held, is_ready, joiner, refusal, three_and, voters, write};

fn removed_by_force(number: usize) -> Request {
    Request::Member(MemberCommand::Remove {
        name: name(number),
        force: Force::Yes,
    })
}

fn promoted_by_force(number: usize) -> Request {
    Request::Member(MemberCommand::Promote {
        name: name(number),
        force: Force::Yes,
    })
}

#[test]
pub(super) fn r64_forced_removal_is_proposed_and_completes_once_the_nodes_it_needs_are_back() {
    let mut cluster = three_and(Vec::new(), 290);
    let leader = cluster.leader().unwrap();
    let dead = cluster.follower();
    cluster.kill(dead);
    cluster.run_for(Duration::from_secs(1));
    let leaves = cluster.follower();
    let removed = cluster.call(leader, removed_by_force(leaves + 1));
    // Two voters are left, and one of them is down: so nothing can be decided yet, by anybody.
    assert_eq!(
        code(&removed),
        Some(ErrorCode::OutcomeUnknown),
        "{:?}",
        removed.outcome
    );
    cluster.start(dead);
    cluster.run_until("two vote", |cluster| voters(cluster).len() == 2);
    assert!(!voters(&cluster).contains(&name(leaves + 1).to_string()));
    write(&mut cluster, dead, "after");
}

/// A voter without a log can not vote, and only a leader may give it one: if the leader that promoted it went before that,
/// and its vote were needed, there would be no leader ever again, though every node runs (seeds 19 and 253 of the simulator).
#[test]
fn node_that_has_no_log_yet_does_not_vote_even_by_force() {
    let mut cluster = Cluster::new(vec![config(1, &[]), joiner(2, 1)], 291);
    cluster.start(0);
    cluster.run_until("it is ready", |cluster| is_ready(cluster, 0));
    write(&mut cluster, 0, "before");
    cluster.start(1);
    cluster.run_for(Duration::from_secs(1));
    // It is let in, and does not hear of it.
    cluster.isolate(1);
    let added = cluster.call(0, add_held(name(2)));
    assert_eq!(code(&added), None, "{:?}", added.outcome);
    let promoted = cluster.call(0, promoted_by_force(2));
    assert!(!cluster.is_formed(1));
    cluster.kill(0);
    cluster.rejoin(1);
    cluster.start(0);
    cluster.run_until("both are ready", Cluster::all_ready);
    let message = refusal(&promoted);
    assert!(message.contains("does not hold the log"), "{message}");
    assert!(!message.contains("--force"), "{message}");
    assert_eq!(code(&cluster.call(1, promoted_by_force(2))), None);
    assert_eq!(voters(&cluster), ["node1", "node2"]);
    let read = cluster.call(1, get("before", Consistency::Linearizable));
    assert!(found(&read).is_some());
}
